"""The confident joint and the masks made from it, against cleanlab."""

import warnings
from contextlib import contextmanager
from functools import partial

import cleanlab.count
import cleanlab.filter
import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.noise import confident_joint as joint_module
from tracesift.scorers.noise import label_issues as issues_module
from tracesift.scorers.noise.confident_joint import class_thresholds, confident_joint
from tracesift.scorers.noise.label_issues import FILTERS, find_label_issues


def case(kind, seed):
    """Probabilities and labels, in shapes that have broken implementations before."""
    rng = np.random.default_rng(seed)
    classes = {"two classes": 2, "many classes": 25}.get(kind, 5)
    samples = {"few": 9, "many classes": 400}.get(kind, 150)
    true = rng.integers(0, classes, samples)
    labels = np.where(rng.random(samples) < 0.25, rng.integers(0, classes, samples), true)
    logits = rng.normal(size=(samples, classes)) + 2 * np.eye(classes)[true]
    if kind == "missing class":
        labels[labels == 3] = 1
    if kind == "tiny classes":
        labels[labels == 2] = 0
        labels[:2] = [2, 4]
    if kind == "one sure class":
        logits[:, 1] += 6
    if kind == "all wrong":
        labels = (true + 1) % classes
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if kind == "ties":
        probs = np.round(probs, 1) + 1e-3
        probs /= probs.sum(axis=1, keepdims=True)
    return probs.astype(np.float32 if kind == "single precision" else np.float64), labels


KINDS = (
    "plain", "two classes", "many classes", "few", "missing class", "tiny classes", "one sure class", "all wrong",
    "single precision", "ties",
)  # fmt: skip


@contextmanager
def stable_order():
    """Let cleanlab order equal values as they come; NumPy's default depends on the processor there."""
    unstable = np.argsort
    np.argsort = partial(unstable, kind="stable")
    try:
        yield
    finally:
        np.argsort = unstable


def cleanlab_issues(probs, labels, *, joint=None, **options):
    with warnings.catch_warnings(), stable_order():
        warnings.simplefilter("ignore")  # it warns about small classes
        return cleanlab.filter.find_label_issues(labels, probs, n_jobs=1, confident_joint=joint, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_the_joint_is_cleanlab_s_but_for_equal_remainders(kind, seed):
    """Equal remainders are frequent in small counts, and rounding errors decide between them in cleanlab."""
    probs, labels = case(kind, seed)
    np.testing.assert_allclose(
        class_thresholds(probs, labels), cleanlab.count.get_confident_thresholds(labels, probs), rtol=1e-6
    )
    raw = cleanlab.count.compute_confident_joint(labels, probs, calibrate=False)
    np.testing.assert_array_equal(confident_joint(probs, labels, calibrate=False), raw)
    expected, ours = cleanlab.count.compute_confident_joint(labels, probs), confident_joint(probs, labels)
    np.testing.assert_array_equal(ours.sum(axis=1), np.bincount(labels, minlength=probs.shape[1]))
    exact = raw * ours.sum(axis=1, keepdims=True) % raw.sum(axis=1, keepdims=True)
    for given in range(probs.shape[1]):
        differ = np.flatnonzero(ours[given] != expected[given])
        assert len(set(exact[given, differ])) <= 1
        assert (np.abs(ours[given, differ] - expected[given, differ]) == 1).all()


@pytest.mark.parametrize("filter_by", FILTERS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_flags_are_cleanlab_s(filter_by, kind):
    for seed in range(3):
        probs, labels = case(kind, seed)
        options = {"joint": confident_joint(probs, labels)} if filter_by in FILTERS[:3] else {}
        np.testing.assert_array_equal(
            find_label_issues(probs, labels, filter_by=filter_by),
            cleanlab_issues(probs, labels, filter_by=filter_by, **options),
        )


@pytest.mark.parametrize("filter_by", FILTERS[:3])
@pytest.mark.parametrize(
    "options", [{"frac_noise": 0.4}, {"min_examples_per_class": 12}, {"min_examples_per_class": 0}]
)
def test_the_settings_of_pruning_are_cleanlab_s(filter_by, options):
    for kind in ("plain", "tiny classes", "missing class"):
        probs, labels = case(kind, 0)
        joint = confident_joint(probs, labels)
        np.testing.assert_array_equal(
            find_label_issues(probs, labels, filter_by=filter_by, joint=joint, **options),
            cleanlab_issues(probs, labels, filter_by=filter_by, joint=joint, **options),
        )


def test_hand_worked():
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.7, 0.3], [0.2, 0.8], [0.3, 0.7]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    # Thresholds 0.6 and 0.6: sample 2 is confidently 1, sample 3 confidently 0, the rest as labelled.
    np.testing.assert_allclose(class_thresholds(probs, labels), [0.6, 0.6])
    assert confident_joint(probs, labels).tolist() == [[2, 1], [1, 2]]
    for filter_by in FILTERS:
        assert np.flatnonzero(find_label_issues(probs, labels, filter_by=filter_by)).tolist() == [2, 3]


def test_equal_samples_are_flagged_in_the_order_of_the_rows():
    probs = np.array([[0.9, 0.1]] * 4 + [[0.1, 0.9]] * 4)
    labels = np.array([0, 0, 0, 0, 1, 1, 0, 0])
    joint = np.array([[5, 1], [0, 2]])
    assert np.flatnonzero(find_label_issues(probs, labels, joint=joint)).tolist() == [6]


def test_rounding_keeps_the_row_totals():
    for seed in range(20):
        probs, labels = case("plain", seed)
        joint = confident_joint(probs, labels)
        np.testing.assert_array_equal(joint.sum(axis=1), np.bincount(labels, minlength=5))


def test_blocks_leave_no_trace(monkeypatch):
    probs, labels = case("plain", 0)
    whole = [find_label_issues(probs, labels, filter_by=filter_by) for filter_by in FILTERS]
    blocks = joint_module.row_blocks
    for module in (joint_module, issues_module):
        monkeypatch.setattr(module, "row_blocks", lambda rows, width: blocks(rows, width, elements=13))
    for filter_by, expected in zip(FILTERS, whole, strict=True):
        np.testing.assert_array_equal(find_label_issues(probs, labels, filter_by=filter_by), expected)


def test_samples_without_prediction_are_left_out():
    probs, labels = case("plain", 0)
    gap = np.insert(probs, 3, np.nan, axis=0)
    gap_labels = np.insert(labels, 3, 0)
    for filter_by in FILTERS:
        issues = find_label_issues(gap, gap_labels, filter_by=filter_by)
        assert not issues[3]
        np.testing.assert_array_equal(
            np.delete(issues, 3), find_label_issues(probs, labels, filter_by=filter_by)
        )


@pytest.mark.parametrize("filter_by", FILTERS)
def test_one_class_and_no_samples_have_no_issues(filter_by):
    assert not find_label_issues(np.ones((3, 1)), np.zeros(3, int), filter_by=filter_by).any()
    assert len(find_label_issues(np.ones((0, 3)), np.zeros(0, int), filter_by=filter_by)) == 0


def test_what_it_refuses():
    with pytest.raises(BadInput, match="prune_by_noise_rate"):
        find_label_issues(*case("plain", 0), filter_by="prune")


def test_planted_wrong_labels_are_found(planted_signals):
    signals, wrong = planted_signals()
    for filter_by in FILTERS:
        issues = find_label_issues(signals["probs_oos"], signals["labels"], filter_by=filter_by)
        assert (issues & wrong).sum() > 0.8 * issues.sum()
        assert (issues & wrong).sum() > 0.6 * wrong.sum()
