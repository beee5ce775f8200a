import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute, find
from tracesift.scorers.geometry.least_confidence import least_confidence


def test_hand_worked_and_by_loop():
    assert least_confidence(np.array([[1.0, 0.0], [0.25, 0.75], [0.5, 0.5]])).tolist() == [0, 0.25, 0.5]
    probs = np.random.default_rng(0).dirichlet(np.ones(7), size=50)
    expected = [min(1 - value for value in row) for row in probs.tolist()]
    np.testing.assert_allclose(least_confidence(probs), expected, rtol=1e-15)


def test_probabilities_not_logits():
    # the second sample has the larger largest logit and is the less sure one
    logits = np.array([[2.0, 0.0, 0.0], [9.0, 8.9, 8.9]])
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    first, second = compute("least_confidence", {"probs_last": probs})["least_confidence"]
    assert first < second
    with pytest.raises(BadInput, match="no probabilities"):
        compute("least_confidence", {"probs_last": logits})


def test_one_class_missing_predictions_and_no_sample():
    assert least_confidence(np.ones((3, 1))).tolist() == [0, 0, 0]
    assert np.isnan(least_confidence(np.array([[np.nan, np.nan]]))).all()
    assert least_confidence(np.zeros((0, 3))).shape == (0,)


def test_unsure_samples_are_planted_and_found(auroc):
    rng = np.random.default_rng(1)
    unsure = rng.random(300) < 0.3
    logits = np.eye(5)[rng.integers(0, 5, 300)] * np.where(unsure, 0.5, 6)[:, None] + rng.normal(
        0, 0.3, (300, 5)
    )
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = ["least_confidence", "prediction_entropy", "prediction_margin"]
    frame = compute(names, {"probs_last": probs})
    for name in names:
        assert auroc(frame[name].to_numpy(), unsure) > 0.99
        assert find(name).direction == "hard"
        assert not find(name).experimental
