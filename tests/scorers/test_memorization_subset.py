"""Memorization by subset training: against a loop, at the edges, and against what a memorizer and a knower would do."""

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.influence.memorization_subset import memorization_subset


def by_loop(trained, values):
    out = []
    for seen, value in zip(trained.tolist(), values.tolist(), strict=True):
        inside = [float(one) for one, there in zip(value, seen, strict=True) if there]
        outside = [float(one) for one, there in zip(value, seen, strict=True) if not there]
        both = inside and outside
        out.append(sum(inside) / len(inside) - sum(outside) / len(outside) if both else np.nan)
    return np.array(out)


@pytest.mark.parametrize("of", ["correct", "prob_label", "margin"])
def test_it_is_the_difference_of_two_means(of):
    chance = np.random.default_rng(0)
    trained, correct = chance.random((200, 9)) < 0.6, chance.random((200, 9)) < 0.5
    prob = chance.random((200, 9)).astype(np.float32)
    found = memorization_subset(trained, correct, prob, of=of)
    p = prob.astype(np.float64)
    values = {"correct": correct, "prob_label": prob, "margin": np.log(p / (1 - p))}[of]
    np.testing.assert_allclose(found, by_loop(trained, values), rtol=1e-9, atol=1e-12)


def test_margins_of_models_that_are_sure_stay_finite():
    trained = np.array([[True, False]])
    right = np.array([[True, False]])
    (found,) = memorization_subset(trained, right, right.astype(np.float32), of="margin")
    assert found == pytest.approx(2 * np.log(2.0**24), rel=1e-6)


def test_who_knows_by_heart_alone_and_who_knows_anyway():
    trained = np.tile([True, True, False, True, False], (3, 1))
    correct = np.stack([trained[0], np.ones(5, dtype=bool), ~trained[0]])
    found = memorization_subset(trained, correct, correct.astype(np.float32))
    np.testing.assert_array_equal(found, [1.0, 0.0, -1.0])


def test_a_sample_that_was_always_in_or_always_out_has_no_estimate():
    trained = np.array([[True, True], [False, False], [True, False]])
    right = np.ones((3, 2), dtype=bool)
    np.testing.assert_array_equal(
        memorization_subset(trained, right, right.astype(np.float32)), [np.nan, np.nan, 0.0]
    )


def test_the_mean_of_another_thing_is_refused():
    there = np.ones((1, 2), dtype=bool)
    with pytest.raises(BadInput, match="prob_label"):
        memorization_subset(there, there, there.astype(np.float32), of="loss")
