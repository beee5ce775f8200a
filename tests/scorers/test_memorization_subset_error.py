"""The standard error of memorization: the formula, and that estimates do scatter by it."""

import numpy as np

from tracesift.scorers.influence.memorization_subset import memorization_subset
from tracesift.scorers.influence.memorization_subset_error import memorization_subset_error


def test_it_is_that_of_a_difference_of_shares():
    trained = np.array([[1, 1, 1, 1, 0, 0]], dtype=bool)
    correct = np.array([[1, 1, 1, 0, 1, 0]], dtype=bool)
    expected = (0.75 * 0.25 / 4 + 0.5 * 0.5 / 2) ** 0.5
    np.testing.assert_allclose(memorization_subset_error(trained, correct), [expected], rtol=1e-14)


def test_sides_that_agree_have_none_and_empty_sides_no_answer():
    trained = np.array([[True, False], [True, True]])
    correct = np.array([[True, False], [True, False]])
    np.testing.assert_array_equal(memorization_subset_error(trained, correct), [0.0, np.nan])


def test_estimates_scatter_by_it():
    chance = np.random.default_rng(0)
    trained = chance.random((4_000, 60)) < 0.7
    correct = chance.random((4_000, 60)) < np.where(trained, 0.8, 0.4)
    estimates = memorization_subset(trained, correct, correct.astype(np.float32))
    errors = memorization_subset_error(trained, correct)
    assert abs(estimates.mean() - 0.4) < 0.01
    np.testing.assert_allclose(estimates.std(), np.sqrt((errors**2).mean()), rtol=0.05)
