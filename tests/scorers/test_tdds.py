import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.dynamics.tdds import tdds


def by_loop(probs, window, decay):
    """From the probabilities (T, N, K) on, as the paper writes it."""
    epochs, samples, _ = probs.shape
    score = np.zeros(samples)
    for w in range(epochs - window + 1):
        part = probs[w : w + window]
        k = np.abs(part[1:] * (np.log(part[1:] + 1e-8) - np.log(part[:-1] + 1e-8))).sum(axis=2)
        age = epochs - window - w
        score += decay * (1 - decay) ** age * np.sqrt(((k - k.mean(axis=0)) ** 2).sum(axis=0))
    return score


def recorded(probs):
    k = np.abs(probs[1:] * (np.log(probs[1:] + 1e-8) - np.log(probs[:-1] + 1e-8))).sum(axis=2)
    return np.concatenate([np.full((1, probs.shape[1]), np.nan), k])


def test_hand_worked():
    # windows of three epochs hold two changes: (1, 3) and (3, 1), both with norm sqrt(2)
    k = np.array([[np.nan], [1.0], [3.0], [1.0]])
    np.testing.assert_allclose(tdds(k, window=3), [(0.9 + 0.09) * np.sqrt(2)], rtol=1e-15)
    np.testing.assert_allclose(tdds(k, window=4), [0.9 * np.sqrt(8 / 3)], rtol=1e-15)


@pytest.mark.parametrize(("window", "decay"), [(3, 0.9), (10, 0.9), (6, 0.5), (15, 1.0)])
def test_against_probabilities(window, decay):
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(4), size=(15, 50))
    np.testing.assert_allclose(
        tdds(recorded(probs), window=window, decay=decay), by_loop(probs, window, decay), rtol=1e-12
    )


def test_the_window_moves():
    # a re-implementation never moves its window and so reads the first epochs alone
    k = np.full((20, 2), 0.5)
    k[0] = np.nan
    k[15:, 1] = [0.1, 0.9, 0.2, 0.8, 0.1]
    still, late = tdds(k)
    assert still == 0
    assert late > 0.5


def test_the_last_window_has_nine_tenths_of_the_weight():
    k = np.random.default_rng(1).random((20, 30))
    last = tdds(k[-10:])
    assert np.abs(tdds(k) - last).max() < 0.12 * last.max()


def test_a_missing_change_makes_the_score_unknown():
    k = np.random.default_rng(2).random((12, 2))
    k[5, 0] = np.nan
    assert np.isnan(tdds(k)).tolist() == [True, False]


def test_what_it_refuses():
    with pytest.raises(BadInput, match="tdds: a window of 10"):
        tdds(np.ones((9, 1)))
    with pytest.raises(BadInput, match="a window of 2 epochs"):
        tdds(np.ones((9, 1)), window=2)
    for decay in (0.0, 1.5):
        with pytest.raises(BadInput, match="decay"):
            tdds(np.ones((12, 1)), decay=decay)


def test_unsteady_samples_come_first(auroc):
    rng = np.random.default_rng(3)
    unsteady = rng.random(300) < 0.3
    k = np.abs(rng.normal(0.1, np.where(unsteady, 0.3, 0.02), size=(25, 300)))
    assert auroc(compute(["tdds"], {"kl_step": k})["tdds"].to_numpy(), unsteady) > 0.99
