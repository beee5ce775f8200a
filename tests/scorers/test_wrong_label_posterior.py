"""The posterior of a wrong label and what it rests on: anchors, transition, calibration."""

import itertools
from math import exp, log

import numpy as np
import pytest
from scipy.stats import beta

from tracesift.scorers.contract import compute, diagnose
from tracesift.scorers.noise import true_label_posterior as module
from tracesift.scorers.noise.disagreement import disagreement_is_level, heavy_disagreement_is_level
from tracesift.scorers.noise.label_noise_rate import label_noise_rate
from tracesift.scorers.noise.label_transition import (
    anchor_counts,
    anchors_of,
    estimate_transition,
    wrong_label_shares,
)
from tracesift.scorers.noise.preferred_label_posterior import preferred_label_posterior
from tracesift.scorers.noise.true_label_posterior import calibrate
from tracesift.scorers.noise.wrong_label_posterior import wrong_label_posterior


def softmax(logits):
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def drawn(probs, rng):
    return (rng.random((len(probs), 1)) > probs.cumsum(axis=1)).sum(axis=1).clip(max=probs.shape[1] - 1)


def world(
    samples=6000, classes=4, *, noise=0.0, kind="symmetric", sharpness=1.0, spread=3.0, learned=False, seed=0
):
    """Draw true labels from known probabilities, write some wrong, and tell the probabilities at `sharpness`.

    With `learned`, the models have learned the noise: they tell the probabilities of the given labels.
    """
    rng = np.random.default_rng(seed)
    clean = softmax(rng.normal(size=(samples, classes)) * spread)
    true = drawn(clean, rng)
    steps = rng.integers(1, classes, samples) if kind == "symmetric" else np.ones(samples, dtype=int)
    labels = np.where(rng.random(samples) < noise, (true + steps) % classes, true)
    transition = np.full((classes, classes), noise / (classes - 1))
    if kind == "pair":
        transition = noise * np.roll(np.eye(classes), 1, axis=1)
    np.fill_diagonal(transition, 1 - noise)
    told = clean @ transition if learned else clean
    return softmax(sharpness * np.log(told)), labels, true


# anchors and transition


def test_anchors_by_hand():
    # 41 samples predicted as 0: half of them, 20, would be anchors, but the 20th and 21st are equally sure
    sureness = np.concatenate([np.full(19, 0.9), np.full(2, 0.8), np.full(20, 0.6)])
    probs = np.stack([sureness, 1 - sureness], axis=1)
    labels = np.zeros(41, dtype=int)
    labels[[3, 20, 30]] = 1  # the last is no anchor
    assert anchor_counts(probs, labels).tolist() == [[19, 2], [0, 0]]


def test_rates_are_lower_bounds_and_rows_add_up():
    probs, labels, _ = world(noise=0.2)
    found = estimate_transition(probs, labels)
    np.testing.assert_allclose(found.matrix.sum(axis=1), 1)
    for k in range(4):
        anchors, agreeing = found.counts[k].sum(), found.counts[k, k]
        expected = beta.ppf(0.05, anchors - agreeing + 0.5, agreeing + 0.5)
        assert found.matrix[k, k] == pytest.approx(1 - expected)
        assert 0.08 < expected < 0.2
    assert found.told.all()


def test_pair_noise_is_told_from_noise_that_goes_anywhere():
    pair, anywhere = (
        estimate_transition(*world(noise=0.2, kind=kind)[:2]).matrix for kind in ("pair", "symmetric")
    )
    for k in range(4):
        assert pair[k, (k + 1) % 4] > 0.9 * (1 - pair[k, k])
        assert anywhere[k, (k + 1) % 4] < 0.5 * (1 - anywhere[k, k])
    shares = wrong_label_shares(np.array([[50, 10, 0], [0, 50, 10], [10, 0, 50]]))
    assert shares.diagonal().tolist() == [0, 0, 0]
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_a_class_with_few_doubtful_or_wrong_anchors_says_nothing():
    first = np.concatenate(
        [np.linspace(0.7, 0.9, 200), np.linspace(0.1, 0.3, 38)]
    )  # 38 / 2 = 19 anchors of 1
    probs = np.stack([first, 1 - first], axis=1)
    labels = np.repeat([0, 1], [200, 38])
    labels[200::4] = 0
    found = estimate_transition(probs, labels)
    assert found.told.tolist() == [True, False]
    assert found.matrix.tolist() == [[1, 0], [0, 1]]
    renamed = np.repeat([1, 0], [200, 38])  # most anchors carry the other label
    assert not estimate_transition(probs, renamed).told.any()


