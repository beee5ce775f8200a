"""Label quality from out-of-sample probabilities, as confident learning ranks its suspects.

Three scores of one sample's probabilities: how likely the given label is, how far it leads, and how that
compares with the entropy. Which samples are flagged is `find_label_issues`.
"""

from __future__ import annotations

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Floats, Integers, row_blocks
from tracesift.scorers.contract import scorer
from tracesift.scorers.noise.confident_joint import class_thresholds

SCORES = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")


@scorer(
    mode=None,
    direction="clean",
    reference="Northcutt, Jiang, Chuang, Confident learning, JAIR 2021",
)
def confident_learning(
    probs_oos: np.ndarray,
    labels: np.ndarray,
    *,
    score: str = "self_confidence",
    adjust_pred_probs: bool = False,
) -> np.ndarray:
    """Score how well out-of-sample probabilities support the given label; low is suspicious.

    Parameters
    ----------
    probs_oos : array of shape (N, K)
        Out-of-sample probabilities; NaN rows for samples without a prediction.
    labels : array of shape (N,)
    score
        ``"self_confidence"``, p[label]; ``"normalized_margin"``, (p[label] - largest other + 1) / 2; or
        ``"confidence_weighted_entropy"``, log(1 + s) / s with s = normalised entropy / p[label].
    adjust_pred_probs
        Take each class's mean self-confidence off first and renormalise, against class imbalance. Not with
        the entropy score.

    Returns
    -------
    array of shape (N,)
        In [0, 1]; NaN where there is no prediction. The entropy score takes its limits where s is 0 or has
        none: 1 for certainty on the given label, 0 for a given label of probability 0.

    References
    ----------
    Northcutt, Jiang, Chuang, JAIR 2021, section 3.2; Kuan and Mueller, Model-agnostic label quality scoring,
    ICML workshop 2022.

    Examples
    --------
    >>> probs = np.array([[0.75, 0.25], [0.75, 0.25]])
    >>> confident_learning(probs, np.array([0, 1])).tolist()
    [0.75, 0.25]
    >>> confident_learning(probs, np.array([0, 1]), score="normalized_margin").tolist()
    [0.75, 0.25]
    """
    if score not in SCORES:
        raise BadInput(f"confident_learning: score is one of {', '.join(SCORES)}, not '{score}'")
    if adjust_pred_probs and score == "confidence_weighted_entropy":
        raise BadInput("confident_learning: adjust_pred_probs does not go with the entropy score")
    formula = {SCORES[0]: _self_confidence, SCORES[1]: _normalized_margin, SCORES[2]: _weighted_entropy}[
        score
    ]
    predicted = ~np.isnan(probs_oos[:, 0])
    shift = 0.0
    if adjust_pred_probs:
        thresholds = class_thresholds(probs_oos[predicted], labels[predicted])
        shift = thresholds.max() - thresholds
    result = np.empty(len(labels))
    for rows in row_blocks(*probs_oos.shape):
        p = probs_oos[rows].astype(np.float64, order="C")
        if adjust_pred_probs:
            p += shift
            p /= p.sum(axis=1, keepdims=True)
        result[rows] = formula(p, labels[rows])
    return result


def _self_confidence(p: Floats, y: Integers) -> Floats:
    return p[np.arange(len(y)), y]


def _normalized_margin(p: Floats, y: Integers) -> Floats:
    others = p.copy()
    others[np.arange(len(y)), y] = -np.inf
    largest = others.max(axis=1) if p.shape[1] > 1 else np.zeros(len(y))
    return (_self_confidence(p, y) - largest + 1) / 2


def _weighted_entropy(p: Floats, y: Integers) -> Floats:
    own = _self_confidence(p, y)
    entropy = -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=1) / max(np.log(p.shape[1]), 1e-300)
    with np.errstate(divide="ignore", invalid="ignore"):
        s = np.abs(entropy) / own
        weighted = np.where(s > 0, np.log1p(s) / s, 1.0)
    weighted = np.where(own > 0, weighted, 0.0)
    return np.where(np.isnan(own), np.nan, weighted)
