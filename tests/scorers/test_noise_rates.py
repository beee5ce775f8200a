"""Estimates of how many labels are wrong: by hand, on planted noise, and where they are known to fail."""

import numpy as np
import pytest
from cleanlab.count import estimate_joint

from tracesift.scorers.contract import diagnose, diagnostics
from tracesift.scorers.noise.confident_joint_rate import confident_joint_rate
from tracesift.scorers.noise.loss_mixture_rate import loss_mixture_rate


def noisy(rate, samples=2000, classes=4, sure=8.0):
    rng = np.random.default_rng(3)
    true = rng.integers(classes, size=samples)
    labels = np.where(rng.random(samples) < rate, (true + rng.integers(1, classes, samples)) % classes, true)
    logits = rng.normal(size=(samples, classes))
    logits[np.arange(samples), true] += sure
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probs, labels, float((labels != true).mean())


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3])
def test_confident_joint_finds_the_planted_rate(rate):
    probs, labels, planted = noisy(rate)
    assert confident_joint_rate(probs, labels)["rate"] == pytest.approx(planted, abs=0.01)


def test_confident_joint_rate_is_that_of_cleanlab():
    probs, labels, _ = noisy(0.2, sure=2.0)
    joint = estimate_joint(labels, probs)
    assert confident_joint_rate(probs, labels)["rate"] == pytest.approx(1 - np.trace(joint), abs=2e-3)


def test_samples_without_a_prediction_are_left_out():
    probs, labels, _ = noisy(0.2)
    some = probs.copy()
    some[::2] = np.nan
    assert confident_joint_rate(some, labels) == confident_joint_rate(probs[1::2], labels[1::2])
    assert confident_joint_rate(np.full_like(probs, np.nan), labels)["rate"] is None


def test_loss_mixture_finds_a_separate_group():
    rng = np.random.default_rng(0)
    loss = np.abs(np.concatenate([rng.normal(0.1, 0.05, 850), rng.normal(4, 0.3, 150)]))
    assert loss_mixture_rate(loss[None])["rate"] == pytest.approx(0.15, abs=0.01)
    assert loss_mixture_rate(np.full((2, 5), np.nan))["rate"] is None


def test_memorised_labels_are_not_seen():
    assert loss_mixture_rate(np.full((3, 100), 1e-4))["rate"] == 0.5  # nothing to tell apart: not a finding


def test_they_are_found_as_diagnostics():
    assert {"confident_joint_rate", "loss_mixture_rate"} <= set(diagnostics())
    assert diagnose("confident_joint_rate", {"probs_oos": np.eye(2), "labels": [0, 1]})["rate"] == 0.0
