"""Graphs of neighbours against brute force, restricted to parts, and approximate ones against exact ones."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from tracesift.catalog import nearest_rows as search
from tracesift.catalog import neighbor_graph as module
from tracesift.catalog.neighbor_graph import NeighborGraph, graph_among, neighbor_graph, recall
from tracesift.catalog.schema import BadInput


def brute_force(x, k, metric):
    """All distances, one pair at a time; ties by position."""
    x = np.asarray(x, dtype=np.float64)
    found = []
    for row in range(len(x)):
        away = []
        for other in range(len(x)):
            if metric == "euclidean":
                value = float(np.float32(np.sqrt(np.square(x[row] - x[other]).sum())))
            else:
                lengths = np.linalg.norm(x[row]) * np.linalg.norm(x[other])
                value = round(1 - (x[row] @ x[other] / lengths if lengths else 0.0), 6)
            away.append((value, other))
        found.append(sorted(pair for pair in away if pair[1] != row)[:k])
    values = np.array(found).reshape(len(x), -1, 2)
    return values[..., 1].astype(int), values[..., 0]


def clouds(size=150, width=7, seed=0):
    """Groups of points with exact copies, rows of zeros, and one far away."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, width)) + 4 * rng.normal(size=(5, width))[rng.integers(0, 5, size)]
    x[10:40] = x[5]
    x[60:64] = 0
    x[90:91] = 1000
    return x


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 4, 40, 500])
def test_equals_brute_force_with_copies_zeros_and_few_samples(metric, dtype, k):
    x = clouds().astype(dtype)
    graph = neighbor_graph(x, k, metric=metric)
    index, distance = brute_force(x, k, metric)
    assert graph.index.shape == (150, min(k, 149))
    assert np.array_equal(graph.index, index)
    assert np.abs(graph.distance - distance).max() <= (1e-6 if metric == "cosine" else 0)
    assert (graph.index != np.arange(150)[:, None]).all()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("size", [2, 3, 65, 130])
def test_blocks_and_threads_leave_no_trace(monkeypatch, metric, size):
    rng = np.random.default_rng(size)
    x = rng.integers(-1, 2, size=(size, 3)).astype(np.float32)  # 27 different rows: ties everywhere
    whole = neighbor_graph(x, 5, metric=metric, threads=1)
    assert np.array_equal(whole.index, brute_force(x, 5, metric)[0])
    for queries, rows, chunk in ((1, 1, 1), (3, 70, 2), (64, 7, 500), (16, 64, 16)):
        monkeypatch.setattr(search, "QUERIES", queries)
        monkeypatch.setattr(search, "ROWS", rows)
        monkeypatch.setattr(search, "CHUNK", chunk)
        other = neighbor_graph(x, 5, metric=metric, threads=3)
        assert other.index.tobytes() == whole.index.tobytes()
        assert other.distance.tobytes() == whole.distance.tobytes()


def test_a_search_of_many_finds_what_each_finds_alone():
    x = np.random.default_rng(1).normal(size=(9000, 24)).astype(np.float32)  # three blocks of rows
    for make in (search.unit_rows, search.plain_rows):
        everyone = np.arange(9000)
        index, near = search.nearest_rows(make(x), everyone, everyone, 6)
        few = np.array([0, 17, 4095, 4096, 8191, 8192, 8999])
        alone, near_alone = search.nearest_rows(make(x), few, everyone, 6)
        assert np.array_equal(index[few], alone)
        assert near[few].tobytes() == near_alone.tobytes()
        cosines = (x.astype(np.float64) @ x[4096]) / np.linalg.norm(x, axis=1) / np.linalg.norm(x[4096])
        away = np.linalg.norm(x.astype(np.float64) - x[4096], axis=1)
        order = np.argsort(-cosines if make is search.unit_rows else away, kind="stable")[:6]
        assert index[4096].tolist() == order.tolist()


@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e9])
def test_euclidean_distances_keep_their_digits_at_any_scale_and_offset(factor):
    x = clouds() * factor
    plain = neighbor_graph(clouds(), 4, metric="euclidean")
    scaled = neighbor_graph(x, 4, metric="euclidean")
    assert np.array_equal(scaled.index[:, 0], plain.index[:, 0])
    np.testing.assert_allclose(scaled.distance, plain.distance * factor, rtol=1e-6)
    grid = np.arange(40, dtype=np.float64)[:, None]
    moved = neighbor_graph(grid + 2.0**40, 2, metric="euclidean")  # float32 alone would tell none apart
    assert moved.index[1:-1].tolist() == [[row - 1, row + 1] for row in range(1, 39)]
    assert (moved.distance[1:-1] == 1).all()