@pytest.mark.parametrize(("classes", "spread"), [(4, 2.0), (10, 3.0), (20, 6.0)])
def test_heavy_noise_is_told_though_most_anchors_carry_other_labels(classes, spread):
    probs, labels, true = world(8000, classes, noise=0.6, spread=spread)
    found = estimate_transition(probs, labels)
    assert found.told.all()
    assert (2 * found.counts.diagonal() < found.counts.sum(axis=1)).sum() > classes / 2
    assert label_noise_rate(probs, labels)["rate"] == pytest.approx(0.6, abs=0.06)
    score, wrong = wrong_label_posterior(probs, labels), labels != true
    sure = score >= 0.8
    assert wrong[sure].mean() > score[sure].mean()  # a lower estimate
    assert sure[wrong].mean() > 0.25


@pytest.mark.parametrize(("classes", "spread"), [(10, 0.7), (20, 0.9), (50, 1.2)])
def test_hard_classes_are_not_taken_for_heavy_noise(classes, spread):
    probs, labels, _ = world(8000, classes, spread=spread)
    found = estimate_transition(probs, labels)
    own, anchors = found.counts.diagonal(), found.counts.sum(axis=1)
    others = np.where(np.eye(classes, dtype=bool), 0, found.counts).max(axis=1)
    tempting = (2 * own < anchors) & (own > 2 * others)
    assert tempting.sum() > classes / 2
    assert not found.told[tempting].any()
    assert not heavy_disagreement_is_level(probs, labels)


@pytest.mark.parametrize(
    ("surest", "next_ones", "level"),
    [(1200, 1800, True), (1200, 2010, True), (1200, 2030, False), (1333, 1999, True), (1334, 2001, False)],
)
def test_heavy_disagreement_by_hand(surest, next_ones, level):
    # Of the surest 2,000 of 10,000 and of the 3,000 after them so many carry another label. 60 and 60 %: level.
    # 60 and 67 %: the odds rise 1.35 times, with the bound 1.494; 20 more labels, and the bound is 1.54.
    # 66.65 and 66.70 %: too few labels are left to agree with.
    probs = np.stack([np.linspace(1, 0.6, 10_000), np.linspace(0, 0.4, 10_000)], axis=1)
    labels = np.zeros(10_000, dtype=int)
    labels[:surest] = labels[2000 : 2000 + next_ones] = 1
    assert heavy_disagreement_is_level(probs, labels) == level


@pytest.mark.parametrize("classes", [2, 10])
def test_random_labels_say_nothing(classes):
    for seed in range(5):
        probs, _, _ = world(2000, classes, seed=seed)
        labels = np.random.default_rng(seed).integers(0, classes, 2000)
        assert wrong_label_posterior(probs, labels).max() < 0.8


# the posterior


def reference(probs, labels):
    """Bayes in plain loops, with the calibration found on a grid."""
    found = estimate_transition(probs, labels)
    classes, best = probs.shape[1], None
    for learned in (0.0, 0.5, 1.0):
        mixed = (1 - learned) * np.eye(classes) + learned * found.matrix
        freed = np.linalg.solve(mixed.T, probs.T).T.clip(1e-6)
        for step in np.linspace(-log(12), log(12), 200):
            powers = np.array([[value ** exp(step) for value in row / row.sum()] for row in freed])
            clean = powers / powers.sum(axis=1, keepdims=True)
            mean = np.mean(
                [log(max(c @ found.matrix[:, i], 1e-12)) for c, i in zip(clean, labels, strict=True)]
            )
            if best is None or mean > best[0] + 1e-4 * (learned != best[1]):
                best = mean, learned, clean
    wrong = []
    for clean, given in zip(best[2], labels, strict=True):
        shares = [clean[k] * found.matrix[k, given] for k in range(classes)]
        wrong.append(1 - shares[given] / sum(shares))
    return np.array(wrong)


