"""Margins of a model trained on shifted images: by hand, against a loop, with planted survivors and without."""

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute, diagnose, find
from tracesift.scorers.unlearnable.bias_shift import bias_shift
from tracesift.scorers.unlearnable.bias_shift_detection import bias_shift_detection
from tracesift.scorers.unlearnable.class_median import above_class_median


def test_hand_worked():
    score = bias_shift(np.array([3.0, 1.0, -4.0, np.nan, 10.0]), np.array([0, 0, 0, 0, 1]))
    np.testing.assert_array_equal(score, [2, 0, -5, np.nan, 0])


def test_against_sorting_each_class():
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=101).astype(np.float32), rng.integers(0, 5, 101)
    for i, label in enumerate(labels):
        own = sorted(float(v) for v, y in zip(values, labels, strict=True) if y == label)
        half = len(own) // 2
        middle = own[half] if len(own) % 2 else (own[half - 1] + own[half]) / 2
        assert above_class_median(values, labels)[i] == pytest.approx(float(values[i]) - middle)


def test_what_survives_the_shift_scores_high_whatever_class_the_model_prefers(auroc):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 800)
    survives = rng.random(800) < 0.3
    margin = (
        8 * np.eye(4)[1][labels] + 3 * survives + rng.normal(size=800)
    )  # another brightness looks like class 1
    score = compute("bias_shift", {"bias_shift_margin": margin, "labels": labels})["bias_shift"].to_numpy()
    assert auroc(score, survives) > 0.95
    assert auroc(margin, survives) < 0.85
    assert abs(auroc(score, rng.permutation(survives)) - 0.5) < 0.06
    assert find("bias_shift").jobs == ("bias_shift",)
    assert find("bias_shift").direction == "suspicious"


def test_the_dataset_s_accuracy_is_held_against_the_boundary_and_the_usual_model():
    margin = np.r_[np.ones(8), -np.ones(2), np.nan]
    labels = np.arange(11) % 2
    probs = np.where(np.arange(11)[:, None] < 10, np.eye(2)[labels], np.nan)
    probs[0] = probs[0, ::-1]  # wrong once, missing once
    found = diagnose(
        "bias_shift_detection", {"bias_shift_margin": margin, "labels": labels, "probs_oos": probs}
    )
    assert found["samples"] == 10
    assert found["bias_shift_accuracy"] == 0.8
    assert found["above_boundary"] is True
    assert found["usual_accuracy"] == 0.9
    assert found["share_of_usual"] == pytest.approx(8 / 9, abs=1e-6)
    assert "89% of the usual model's 90.0%; above the published 0.7" in found["reading"]
    stricter = bias_shift_detection(margin, labels, boundary=0.8)
    assert stricter["above_boundary"] is False  # not above, equal
    assert stricter["share_of_usual"] is None
    for wrong in ({"boundary": 1.5}, {"boundary": float("nan")}):
        with pytest.raises(BadInput, match="lies in 0 to 1"):
            bias_shift_detection(margin, labels, **wrong)
    with pytest.raises(BadInput, match="at least one sample"):
        bias_shift_detection(margin[:0], labels[:0])
