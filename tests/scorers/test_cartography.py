import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.dynamics.cartography_confidence import cartography_confidence
from tracesift.scorers.dynamics.cartography_correctness import cartography_correctness
from tracesift.scorers.dynamics.cartography_variability import cartography_variability

PROB = np.array([[0.25, 0.5, 0.125], [0.75, 0.5, np.nan], [0.5, 0.5, np.nan]])


def test_hand_worked():
    np.testing.assert_allclose(cartography_confidence(PROB), [0.5, 0.5, 0.125])
    np.testing.assert_allclose(cartography_variability(PROB), [np.sqrt(0.125 / 3), 0, 0])
    assert cartography_correctness(PROB > 0.4).tolist() == [2, 3, 0]


def test_the_confidence_interval_widens():
    variance = 0.125 / 3
    expected = [np.sqrt(variance + variance**2 / 2), 0, np.nan]  # one presentation has no interval
    np.testing.assert_allclose(cartography_variability(PROB, include_ci=True), expected)


def test_one_epoch_has_no_variability():
    assert cartography_variability(PROB[:1]).tolist() == [0, 0, 0]


def test_burn_out_uses_the_first_epochs():
    np.testing.assert_allclose(cartography_confidence(PROB, burn_out=2), [0.5, 0.5, 0.125])
    np.testing.assert_allclose(cartography_variability(PROB, burn_out=2), [0.25, 0, 0])
    assert cartography_correctness(PROB > 0.4, burn_out=1).tolist() == [0, 1, 0]
    with pytest.raises(BadInput, match="burn_out"):
        cartography_confidence(PROB, burn_out=9)


def test_against_numpy_in_double_precision():
    rng = np.random.default_rng(0)
    prob = rng.random((17, 200)).astype(np.float32)
    prob[rng.random(prob.shape) < 0.2] = np.nan
    np.testing.assert_allclose(
        cartography_confidence(prob), np.nanmean(prob.astype(np.float64), axis=0), rtol=1e-12
    )
    np.testing.assert_allclose(
        cartography_variability(prob), np.nanstd(prob.astype(np.float64), axis=0), rtol=1e-9
    )


def test_a_nearly_constant_series_keeps_its_digits():
    prob = 0.9 + np.array([[1e-9], [-1e-9]])
    np.testing.assert_allclose(cartography_variability(prob), [1e-9], rtol=1e-6)


def test_wrong_labels_are_not_easy_and_memorised_ones_are_variable(planted_signals, auroc):
    signals, wrong = planted_signals()
    frame = compute(["cartography_confidence", "cartography_correctness", "cartography_variability"], signals)
    assert auroc(-frame["cartography_confidence"].to_numpy(), wrong) > 0.95
    assert auroc(-frame["cartography_correctness"].to_numpy(), wrong) > 0.95
    assert auroc(frame["cartography_variability"].to_numpy(), wrong) > 0.8
