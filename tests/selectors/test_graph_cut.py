"""Graph cut: every gain against f computed anew, for lambda from 2 on and below."""

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_digits

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import select

APRICOT = [
    424, 148, 615, 1747, 1030, 1766, 818, 768, 1363, 509, 138, 1774, 1295, 255, 402, 852, 1069, 1709, 168,
    248, 1327, 459, 890, 513, 899, 945, 452, 183, 423, 491, 923, 1325, 1658, 898, 352, 742, 903, 478, 978,
    426, 1040, 823, 514, 1071, 1796, 1781, 332, 269, 1794, 913, 814, 657, 1340, 1320, 254, 417, 1668, 1433,
    684, 505, 1423, 420, 309, 1455, 649, 114, 296, 1453, 1705, 508, 224, 1763, 1632, 1647, 500, 997, 1737,
    836, 301, 370, 1026, 1596, 515, 736, 686, 816, 76, 1199, 547, 693, 854, 1757, 419, 1726, 1323, 721, 448,
    339, 405, 669,
]  # fmt: skip
"""What apricot-select 0.6.1 picks of scikit-learn's digits in order: GraphCutSelection(100, metric="precomputed",
alpha=2) over (1 + cosine) / 2."""


def pick(points, budget, labels=None, **params):
    frame = pl.DataFrame(
        {"sample_id": [f"s{i:05d}" for i in range(len(points))], "label": labels or ["x"] * len(points)}
    )
    result = select("graph_cut", frame, budget=budget, seed=0, embedding=points, **params)
    kept = result.with_row_index().filter(pl.col("role") == "keep")
    place = kept["reason"].str.extract(r"picked (\d+)").cast(pl.Int64).arg_sort()
    gains = kept["reason"].str.extract(r"gain (-?[\d.e+-]+)").cast(pl.Float64)
    return kept["index"].gather(place).to_list(), gains.gather(place).to_list(), result


def similarities(points, metric):
    if metric == "cosine":
        lengths = np.linalg.norm(points, axis=1, keepdims=True)
        unit = points / np.where(lengths > 0, lengths, 1)
        matrix = 0.5 + 0.5 * unit @ unit.T
        np.fill_diagonal(matrix, 1)
        return matrix
    squared = ((points[:, None] - points[None]) ** 2).sum(-1)
    return np.exp(-squared / squared.mean())


def value(matrix, picks, lam):
    return lam * matrix[:, picks].sum() - matrix[np.ix_(picks, picks)].sum()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("lam", [0.3, 1.0, 2.0, 5.0])
def test_each_gain_is_the_difference_of_the_objective_and_the_largest_there_is(metric, lam):
    points = np.random.default_rng(0).normal(size=(40, 5))
    points[11] = 0
    matrix = similarities(points, metric)
    picks, gains, _ = pick(points, 40, metric=metric, lam=lam)
    for step, (row, gain) in enumerate(zip(picks, gains, strict=True)):
        before = picks[:step]
        differences = {
            j: value(matrix, [*before, j], lam) - value(matrix, before, lam)
            for j in set(range(40)) - set(before)
        }
        assert gain == pytest.approx(differences[row], rel=1e-4, abs=1e-4)
        assert differences[row] >= max(differences.values()) - 1e-9


def test_from_two_on_every_pick_adds_and_below_late_ones_take_away():
    points = np.random.default_rng(1).normal(size=(30, 4))
    assert min(pick(points, 30, lam=2.0)[1]) >= 0
    assert min(pick(points, 30, lam=1.0)[1]) < 0


def test_by_hand():
    # two copies and their opposite: sums 2, 2, 1; then the copy has 2 lam - 3 = -1, the opposite lam - 1 = 0
    points = np.array([[1.0, 0.0], [3.0, 0.0], [-1.0, 0.0]])
    picks, gains, result = pick(points, 2)
    assert (picks, gains) == ([0, 2], [1.0, 0.0])
    assert (
        result["reason"][1]
        == "left, its gain would be -1: 1 x 2 to all, less 2 x 1 to the picks and 1 to itself"
    )
    assert pick(points, 2, lam=3.0)[0] == [0, 1]  # 6 - 3 against 3 - 1


def test_classes_and_edges():
    points = np.concatenate([np.tile([[1.0, 0.0]], (4, 1)), np.tile([[0.0, 1.0]], (2, 1))])
    assert sorted(pick(points, 3, list("aaaabb"))[0]) == [0, 1, 4]
    for metric in ("cosine", "euclidean"):
        assert pick(np.zeros((4, 2)), 2, metric=metric)[0] == [0, 1]
        assert pick(np.ones((1, 2)), 1, metric=metric)[0] == [0]


@pytest.mark.parametrize("lam", [0, -1.0, float("nan"), float("inf"), True, "2"])
def test_impossible_trade_offs_are_refused(lam):
    with pytest.raises(BadInput, match="lam"):
        pick(np.eye(3), 1, lam=lam)


def test_picks_of_the_digits_are_apricots_one_by_one():
    points = load_digits().data / 16
    assert pick(points, 100, lam=2.0)[0] == APRICOT
