import numpy as np
import pytest

from tracesift.catalog import known_graphs
from tracesift.scorers.noise.neighbors.nearest_others import nearest_others


def brute_force(embedding, k):
    """The k others with the largest cosine, ties by row, one sample at a time."""
    there = [i for i, row in enumerate(embedding) if np.isfinite(row).all() and row.any()]
    found = []
    for i in there:
        cosines = {
            j: round(float(embedding[i] @ embedding[j] / np.linalg.norm(embedding[i]) / np.linalg.norm(embedding[j])), 6)
            for j in there if j != i
        }  # fmt: skip
        found.append(sorted(cosines, key=lambda j: (-cosines[j], j))[:k])
    return there, found


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(known_graphs, "_newest", {})


@pytest.mark.parametrize("k", [1, 4, 10, 17])
def test_against_brute_force_with_copies_and_missing_rows(k):
    rng = np.random.default_rng(k)
    x = rng.integers(1, 4, size=(60, 3)).astype(float)  # many exact copies, more than k of some
    x[[5, 40]] = np.nan
    x[7, 1] = np.inf
    x[20] = 0
    there, expected = brute_force(x, k)
    found = nearest_others(x, k)
    assert found.rows.tolist() == there
    assert found.nearest.tolist() == expected
    assert not (found.nearest == found.rows[:, None]).any()


def test_a_second_scorer_searches_no_more(monkeypatch):
    x = np.random.default_rng(0).normal(size=(50, 4))
    first = nearest_others(x, 3)
    monkeypatch.setattr(known_graphs, "neighbor_graph", None)
    assert nearest_others(x, 3).nearest.tolist() == first.nearest.tolist()
    assert nearest_others(x, 10).nearest[:, :3].tolist() == first.nearest.tolist()


@pytest.mark.parametrize("samples", [0, 1, 2, 4])
def test_few_samples_have_fewer_neighbours(samples):
    x = np.random.default_rng(1).normal(size=(samples, 3))
    for _ in range(2):
        assert nearest_others(x, 10).nearest.shape == (samples, max(samples - 1, 0))
