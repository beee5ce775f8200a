"""Mixtures against scikit-learn, and the number of groups in data whose groups are known."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from tracesift.selectors.flags.mixture import LARGEST, best_mixture


@pytest.mark.parametrize(
    ("shares", "means"), [((0.1, 0.9), (-4, 2)), ((0.5, 0.5), (-3, 3)), ((0.2, 0.3, 0.5), (-8, 0, 6))]
)
def test_finds_planted_groups_like_scikit_learn(shares, means):
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [rng.normal(mean, 1, int(2000 * share)) for share, mean in zip(shares, means, strict=True)]
    )
    mixture = best_mixture(values)
    reference = GaussianMixture(len(means), random_state=0, tol=1e-8, max_iter=500).fit(values[:, None])
    order = np.argsort(reference.means_[:, 0])
    assert mixture.means == pytest.approx(reference.means_[order, 0], abs=0.05)
    assert mixture.weights == pytest.approx(reference.weights_[order], abs=0.01)
    assert mixture.deviations == pytest.approx(np.sqrt(reference.covariances_[order, 0, 0]), abs=0.05)
    assert mixture.bic == pytest.approx(reference.bic(values[:, None]), rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_one_group_is_one_group(seed):
    assert best_mixture(np.random.default_rng(seed).normal(size=600)).means.size == 1


def test_a_small_far_group_is_found():
    rng = np.random.default_rng(1)
    mixture = best_mixture(np.r_[rng.normal(-6, 1, 30), rng.normal(2, 1, 970)])
    assert mixture.means[0] == pytest.approx(-6, abs=0.5)
    assert mixture.separation(1) > 5


def test_ashman_by_hand():
    mixture = best_mixture(
        np.r_[np.random.default_rng(0).normal(0, 1, 900), np.random.default_rng(1).normal(9, 1, 900)]
    )
    by_hand = np.sqrt(2) * (mixture.means[1] - mixture.means[0]) / np.sqrt((mixture.deviations**2).sum())
    assert mixture.separation(1) == pytest.approx(by_hand)
    assert mixture.separation(1) == pytest.approx(9, abs=0.3)


def test_low_probability_never_rises_with_the_value():
    # a wide high group overtakes the narrow low one in the far low tail
    rng = np.random.default_rng(2)
    values = np.sort(np.r_[rng.normal(-3, 0.3, 300), rng.normal(3, 2, 700), -20.0])
    low = best_mixture(values, largest=2).low_probability(values, 1)
    assert (np.diff(low) <= 1e-12).all()
    assert low[0] > 0.99


def test_order_and_thinning_do_not_matter():
    rng = np.random.default_rng(3)
    values = np.r_[rng.normal(-4, 1, LARGEST), rng.normal(4, 1, 2 * LARGEST)]
    there, again = best_mixture(values), best_mixture(values[::-1])
    assert np.array_equal(there.means, again.means)
    assert there.means[[0, -1]] == pytest.approx([-4, 4], abs=0.1)