@pytest.mark.parametrize("far", [1e12, 1e22, 1e25])
def test_rows_very_far_away_hide_nobodys_neighbours(far):
    x = np.random.default_rng(2).normal(size=(80, 6))
    x[40:] = x[:40]
    x[7], x[8] = far, -far  # beside them, products of the others vanish in float32
    graph = neighbor_graph(x, 2, metric="euclidean")
    assert np.array_equal(graph.index, brute_force(x, 2, "euclidean")[0])


def test_a_distance_is_the_root_of_the_exact_sum_of_squares():
    x = np.array([[0.1, 0.2, 0.3], [0.4, 0.6, 0.3]])
    exact = sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(*x.tolist(), strict=True))
    assert neighbor_graph(x, 1, metric="euclidean").distance[0, 0] == np.float32(float(exact) ** 0.5)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 1.0])
def test_a_part_of_a_graph_is_what_a_fresh_search_finds(metric, share):
    x = clouds(300)
    whole = neighbor_graph(x, 6, metric=metric)
    rows = np.flatnonzero(np.random.default_rng(3).random(300) < share)
    part, fresh = graph_among(whole, x, rows), neighbor_graph(x[rows], 6, metric=metric)
    assert part.index.tolist() == fresh.index.tolist()
    assert part.distance.tobytes() == fresh.distance.tobytes()
    assert part.metric == metric


def test_only_rows_that_lack_neighbours_are_searched_again(monkeypatch):
    x = clouds(300)
    whole, rows = neighbor_graph(x, 6), np.delete(np.arange(300), [7])
    asked = []
    real = module.nearest_rows
    monkeypatch.setattr(
        module, "nearest_rows", lambda v, q, *rest, **more: asked.append(q) or real(v, q, *rest, **more)
    )
    graph_among(whole, x, rows)
    (queries,) = asked
    assert queries.tolist() == [row for row in rows if 7 in whole.index[row]]


def test_parts_are_named_in_order_and_belong_to_the_embedding():
    x = clouds(50, 3)
    whole = neighbor_graph(x, 3)
    for rows in ([3, 1], [1, 1], [4]):
        with pytest.raises(BadInput, match="ascending"):
            graph_among(whole, x, np.array(rows))
    with pytest.raises(BadInput, match="50 samples does not belong to 49"):
        graph_among(whole, x[1:], np.array([0, 1]))


