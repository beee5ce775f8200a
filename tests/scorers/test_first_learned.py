import numpy as np

from tracesift.scorers.contract import compute
from tracesift.scorers.dynamics.first_learned import first_learned


def by_loop(correct, seen):
    scores = []
    for i in range(correct.shape[1]):
        series = [bool(correct[t, i]) for t in range(len(correct)) if seen[t, i]]
        scores.append(series.index(True) if True in series else np.nan)
    return np.array(scores, dtype=np.float64)


def test_hand_worked():
    correct = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
    np.testing.assert_array_equal(first_learned(correct), [0, 1, np.nan, 2])


def test_presentations_are_counted_not_epochs():
    correct = np.array([[1], [0], [1]], dtype=bool)
    assert first_learned(correct, np.array([[0], [1], [1]], dtype=bool))[0] == 1


def test_against_a_loop():
    rng = np.random.default_rng(0)
    correct, seen = rng.random((9, 300)) < 0.3, rng.random((9, 300)) < 0.6
    np.testing.assert_array_equal(first_learned(correct, seen), by_loop(correct, seen))


def test_wrong_labels_are_learned_late(planted_signals, auroc):
    signals, wrong = planted_signals()
    assert auroc(compute(["first_learned"], signals)["first_learned"].to_numpy(), wrong) > 0.9
