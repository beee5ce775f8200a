import cleanlab.rank
import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.noise import confident_learning as module
from tracesift.scorers.noise.confident_learning import SCORES, confident_learning

PROBS = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
LABELS = np.array([0, 2, 0, 1])


def random_case(seed, samples=200, classes=5, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(classes), samples).astype(dtype), rng.integers(0, classes, samples)


def test_hand_worked():
    np.testing.assert_allclose(confident_learning(PROBS, LABELS), [0.6, 0.3, 1, 0])
    margin = confident_learning(PROBS, LABELS, score="normalized_margin")
    np.testing.assert_allclose(margin, [(0.3 + 1) / 2, (-0.2 + 1) / 2, 1, 0])
    entropy = -(0.6 * np.log(0.6) + 0.3 * np.log(0.3) + 0.1 * np.log(0.1)) / np.log(3)
    weighted = confident_learning(PROBS, LABELS, score="confidence_weighted_entropy")
    np.testing.assert_allclose(weighted[0], np.log(entropy / 0.6 + 1) / (entropy / 0.6))
    # Certain and right is the cleanest there is, certain and wrong the worst.
    assert weighted[2:].tolist() == [1, 0]


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("classes", [2, 5])
def test_against_cleanlab(score, classes):
    probs, labels = random_case(0, classes=classes)
    np.testing.assert_allclose(
        confident_learning(probs, labels, score=score),
        cleanlab.rank.get_label_quality_scores(labels, probs, method=score), rtol=1e-9,
    )  # fmt: skip


@pytest.mark.parametrize("score", SCORES[:2])
def test_adjusted_probabilities_against_cleanlab(score):
    probs, labels = random_case(1)
    labels[labels == 3] = 2  # a class that nobody is labelled as
    np.testing.assert_allclose(
        confident_learning(probs, labels, score=score, adjust_pred_probs=True),
        cleanlab.rank.get_label_quality_scores(labels, probs, method=score, adjust_pred_probs=True), rtol=1e-9,
    )  # fmt: skip


@pytest.mark.parametrize("score", SCORES)
def test_blocks_and_missing_predictions_leave_the_rest_alone(score, monkeypatch):
    probs, labels = random_case(2, dtype=np.float32)
    whole = confident_learning(probs, labels, score=score)
    blocks = module.row_blocks
    monkeypatch.setattr(module, "row_blocks", lambda rows, width: blocks(rows, width, elements=17))
    probs[7] = np.nan
    result = confident_learning(probs, labels, score=score)
    assert np.isnan(result[7])
    np.testing.assert_array_equal(np.delete(result, 7), np.delete(whole, 7))


@pytest.mark.parametrize("score", SCORES)
def test_one_class_alone_is_clean(score):
    assert confident_learning(np.ones((2, 1)), np.zeros(2, int), score=score).tolist() == [1, 1]


def test_what_it_refuses():
    with pytest.raises(BadInput, match="self_confidence"):
        confident_learning(PROBS, LABELS, score="margin")
    with pytest.raises(BadInput, match="entropy"):
        confident_learning(PROBS, LABELS, score=SCORES[2], adjust_pred_probs=True)


@pytest.mark.parametrize("score", SCORES)
def test_wrong_labels_are_not_clean(score, planted_signals, auroc):
    signals, wrong = planted_signals()
    frame = compute(["confident_learning"], signals, params={"confident_learning": {"score": score}})
    assert auroc(-frame["confident_learning"].to_numpy(), wrong) > 0.95
