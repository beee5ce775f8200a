"""Log-determinant: every gain against the difference of two determinants, and never the part already explained."""

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import select


def pick(points, budget, labels=None, **params):
    frame = pl.DataFrame(
        {"sample_id": [f"s{i:05d}" for i in range(len(points))], "label": labels or ["x"] * len(points)}
    )
    result = select("log_det", frame, budget=budget, seed=0, embedding=points, **params)
    kept = result.with_row_index().filter(pl.col("role") == "keep")
    place = kept["reason"].str.extract(r"picked (\d+)").cast(pl.Int64).arg_sort()
    gains = kept["reason"].str.extract(r"gain (-?[\d.e+-]+)").cast(pl.Float64)
    return kept["index"].gather(place).to_list(), gains.gather(place).to_list()


def similarities(points, metric):
    if metric == "cosine":
        unit = points / np.linalg.norm(points, axis=1, keepdims=True)
        return 0.5 + 0.5 * unit @ unit.T
    squared = ((points[:, None] - points[None]) ** 2).sum(-1)
    return np.exp(-squared / squared.mean())


def log_determinant(matrix, picks):
    return np.linalg.slogdet(matrix[np.ix_(picks, picks)])[1] if len(picks) else 0.0


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("ridge", [0.0, 1e-3, 1.0])
def test_each_gain_is_the_difference_of_two_determinants_and_the_largest_there_is(metric, ridge):
    points = np.random.default_rng(0).normal(size=(25, 12))
    matrix = similarities(points, metric) + ridge * np.eye(25)
    picks, gains = pick(points, 12, metric=metric, ridge=ridge)
    for step, (row, gain) in enumerate(zip(picks, gains, strict=True)):
        before = picks[:step]
        base = log_determinant(matrix, before)
        differences = {j: log_determinant(matrix, [*before, j]) - base for j in set(range(25)) - set(before)}
        assert gain == pytest.approx(differences[row], rel=1e-4, abs=1e-5)
        assert differences[row] >= max(differences.values()) - 1e-7


def test_the_gain_is_what_is_not_explained():
    points = np.array([[1.0, 0.0], [1.0, 1e-3], [0.0, 1.0], [1.0, 0.1]])
    matrix = similarities(points, "cosine")
    explained = [
        matrix[j, 0] ** 2 / matrix[0, 0] for j in range(4)
    ]  # the gain of the reference implementation
    assert int(np.argmax(explained[1:])) + 1 == 1
    assert pick(points, 2)[0] == [0, 2]


def test_beyond_the_rank_a_ridge_is_asked_for():
    points = np.random.default_rng(1).normal(size=(20, 2))  # cosines of 2 features span 3 dimensions
    assert len(pick(points, 3, ridge=0.0)[0]) == 3
    with pytest.raises(BadInput, match=r"3 picks of label 'x' explain all others.*ridge=0\.001"):
        pick(points, 4, ridge=0.0)
    assert sorted(pick(points, 20)[0]) == list(range(20))


def test_copies_come_last():
    points = np.repeat(np.random.default_rng(2).normal(size=(5, 6)), 3, axis=0)
    assert {row // 3 for row in pick(points, 5)[0]} == set(range(5))
    assert sorted(pick(points, 15)[0]) == list(range(15))


def test_the_block_of_the_kernel_leaves_no_trace():
    points = np.random.default_rng(3).normal(size=(1300, 5))
    matrix = similarities(points, "cosine") + 1e-3 * np.eye(1300)
    picks, gains = pick(points, 30)
    assert np.sum(gains) == pytest.approx(log_determinant(matrix, picks), rel=1e-4)


def test_classes_and_edges():
    points = np.concatenate([np.eye(3), -np.eye(3)])
    assert pick(points, 2, list("aaabbb"))[0] in ([0, 3], [3, 0])
    for metric in ("cosine", "euclidean"):
        assert pick(np.zeros((4, 2)), 3, metric=metric)[0] == [0, 1, 2]
        assert pick(np.ones((1, 2)), 1, metric=metric)[0] == [0]


@pytest.mark.parametrize("ridge", [-1e-3, float("nan"), float("inf"), True, "0"])
def test_impossible_ridges_are_refused(ridge):
    with pytest.raises(BadInput, match="ridge"):
        pick(np.eye(3), 1, ridge=ridge)
