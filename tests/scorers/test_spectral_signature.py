"""The first singular vector of each class: by hand, against a full SVD, with a planted minority and without."""

import numpy as np
import pytest

from tracesift.scorers.contract import compute, find
from tracesift.scorers.unlearnable.spectral_signature import principal, spectral_signature


def test_hand_worked():
    # mean (1, 0); along the first axis the squares sum to 18 + 18, along the second to 8
    x = np.array([[4.0, 0], [4, 0], [-2, 0], [-2, 0], [1, 2], [1, -2]])
    np.testing.assert_allclose(spectral_signature(x, np.zeros(6, dtype=int)), [9, 9, 9, 9, 0, 0], atol=1e-12)


@pytest.mark.parametrize("shape", [(60, 8), (24, 90)], ids=["tall", "wide"])
def test_against_the_svd_of_each_class(shape):
    rng = np.random.default_rng(0)
    labels = np.arange(shape[0]) % 3
    x = (rng.normal(size=shape) * rng.exponential(size=shape[1])).astype(np.float32)
    expected = np.empty(len(x))
    for label in range(3):
        own = x[labels == label].astype(np.float64)
        _, _, vt = np.linalg.svd(own - own.mean(axis=0), full_matrices=False)
        expected[labels == label] = [np.dot(row - own.mean(axis=0), vt[0]) ** 2 for row in own]
    np.testing.assert_allclose(spectral_signature(x, labels), expected, rtol=1e-6, atol=1e-9)


def test_all_directions_are_those_of_the_svd():
    x = np.random.default_rng(1).normal(size=(12, 30))
    values, directions = principal(x, 4)
    _, s, vt = np.linalg.svd(x)
    np.testing.assert_allclose(values, s[:4] ** 2)
    np.testing.assert_allclose(np.abs((directions * vt[:4].T).sum(axis=0)), np.ones(4))


def poisoned(share, *, tied, seed=0):
    """Three classes in 20 dimensions; part of the first is moved along a direction of its own, or of all classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(900) % 3
    x = rng.normal(size=(900, 20)) + 6 * rng.normal(size=(3, 20))[labels]
    marked = (rng.random(900) < share) & (labels == 0)
    moved = marked if tied else rng.permutation(marked)
    return x + np.outer(moved, 6 * np.eye(20)[3]), labels, marked


def test_a_planted_minority_scores_high_and_a_majority_does_not(auroc):
    x, labels, marked = poisoned(0.1, tied=True)
    own = labels == 0
    score = compute("spectral_signature", {"embedding": x, "labels": labels})["spectral_signature"].to_numpy()
    assert auroc(score[own], marked[own]) > 0.98
    for share, least, most in ((0.5, 0.3, 0.7), (0.85, 0.0, 0.1)):  # the published blind spot, half and more
        x, labels, marked = poisoned(share, tied=True)
        assert least < auroc(spectral_signature(x, labels)[own], marked[own]) < most


def test_random_marks_are_not_found(auroc):
    x, labels, marked = poisoned(0.2, tied=False)
    own = labels == 0
    assert abs(auroc(spectral_signature(x, labels)[own], marked[own]) - 0.5) < 0.1
    assert find("spectral_signature").direction == "suspicious"
    assert find("spectral_signature").experimental


def test_degenerate_classes():
    x = np.array([[1.0, 2], [1, 2], [7, 7], [0, 0], [4, 0], [np.nan, 1]])
    assert spectral_signature(x, np.array([0, 0, 1, 2, 2, 2]))[:5].tolist() == [0, 0, 0, 4, 4]
    assert np.isnan(spectral_signature(x, np.array([0, 0, 1, 2, 2, 2]))[5])
    assert spectral_signature(np.zeros((0, 3)), np.zeros(0, dtype=int)).shape == (0,)
    assert spectral_signature(np.full((5, 3), 1e-30), np.zeros(5, dtype=int)).tolist() == [0] * 5


def test_scale_moves_nothing_but_the_scale():
    x = np.random.default_rng(2).normal(size=(40, 6))
    labels = np.zeros(40, dtype=int)
    np.testing.assert_array_equal(
        spectral_signature(x * 2.0**20, labels), spectral_signature(x, labels) * 2.0**40
    )
    np.testing.assert_allclose(
        spectral_signature(x + 1000, labels), spectral_signature(x, labels), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("shape", [(500, 30), (60, 400)], ids=["tall", "wide"])
def test_the_order_of_rows_leaves_no_trace(shape):
    rng = np.random.default_rng(4)
    x, labels = rng.normal(size=shape).astype(np.float32), np.arange(shape[0]) % 2
    order = rng.permutation(len(x))
    np.testing.assert_array_equal(
        spectral_signature(x[order], labels[order]), spectral_signature(x, labels)[order]
    )
