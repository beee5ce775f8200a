import numpy as np
import pytest
from scipy.optimize import minimize

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.capped_simplex import onto_capped_simplex


@pytest.mark.parametrize("seed", range(6))
def test_against_a_quadratic_program(seed):
    rng = np.random.default_rng(seed)
    values, total = rng.normal(0.3, 1, 7), float(rng.integers(1, 7))
    solved = minimize(
        lambda w: ((w - values) ** 2).sum(), np.full(7, total / 7), jac=lambda w: 2 * (w - values), method="SLSQP",
        bounds=[(0, 1)] * 7, constraints={"type": "eq", "fun": lambda w: w.sum() - total}, options={"ftol": 1e-14},
    )  # fmt: skip
    assert solved.success
    np.testing.assert_allclose(onto_capped_simplex(values, total), solved.x, atol=1e-6)


def by_breakpoints(values, total):
    """The shift solved exactly: the sum is linear between the points where a weight reaches 0 or 1."""
    points = np.sort(np.r_[values, values - 1])
    sums = np.array([np.clip(values - point, 0, 1).sum() for point in points])
    at = int(np.flatnonzero(sums <= total)[0])
    low, high = points[at - 1], points[at]
    share = (sums[at - 1] - total) / (sums[at - 1] - sums[at])
    return np.clip(values - (low + share * (high - low)), 0, 1)


@pytest.mark.parametrize(("size", "total"), [(1, 0.4), (50, 3.5), (999, 100), (999, 998)])
def test_against_the_exact_shift(size, total):
    values = np.random.default_rng(size).normal(0, 3, size)
    found = onto_capped_simplex(values, total)
    np.testing.assert_allclose(found, by_breakpoints(values, total), atol=1e-10)
    assert found.sum() == pytest.approx(total, rel=1e-12)
    assert ((found >= 0) & (found <= 1)).all()


def test_ends_ties_and_points_that_are_there_already():
    assert onto_capped_simplex(np.array([5.0, -5.0, 0.0]), 0).tolist() == [0, 0, 0]
    assert onto_capped_simplex(np.array([5.0, -5.0, 0.0]), 3).tolist() == [1, 1, 1]
    np.testing.assert_allclose(onto_capped_simplex(np.full(4, 7.0), 1), 0.25, rtol=1e-12)
    there = np.array([0.0, 1.0, 0.25, 0.75])
    np.testing.assert_allclose(onto_capped_simplex(there, 2), there, atol=1e-12)
    np.testing.assert_allclose(onto_capped_simplex(np.array([1e9, 0.0, -1e9]), 2), [1, 1, 0], atol=1e-6)


@pytest.mark.parametrize("total", [-0.1, 3.1, float("nan")])
def test_totals_that_no_weights_have(total):
    with pytest.raises(BadInput, match="cannot add up"):
        onto_capped_simplex(np.zeros(3), total)
    with pytest.raises(BadInput, match="finite"):
        onto_capped_simplex(np.array([np.nan, 0]), 1)
