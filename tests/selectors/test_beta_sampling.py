"""DUAL's Beta sampling: weights worked by hand, the draw against numpy's, and what has no weight."""

from collections import Counter
from math import gamma

import numpy as np
import polars as pl
import pytest
from scipy.stats import beta

from tracesift.catalog.schema import BadInput
from tracesift.selectors.by_score.beta_sampling import beta_density, beta_weights
from tracesift.selectors.contract import select


def make(scores, means):
    ids = [f"s{i:03d}" for i in range(len(scores))]
    return pl.DataFrame(
        {"sample_id": ids, "label": ["x"] * len(ids), "dual": scores, "cartography_confidence": means}
    )


def kept(frame, budget, seed=0, **params):
    result = select("beta_sampling", frame, budget=budget, seed=seed, **params)
    return [int(name[1:]) for name in result.filter(pl.col("role") == "keep")["sample_id"]]


def density(x, a, b):
    return gamma(a + b) / gamma(a) / gamma(b) * x ** (a - 1) * (1 - x) ** (b - 1)


def test_weights_by_hand():
    # a0 = mean of 0.2 and 0.6; r = 0.5, c_d = 1: b = 15 * 0.6 * 0.5 = 4.5, a = 11.5
    got = beta_weights(np.array([0.1, 0.3]), np.array([0.2, 0.6]), pruned=0.5, c_d=1)
    np.testing.assert_allclose(
        got, [0.1 * density(0.2, 11.5, 4.5), 0.3 * density(0.6, 11.5, 4.5)], rtol=1e-10
    )


def test_the_authors_exponent_is_the_default():
    frame = make(np.linspace(0.1, 0.4, 60), np.linspace(0.05, 0.95, 60))
    assert kept(frame, 12) == kept(frame, 12, c_d=4)
    said = [select("beta_sampling", frame, budget=12, seed=0, c_d=c_d)["reason"][0] for c_d in (4, 5.5)]
    assert said[0] != said[1]
    assert said[0] == select("beta_sampling", frame, budget=12, seed=0)["reason"][0]


@pytest.mark.parametrize(("a", "b"), [(13.0, 3.0), (15.999, 0.001), (1.5, 14.5), (16.0, 1e-6)])
def test_the_density_is_scipy_s(a, b):
    x = np.array([1e-6, 0.2, 0.5, 0.99, 1 - 1e-6])
    np.testing.assert_allclose(beta_density(x, a, b), beta(a, b).pdf(x), rtol=1e-9)


def test_the_ten_highest_scores_place_the_density():
    rng = np.random.default_rng(0)
    scores, means = rng.random(40), rng.random(40)
    a0 = means[np.argsort(scores)[-10:]].mean()
    b = 15 * (1 - a0) * (1 - 0.9**4)
    got = beta_weights(scores, means, pruned=0.9, c_d=4)
    np.testing.assert_allclose(
        got, [s * density(m, 16 - b, b) for s, m in zip(scores, means, strict=True)], rtol=1e-9
    )


def test_higher_pruning_rates_favour_easier_samples():
    means = np.linspace(0.01, 0.99, 99)
    modes = [means[beta_weights(np.ones(99), means, pruned=r, c_d=4).argmax()] for r in (0.0, 0.5, 0.8, 0.95)]
    assert modes == sorted(modes)
    assert modes[-1] > modes[0] + 0.1
    frame = make([0.1] * 400, np.tile([0.3, 0.9], 200))
    easy = {r: np.mean([i % 2 for i in kept(frame, 1 - r)]) for r in (0.5, 0.9)}
    assert easy[0.9] > easy[0.5]


def test_the_draw_has_the_probabilities_of_numpy_s():
    scores, means = np.array([1.0, 2.0, 4.0, 0.5, 1.0]), np.array([0.6, 0.7, 0.65, 0.8, 0.5])
    weights = beta_weights(scores, means, pruned=0.6, c_d=4)
    ours = Counter(i for seed in range(1000) for i in kept(make(scores, means), 2, seed=seed))
    rng = np.random.default_rng(0)
    theirs = Counter(
        int(i) for _ in range(1000) for i in rng.choice(5, 2, replace=False, p=weights / weights.sum())
    )
    for i in range(5):
        assert abs(ours[i] - theirs[i]) < 80, i  # standard deviation of the difference at most 23


def test_a_score_of_zero_is_never_drawn_and_too_few_are_refused():
    frame = make([0.0, 0.0, 0.2, 0.3, 0.1], [0.5] * 5)
    assert kept(frame, 3) == [2, 3, 4]
    with pytest.raises(BadInput, match="only 3 of 5 have a positive weight"):
        kept(frame, 4)


def test_means_of_zero_and_one_have_a_finite_weight():
    weights = beta_weights(np.ones(4), np.array([0.0, 1.0, 0.5, 1.0]), pruned=0.9, c_d=4)
    assert np.isfinite(weights).all()
    assert (weights > 0).all()
    sure = beta_weights(np.ones(3), np.ones(3), pruned=0.5, c_d=4)
    assert np.isfinite(sure).all()
    assert (sure > 0).all()


def test_what_it_refuses():
    for scores, means, message in (
        ([-0.1, 1.0], [0.5, 0.5], "negative or infinite"),
        ([np.inf, 1.0], [0.5, 0.5], "negative or infinite"),
        ([1.0, 1.0], [0.5, 1.5], "outside"),
        ([1.0, None], [0.5, 0.5], "missing"),
        ([1.0, 1.0], [None, 0.5], "missing"),
    ):
        with pytest.raises(BadInput, match=message):
            kept(make(scores, means), 1)
    with pytest.raises(BadInput, match="c_d"):
        kept(make([1.0, 1.0], [0.5, 0.5]), 1, c_d=0)