def test_restricted_keeps_as_many_as_all_still_have():
    x = np.arange(6.0)[:, None]
    graph = neighbor_graph(x, 3, metric="euclidean")
    part = graph.restricted(np.array([0, 1, 2, 3]))
    assert part.index.tolist() == [[1, 2], [0, 2], [1, 3], [2, 1]]  # 3 has lost 4
    assert part.distance.tolist() == [[1, 2], [1, 1], [1, 1], [1, 2]]
    with pytest.raises(BadInput, match="none left"):
        graph.restricted(np.array([0, 5]))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_an_approximate_graph_measures_its_recall_and_its_distances_are_exact(metric, monkeypatch):
    x = clouds(3000, 12)
    exact = neighbor_graph(x, 5, metric=metric)
    monkeypatch.setattr(module, "PROBED", 3)
    graph = neighbor_graph(x, 5, metric=metric, exact_up_to=2999, least_recall=0.5)
    assert graph.approximate
    assert (graph.probed, graph.lists) == (3, 76)
    assert not exact.approximate
    assert exact.recall is None
    assert graph.recall == recall(graph, x)
    hits = [len(set(a) & set(b)) for a, b in zip(graph.index.tolist(), exact.index.tolist(), strict=True)]
    assert abs(np.mean(hits) / 5 - graph.recall) < 0.05
    assert 0.5 < graph.recall <= 1
    same = (graph.index == exact.index).all(axis=1)
    assert same.mean() > 0.3
    assert np.array_equal(graph.distance[same], exact.distance[same])
    assert (graph.index != np.arange(3000)[:, None]).all()
    assert all(len(set(row)) == 5 for row in graph.index.tolist())
    again = neighbor_graph(x, 5, metric=metric, exact_up_to=2999, least_recall=0.5, threads=2)
    assert np.array_equal(again.index, graph.index)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_lists_are_added_until_the_recall_that_is_asked_for_is_reached(metric, monkeypatch):
    x = np.random.default_rng(4).normal(size=(3000, 24))  # no groups: neighbours lie in many lists
    monkeypatch.setattr(module, "PROBED", 2)
    graphs = {
        asked: neighbor_graph(x, 5, metric=metric, exact_up_to=0, least_recall=asked)
        for asked in (0.1, 0.6, 0.95, 1)
    }
    exact = neighbor_graph(x, 5, metric=metric)
    probed = [graph.probed for graph in graphs.values()]
    assert probed == sorted(probed)
    assert probed[0] == 2
    assert probed[-1] == 76
    for asked, graph in graphs.items():
        assert graph.recall == recall(graph, x) >= asked
        hits = [len(set(a) & set(b)) for a, b in zip(graph.index.tolist(), exact.index.tolist(), strict=True)]
        assert abs(np.mean(hits) / 5 - graph.recall) < 0.05
        assert graph.probed in (2, 4, 8, graph.lists)
        if graph.probed == graph.lists:  # an eighth of the lists would not do
            assert np.array_equal(graph.index, exact.index)
        if graph.probed > 2:  # half as many would not have done
            monkeypatch.setattr(module, "PROBED", min(graph.probed // 2, 8))
            fewer = neighbor_graph(x, 5, metric=metric, exact_up_to=0, least_recall=1e-9)
            assert fewer.recall < asked
            monkeypatch.setattr(module, "PROBED", 2)
    again = neighbor_graph(x, 5, metric=metric, exact_up_to=0, threads=2)
    assert again.index.tobytes() == graphs[0.95].index.tobytes()
    for asked in (0, 1.1):
        with pytest.raises(BadInput, match="share in"):
            neighbor_graph(x, 5, metric=metric, least_recall=asked)


def test_at_the_stated_size_the_graph_is_exact():
    x = clouds(100)
    assert not neighbor_graph(x, 3, exact_up_to=100).approximate
    graph = neighbor_graph(x, 3, exact_up_to=99)
    assert graph.approximate
    assert graph.index.min() >= 0


def test_recall_tells_a_bad_index_from_a_good_one_and_believes_no_distance_it_is_given():
    x = np.random.default_rng(5).normal(size=(400, 8))
    graph = neighbor_graph(x, 10)
    assert recall(graph, x) == 1
    rng = np.random.default_rng(6)
    shuffled = replace(
        graph, index=np.array([rng.permutation(np.delete(np.arange(400), r))[:10] for r in range(400)])
    )
    assert recall(shuffled, x) < 0.06  # 10 of 399 by chance, whatever distances stand beside
    half = graph.index.copy()
    half[:, 5:] = shuffled.index[:, 5:]
    worse = NeighborGraph(half, graph.distance, "cosine")
    assert 0.5 <= recall(worse, x, sample=400) < 0.56


def test_recall_counts_a_tie_as_found():
    x = np.repeat(np.eye(4), 20, axis=0)
    graph = neighbor_graph(x, 3)
    last = replace(
        graph, index=np.array([[r // 20 * 20 + (r + m) % 20 for m in (1, 2, 3)] for r in range(80)])
    )
    assert not np.array_equal(last.index, graph.index)
    assert recall(last, x) == 1


def test_vectors_that_are_no_numbers_are_refused():
    x = clouds(20)
    x[3, 1], x[7, 0] = np.nan, np.inf
    with pytest.raises(BadInput, match="2 of 20 vectors hold NaN"):
        neighbor_graph(x, 2)
    with pytest.raises(BadInput, match="cosine or euclidean"):
        neighbor_graph(clouds(20), 2, metric="manhattan")
    with pytest.raises(BadInput, match="two samples"):
        neighbor_graph(np.ones((1, 3)), 1)


def test_faiss_gets_its_threads_back():
    import faiss

    before = faiss.omp_get_max_threads()
    neighbor_graph(clouds(200), 2, exact_up_to=10)
    assert faiss.omp_get_max_threads() == before
