import numpy as np
import pytest

from tracesift.catalog.schema import MissingSignal
from tracesift.scorers.contract import compute, find
from tracesift.scorers.dynamics.ssft import ssft


def padded(right):
    """The published way: a right row in front, a wrong one behind, then the first row that all later ones repeat."""
    scores = []
    for curve in right:
        mask = [True, *curve.tolist(), False]
        scores.append(min(t for t in range(len(mask)) if not any(mask[t:])))
    return scores


def test_hand_worked():
    # cases run through the published code with three epochs
    right = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [1, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=bool)
    assert ssft(right).tolist() == [2, 3, 4, 4, 1, 3]


def test_against_the_padded_mask():
    right = np.random.default_rng(0).random((200, 7)) < 0.4
    np.testing.assert_array_equal(ssft(right), padded(right))


def test_one_epoch():
    assert ssft(np.array([[True], [False]])).tolist() == [2, 1]


def test_what_is_given_up_at_once_scores_low(auroc):
    rng = np.random.default_rng(1)
    wrong = rng.random(400) < 0.2
    chance = np.where(wrong, 0.1, 0.9)[:, None] * np.linspace(1, 0.9, 8)
    right = rng.random((400, 8)) < chance
    assert auroc(ssft(right), wrong) < 0.1


def test_the_job_is_named_where_its_signal_is_missing():
    assert find("ssft").jobs == ("ssft",)
    with pytest.raises(MissingSignal, match=r"run `tracesift record --job ssft`"):
        compute("ssft", {"correct": np.ones((3, 2), dtype=bool)})
