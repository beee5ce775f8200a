import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.dynamics.dyn_unc import dyn_unc


def by_loop(q, window):
    epochs, samples = q.shape
    return np.array(
        [
            np.mean([np.std(q[w : w + window, i].astype(float), ddof=1) for w in range(epochs - window + 1)])
            for i in range(samples)
        ]
    )


def test_hand_worked():
    # windows of two: (0, 1) and (1, 1) with unbiased deviations sqrt(1/2) and 0
    q = np.array([[0.0, 0.25], [1.0, 0.25], [1.0, 0.25]])
    np.testing.assert_allclose(dyn_unc(q, window=2), [np.sqrt(0.5) / 2, 0.0], rtol=1e-15)
    np.testing.assert_allclose(dyn_unc(q, window=3), [np.sqrt(1 / 3), 0.0], rtol=1e-15)


@pytest.mark.parametrize("window", [2, 5, 10, 23])
def test_against_a_loop(window):
    q = np.random.default_rng(0).random((23, 60)).astype(np.float32)
    np.testing.assert_allclose(dyn_unc(q, window=window), by_loop(q, window), rtol=1e-12)


def test_constant_probabilities_score_zero_exactly():
    q = np.full((30, 5), 0.1, dtype=np.float32)
    assert dyn_unc(q).tolist() == [0.0] * 5


def test_a_gap_costs_the_windows_that_hold_it():
    q = np.random.default_rng(1).random((9, 3))
    q[4, 0] = np.nan  # leaves the windows 0-3 and 5-8 of four
    q[[2, 5], 1] = np.nan  # leaves none
    whole = [np.std(q[w : w + 4, 0], ddof=1) for w in (0, 5)]
    score = dyn_unc(q, window=4)
    np.testing.assert_allclose(score[0], np.mean(whole))
    assert np.isnan(score[1])
    np.testing.assert_allclose(score[2], by_loop(q[:, 2:], 4)[0])


def test_first_epochs():
    q = np.random.default_rng(2).random((30, 8))
    np.testing.assert_array_equal(dyn_unc(q, epochs=12), dyn_unc(q[:12]))


def test_what_it_refuses():
    with pytest.raises(BadInput, match="a window of 10 epochs does not fit the"):
        dyn_unc(np.ones((9, 2)))
    with pytest.raises(BadInput, match="a window of 1 epochs"):
        dyn_unc(np.ones((9, 2)), window=1)
    with pytest.raises(BadInput, match="epochs is 40"):
        dyn_unc(np.ones((30, 2)), epochs=40)


def test_samples_that_waver_come_first(auroc):
    rng = np.random.default_rng(3)
    wavers = rng.random(300) < 0.3
    q = np.clip(np.where(wavers, 0.5, 0.9) + rng.normal(0, np.where(wavers, 0.2, 0.03), size=(25, 300)), 0, 1)
    assert auroc(compute(["dyn_unc"], {"prob_label": q})["dyn_unc"].to_numpy(), wavers) > 0.99
