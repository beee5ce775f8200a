from itertools import pairwise

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.dynamics.opposing_signal_groups import opposing_signal_groups


def by_numpy(loss):
    scores = []
    for curve in loss.T:
        d = np.diff(curve)
        scores.append(-np.corrcoef(d[:-1], d[1:])[0, 1] * (d.max() - d.min()))
    return scores


def test_hand_worked():
    # changes 2, -2, 2, -2: consecutive ones are (2, -2), (-2, 2), (2, -2), correlation -1, range 4
    assert opposing_signal_groups(np.array([[1.0], [3.0], [1.0], [3.0], [1.0]])).tolist() == [4.0]
    # changes -1, 0, 2: pairs (-1, 0) and (0, 2), correlation 1, range 3
    assert opposing_signal_groups(np.array([[1.0], [0.0], [0.0], [2.0]])).tolist() == [-3.0]


def test_against_numpy():
    loss = np.random.default_rng(0).random((15, 80))
    np.testing.assert_allclose(opposing_signal_groups(loss), by_numpy(loss), rtol=1e-9)


def test_missing_epochs_leave_out_the_changes_that_touch_them():
    loss = np.random.default_rng(1).random((9, 2))
    loss[4, 0] = np.nan
    d = np.diff(loss[:, 0])
    pairs = np.array([(a, b) for a, b in pairwise(d) if not np.isnan(a + b)])
    expected = -np.corrcoef(pairs.T)[0, 1] * (np.nanmax(d) - np.nanmin(d))
    np.testing.assert_allclose(opposing_signal_groups(loss)[0], expected, rtol=1e-12)
    loss[3:, 1] = np.inf  # two changes are left
    assert np.isnan(opposing_signal_groups(loss)).tolist() == [False, True]


def test_a_steady_loss_does_not_swing():
    t = np.arange(8.0)[:, None]
    assert opposing_signal_groups(np.hstack([5 - 0.1 * t, np.ones((8, 1))]).astype(np.float32)).tolist() == [
        0,
        0,
    ]


def test_the_two_groups_are_the_two_ends(auroc):
    # a tenth of the samples oscillates, half of them against the others; all the rest falls smoothly
    rng = np.random.default_rng(2)
    group = np.where(np.arange(400) < 20, 1, np.where(np.arange(400) < 35, -1, 0))
    beat = np.where(np.arange(16) % 2, 1.0, -1.0)[:, None]
    smooth = 2 * np.exp(-np.arange(16)[:, None] / 5) + rng.normal(0, 0.01, (16, 400))
    loss = smooth + beat * group * rng.uniform(0.5, 1.0, 400)
    score = compute("opposing_signal_groups", {"loss": loss})["opposing_signal_groups"].to_numpy()
    assert auroc(score, group != 0) > 0.99
    signed = opposing_signal_groups(loss, signed=True)
    np.testing.assert_array_equal(np.abs(signed), np.abs(score))
    with_the_mean, against = (np.flatnonzero(group == sign) for sign in (1, -1))
    assert np.sign(signed[with_the_mean]).tolist() == [1.0] * 20  # the larger group makes the mean rise
    assert np.sign(signed[against]).tolist() == [-1.0] * 15


def test_too_few_epochs_are_refused():
    with pytest.raises(BadInput, match="at least 4 epochs"):
        opposing_signal_groups(np.ones((3, 5)))