@pytest.mark.parametrize(("kind", "sharpness"), [("symmetric", 0.7), ("pair", 1.5)])
def test_against_a_reference(kind, sharpness):
    probs, labels, _ = world(400, noise=0.3, kind=kind, sharpness=sharpness, spread=6.0)
    score = wrong_label_posterior(probs, labels)
    np.testing.assert_allclose(score, reference(probs, labels), atol=0.03)
    assert score.max() > 0.9


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("kind", ["symmetric", "pair"])
def test_it_holds_up_against_the_truth(kind, learned, sharpness):
    # noise that the models have learned by heart shows only where most samples are easy
    spread = 10.0 if learned else 3.0
    probs, labels, true = world(
        20000, noise=0.2, kind=kind, learned=learned, sharpness=sharpness, spread=spread
    )
    score, wrong = wrong_label_posterior(probs, labels), labels != true
    for low, high in ((0.5, 0.8), (0.8, 0.95), (0.95, 1.01)):
        inside = (score >= low) & (score < high)
        if inside.sum() > 50:
            # a lower estimate: it may understate, but hardly overstate
            assert -0.06 < wrong[inside].mean() - score[inside].mean() < 0.25
    sure = score >= 0.8
    assert wrong[sure].mean() > 0.85
    assert sure[wrong].mean() > 0.25
    assert not wrong[score < 0.01].mean() > 0.05


@pytest.mark.parametrize("spread", [0.5, 1.5, 4.0])
def test_classes_that_overlap_without_noise_are_left_alone(spread):
    probs, labels, _ = world(spread=spread)
    assert (wrong_label_posterior(probs, labels) >= 0.8).mean() <= 0.002


@pytest.mark.parametrize("error", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("classes", [2, 4, 10])
@pytest.mark.parametrize("spread", [0.5, 1.0, 1.5])
def test_overlap_everywhere_is_not_taken_for_noise(spread, classes, error):
    # no sample is surely of one class, so there are no clean anchors; and models err beside that
    probs, labels, _ = world(5000, classes, spread=spread)
    told = softmax(np.log(probs) + np.random.default_rng(5).normal(size=probs.shape) * error)
    assert (wrong_label_posterior(told, labels) >= 0.8).mean() <= 0.005


def test_noise_learned_by_heart_is_known_by_its_level():
    easy = world(20000, noise=0.2, kind="pair", learned=True, spread=10.0)
    hard = world(20000, noise=0.2, kind="pair", learned=True, spread=2.0)
    assert disagreement_is_level(*easy[:2])
    assert not disagreement_is_level(*hard[:2])
    assert not disagreement_is_level(*world(20000, spread=10.0)[:2])  # clean


def test_difficulty_that_depends_on_a_feature_is_no_noise():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8000, 2))
    chance = 1 / (1 + np.exp(-2 * x[:, 0] * np.exp(0.7 * x[:, 1])))
    labels = (rng.random(8000) < chance).astype(int)
    score = wrong_label_posterior(np.stack([1 - chance, chance], axis=1), labels)
    assert (score >= 0.8).mean() <= 0.001


def test_the_learned_noise_is_taken_out():
    for learned, expected in ((False, 0.0), (True, 1.0)):
        probs, labels, _ = world(20000, noise=0.3, kind="pair", learned=learned)
        assert calibrate(probs, labels, estimate_transition(probs, labels).matrix)[0].learned == expected


@pytest.mark.parametrize("sharpness", [0.5, 2.0])
def test_the_exponent_undoes_a_wrong_sharpness(sharpness):
    probs, labels, _ = world(20000, noise=0.05, sharpness=sharpness, spread=1.5)
    found, _ = calibrate(probs, labels, estimate_transition(probs, labels).matrix)
    assert found.exponent == pytest.approx(1 / sharpness, rel=0.2)


def test_missing_rows_leave_the_rest_alone():
    probs, labels, _ = world(1000, noise=0.2)
    holes = np.insert(probs, [0, 500], np.nan, axis=0)
    score = wrong_label_posterior(holes, np.insert(labels, [0, 500], 1))
    assert np.isnan(score[[0, 501]]).all()
    np.testing.assert_array_equal(np.delete(score, [0, 501]), wrong_label_posterior(probs, labels))


def test_blocks_and_thinning_change_little(monkeypatch):
    probs, labels, _ = world(6000, noise=0.2)
    whole = wrong_label_posterior(probs, labels)
    blocks = module.row_blocks
    monkeypatch.setattr(module, "row_blocks", lambda rows, width: blocks(rows, width, elements=97))
    np.testing.assert_array_equal(wrong_label_posterior(probs, labels), whole)
    monkeypatch.setattr(module, "FIT_ROWS", 2000)
    np.testing.assert_allclose(wrong_label_posterior(probs, labels), whole, atol=0.05)


# the suggestion, and the dataset as a whole


