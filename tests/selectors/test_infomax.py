import itertools

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.neighbor_graph import neighbor_graph
from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import find, select
from tracesift.selectors.geometry.infomax import exchange


def made(n, seed=0, dimensions=3):
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "sample_id": [f"s{i:03d}" for i in range(n)],
            "label": ["x"] * n,
            "el2n": rng.integers(0, 50, n) / 50,
        }
    )
    return frame, rng.normal(size=(n, dimensions))


def dense(frame, x, k):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = unit @ unit.T
    near = np.zeros(cosine.shape, dtype=bool)
    for i in range(len(x)):
        others = sorted((j for j in range(len(x)) if j != i), key=lambda j: (-round(cosine[i, j], 6), j))
        near[i, others[:k]] = True
    score = frame["el2n"].to_numpy()
    return (score - score.min()) / (score.max() - score.min()), np.where(
        near | near.T, np.maximum(cosine, 0), 0
    )


def objective(w, s, redundancy, chosen):
    chosen = list(chosen)
    return w[chosen].sum() - redundancy * s[np.ix_(chosen, chosen)].sum()


def greedy(w, s, redundancy, size):
    chosen = []
    while len(chosen) < size:
        rest = [j for j in range(len(w)) if j not in chosen]
        chosen.append(max(rest, key=lambda j: objective(w, s, redundancy, [*chosen, j])))
    return chosen


def kept(result):
    return set(np.flatnonzero(result["role"] == "keep"))


@pytest.mark.parametrize(("size", "redundancy"), [(3, 0.3), (5, 0.3), (5, 1.0), (8, 0.1)])
def test_never_below_greedy_and_near_the_optimum(size, redundancy):
    gaps, greedy_gaps = [], []
    for seed in range(25):
        frame, x = made(10, seed)
        w, s = dense(frame, x, 4)
        ours = kept(select("infomax", frame, budget=size, seed=0, embedding=x, k=4, redundancy=redundancy))
        best = max(objective(w, s, redundancy, some) for some in itertools.combinations(range(10), size))
        by_greed = objective(w, s, redundancy, greedy(w, s, redundancy, size))
        value = objective(w, s, redundancy, ours)
        assert value >= by_greed - 1e-5  # similarities are rounded to 6 digits
        gaps.append(best - value)
        greedy_gaps.append(best - by_greed)
    assert np.mean(gaps) <= 0.03 * size
    assert np.mean(gaps) <= np.mean(greedy_gaps) + 1e-6
    assert (np.array(gaps) < 1e-5).mean() >= 0.6


def best_swap(w, s, redundancy, chosen):
    """Return the largest change of the objective by one member for one other, over all pairs."""
    before = objective(w, s, redundancy, chosen)
    others = set(range(len(w))) - chosen
    return max(
        objective(w, s, redundancy, chosen - {i} | {j}) - before for i, j in itertools.product(chosen, others)
    )


@pytest.mark.parametrize(("size", "redundancy"), [(20, 0.3), (13, 1.0), (30, 0.05)])
def test_no_single_swap_is_a_gain(size, redundancy):
    for seed in range(8):
        frame, x = made(40, seed=seed)
        w, s = dense(frame, x, 5)
        chosen = kept(select("infomax", frame, budget=size, seed=0, embedding=x, redundancy=redundancy))
        assert best_swap(w, s, redundancy, chosen) <= 1e-5  # similarities are rounded to 6 digits


def test_neighbours_are_swapped_for_each_other():
    """A takes the place of its copy b, which the copy's own weight on A hides from marginal values."""
    frame = pl.DataFrame({"sample_id": list("abcd"), "label": ["x"] * 4, "el2n": [1.0, 0.9, 0.8, 0.0]})
    start, target = np.array([0, 1, 2, 2, 2]), np.array([1, 0])
    begin = np.array([False, True, True, False])
    found = exchange(start, target, np.ones(2), frame["el2n"].to_numpy(), begin, 2, 2.0)
    assert found.tolist() == [True, False, True, False]


def test_a_large_instance_is_left_without_a_gain():
    frame, x = made(400, seed=7, dimensions=5)
    w, s = dense(frame, x, 5)
    chosen = kept(select("infomax", frame, budget=133, seed=0, embedding=x))
    mask = np.isin(np.arange(400), list(chosen))
    value = w - 0.6 * s @ mask
    gain = value[None, :] - value[:, None] + 0.6 * s
    assert gain[np.ix_(mask, ~mask)].max() <= 1e-5


def test_without_redundancy_it_is_the_ranking_and_with_it_copies_go():
    frame, x = made(40, seed=1)
    ranked = kept(select("top_k", frame, budget=12, seed=0, score="el2n"))
    assert kept(select("infomax", frame, budget=12, seed=0, embedding=x, redundancy=0.0)) == ranked
    copies = np.vstack([np.tile([1.0, 0, 0], (8, 1)), np.eye(3)[1:].repeat(2, axis=0), [[0, 1, 1.0]] * 4])
    frame = pl.DataFrame(
        {"sample_id": [f"s{i:02d}" for i in range(16)], "label": ["x"] * 16, "el2n": [1.0] * 8 + [0.6] * 8}
    )
    assert kept(select("top_k", frame, budget=6, seed=0, score="el2n")) <= set(range(8))
    ours = kept(select("infomax", frame, budget=6, seed=0, embedding=copies, redundancy=1.0))
    assert len(ours & set(range(8))) <= 3


def test_the_sign_of_the_importance_matters():
    frame, x = made(60, seed=2)
    negated = frame.with_columns(-pl.col("el2n"))
    assert kept(select("infomax", frame, budget=20, seed=0, embedding=x)) != kept(
        select("infomax", negated, budget=20, seed=0, embedding=x)
    )


def test_a_graph_that_is_passed_changes_nothing_and_must_be_by_cosine():
    frame, x = made(60, seed=3)
    searched = select("infomax", frame, budget=20, seed=0, embedding=x)
    arrays = {"graph": neighbor_graph(x, 9)}
    assert searched.equals(select("infomax", frame, budget=20, seed=0, embedding=x, arrays=arrays))
    some = frame.with_columns(el2n=pl.when(pl.int_range(pl.len()) % 3 > 0).then("el2n"))
    settings = {"budget": 15, "seed": 0, "embedding": x, "nulls": "drop"}
    assert select("infomax", some, **settings).equals(select("infomax", some, **settings, arrays=arrays))
    with pytest.raises(BadInput, match="by euclidean, not cosine"):
        select(
            "infomax",
            frame,
            budget=5,
            seed=0,
            embedding=x,
            arrays={"graph": neighbor_graph(x, 9, metric="euclidean")},
        )
    with pytest.raises(BadInput, match="holds 2 neighbours"):
        select("infomax", frame, budget=5, seed=0, embedding=x, arrays={"graph": neighbor_graph(x, 2)})


def test_edge_cases():
    frame, x = made(3)
    assert select("infomax", frame[:1], budget=1, seed=0, embedding=x[:1])["role"].to_list() == ["keep"]
    equal = frame.with_columns(el2n=pl.lit(0.5))
    assert len(kept(select("infomax", equal, budget=2, seed=0, embedding=np.zeros((3, 3))))) == 2
    with pytest.raises(BadInput, match="infinite"):
        select("infomax", frame.with_columns(el2n=pl.lit(np.inf)), budget=1, seed=0, embedding=x)
    with pytest.raises(BadInput, match="redundancy"):
        select("infomax", frame, budget=1, seed=0, embedding=x, redundancy=-1.0)


def test_it_is_marked_experimental():
    assert find("infomax").experimental
    assert not find("top_k").experimental
