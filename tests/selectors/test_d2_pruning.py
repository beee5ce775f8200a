import numpy as np
import polars as pl
import pytest
from scipy.spatial.distance import cdist

from tracesift.catalog.neighbor_graph import neighbor_graph
from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import select


def made(n, dimensions=4, seed=0, classes=2):
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "sample_id": [f"s{i:04d}" for i in range(n)],
            "label": [f"c{y}" for y in rng.integers(0, classes, n)],
            "forgetting_events": rng.integers(0, 6, n),
            "aum": rng.normal(size=n),
        }
    )
    return frame, rng.normal(size=(n, dimensions))


def dense(x, importance, size, *, k, gamma, scale=None):
    """The method on an N x N matrix, by argmax over a list."""
    n = len(x)
    d = cdist(x, x)
    near = np.zeros((n, n), dtype=bool)
    for i in range(n):
        others = sorted((j for j in range(n) if j != i), key=lambda j: (round(d[i, j], 6), j))
        near[i, others[:k]] = True
    near |= near.T
    unit = np.median(d[near]) if scale is None else scale
    s = np.maximum(importance - min(0, importance.min()), 1e-7)
    v = s + np.where(near, np.exp(-d / unit), 0) @ s
    chosen, live = [], np.ones(n, dtype=bool)
    for _ in range(size):
        best = max(np.flatnonzero(live), key=lambda i: (round(v[i], 9), -i))
        live[best] = False
        chosen.append(best)
        v = v - np.where(near[best], np.exp(-gamma * d[best] / unit), 0) * v[best]
    return chosen


def kept(result):
    return set(np.flatnonzero(result["role"] == "keep"))


@pytest.mark.parametrize(
    "options", [{}, {"k": 3, "gamma": 1.0}, {"k": 5, "scale": 1.0}, {"k": 200, "gamma": 0.0}]
)
def test_is_the_dense_method(options):
    for seed in range(3):
        frame, x = made(60, seed=seed)
        expected = dense(
            x, frame["forgetting_events"].to_numpy().astype(float), 20, **{"k": 10, "gamma": 0.1, **options}
        )
        assert kept(select("d2_pruning", frame, budget=20, seed=0, embedding=x, **options)) == set(expected)


def test_negative_importance_is_shifted_by_its_minimum():
    frame, x = made(60)
    values = frame["aum"].to_numpy()
    assert values.min() < 0
    ours = kept(select("d2_pruning", frame, budget=15, seed=0, embedding=x, score="aum"))
    assert ours == set(dense(x, values, 15, k=10, gamma=0.1))
    moved = frame.with_columns(pl.col("aum") - 7.0)
    assert ours == kept(select("d2_pruning", moved, budget=15, seed=0, embedding=x, score="aum"))
    negated = frame.with_columns(-pl.col("aum"))
    assert ours != kept(select("d2_pruning", negated, budget=15, seed=0, embedding=x, score="aum"))


def test_a_graph_that_is_passed_is_made_symmetric_and_changes_nothing():
    frame, x = made(80)
    graph = neighbor_graph(x, 12, metric="euclidean")
    searched = select("d2_pruning", frame, budget=30, seed=0, embedding=x, k=6)
    assert searched.equals(
        select("d2_pruning", frame, budget=30, seed=0, embedding=x, k=6, arrays={"graph": graph})
    )
    shuffle = np.random.default_rng(1).permutation(80)
    there = {"graph": neighbor_graph(x[shuffle], 6, metric="euclidean")}
    assert searched.equals(
        select("d2_pruning", frame[shuffle], budget=30, seed=0, embedding=x[shuffle], k=6, arrays=there)
    )


@pytest.mark.parametrize("settings", [{"per_class": True}, {"strata": 3}, {"nulls": "drop"}])
def test_a_graph_changes_nothing_within_classes_and_strata_and_without_scores(settings):
    frame, x = made(90)
    frame = frame.with_columns(label=pl.Series(["a", "b", "b"] * 30))
    if "nulls" in settings:
        gone = pl.int_range(pl.len()) % 4 == 0
        frame = frame.with_columns(forgetting_events=pl.when(~gone).then("forgetting_events"))
    settings = {"budget": 25, "seed": 0, "embedding": x, "k": 5, **settings}
    graph = neighbor_graph(x, 5, metric="euclidean")
    searched = select("d2_pruning", frame, **settings)
    assert searched.equals(select("d2_pruning", frame, **settings, arrays={"graph": graph}))


def test_by_cosine_the_distances_are_those_of_unit_vectors():
    frame, x = made(60)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    values = frame["forgetting_events"].to_numpy().astype(float)
    searched = select("d2_pruning", frame, budget=20, seed=0, embedding=x, k=7, metric="cosine")
    assert kept(searched) == set(dense(unit, values, 20, k=7, gamma=0.1))
    arrays = {"graph": neighbor_graph(x, 7)}
    assert searched.equals(
        select("d2_pruning", frame, budget=20, seed=0, embedding=x, k=7, metric="cosine", arrays=arrays)
    )
    with pytest.raises(BadInput, match="by cosine, not euclidean"):
        select("d2_pruning", frame, budget=20, seed=0, embedding=x, k=7, arrays=arrays)


