"""Consistency: of models that never saw the sample alone."""

import numpy as np

from tracesift.scorers.influence.c_score import c_score


def test_models_that_trained_on_the_sample_have_no_say():
    trained = np.array([[True, False, False, True], [True, False, False, False]])
    correct = np.array([[True, True, False, True], [False, True, True, False]])
    np.testing.assert_allclose(c_score(trained, correct), [1 / 2, 2 / 3], rtol=1e-14)
    flipped = np.where(trained, ~correct, correct)
    np.testing.assert_array_equal(c_score(trained, flipped), c_score(trained, correct))


def test_a_sample_that_all_models_saw_has_none():
    assert np.isnan(c_score(np.ones((1, 3), dtype=bool), np.ones((1, 3), dtype=bool))).all()


def test_it_is_counted_over_the_others():
    chance = np.random.default_rng(1)
    trained, correct = chance.random((50, 8)) < 0.5, chance.random((50, 8)) < 0.5
    expected = [
        np.mean([right for right, seen in zip(*rows, strict=True) if not seen])
        for rows in zip(correct, trained, strict=True)
    ]
    np.testing.assert_allclose(c_score(trained, correct), expected, rtol=1e-12)
