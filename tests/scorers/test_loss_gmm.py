import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from tracesift.catalog.schema import BadInput, MissingSignal
from tracesift.scorers.contract import compute
from tracesift.scorers.noise.loss_gmm import loss_gmm


def two_groups(seed=0, samples=500):
    rng = np.random.default_rng(seed)
    noisy = rng.random(samples) < 0.3
    return np.where(noisy, rng.normal(4, 0.7, samples), np.abs(rng.normal(0.5, 0.3, samples))), noisy


def by_expectation_maximisation(values):
    """Ten rounds of the textbook algorithm, from the best split into two means."""
    order = np.sort(values)
    cut = min(range(1, len(order)), key=lambda c: order[:c].var() * c + order[c:].var() * (len(order) - c))
    low = values <= order[cut - 1]
    weight = np.stack([low, ~low]).astype(float)
    before = -np.inf
    for _ in range(11):
        total = weight.sum(axis=1)
        mean = (weight * values).sum(axis=1) / total
        variance = (weight * (values - mean[:, None]) ** 2).sum(axis=1) / total + 5e-4
        density = np.exp(-((values - mean[:, None]) ** 2) / (2 * variance[:, None])) / np.sqrt(
            2 * np.pi * variance[:, None]
        )
        joint = density * (total / len(values))[:, None]
        weight = joint / joint.sum(axis=0)
        likelihood = np.log(joint.sum(axis=0)).mean()
        if abs(likelihood - before) < 1e-2:
            break
        before = likelihood
    return weight[0]


def test_hand_worked():
    assert loss_gmm(np.array([[0.0, 0.1, 0.0, 5.0]])).round(3).tolist() == [1, 1, 1, 0]


def test_against_the_textbook_and_the_reference_library():
    values, _ = two_groups()
    scaled = (values - values.min()) / (values.max() - values.min())
    result = loss_gmm(values[None])
    np.testing.assert_allclose(result, by_expectation_maximisation(scaled), atol=0.02)
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0).fit(scaled[:, None])
    np.testing.assert_allclose(
        result, mixture.predict_proba(scaled[:, None])[:, mixture.means_.argmin()], atol=1e-6
    )


def test_the_order_of_samples_leaves_no_trace():
    values = np.random.default_rng(0).exponential(size=300)  # one lump: the fit depends on its start
    order = np.random.default_rng(1).permutation(300)
    np.testing.assert_array_equal(loss_gmm(values[None, order]), loss_gmm(values[None])[order])


def test_the_random_state_of_the_process_leaves_no_trace():
    values = np.random.default_rng(0).exponential(size=300)  # one lump: an unseeded start would show
    fits = []
    for state in (1, 2, 3):
        np.random.seed(state)
        fits.append(loss_gmm(values[None]))
    np.testing.assert_array_equal(fits[0], fits[1])
    np.testing.assert_array_equal(fits[0], fits[2])


def test_constant_losses_say_nothing():
    assert loss_gmm(np.full((2, 4), 0.3)).tolist() == [0.5] * 4
    assert loss_gmm(np.array([[0.3]])).tolist() == [0.5]


def test_only_the_last_epoch_is_read_unless_asked():
    values, _ = two_groups()
    noise = np.random.default_rng(3).random(len(values))
    np.testing.assert_array_equal(loss_gmm(np.stack([noise, values])), loss_gmm(values[None]))
    both = loss_gmm(np.stack([10 * values, values]), last_epochs=2)  # each scaled before the mean
    np.testing.assert_allclose(both, loss_gmm(values[None]), atol=1e-9)
    with pytest.raises(BadInput, match="2 epochs"):
        loss_gmm(np.ones((2, 3)), last_epochs=3)


def test_missing_and_infinite_losses():
    values, _ = two_groups()
    with_gap = np.concatenate([values, [np.nan]])
    result = loss_gmm(with_gap[None])
    assert np.isnan(result[-1])
    np.testing.assert_array_equal(result[:-1], loss_gmm(values[None]))
    infinite = loss_gmm(np.concatenate([values, [np.inf]])[None])
    assert infinite[-1] < 0.01


def test_centring_per_class_spares_a_hard_class():
    values, noisy = two_groups()
    hard = np.random.default_rng(5).random(len(values)) < 0.5
    loss = (values + 3.5 * hard)[None]
    labels = hard.astype(int)
    plain = loss_gmm(loss, labels)
    centred = loss_gmm(loss, labels, per_class_centred=True)
    assert ((plain > 0.5) != noisy).mean() < 0.75
    assert ((centred > 0.5) != noisy).mean() > 0.95
    with pytest.raises(MissingSignal, match="'labels'"):
        loss_gmm(loss, per_class_centred=True)


def test_a_component_of_less_than_one_sample_leaves_all_clean(monkeypatch):
    class Collapsed(GaussianMixture):
        def fit(self, values):
            super().fit(values)
            self.weights_ = np.where(self.means_[:, 0] == self.means_.max(), 0.9 / len(values), 1)
            return self

    monkeypatch.setattr("sklearn.mixture.GaussianMixture", Collapsed)
    assert loss_gmm(two_groups()[0][None]).tolist() == [1.0] * 500


def test_wrong_labels_are_not_clean(planted_signals, auroc):
    signals, wrong = planted_signals(epochs=8)
    score = compute(["loss_gmm"], signals)["loss_gmm"].to_numpy()
    assert auroc(-score, wrong) > 0.95
    assert ((score < 0.5) == wrong).mean() > 0.95
