"""How well the models of subset training fit: by hand, and what is said of it."""

import numpy as np
import pytest

from tracesift.scorers.influence.subset_fit import FITTED, subset_fit


def drawn(seed=0, samples=40, models=12):
    rng = np.random.default_rng(seed)
    return rng.random((samples, models)) < 0.7, rng.random((samples, models)) < 0.8


def test_shares_and_error_are_those_of_each_sample():
    trained, correct = drawn()
    found = subset_fit(trained, correct)
    inside, outside, errors = [], [], []
    for saw, right in zip(trained, correct, strict=True):
        a, b = right[saw].mean(), right[~saw].mean()
        inside.append(a)
        outside.append(b)
        smoothed = [((right[side].sum() + 0.5) / (side.sum() + 1), side.sum() + 1) for side in (saw, ~saw)]
        errors.append(np.sqrt(sum(rate * (1 - rate) / of for rate, of in smoothed)))
    assert found["models"] == 12
    assert found["right_trained"] == pytest.approx(np.mean(inside), abs=1e-6)
    assert found["right_untrained"] == pytest.approx(np.mean(outside), abs=1e-6)
    assert found["standard_error"] == pytest.approx(np.mean(errors), abs=1e-6)


def test_models_that_do_not_fit_are_told_of():
    trained, correct = drawn()
    assert "train longer" in subset_fit(trained, correct)["reading"]
    fitted = subset_fit(trained, trained)
    assert fitted["right_trained"] == 1.0 >= FITTED
    assert "train longer" not in fitted["reading"]


def test_samples_of_one_side_only_are_left_out():
    trained, correct = drawn()
    trained[:5] = True
    assert subset_fit(trained, correct) == subset_fit(trained[5:], correct[5:])
    none = subset_fit(np.ones((3, 2), dtype=bool), np.ones((3, 2), dtype=bool))
    assert none["right_trained"] is None
    assert "train more" in none["reading"]
