"""mean_loss and last_loss."""

import numpy as np

from tracesift.scorers.contract import compute
from tracesift.scorers.dynamics.last_loss import last_loss
from tracesift.scorers.dynamics.mean_loss import mean_loss

LOSS = np.array([[1.0, 2.0, np.nan], [3.0, np.nan, np.nan], [2.0, np.nan, np.nan]])


def test_hand_worked():
    np.testing.assert_array_equal(mean_loss(LOSS), [2, 2, np.nan])
    np.testing.assert_array_equal(last_loss(LOSS), [2, 2, np.nan])


def test_single_precision_is_added_up_in_double():
    loss = np.full((4000, 1), 0.1, dtype=np.float32)
    np.testing.assert_allclose(mean_loss(loss), [float(np.float32(0.1))], rtol=1e-12)


def test_against_a_loop():
    rng = np.random.default_rng(0)
    loss = np.where(rng.random((9, 100)) < 0.3, np.nan, rng.random((9, 100)))
    loss[0] = 1.0
    series = [[v for v in column if not np.isnan(v)] for column in loss.T]
    np.testing.assert_allclose(mean_loss(loss), [sum(s) / len(s) for s in series], rtol=1e-12)
    np.testing.assert_array_equal(last_loss(loss), [s[-1] for s in series])


def test_the_mean_finds_wrong_labels_that_the_last_loss_no_longer_shows(planted_signals, auroc):
    signals, wrong = planted_signals()
    frame = compute(["mean_loss", "last_loss"], signals)
    assert auroc(frame["mean_loss"].to_numpy(), wrong) > 0.95
    assert auroc(frame["last_loss"].to_numpy(), wrong) < 0.9
    early, wrong = planted_signals(epochs=8)
    assert auroc(compute(["last_loss"], early)["last_loss"].to_numpy(), wrong) > 0.95
