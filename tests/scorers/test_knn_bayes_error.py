"""Bounds on the Bayes error: by hand, against scikit-learn, and where the true one is known."""

import numpy as np
import pytest
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import diagnose
from tracesift.scorers.unlearnable.knn_bayes_error import cover_hart, knn_bayes_error, majority


def at(degrees):
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


def test_hand_worked():
    # nearest: 0-1, 1-0, 3-1, 60-62, 62-60; the third and none else has another label than its nearest
    x, labels = at([0.0, 1, 3, 60, 62]), np.array([0, 0, 1, 1, 1])
    found = knn_bayes_error(x, labels, k=3)
    assert found["error_1nn"] == 0.2
    # of three: 0 sees 0 1 1, 1 sees 0 1 1, 3 sees 0 0 1, the others 1 1 0
    assert found["error_knn"] == 0.6
    assert found["lower"] == pytest.approx((1 - np.sqrt(1 - 0.4)) / 2, abs=1e-6)
    assert found["upper"] == 0.2
    assert "11.3% and 20.0%" in found["reading"]


def test_the_bound_is_the_inverse_of_the_published_inequality():
    for classes in (2, 3, 10):
        for best in np.linspace(0, (classes - 1) / classes, 7):
            error = best * (2 - classes / (classes - 1) * best)
            assert cover_hart(error, classes) == pytest.approx(best)
    assert cover_hart(0.9, 2) == 0.5  # worse than a guess says no more than a guess
    assert cover_hart(0.0, 1) == 0.0


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3
    x = rng.normal(size=(150, 5)) + rng.normal(size=(3, 5))[labels]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    found = diagnose("knn_bayes_error", {"embedding": x, "labels": labels}, params={"k": 1})
    model = KNeighborsClassifier(1, algorithm="brute")
    expected = (cross_val_predict(model, unit, labels, cv=LeaveOneOut()) != labels).mean()
    assert found["error_1nn"] == found["error_knn"] == pytest.approx(expected, abs=1e-6)
    far = np.linalg.norm(unit[:, None] - unit[None], axis=2) + 9 * np.eye(150)
    wrong = 0
    for row, label in zip(np.argsort(far, axis=1)[:, :7], labels, strict=True):
        votes = [labels[j] for j in row]
        wrong += max(dict.fromkeys(votes), key=votes.count) != label  # of equal ones, the first
    assert diagnose("knn_bayes_error", {"embedding": x, "labels": labels}, params={"k": 7})[
        "error_knn"
    ] == pytest.approx(wrong / 150, abs=1e-6)


def test_ties_go_to_the_nearest():
    assert majority(np.array([[3, 1, 1, 3], [0, 1, 2, 2]])).tolist() == [3, 2]


@pytest.mark.parametrize("flipped", [0.0, 0.1, 0.3])
def test_a_known_bayes_error_lies_within_the_bounds(flipped):
    rng = np.random.default_rng(1)
    true = rng.integers(0, 2, 3000)
    labels = np.where(rng.random(3000) < flipped, 1 - true, true)
    found = knn_bayes_error(at(90.0 * true + rng.uniform(-20, 20, 3000)), labels)
    assert found["lower"] - 0.02 <= flipped <= found["upper"] + 0.02
    assert found["upper"] - found["lower"] < 0.16


def test_poison_that_makes_samples_easier_lowers_it():
    rng = np.random.default_rng(2)
    labels = np.arange(600) % 3
    x = rng.normal(size=(600, 8)) + 0.7 * rng.normal(size=(3, 8))[labels]
    shortcut = x + 4 * np.eye(8)[labels]
    decoy = x + 4 * np.eye(8)[rng.permutation(labels)]
    clean = knn_bayes_error(x, labels)["lower"]
    assert knn_bayes_error(shortcut, labels)["upper"] < clean < knn_bayes_error(decoy, labels)["upper"]


def test_degenerate_sets():
    one = knn_bayes_error(np.eye(3), np.zeros(3, dtype=int))
    assert (one["error_1nn"], one["lower"], one["upper"], one["k"]) == (0, 0, 0, 2)
    alike = knn_bayes_error(np.ones((4, 2)), np.array([0, 0, 1, 1]))
    assert 0 <= alike["lower"] <= alike["upper"] <= 1
    for x in (np.ones((1, 2)), np.zeros((3, 2)), np.zeros((0, 2))):
        none = knn_bayes_error(x, np.zeros(len(x), dtype=int))
        assert none["lower"] is None
        assert "no neighbour" in none["reading"]
    with pytest.raises(BadInput, match="at least 1"):
        knn_bayes_error(np.eye(3), np.zeros(3, dtype=int), k=0)
