import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.noise.fkl import fkl


def by_loop(correct, k):
    epochs, samples = correct.shape
    scores = []
    for i in range(samples):
        met = [e for e in range(k, epochs + 1) if correct[e - k : e, i].all()]
        scores.append(met[0] if met else epochs + 1)
    return np.array(scores, dtype=np.float64)


def test_hand_worked():
    # Epochs from 1: right from the start, a stretch broken at 3, two running only, never.
    correct = np.array(
        [[1, 1, 1, 0], [1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0]], dtype=bool
    )
    assert fkl(correct).tolist() == [3, 6, 7, 7]
    assert fkl(correct, k=1).tolist() == [1, 1, 1, 7]


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_against_a_loop(k):
    correct = np.random.default_rng(0).random((14, 300)) < 0.6
    np.testing.assert_array_equal(fkl(correct, k=k), by_loop(correct, k))


def test_an_epoch_without_prediction_is_skipped():
    correct = np.array([[1], [0], [1], [1]], dtype=bool)
    assert fkl(correct)[0] == 5
    assert fkl(correct, np.array([[1], [0], [1], [1]], dtype=bool))[0] == 4


def test_what_it_refuses():
    with pytest.raises(BadInput, match="at least 1"):
        fkl(np.ones((3, 1), dtype=bool), k=0)


def test_wrong_labels_are_learned_late(planted_signals, auroc):
    signals, wrong = planted_signals()
    assert auroc(compute(["fkl"], signals)["fkl"].to_numpy(), wrong) > 0.95
