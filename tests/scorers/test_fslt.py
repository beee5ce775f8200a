import numpy as np

from tracesift.scorers.contract import find
from tracesift.scorers.dynamics.fslt import fslt
from tracesift.scorers.dynamics.ssft import ssft


def by_loop(right):
    scores = []
    for curve in right:
        for_good = [t for t in range(len(curve)) if all(curve[t:])]
        scores.append(1 + min(for_good, default=len(curve)))
    return scores


def test_hand_worked():
    right = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1], [0, 0, 0]], dtype=bool)
    assert fslt(right).tolist() == [2, 3, 4, 1, 4]


def test_against_a_loop():
    right = np.random.default_rng(0).random((200, 7)) < 0.6
    np.testing.assert_array_equal(fslt(right), by_loop(right))


def test_it_mirrors_the_second_split():
    right = np.random.default_rng(1).random((100, 6)) < 0.5
    np.testing.assert_array_equal(fslt(~right), ssft(right))


def test_hard_samples_are_learned_late(auroc):
    rng = np.random.default_rng(2)
    hard = rng.random(300) < 0.3
    learned = np.where(hard, rng.integers(4, 9, 300), rng.integers(0, 5, 300))
    right = (np.arange(10) >= learned[:, None]) | (rng.random((300, 10)) < 0.1)
    assert auroc(fslt(right), hard) > 0.9
    assert find("fslt").jobs == ("ssft",)