def test_the_preferred_label_is_right_as_often_as_said():
    probs, labels, true = world(20000, classes=6, noise=0.3)
    frame = compute(
        ["wrong_label_posterior", "preferred_label_posterior"], {"probs_oos": probs, "labels": labels}
    )
    wrong, preferred = (
        frame["wrong_label_posterior"].to_numpy(),
        frame["preferred_label_posterior"].to_numpy(),
    )
    assert (preferred <= wrong + 1e-12).all()
    assert (preferred[probs.argmax(axis=1) == labels] == 0).all()
    for low, high in ((0.6, 0.9), (0.9, 1.01)):
        inside = (preferred >= low) & (preferred < high)
        assert inside.sum() > 100
        assert (probs.argmax(axis=1) == true)[inside].mean() == pytest.approx(
            preferred[inside].mean(), abs=0.12
        )


def test_a_wrong_label_does_not_make_the_suggestion_right():
    # every sample of a third class looks like a coin's toss between the first two
    rng = np.random.default_rng(0)
    probs = np.repeat([[0.98, 0.01, 0.01], [0.01, 0.98, 0.01], [0.49, 0.5, 0.01]], 300, axis=0)
    true = np.concatenate([np.repeat([0, 1], 300), rng.integers(0, 2, 300)])
    labels = np.where(rng.random(900) < 0.3, 2, true)
    tossed = (np.arange(900) >= 600) & (labels == 2)
    assert wrong_label_posterior(probs, labels)[tossed].min() > 0.9
    assert preferred_label_posterior(probs, labels)[tossed].max() < 0.7


def test_the_rate_of_the_dataset():
    probs, labels, _ = world(20000, noise=0.2, kind="pair")
    found = diagnose("label_noise_rate", {"probs_oos": probs, "labels": labels})
    assert found["rate"] == pytest.approx(0.2, abs=0.04)
    assert found["at_least"] <= found["rate"]
    assert found["classes_told"] == 4
    assert {row["class"]: row["most_often"] for row in found["classes"]} == {0: 1, 1: 2, 2: 3, 3: 0}
    assert label_noise_rate(*world(noise=0.0, spread=6.0)[:2])["rate"] <= 0.01
    random = np.random.default_rng(0).integers(0, 4, 6000)
    assert label_noise_rate(probs[:6000], random)["reading"].startswith("cannot tell")
    assert label_noise_rate(probs[:0], labels[:0])["rate"] is None


@pytest.mark.parametrize("noise", [0.1, 0.2])
def test_few_samples_leave_open_what_more_of_them_show(noise):
    few, some, many = (
        [label_noise_rate(*world(size, noise=noise, seed=seed)[:2])["shown"] for seed in range(8)]
        for size in (200, 400, 2000)
    )
    assert few.count(None) >= 6
    assert not any(few)
    assert some.count(False) <= 1  # shown, or unclear
    assert many == [True] * 8


def test_overlap_is_hardly_ever_left_open():
    said = [
        label_noise_rate(*world(size, spread=spread, seed=seed)[:2])["shown"]
        for size, spread, seed in itertools.product((200, 1000), (1.5, 3.0), range(6))
    ]
    assert said.count(False) >= 22
    assert True not in said


def test_what_is_unclear_accuses_nobody_and_says_so():
    probs, labels, _ = world(200, noise=0.2)
    found = label_noise_rate(probs, labels)
    assert found["shown"] is None
    assert found["reading"] == (
        "20.0% of the labels differ where models are surest: wrong labels or classes that overlap, "
        "the samples do not show which"
    )
    assert wrong_label_posterior(probs, labels).max() == 0


def test_models_that_are_unsure_even_of_their_anchors_show_no_noise(monkeypatch):
    monkeypatch.setattr(module, "DEVIATIONS", -np.inf)  # whatever the likelihood says
    said = {}
    for spread, noise in ((1.5, 0.0), (1.5, 0.05), (6.0, 0.05), (6.0, 0.2)):
        probs, labels, true = world(3000, noise=noise, spread=spread)
        found = estimate_transition(probs, labels)
        said[spread, noise] = module.noise_is_shown(probs, labels, found.matrix)
        anchors = np.concatenate(anchors_of(probs))
        of_another_class = (true != probs.argmax(axis=1))[anchors].mean()
        assert (of_another_class > (true != labels)[anchors].mean()) == (said[spread, noise] is None)
    assert said == {(1.5, 0.0): None, (1.5, 0.05): None, (6.0, 0.05): True, (6.0, 0.2): True}
