import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.dynamics.cld import cld


def by_definition(loss, labels, val_loss, val_labels):
    """One np.corrcoef per sample."""
    scores = []
    for i, y in enumerate(labels):
        if not (val_labels == y).any():
            scores.append(np.nan)
            continue
        d, g = np.diff(loss[:, i]), np.diff(val_loss[:, val_labels == y].mean(axis=1))
        scores.append(np.corrcoef(d, g)[0, 1])
    return np.array(scores)


def test_hand_worked():
    # Differences of the samples -1, -2, 0 and 0, 1, -1; of the class -1, -2, 0: correlations 1 and -1.
    loss = np.array([[5.0, 1.0], [4.0, 1.0], [2.0, 2.0], [2.0, 1.0]])
    val_loss = np.array([[9.0], [8.0], [6.0], [6.0]])
    np.testing.assert_allclose(cld(loss, np.array([0, 0]), val_loss, np.array([0])), [1, -1])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_against_corrcoef(dtype):
    rng = np.random.default_rng(0)
    loss, val_loss = rng.random((12, 200)).astype(dtype), rng.random((12, 45)).astype(dtype)
    labels, val_labels = rng.integers(0, 5, 200), rng.integers(0, 4, 45)  # no validation sample of class 4
    expected = by_definition(loss.astype(np.float64), labels, val_loss.astype(np.float64), val_labels)
    np.testing.assert_allclose(cld(loss, labels, val_loss, val_labels), expected, atol=1e-6)
    assert np.isnan(expected).sum() == (labels == 4).sum() > 0


def test_a_constant_series_of_differences_scores_zero():
    epochs = np.arange(1.0, 6.0)[:, None]
    falling = np.array([[3.0], [2.0], [1.5], [1.2], [1.1]])
    # 0.1 per epoch is constant up to rounding only; a constant loss exactly so.
    flat = np.concatenate([1 - 0.1 * epochs, np.full((5, 1), 0.7), falling], axis=1)
    np.testing.assert_array_equal(cld(flat, np.zeros(3, int), falling, np.array([0]))[:2], [0, 0])
    np.testing.assert_array_equal(
        cld(flat.astype(np.float32), np.zeros(3, int), falling, np.array([0]))[:2], [0, 0]
    )
    np.testing.assert_array_equal(cld(falling, np.array([0]), flat[:, :1], np.array([0])), [0])


def test_tiny_losses_are_not_taken_for_constant():
    rng = np.random.default_rng(0)
    loss = rng.random((8, 5)) * 1e-7
    labels, val = np.zeros(5, int), rng.random((8, 3)) * 1e-7
    np.testing.assert_allclose(
        cld(loss, labels, val, labels[:3]), by_definition(loss, labels, val, labels[:3])
    )


def test_missing_losses_leave_out_their_differences():
    rng = np.random.default_rng(1)
    loss, val_loss = rng.random((9, 3)), rng.random((9, 1))
    loss[6:, 0] = np.nan
    loss[1:8, 1] = np.nan
    labels, val_labels = np.zeros(3, int), np.zeros(1, int)
    result = cld(loss, labels, val_loss, val_labels)
    np.testing.assert_allclose(result[0], np.corrcoef(np.diff(loss[:6, 0]), np.diff(val_loss[:6, 0]))[0, 1])
    assert np.isnan(result[1])
    np.testing.assert_allclose(result[2], by_definition(loss, labels, val_loss, val_labels)[2])


def test_infinite_losses_do_not_spread():
    loss = np.array([[np.inf, 3.0], [np.inf, 2.0], [2.0, 1.5], [1.0, 1.4], [0.5, 1.0]])
    result = cld(loss, np.zeros(2, int), loss[:, 1:], np.zeros(1, int))
    np.testing.assert_allclose(result, [np.corrcoef(np.diff(loss[2:, 0]), np.diff(loss[2:, 1]))[0, 1], 1])


def test_too_few_epochs():
    with pytest.raises(BadInput, match="at least 3 epochs, got 2"):
        cld(np.ones((2, 1)), np.array([0]), np.ones((2, 1)), np.array([0]))


def test_wrong_labels_move_against_their_class(planted_signals, auroc):
    signals, wrong = planted_signals()
    assert auroc(-compute(["cld"], signals)["cld"].to_numpy(), wrong) > 0.9
