"""Facility location: the guarantee against every subset, lazy against naive bit by bit, and weights that are counts."""

from itertools import combinations

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_digits

from tracesift.catalog.neighbor_graph import neighbor_graph
from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import select
from tracesift.selectors.geometry import distances
from tracesift.selectors.geometry import facility_location as module
from tracesift.selectors.geometry.lazy_greedy import lazy_greedy

APRICOT = [
    945, 1579, 1107, 983, 1696, 272, 1387, 1417, 1075, 186, 345, 885, 1084, 273, 1327, 195, 1541, 1536, 259,
    765, 991, 181, 455, 1634, 410, 438, 1788, 1447, 612, 252, 1286, 146, 1114, 1711, 360, 1026, 708, 1485,
    310, 1238, 1168, 1507, 213, 384, 1312, 1678, 1422, 1291, 117, 251, 654, 57, 579, 925, 1584, 562, 157, 798,
    200, 582, 1364, 1663, 520, 6, 762, 1295, 1603, 501, 183, 1537, 1713, 79, 929, 558, 948, 908, 621, 1120,
    573, 1005, 1568, 1222, 1352, 881, 1570, 233, 1703, 347, 696, 1066, 634, 1639, 228, 1549, 1206, 151, 732,
    411, 1414, 1156,
]  # fmt: skip
"""What apricot-select 0.6.1 picks of scikit-learn's digits, divided by 16, in order: FacilityLocationSelection(100,
metric="precomputed") over the largest Euclidean distance minus each."""


def choose(points, budget, labels=None, arrays=None, **params):
    frame = pl.DataFrame(
        {"sample_id": [f"s{i:05d}" for i in range(len(points))], "label": labels or ["x"] * len(points)}
    )
    return select(
        "facility_location", frame, budget=budget, seed=0, embedding=points, arrays=arrays, **params
    )


def in_order(result):
    """Row numbers of the kept samples, in the order that their reasons give."""
    kept = result.with_row_index().filter(pl.col("role") == "keep")
    place = kept["reason"].str.extract(r"picked (\d+)").cast(pl.Int64)
    return kept["index"].gather(place.arg_sort()).to_list()


def distances_of(points, metric="euclidean"):
    if metric == "euclidean":
        return np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    unit = points / np.where(lengths > 0, lengths, 1)
    away = 1 - unit @ unit.T
    np.fill_diagonal(away, 0)
    return away


def value(away, picks):
    return (away.max() - away[:, list(picks)].min(1)).sum()


def naive(distance, start, count):
    """Greedy that measures every sample each time, with the selector's own kernels for one gain."""
    near, picks = start.copy(), []
    while len(picks) < count:
        gains = [module._gain(row, near) if j not in picks else -1.0 for j, row in enumerate(distance)]
        picks.append(int(np.argmax(gains)))
        near = np.minimum(near, distance[picks[-1]])
    return picks


def test_by_hand():
    # sums of distances: 21.5, 18.5, 17.5, 31.5, 33: 2 is the medoid; then 9 takes 7 and 7 - 0.5 off
    line = np.array([[0.0], [1.0], [2.0], [9.0], [9.5]])
    result = choose(line, 2)
    assert in_order(result) == [2, 3]
    assert result["weight"].to_list() == [0, 0, 3, 2, 0]
    assert result["reason"].to_list() == [
        "left, 's00002' stands for it, 2 away",
        "left, 's00002' stands for it, 1 away",
        "picked 1st of 2 of label 'x', gain 30; stands for 3 samples of label 'x'",
        "picked 2nd of 2 of label 'x', gain 14; stands for 2 samples of label 'x'",
        "left, 's00003' stands for it, 0.5 away",
    ]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("seed", range(8))
