"""Clusters of directions: planted ones are found, by no order of rows, and nothing degenerate breaks them."""

import doctest

import numpy as np
import pytest

from tracesift.catalog import clusters as module
from tracesift.catalog.clusters import clusters, content_order
from tracesift.catalog.schema import BadInput


def test_examples_run():
    assert doctest.testmod(module).failed == 0


@pytest.fixture
def planted():
    rng = np.random.default_rng(0)
    true = np.arange(120) % 4
    return np.eye(6)[true] * rng.uniform(0.5, 9, (120, 1)) + rng.normal(0, 0.02, (120, 6)), true


def same(one, other):
    """Two labellings draw the same borders."""
    return (
        len({*zip(one.tolist(), other.tolist(), strict=True)})
        == len({*one.tolist()})
        == len({*other.tolist()})
    )


@pytest.mark.parametrize("seed", range(5))
def test_planted_clusters_are_found(planted, seed):
    x, true = planted
    found = clusters(x, 4, seed=seed)
    assert same(found.label, true)
    assert found.cosine.min() > 0.9


def test_no_round_of_lloyd_by_loops_changes_the_answer(planted):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 5))
    found = clusters(x, 6)
    unit = [row / np.sqrt(sum(v * v for v in row)) for row in x]
    for c in range(6):
        members = [unit[i] for i in range(80) if found.label[i] == c]
        total = np.sum(members, axis=0)
        np.testing.assert_allclose(found.centroids[c], total / np.linalg.norm(total), atol=1e-9)
    for i in range(80):
        near = [float(np.dot(unit[i], c)) for c in found.centroids]
        assert near[found.label[i]] == pytest.approx(max(near), abs=2e-6)
        assert found.cosine[i] == pytest.approx(max(near), abs=2e-6)


def test_order_width_layout_and_blocks_leave_no_trace(monkeypatch):
    x = np.random.default_rng(2).normal(size=(300, 7)).astype(np.float32)
    expected = clusters(x, 9, seed=3)
    order = np.random.default_rng(3).permutation(300)
    for again in (
        clusters(x[order], 9, seed=3),
        clusters(np.asfortranarray(x[order].astype(np.float64)), 9, seed=3),
    ):
        assert again.label.tolist() == expected.label[order].tolist()
        assert again.cosine.tobytes() == expected.cosine[order].tobytes()
        assert again.centroids.tobytes() == expected.centroids.tobytes()
    monkeypatch.setattr(module, "ROWS", 11)
    assert clusters(x, 9, seed=3).centroids.tobytes() == expected.centroids.tobytes()
    assert not same(clusters(x, 9, seed=4).label, expected.label)


def test_copies_zeros_and_too_many_clusters():
    x = np.array([[1.0, 0], [1, 0], [0, 2], [0, 0], [np.nan, 1], [3, 0]])
    found = clusters(x, 5)
    assert len(found.centroids) == 2
    assert found.label[[3, 4]].tolist() == [-1, -1]
    assert np.isnan(found.cosine[[3, 4]]).all()
    assert found.label[0] == found.label[1] == found.label[5] != found.label[2]
    assert clusters(np.zeros((3, 2)), 2).label.tolist() == [-1] * 3
    assert clusters(np.zeros((0, 2)), 2).label.shape == (0,)
    assert clusters(np.array([[1e-200, 0], [1e200, 0], [1, 0]]), 2).label.tolist() == [-1, -1, 0]
    opposite = clusters(np.array([[1.0, 0], [-1, 0]]), 1)  # the rows cancel, the first centroid stays
    assert sorted(opposite.cosine.tolist()) == [-1, 1]
    for wrong in ({"k": 0}, {"k": 2, "seed": -1}):
        with pytest.raises(BadInput, match="cluster"):
            clusters(x, **wrong)


def test_the_order_by_content_depends_on_content_and_seed_alone():
    x = np.random.default_rng(4).normal(size=(50, 3))
    order = content_order(x, 0)
    assert sorted(order) == list(range(50))
    shuffled = np.random.default_rng(5).permutation(50)
    assert shuffled[content_order(x[shuffled], 0)].tolist() == order.tolist()
    assert content_order(x, 1).tolist() != order.tolist()
    assert content_order(np.array([[0.0, 1.0], [-0.0, 1.0]]), 0).tolist() == [0, 1]


def test_centroids_are_learned_from_a_sample_where_there_are_many_rows(planted, monkeypatch):
    x, true = planted
    monkeypatch.setattr(module, "LEARNED", 8)
    monkeypatch.setattr(module, "SPREAD", 6)
    found = clusters(x, 4)
    assert same(found.label, true)
    assert np.isfinite(found.cosine).all()
    order = np.random.default_rng(6).permutation(len(x))
    assert clusters(x[order], 4).centroids.tobytes() == found.centroids.tobytes()
    assert found.centroids.tobytes() != clusters(x, 4, seed=1).centroids.tobytes()
