"""Graphs that are known already: the same as searched, for these very vectors and this metric alone."""

import numpy as np
import pytest

from tracesift.catalog import known_graphs as module
from tracesift.catalog.known_graphs import know, known_graph
from tracesift.catalog.neighbor_graph import neighbor_graph
from tracesift.catalog.schema import BadInput


@pytest.fixture
def searches(monkeypatch):
    made = []

    def search(embedding, k, *, metric):
        made.append((metric, k))
        return neighbor_graph(embedding, k, metric=metric)

    monkeypatch.setattr(module, "_newest", {})
    monkeypatch.setattr(module, "neighbor_graph", search)
    return made


def vectors(seed=0, samples=50):
    return np.random.default_rng(seed).normal(size=(samples, 4))


def assert_same(found, x, k, metric):
    alone = neighbor_graph(x, k, metric=metric)
    assert np.array_equal(found.index, alone.index)
    assert np.array_equal(found.distance, alone.distance)


def test_a_longer_search_serves_a_shorter_one(searches):
    x = vectors()
    for k in (3, 12, 5, 3):
        assert_same(known_graph(x, k), x, k, "cosine")
    assert searches == [("cosine", 10), ("cosine", 12)]


def test_each_metric_has_its_own(searches):
    x = vectors()
    for metric in ("cosine", "euclidean", "cosine", "euclidean"):
        assert_same(known_graph(x, 4, metric), x, 4, metric)
    assert searches == [("cosine", 10), ("euclidean", 10)]


def test_other_numbers_are_other_vectors(searches):
    x = vectors()
    known_graph(x, 3)
    x[0] *= -1  # in place
    assert_same(known_graph(x, 3), x, 3, "cosine")
    known_graph(x.astype(np.float32), 3)
    assert len(searches) == 3


@pytest.mark.parametrize("samples", [2, 4])
def test_few_samples_are_searched_once(searches, samples):
    for _ in range(2):
        assert known_graph(vectors(samples=samples), 10).index.shape == (samples, samples - 1)
    assert len(searches) == 1


def test_a_graph_that_is_handed_in_is_not_searched(searches):
    x = vectors()
    know(x, neighbor_graph(x, 6, metric="euclidean"))
    assert_same(known_graph(x, 6, "euclidean"), x, 6, "euclidean")
    assert searches == []
    assert_same(known_graph(x, 7, "euclidean"), x, 7, "euclidean")  # longer than what was handed in
    assert searches == [("euclidean", 10)]


def test_what_may_miss_neighbours_stands_for_no_search(searches):
    x = vectors(samples=400)
    with pytest.raises(BadInput, match="400 and approximate"):
        know(x, neighbor_graph(x, 5, exact_up_to=50))
    with pytest.raises(BadInput, match="of all 400 rows can stand"):
        know(x, neighbor_graph(vectors(), 5))
