"""The support vector machine's attack, and the modified entropy that others get wrong."""

import math

import numpy as np
import pytest
from sklearn.svm import SVC

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearning_metrics.svc_mia import FEATURES, modified_entropy, svc_mia

K = 4


def outputs(rng, n, sharpness):
    """Return probabilities whose label's logit stands out by about `sharpness`, and labels."""
    labels = rng.integers(0, K, n)
    logits = rng.normal(size=(n, K))
    logits[np.arange(n), labels] += sharpness
    exp = np.exp(logits - logits.max(1, keepdims=True))
    return exp / exp.sum(1, keepdims=True), labels


@pytest.fixture
def three():
    rng = np.random.default_rng(5)
    return {"retain": outputs(rng, 300, 8.0), "test": outputs(rng, 120, 1.5)}


def test_modified_entropy_by_hand():
    got = modified_entropy(np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]]), np.array([0, 2]))
    right = -0.3 * math.log(0.7) - 0.2 * math.log(0.8) - 0.1 * math.log(0.9)
    wrong = -0.9 * math.log(0.1) - 0.7 * math.log(0.3) - 0.2 * math.log(0.8)
    assert got == pytest.approx([right, wrong], rel=1e-12)
    assert right < wrong


def test_modified_entropy_of_a_sample_depends_on_no_other():
    rng = np.random.default_rng(0)
    probs, labels = outputs(rng, 50, 1.0)
    alone = [modified_entropy(probs[[i]], labels[[i]])[0] for i in range(50)]
    assert modified_entropy(probs, labels).tolist() == alone
    # The defect, written out: [:, labels] reaches every class that occurs, in every row, so the label tells nothing.
    assert set(labels) == set(range(K))
    broken = -((1 - probs) * np.log(probs)).sum(1)
    assert abs(broken - modified_entropy(probs, labels)).min() > 1e-6
    right, wrong = np.array([[0.97, 0.01, 0.01, 0.01]] * 2), np.array([0, 1])
    assert modified_entropy(right, wrong)[0] < 0.1 < 4 < modified_entropy(right, wrong)[1]


def test_certainty_gives_finite_features():
    probs = np.array([[1.0, 0.0], [1.0, 0.0]])
    got = modified_entropy(probs, np.array([0, 1]))
    assert got[0] == 0
    assert 50 < got[1] < 200
    assert FEATURES["entropy"](probs, np.array([0, 1])).tolist() == [0, 0]


def test_forgotten_looks_unseen_and_remembered_looks_seen(three):
    rng = np.random.default_rng(6)
    forgotten = svc_mia(forget=outputs(rng, 100, 1.5), **three, seed=0)
    remembered = svc_mia(forget=outputs(rng, 100, 8.0), **three, seed=0)
    for name in ("confidence", "entropy", "modified_entropy", "probability"):
        assert forgotten[name] > 0.6, name
        assert remembered[name] < 0.1, name
    assert forgotten["correctness"] > remembered["correctness"] + 0.2


def test_against_a_direct_construction(three):
    """Equal sizes: nothing is drawn."""
    rng = np.random.default_rng(7)
    (probs, labels), (other, others) = outputs(rng, 80, 5.0), three["test"]
    forget, targets = outputs(rng, 60, 2.0)
    got = svc_mia(forget=(forget, targets), retain=(probs, labels), test=(other[:80], others[:80]), seed=0)
    reference = SVC(C=3, gamma="auto").fit(
        [[p[y]] for p, y in zip([*probs, *other[:80]], [*labels, *others[:80]], strict=True)],
        [1] * 80 + [0] * 80,
    )
    said = reference.predict([[p[y]] for p, y in zip(forget, targets, strict=True)])
    assert got["confidence"] == sum(said == 0) / 60


def test_retain_samples_are_drawn_and_not_the_first(three):
    """Sorted retain data: the first samples are of one sure class, the rest is not sure at all."""
    rng = np.random.default_rng(8)
    first, rest = outputs(rng, 60, 9.0), outputs(rng, 600, 1.5)
    retain = tuple(np.concatenate(both) for both in zip(first, rest, strict=True))
    unseen, forget = outputs(rng, 60, 1.5), outputs(rng, 100, 1.5)
    of_first = svc_mia(forget=forget, retain=first, test=unseen, seed=0)["confidence"]
    drawn = [svc_mia(forget=forget, retain=retain, test=unseen, seed=seed)["confidence"] for seed in range(3)]
    assert of_first > 0.9
    assert max(drawn) < 0.85  # members and others look alike, so many forget samples pass for members
    assert svc_mia(forget=forget, retain=retain, test=unseen, seed=1) == svc_mia(
        forget=forget, retain=retain, test=unseen, seed=1
    )
    assert len(set(drawn)) > 1


def test_what_is_refused(three):
    probs, labels = three["test"]
    with pytest.raises(BadInput, match="pass softmax"):
        svc_mia(forget=(np.log(probs), labels), **three, seed=0)
    with pytest.raises(BadInput, match="labels up to class 4"):
        svc_mia(forget=(probs, labels * 0 + 4), **three, seed=0)
    with pytest.raises(BadInput, match="of at least one"):
        svc_mia(forget=(probs[:0], labels[:0]), **three, seed=0)
    with pytest.raises(BadInput, match="numbers of classes"):
        svc_mia(forget=(np.full((1, 2), 0.5), np.array([0])), **three, seed=0)
