"""What is measured over many models: margins, the likelihood-ratio attack, KL of margins; and neighbourhoods."""

import math

import numpy as np
import pytest
from scipy.stats import entropy

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearning_metrics.klom import klom
from tracesift.pipelines.unlearning_metrics.logit_margin import logit_margin
from tracesift.pipelines.unlearning_metrics.remind import remind
from tracesift.pipelines.unlearning_metrics.u_lira import u_lira


def test_margin_is_the_logit_of_the_confidence_and_keeps_what_rounding_loses():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(30, 5)), rng.integers(0, 5, 30)
    p = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[np.arange(30), labels]
    assert logit_margin(logits, labels) == pytest.approx(np.log(p / (1 - p)), rel=1e-9)
    assert logit_margin(np.array([[200.0, 0.0, 0.0]]), np.array([0])) == pytest.approx([200 - math.log(2)])
    with pytest.raises(BadInput, match="up to class 5"):
        logit_margin(logits, labels * 0 + 5)


def models(rng, count, means, spread=1.0):
    return means + spread * rng.normal(size=(count, len(means)))


def test_ratio_by_hand():
    unlearned, never = np.array([[0.0], [2.0]]), np.array([[-4.0], [0.0]])  # means 1, -2; sd sqrt 2, sqrt 8
    got = u_lira(unlearned, never, target_unlearned=[[1.0]], target_never=[[-2.0]])
    at_one = math.log(math.sqrt(8) / math.sqrt(2)) + 9 / 16
    at_minus_two = math.log(2) - 9 / 4
    assert got["ratio_unlearned"] == pytest.approx(np.array([[at_one]]))
    assert got["ratio_never"] == pytest.approx(np.array([[at_minus_two]]))
    assert got["accuracy"] == 1.0
    swapped = u_lira(unlearned, never, target_unlearned=[[-2.0]], target_never=[[1.0]])
    assert swapped["accuracy"] == 0.0


def test_exact_unlearning_is_a_coin_and_a_trace_is_found_where_it_is():
    rng = np.random.default_rng(1)
    means = rng.normal(size=60)
    left = np.where(np.arange(60) < 30, 3.0, 0.0)  # half of the samples are still remembered
    got = u_lira(
        models(rng, 40, means + left), models(rng, 40, means),
        target_unlearned=models(rng, 30, means + left), target_never=models(rng, 30, means),
    )  # fmt: skip
    assert got["per_sample"][:30].mean() > 0.85
    assert abs(got["per_sample"][30:].mean() - 0.5) < 0.05
    assert got["accuracy"] == pytest.approx(got["per_sample"].mean())
    assert got["ratio_unlearned"][:, :30].mean() > 0 > got["ratio_never"][:, :30].mean()


def test_order_of_models_changes_no_bit():
    rng = np.random.default_rng(2)
    a, b, c, d = (models(rng, 9, np.zeros(5)) for _ in range(4))
    one = u_lira(a, b, target_unlearned=c, target_never=d)
    other = u_lira(a[::-1], b[::-1], target_unlearned=c, target_never=d)
    assert one["ratio_never"].tobytes() == other["ratio_never"].tobytes()


def test_attack_refuses():
    ok = np.array([[0.0], [1.0]])
    with pytest.raises(BadInput, match="at least 2"):
        u_lira(ok[:1], ok, target_unlearned=ok, target_never=ok)
    with pytest.raises(BadInput, match="one margin under all models of kind 'never'"):
        u_lira(ok, ok * 0, target_unlearned=ok, target_never=ok)
    with pytest.raises(BadInput, match="widths differ"):
        u_lira(ok, ok, target_unlearned=np.zeros((1, 2)), target_never=ok)


