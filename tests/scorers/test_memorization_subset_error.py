"""The standard error of memorization: the formula, and that estimates do scatter by it."""

import numpy as np

from tracesift.scorers.influence.memorization_subset import memorization_subset
from tracesift.scorers.influence.memorization_subset_error import memorization_subset_error


def test_it_is_that_of_a_difference_of_shares_with_half_a_model_more_of_either_kind():
    trained = np.array([[1, 1, 1, 1, 0, 0]], dtype=bool)
    correct = np.array([[1, 1, 1, 0, 1, 0]], dtype=bool)
    expected = (0.7 * 0.3 / 5 + 0.5 * 0.5 / 3) ** 0.5  # 3.5 of 5, and 1.5 of 3
    np.testing.assert_allclose(memorization_subset_error(trained, correct), [expected], rtol=1e-14)


def test_few_models_that_agree_are_no_proof_and_empty_sides_have_no_answer():
    errors = [
        memorization_subset_error(np.arange(2 * half)[None] < half, np.ones((1, 2 * half), dtype=bool))[0]
        for half in (2, 20, 200)
    ]
    assert errors[0] > 5 * errors[1] > 25 * errors[2] > 0
    trained = np.array([[True, True], [False, False]])
    assert np.isnan(memorization_subset_error(trained, trained)).all()


def test_it_covers_what_observed_shares_call_certain():
    """Models that are right 97 times in 100: a side of eight mostly agrees, and is off by more than nothing."""
    chance = np.random.default_rng(1)
    trained = np.tile(np.arange(16) < 8, (4_000, 1))
    correct = chance.random((4_000, 16)) < 0.97
    estimates = memorization_subset(trained, correct, correct.astype(np.float32))
    agreed = correct.all(axis=1)
    assert agreed.mean() > 0.5
    errors = memorization_subset_error(trained, correct)
    assert errors[agreed].min() > 0.05
    assert (np.abs(estimates) <= 2 * errors).mean() > 0.95


def test_estimates_scatter_by_it():
    chance = np.random.default_rng(0)
    trained = chance.random((4_000, 200)) < 0.7
    correct = chance.random((4_000, 200)) < np.where(trained, 0.8, 0.4)
    estimates = memorization_subset(trained, correct, correct.astype(np.float32))
    errors = memorization_subset_error(trained, correct)
    assert abs(estimates.mean() - 0.4) < 0.01
    np.testing.assert_allclose(estimates.std(), np.sqrt((errors**2).mean()), rtol=0.05)