def test_hand_worked():
    # d = 1 between a and b, 1 between b and c; k = 1: a-b and b-c (c's nearest is b, b's nearest is a by its id)
    frame = pl.DataFrame({"sample_id": list("abc"), "label": ["x"] * 3, "s": [1.0, 2.0, 1.5]})
    result = select(
        "d2_pruning",
        frame,
        budget=2,
        seed=0,
        embedding=np.array([[0.0], [1.0], [2.0]]),
        score="s",
        k=1,
        gamma=1.0,
        scale=1.0,
    )
    e = np.exp(-1)
    v = np.array([1 + 2 * e, 2 + 2.5 * e, 1.5 + 2 * e])  # b first; a and c lose e * v_b
    assert v.argmax() == 1
    assert kept(result) == {1, 2}
    assert f"{v[2] - e * v[1]:.4g}" in result["reason"][2]
    assert "median exp(-d) 0.368" in result["reason"][0]


def test_copies_are_suppressed_where_top_k_takes_them_all():
    rng = np.random.default_rng(0)
    x = np.vstack([np.zeros((6, 2)) + rng.normal(size=(6, 2)) * 1e-3, rng.normal(size=(6, 2)) * 3 + 20])
    frame = pl.DataFrame(
        {"sample_id": [f"s{i:02d}" for i in range(12)], "label": ["x"] * 12, "s": [9.0] * 6 + [5.0] * 6}
    )
    assert kept(select("top_k", frame, budget=6, seed=0, score="s")) == set(range(6))
    ours = kept(select("d2_pruning", frame, budget=6, seed=0, embedding=x, score="s", k=5))
    assert len(ours & set(range(6))) <= 3
    assert ours & set(range(6, 12))


def test_vanishing_kernels_are_an_error_that_says_the_scale():
    frame, x = made(60)
    with pytest.raises(BadInput, match=r"median exp\(-distance\).*leave scale out, or set it near"):
        select("d2_pruning", frame, budget=20, seed=0, embedding=x * 1000, scale=1.0)
    # the default counts in units of the median, whatever the features' size
    assert kept(select("d2_pruning", frame, budget=20, seed=0, embedding=x * 1000)) == kept(
        select("d2_pruning", frame, budget=20, seed=0, embedding=x)
    )


def test_strata_and_classes_are_worlds_of_their_own():
    frame, x = made(90, seed=4)
    result = select(
        "d2_pruning",
        frame,
        budget=30,
        seed=0,
        embedding=x,
        per_class=True,
        quota="equal",
        strata=3,
        k=4,
        scale=2.0,
    )
    chosen = kept(result)
    for label in ("c0", "c1"):
        rows = np.flatnonzero(frame["label"] == label)
        assert len(chosen & set(rows)) == 15
        score = frame["forgetting_events"].to_numpy()[rows].astype(float)
        stratum = np.minimum((score - score.min()) / (score.max() - score.min()) * 3 // 1, 2)
        shift = np.maximum(frame["forgetting_events"].to_numpy().astype(float), 1e-7)
        sizes = [len(chosen & set(rows[stratum == one])) for one in range(3)]
        assert sizes == [5, 5, 5]
        for one in range(3):
            there = rows[stratum == one]
            expected = dense(x[there], shift[there], 5, k=4, gamma=0.1, scale=2.0)
            assert chosen & set(there) == set(there[expected])


def test_strata_of_single_samples_have_no_neighbours():
    frame = pl.DataFrame({"sample_id": list("abc"), "label": ["x"] * 3, "s": [0.0, 1.0, 2.0]})
    result = select("d2_pruning", frame, budget=2, seed=0, embedding=np.eye(3), score="s", strata=3)
    assert (result["role"] == "keep").sum() == 2
    one = select("d2_pruning", frame[:1], budget=1, seed=0, embedding=np.eye(3)[:1], score="s")
    assert one["role"].to_list() == ["keep"]


def test_all_copies_and_zero_importance():
    frame = pl.DataFrame({"sample_id": list("abcd"), "label": ["x"] * 4, "s": [0.0] * 4})
    result = select("d2_pruning", frame, budget=2, seed=0, embedding=np.ones((4, 3)), score="s")
    assert (result["role"] == "keep").sum() == 2


def test_samples_without_a_score_hand_nothing_on():
    frame, x = made(40)
    holes = frame.with_columns(
        pl.when(pl.int_range(pl.len()) >= 3).then("forgetting_events").alias("forgetting_events")
    )
    ours = kept(select("d2_pruning", holes, budget=10, seed=0, embedding=x, nulls="drop"))
    alone = select("d2_pruning", frame[3:], budget=10, seed=0, embedding=x[3:])
    assert ours == {i + 3 for i in kept(alone)}


def test_what_cannot_be_used_is_refused():
    frame, x = made(30)
    with pytest.raises(BadInput, match="holds 2 neighbours"):
        select(
            "d2_pruning",
            frame,
            budget=5,
            seed=0,
            embedding=x,
            arrays={"graph": neighbor_graph(x, 2, metric="euclidean")},
        )
    with pytest.raises(BadInput, match="infinite"):
        select(
            "d2_pruning", frame.with_columns(aum=pl.lit(np.inf)), budget=5, seed=0, embedding=x, score="aum"
        )
    for wrong in ({"k": 0}, {"gamma": -1.0}, {"scale": 0.0}, {"strata": 0}):
        with pytest.raises(BadInput, match="must be 1 or more"):
            select("d2_pruning", frame, budget=5, seed=0, embedding=x, **wrong)