def test_divergence_against_another_implementation():
    rng = np.random.default_rng(3)
    ours, theirs = models(rng, 50, np.zeros(8)), models(rng, 70, np.linspace(0, 3, 8))
    got = klom(ours, theirs)["per_point"]
    for point in range(8):
        p, q = ours[:, point], theirs[:, point]
        low, high = min(p.min(), q.min()), max(p.max(), q.max())
        counts = np.zeros((2, 20))
        for row, values in enumerate((p, q)):
            for value in values:
                counts[row, min(int((value - low) / (high - low) * 20), 19)] += 1
        shares = counts / counts.sum(1, keepdims=True)
        q_filled = np.maximum(shares[1], 1e-5)
        assert got[point] == pytest.approx(entropy(shares[0], q_filled) - math.log(q_filled.sum()), rel=1e-9)


def test_divergence_grows_with_distance_and_has_a_direction():
    rng = np.random.default_rng(4)
    oracle, unlearned = models(rng, 100, np.zeros(40)), models(rng, 100, np.zeros(40))
    medians = [klom(unlearned + shift, oracle)["quantiles"][0.5] for shift in (0.0, 1.0, 3.0, 10.0)]
    assert medians == sorted(medians)
    assert medians[0] < 0.6 < 3 < medians[2]
    assert medians[3] == pytest.approx(-math.log(1e-5), rel=0.25)
    narrow = 0.1 * unlearned
    assert (
        klom(narrow, oracle)["quantiles"][0.5] < klom(oracle, narrow)["quantiles"][0.5]
    )  # unseen answers cost


def test_clipping_the_largest_margin_and_constant_points():
    assert klom([[5.0], [5.0]], [[5.0], [5.0]])["per_point"].tolist() == [0.0]
    assert klom([[0.0], [1e6]], [[0.0], [200.0]])["per_point"].tolist() == [
        0.0
    ]  # both at the clip, both counted
    with pytest.raises(BadInput, match="2 points of unlearned models, 1 of oracles"):
        klom([[0.0, 1.0]], [[0.0]])
    with pytest.raises(BadInput, match="bins=1"):
        klom([[0.0]], [[0.0]], bins=1)


def test_neighbourhood_of_a_known_surface():
    """Loss |x| * steepness: the change at radius r is steepness * r."""
    radius, steepness = np.array([0.5, 1.0, 2.0]), np.array([0.1, 3.0])
    around = radius[:, None, None] * steepness * np.ones((3, 7, 1))
    got = remind(np.zeros(2), around, radius)
    assert got["slope"] == pytest.approx(steepness)
    assert got["change"] == pytest.approx(steepness * radius.mean())
    assert got["slope"][0] < got["slope"][1]  # the flat one is the unlearned one
    signs = around * np.array([1, -1, 1, 1, -1, 1, -1])[None, :, None]
    assert remind(np.zeros(2), signs, radius)["slope"] == pytest.approx(
        steepness
    )  # ups and downs do not cancel


def test_slope_against_least_squares():
    rng = np.random.default_rng(5)
    loss, radius = rng.exponential(size=6), np.array([0.1, 0.4, 0.9])
    around = rng.exponential(size=(3, 4, 6))
    got = remind(loss, around, radius)
    for i in range(6):
        change = [np.mean([abs(around[r, v, i] - loss[i]) for v in range(4)]) for r in range(3)]
        reference = np.linalg.lstsq(radius[:, None], np.array(change), rcond=None)[0][0]
        assert got["slope"][i] == pytest.approx(reference, rel=1e-9)
        assert got["change"][i] == pytest.approx(np.mean(change), rel=1e-12)
    assert remind(loss, around[:, ::-1], radius)["slope"].tobytes() == got["slope"].tobytes()


def test_neighbourhood_refuses():
    with pytest.raises(BadInput, match="radii are above 0"):
        remind(np.zeros(1), np.zeros((1, 1, 1)), np.array([0.0]))
    with pytest.raises(BadInput, match=r"it is \(1, variations, 2\)"):
        remind(np.zeros(2), np.zeros((1, 1, 3)), np.array([1.0]))
