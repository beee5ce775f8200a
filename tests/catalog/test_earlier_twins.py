"""Twins among earlier items: against a double loop, with both rules for chains."""

import doctest

import numpy as np
import pytest

from tracesift.catalog import earlier_twins as module
from tracesift.catalog.clusters import clusters
from tracesift.catalog.earlier_twins import earlier_twins
from tracesift.catalog.schema import BadInput


def test_examples_run():
    assert doctest.testmod(module).failed == 0


def by_loops(x, number, order, limit, *, kept_only):
    found = clusters(x, number)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    sign = 1 if order == "hard" else -1
    best, removed = {}, set()
    for c in sorted(set(found.label.tolist())):
        members = sorted(np.flatnonzero(found.label == c), key=lambda i: (sign * found.cosine[i], i))
        for place, item in enumerate(members):
            earlier = [e for e in members[:place] if not (kept_only and e in removed)]
            best[item] = max([0.0, *(round(float(unit[item] @ unit[e]), 6) for e in earlier)])
            if best[item] > limit:
                removed.add(item)
    return [best[i] for i in range(len(x))], removed


@pytest.mark.parametrize("order", ["hard", "easy"])
@pytest.mark.parametrize("kept_only", [False, True])
@pytest.mark.parametrize("number", [1, 4])
def test_against_loops(order, kept_only, number, monkeypatch):
    x = np.random.default_rng(0).normal(size=(90, 4))
    monkeypatch.setattr(module, "BLOCK", 7)
    found = earlier_twins(x, number=number, order=order, limit=0.9, kept_only=kept_only)
    best, removed = by_loops(x, number, order, 0.9, kept_only=kept_only)
    np.testing.assert_allclose(found.cosine, best, atol=2e-6)
    assert set(np.flatnonzero(found.removed)) == removed
    assert 5 < len(removed) < 85
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for i in np.flatnonzero(found.twin >= 0):
        assert found.cosine[i] == pytest.approx(unit[i] @ unit[found.twin[i]], abs=1e-6)
        assert found.cluster[i] == found.cluster[found.twin[i]]
        assert not (kept_only and found.removed[found.twin[i]])


def test_every_cluster_is_looked_through():
    # the published loop stops with an error after its first cluster
    x = np.repeat(np.eye(5), 3, axis=0)
    found = earlier_twins(x, number=5, limit=0.95)
    assert len(set(found.cluster)) == 5
    assert found.removed.sum() == 10
    assert found.removed.reshape(5, 3)[:, 0].tolist() == [False] * 5  # ties go to the first row


def test_a_chain_goes_whole_as_published_and_by_halves_among_kept_ones():
    # most samples lie at -60 degrees, so that the chain is visited from its near end to its far one
    angles = np.radians(np.r_[0, 10, 20, 30, 40, np.full(60, -60)])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    chained = earlier_twins(x, number=1, order="easy", limit=0.98)
    assert chained.removed[:5].tolist() == [False, True, True, True, True]
    assert chained.twin[:5].tolist()[1:] == [0, 1, 2, 3]
    kept = earlier_twins(x, number=1, order="easy", limit=0.98, kept_only=True)
    assert kept.removed[:5].tolist() == [False, True, False, True, False]
    assert kept.twin[[1, 3]].tolist() == [0, 2]


def test_the_random_order_is_drawn_by_the_seed():
    x = np.repeat(np.random.default_rng(1).normal(size=(40, 8)), 2, axis=0) + np.random.default_rng(2).normal(
        0, 0.001, (80, 8)
    )
    drawn = [earlier_twins(x, number=1, order="random", seed=seed, limit=0.99).removed for seed in (0, 0, 1)]
    assert drawn[0].tolist() == drawn[1].tolist() != drawn[2].tolist()
    assert [gone.sum() for gone in drawn] == [40] * 3


def test_zero_missing_single_and_no_rows():
    x = np.array([[0.0, 0], [1, 0], [np.inf, 0], [1, 0]])
    found = earlier_twins(x)
    assert np.isnan(found.cosine).tolist() == [True, False, True, False]
    assert found.twin.tolist() == [-1, -1, -1, 1]
    assert found.cosine[[1, 3]].tolist() == [0, 1]
    assert not found.removed.any()  # no limit
    assert earlier_twins(np.ones((1, 3))).cosine.tolist() == [0]
    assert earlier_twins(np.zeros((0, 3))).cosine.shape == (0,)


def test_what_it_refuses():
    x = np.eye(3)
    with pytest.raises(BadInput, match="'hard', 'easy' or 'random'"):
        earlier_twins(x, order="hardest")
    with pytest.raises(BadInput, match="needs a limit"):
        earlier_twins(x, kept_only=True)
    with pytest.raises(BadInput, match="at least 1"):
        earlier_twins(x, number=0)
