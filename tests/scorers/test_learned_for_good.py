import numpy as np

from tracesift.scorers.contract import compute
from tracesift.scorers.dynamics.learned_for_good import learned_for_good


def by_loop(correct, seen):
    scores = []
    for i in range(correct.shape[1]):
        series = [bool(correct[t, i]) for t in range(len(correct)) if seen[t, i]]
        wrong = [index for index, right in enumerate(series) if not right]
        scores.append(np.nan if not series else wrong[-1] + 1 if wrong else 0)
    return np.array(scores, dtype=np.float64)


def test_hand_worked():
    correct = np.array([[1, 0, 0, 1], [1, 1, 0, 0], [1, 1, 0, 1]], dtype=bool)
    assert learned_for_good(correct).tolist() == [0, 1, 3, 2]


def test_against_a_loop():
    rng = np.random.default_rng(0)
    correct, seen = rng.random((9, 300)) < 0.7, rng.random((9, 300)) < 0.6
    np.testing.assert_array_equal(learned_for_good(correct, seen), by_loop(correct, seen))


def test_wrong_labels_need_long(planted_signals, auroc):
    signals, wrong = planted_signals()
    assert auroc(compute(["learned_for_good"], signals)["learned_for_good"].to_numpy(), wrong) > 0.9
