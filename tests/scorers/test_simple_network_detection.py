"""Two simple networks' accuracies beside the published boundary: by hand, and what a planted shortcut does to them."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import diagnose, diagnostics, find_diagnostic
from tracesift.scorers.unlearnable.simple_network_detection import simple_network_detection


def test_hand_worked():
    labels = np.array([0, 1, 2, 0, 1])
    probs = np.eye(3)[[0, 1, 2, 1, 1]]
    found = simple_network_detection(np.arange(5) < 2, np.arange(5) < 4, labels, probs)
    assert (found["linear_accuracy"], found["two_layer_accuracy"]) == (0.4, 0.8)
    assert found["above_boundary"] is True
    assert (found["usual_accuracy"], found["share_of_usual"]) == (0.8, 1.0)
    assert (
        "80.0% of held-out samples, 100% of the usual model's 80.0%; above the published 0.7"
        in found["reading"]
    )
    assert simple_network_detection(np.arange(5) < 2, np.arange(5) < 3, labels)["above_boundary"] is False


def test_a_usual_model_that_is_never_right_gives_no_share():
    found = simple_network_detection(np.ones(2, bool), np.ones(2, bool), np.array([0, 1]), np.eye(2)[[1, 0]])
    assert (found["usual_accuracy"], found["share_of_usual"]) == (0.0, None)
    found = simple_network_detection(
        np.ones(2, bool), np.ones(2, bool), np.array([0, 1]), np.full((2, 2), np.nan)
    )
    assert (found["usual_accuracy"], found["share_of_usual"]) == (None, None)
    with pytest.raises(BadInput, match="at least one sample"):
        simple_network_detection(np.ones(0, bool), np.ones(0, bool), np.zeros(0, int))


def linear_accuracy(x, labels):
    right = cross_val_predict(LogisticRegression(max_iter=200), x, labels, cv=3) == labels
    return diagnose(
        "simple_network_detection", {"linear_correct": right, "two_layer_correct": right, "labels": labels}
    )


def test_a_shortcut_in_all_samples_exceeds_the_boundary_and_the_same_noise_untied_does_not():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 600)
    hard = rng.normal(size=(600, 12))  # which class it is cannot be told by any line
    noise = 2 * rng.normal(size=(4, 12))
    assert linear_accuracy(hard + noise[labels], labels)["above_boundary"]
    assert not linear_accuracy(hard, labels)["above_boundary"]
    assert not linear_accuracy(hard + noise[rng.permutation(labels)], labels)["above_boundary"]
    # the published blind spot: half of the data poisoned
    half = rng.random(600) < 0.5
    assert not linear_accuracy(hard + half[:, None] * noise[labels], labels)["above_boundary"]


def test_it_belongs_to_its_job():
    assert "simple_network_detection" in diagnostics()
    assert find_diagnostic("simple_network_detection").jobs == ("simple_networks",)