def test_at_least_1_minus_1_over_e_of_the_best_subset(seed, metric):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(12, 3)) + rng.choice([-4, 4], size=(12, 1))
    away = distances_of(points, metric)
    for count in (1, 2, 4):
        best = max(value(away, subset) for subset in combinations(range(12), count))
        assert value(away, in_order(choose(points, count, metric=metric))) >= (1 - 1 / np.e) * best
    assert in_order(choose(points, 1, metric=metric)) == [int(away.sum(0).argmin())]


@pytest.mark.parametrize("shape", ["cloud", "copies", "lattice"])
def test_lazy_is_exactly_naive(shape):
    rng = np.random.default_rng(3)
    points = rng.normal(size=(150, 3))
    if shape == "copies":
        points = np.repeat(points[:30], 5, axis=0)
    if shape == "lattice":
        points = rng.integers(0, 5, size=(150, 3)).astype(float)  # ties everywhere
    away = np.zeros((150, 192), dtype=np.float32)
    away[:, :150] = distances_of(points)
    start = np.zeros(192, dtype=np.float32)
    start[:150] = away.max()
    assert in_order(choose(points, 150)) == naive(away, start, 150)


def test_lazy_greedy_measures_far_less_than_all():
    rng = np.random.default_rng(0)
    away = distances_of(rng.normal(size=(300, 4)))
    near, asked = np.full(300, away.max()), []

    def gain(place):
        asked.append(place)
        return float(np.cumsum(np.maximum(near - away[place], 0))[-1])

    def take(place):
        np.minimum(near, away[place], out=near)

    first = np.array([gain(place) for place in range(300)])
    asked.clear()
    picks, gains = lazy_greedy(first, gain, take, 60)
    assert len(asked) < 60 * 300 / 5
    assert (np.diff(gains) <= 0).all()
    assert len(set(picks.tolist())) == 60


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_gains_add_up_to_the_objective(metric):
    points = np.random.default_rng(1).normal(size=(80, 6))
    result = choose(points, 20, metric=metric)
    gains = result["reason"].str.extract(r"gain ([\d.e+-]+)").cast(pl.Float64).drop_nulls().sum()
    assert gains == pytest.approx(value(distances_of(points, metric), in_order(result)), rel=1e-4)


@pytest.mark.parametrize("neighbors", [None, 3, 10])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_weights_are_exact_counts_that_add_up_to_all(metric, neighbors):
    points = np.random.default_rng(2).normal(size=(120, 4)).astype(np.float32)
    points[[5, 40]] = 0
    labels = ["a"] * 70 + ["b"] * 50
    result = choose(points, 17, labels, metric=metric, neighbors=neighbors)
    assert result["weight"].sum() == 120
    assert (result.filter(pl.col("role") == "keep")["weight"] >= 1).all()
    away = distances_of(points.astype(np.float64), metric)
    kept = np.flatnonzero(result["role"] == "keep")
    for group in (np.arange(70), np.arange(70, 120)):
        own = [
            row
            for row in in_order(result.with_row_index().filter(pl.col("index").is_in(group)).drop("index"))
        ]
        picks = group[own]
        nearest = picks[away[np.ix_(group, picks)].round(6).argmin(1)]
        nearest[np.searchsorted(group, picks)] = picks
        assert [int((nearest == row).sum()) for row in picks] == result["weight"].gather(picks).to_list()
    assert len(kept) == 17


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_with_all_neighbours_the_sparse_form_is_the_dense_one(metric):
    points = np.random.default_rng(4).normal(size=(60, 3))
    dense, sparse = choose(points, 12, metric=metric), choose(points, 12, metric=metric, neighbors=59)
    assert in_order(dense) == in_order(sparse)
    assert dense["weight"].equals(sparse["weight"])


def test_nothing_is_measured_again_where_the_graph_knows_all_nearest_picks(monkeypatch):
    points = np.random.default_rng(9).normal(size=(400, 8))
    monkeypatch.setattr(module, "_nearest_of", None)
    result = choose(points, 380, neighbors=30)
    assert result["weight"].sum() == 400


