import numpy as np
import pytest

from tracesift.catalog.schema import MissingSignal
from tracesift.scorers.contract import compute
from tracesift.scorers.dynamics.aum import aum
from tracesift.scorers.dynamics.aum_prob_sum import aum_prob_sum


def margins_by_loop(values, labels):
    """Value of the label minus the largest other one, (T, N), from (T, N, K)."""
    return np.array([
        [row[y] - max(v for k, v in enumerate(row) if k != y) for row, y in zip(epoch, labels, strict=True)]
        for epoch in values
    ])  # fmt: skip


def test_hand_worked():
    logits = np.array([[[3.0, 1.0, 0.0], [0.0, 2.0, 5.0]], [[1.0, 2.0, 0.0], [1.0, 1.0, 1.0]]])
    margin = margins_by_loop(logits, [0, 1])  # 2, -1 and -3, 0
    assert aum(margin).tolist() == [0.5, -1.5]
    assert aum_prob_sum(margin).tolist() == [1.0, -3.0]


def test_against_a_loop_in_double_precision():
    rng = np.random.default_rng(0)
    margin = rng.normal(size=(13, 100)).astype(np.float32)
    margin[rng.random(margin.shape) < 0.3] = np.nan
    series = [[float(v) for v in column if not np.isnan(v)] for column in margin.T]
    np.testing.assert_allclose(aum(margin), [sum(s) / len(s) for s in series], rtol=1e-12)
    np.testing.assert_allclose(aum_prob_sum(margin), [sum(s) for s in series], rtol=1e-12, atol=1e-12)


def test_a_single_sample_and_a_single_class():
    assert aum(np.array([[1.0], [2.0]])).tolist() == [1.5]
    assert aum(np.full((2, 1), np.inf)).tolist() == [np.inf]  # K = 1: there is no other class


def test_the_two_are_not_the_same_ranking():
    logits = np.array([[[9.0, 0.0], [2.0, 0.0]], [[-1.0, 0.0], [1.0, 0.0]]])
    probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    by_logit, by_prob = aum(margins_by_loop(logits, [0, 0])), aum_prob_sum(margins_by_loop(probs, [0, 0]))
    assert by_logit[0] > by_logit[1]
    assert by_prob[0] < by_prob[1]


def test_one_reads_logits_and_the_other_probabilities():
    logits = np.random.default_rng(1).normal(size=(5, 20, 3)) * 4
    probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    labels = np.arange(20) % 3
    by_logit, by_prob = margins_by_loop(logits, labels), margins_by_loop(probs, labels)
    frame = compute(["aum", "aum_prob_sum"], {"margin": by_logit, "prob_margin": by_prob})
    np.testing.assert_allclose(frame["aum"], by_logit.mean(axis=0))
    np.testing.assert_allclose(frame["aum_prob_sum"], by_prob.sum(axis=0))
    known = {"probs": probs, "labels": labels}
    np.testing.assert_allclose(compute("aum_prob_sum", known)["aum_prob_sum"], by_prob.sum(axis=0))
    with pytest.raises(MissingSignal, match="'margin'"):
        compute("aum", known)


def test_wrong_labels_are_not_clean(planted_signals, auroc):
    signals, wrong = planted_signals()
    frame = compute(["aum", "aum_prob_sum"], signals)
    for name in frame.columns:
        assert auroc(-frame[name].to_numpy(), wrong) > 0.95
