"""Geometric-median matching: the median against its condition, and 40 % of outliers that drag herding away."""

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize

from tracesift.selectors.contract import select
from tracesift.selectors.geometry import gm_matching as module
from tracesift.selectors.geometry.distances import laid_out, space


def median_of(points):
    return module.geometric_median(
        laid_out(space(points, "euclidean", "gm_matching"), np.arange(len(points)))
    )


def pick(name, points, budget, labels=None, **params):
    frame = pl.DataFrame(
        {"sample_id": [f"s{i:05d}" for i in range(len(points))], "label": labels or ["x"] * len(points)}
    )
    result = select(name, frame, budget=budget, seed=0, embedding=points, **params)
    kept = result.with_row_index().filter(pl.col("role") == "keep")
    place = kept["reason"].str.extract(r"picked (\d+)").cast(pl.Int64)
    return kept["index"].gather(place.arg_sort()).to_list()


@pytest.mark.parametrize("seed", range(6))
def test_the_median_is_the_least_sum_of_distances(seed):
    rng = np.random.default_rng(seed)
    points = rng.exponential(size=(40, 3)) * rng.choice([1, 8], size=(40, 1))

    def total(centre):
        return np.linalg.norm(points - centre, axis=1).sum()

    found = minimize(
        total, points.mean(0), method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 9999}
    )
    assert total(median_of(points)) <= found.fun + 1e-6
    assert np.allclose(median_of(points), found.x, atol=1e-3)


def test_the_median_by_hand_also_on_top_of_samples():
    assert median_of(np.array([[0.0], [1.0], [50.0]])) == pytest.approx([1.0], abs=1e-5)
    # an angle of 120 degrees or more at a corner: that corner itself
    assert median_of(np.array([[0.0, 0.0], [1.0, 0.1], [-1.0, 0.1]])) == pytest.approx([0.0, 0.0], abs=1e-4)
    # the mean falls on a sample that is not the median: the iteration must leave it
    assert median_of(np.array([[0.0], [6.0], [1.0], *[[-1.0]] * 5, [-2.0]])) == pytest.approx(
        [-1.0], abs=1e-5
    )
    assert median_of(np.array([[2.0, 3.0]] * 5)).tolist() == [2.0, 3.0]
    assert median_of(np.array([[7.0]])).tolist() == [7.0]


def test_forty_percent_of_outliers_move_herding_and_not_this():
    rng = np.random.default_rng(0)
    clean, planted = rng.normal(size=(600, 8)), rng.normal(loc=12, size=(400, 8))
    points = np.concatenate([clean, planted])
    robust, plain = pick("gm_matching", points, 100), pick("herding", points, 100)
    outliers = {name: np.mean(np.array(rows) >= 600) for name, rows in (("robust", robust), ("plain", plain))}
    assert outliers["plain"] > 0.35
    assert outliers["robust"] < 0.15
    away = {
        name: np.linalg.norm(points[rows].mean(0) - clean.mean(0))
        for name, rows in (("robust", robust), ("plain", plain))
    }
    assert away["robust"] < away["plain"] / 4


def test_without_outliers_the_picks_match_the_median_like_one_over_n():
    points = np.random.default_rng(1).normal(size=(2000, 3))
    rows, centre = pick("gm_matching", points, 200), median_of(points)
    assert (
        200 * np.linalg.norm(points[rows].mean(0) - centre)
        < 2 * np.linalg.norm(points - centre, axis=1).mean()
    )


def test_classes_and_edges():
    points = np.concatenate([[0.0, 1.0, 2.0, 90.0, 1.5], [200.0, 201.0, 202.0]])[:, None]
    assert sorted(pick("gm_matching", points, 2, ["a"] * 5 + ["b"] * 3)) == [4, 6]
    assert pick("gm_matching", np.zeros((4, 2)), 2, metric="cosine") == [0, 1]
    assert sorted(pick("gm_matching", points, 8)) == list(range(8))