def test_the_sparse_form_by_definition():
    points = np.random.default_rng(5).normal(size=(50, 2))
    graph = neighbor_graph(points, 4, metric="euclidean")
    known = np.full((50, 50), graph.distance.max())
    np.fill_diagonal(known, 0)
    for row in range(50):
        known[row, graph.index[row]] = known[graph.index[row], row] = graph.distance[row]
    picks = in_order(choose(points, 15, neighbors=4))
    near = np.full(50, known.max())
    for pick in picks:
        gains = np.maximum(near[:, None] - known, 0).sum(0)
        assert gains[pick] >= gains.max() - 1e-4
        near = np.minimum(near, known[pick])


def test_a_graph_that_is_passed_gives_what_a_search_gives():
    rng = np.random.default_rng(6)
    points, labels = rng.normal(size=(90, 5)), list(rng.choice(["a", "b", "c"], 90))
    searched = choose(points, 20, labels, neighbors=6)
    for k in (6, 9):
        graph = neighbor_graph(points, k, metric="euclidean")
        assert searched.equals(choose(points, 20, labels, arrays={"graph": graph}, neighbors=6))
    dense = choose(points, 20, labels)
    assert dense.equals(choose(points, 20, labels, arrays={"graph": graph}))  # read only where asked for


@pytest.mark.parametrize("neighbors", [None, 2])
def test_edges(neighbors):
    copies = np.repeat(np.eye(2), 3, axis=0)
    result = choose(copies, 6, neighbors=neighbors)
    assert result["weight"].to_list() == [1] * 6
    assert {row // 3 for row in in_order(result)[:2]} == {0, 1}
    for metric in ("euclidean", "cosine"):
        zeros = choose(np.zeros((4, 2)), 2, metric=metric, neighbors=neighbors)
        assert in_order(zeros) == [0, 1]
        assert zeros["weight"].to_list() == [3, 1, 0, 0]
    assert choose(np.ones((1, 3)), 1, neighbors=neighbors)["weight"].to_list() == [1]
    alone = choose(np.eye(3), 2, ["a", "b", "b"], neighbors=neighbors)
    assert alone["weight"].to_list() == [1, 2, 0]


def test_rows_of_zeros_stand_at_cosine_0_in_both_forms():
    points = np.array([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.1], [0.0, 0.0], [-1.0, 0.0], [0.5, -2.0]])
    for count in (1, 2, 3, 6):
        dense = choose(points, count, metric="cosine")
        sparse = choose(points, count, metric="cosine", neighbors=5)
        assert dense["weight"].equals(sparse["weight"])


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_leave_no_trace(monkeypatch, threads):
    points = np.random.default_rng(7).normal(size=(300, 5)).astype(np.float32)
    plain = choose(points, 30)
    monkeypatch.setattr(distances, "SHARE", 64)
    monkeypatch.setattr(distances.os, "cpu_count", lambda: threads)
    assert plain.equals(choose(points, 30))


def test_what_does_not_fit_is_refused(monkeypatch):
    points = np.random.default_rng(8).normal(size=(20, 3))
    with pytest.raises(BadInput, match="neighbors must be"):
        choose(points, 3, neighbors=0)
    with pytest.raises(BadInput, match=r"metric='.*' must be"):
        choose(points, 3, metric="dot")
    graph = neighbor_graph(points, 4)
    with pytest.raises(BadInput, match="by cosine, not euclidean"):
        choose(points, 3, arrays={"graph": graph}, neighbors=4)
    with pytest.raises(BadInput, match="5 neighbours wanted, the graph has 4"):
        choose(points, 3, arrays={"graph": graph}, neighbors=5, metric="cosine")
    monkeypatch.setattr(module, "LARGEST", 19)
    with pytest.raises(BadInput, match="neighbors=30"):
        choose(points, 3)


def test_picks_of_the_digits_are_apricots_one_by_one():
    points = load_digits().data / 16
    assert in_order(choose(points, 100)) == APRICOT
