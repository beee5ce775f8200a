import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.dynamics.dual import dual
from tracesift.scorers.dynamics.dyn_unc import dyn_unc


def by_loop(q, window):
    q = q.astype(np.float64)
    windows = [q[w : w + window] for w in range(len(q) - window + 1)]
    return np.mean([part.std(axis=0, ddof=1) * (1 - part.mean(axis=0)) for part in windows], axis=0)


def test_hand_worked():
    # windows (0, 1) and (1, 1): deviations sqrt(1/2) and 0, means 1/2 and 1
    q = np.array([[0.0], [1.0], [1.0]])
    np.testing.assert_allclose(dual(q, window=2), [np.sqrt(0.5) * 0.5 / 2], rtol=1e-15)


@pytest.mark.parametrize("window", [2, 10, 17])
def test_against_a_loop(window):
    q = np.random.default_rng(0).random((17, 60)).astype(np.float32)
    np.testing.assert_allclose(dual(q, window=window), by_loop(q, window), rtol=1e-12)


def test_first_epochs_alone_are_read():
    # as the paper's 30 of 200; the rest must not enter through any window
    q = np.random.default_rng(1).random((40, 20))
    np.testing.assert_array_equal(dual(q, epochs=30), dual(q[:30]))
    assert (dual(q, epochs=30) != dual(q)).all()


def test_of_two_that_waver_alike_the_harder_one_is_kept():
    wave = np.where(np.arange(20) % 2, 0.1, -0.1)[:, None]
    q = np.array([[0.3, 0.7]]) + wave
    assert np.ptp(dyn_unc(q)) < 1e-12
    hard, easy = dual(q)
    np.testing.assert_allclose(hard / easy, 0.7 / 0.3)


def test_it_finds_early_what_uncertainty_finds_late(auroc):
    # ambiguous samples are still hard in the first epochs, where the easy ones jump and move the most
    rng = np.random.default_rng(2)
    ambiguous = rng.random(400) < 0.3
    t = np.arange(12)[:, None]
    rise = np.where(ambiguous, 0.35, 0.95) * (1 - np.exp(-t / np.where(ambiguous, 6, 2)))
    q = np.clip(rise + rng.normal(0, np.where(ambiguous, 0.12, 0.02), size=(12, 400)), 0, 1)
    signals = {"prob_label": q}
    scores = compute(["dual", "dyn_unc"], signals)
    assert auroc(scores["dual"].to_numpy(), ambiguous) > 0.9
    assert auroc(scores["dual"].to_numpy(), ambiguous) > auroc(scores["dyn_unc"].to_numpy(), ambiguous) + 0.1


def test_what_it_refuses():
    with pytest.raises(BadInput, match="dual: a window of 10"):
        dual(np.ones((9, 2)))
