"""Entropy of the prediction: how many classes the model still has in mind, and how evenly."""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer

DIGITS = 9
"""Decimals that are kept: the last bits of a logarithm differ from processor to processor."""


@scorer(
    mode=None,
    direction="hard",
    per_sample=True,
    reference="Shannon 1948; Settles, Active learning literature survey, 2009, section 3.1",
)
def prediction_entropy(probs_last: np.ndarray) -> np.ndarray:
    """Return the entropy of the class probabilities, in nats; high is unsure.

    Parameters
    ----------
    probs_last : array of shape (N, K)
        Class probabilities of a trained model, in eval mode; a row of NaN is a sample without a prediction.

    Returns
    -------
    array of shape (N,)
        -sum_k p_k log p_k, with 0 log 0 = 0, from 0 to log K, rounded to 9 decimals; NaN without a prediction.

    References
    ----------
    Settles 2009, section 3.1 (entropy as uncertainty); as a selection rule in DeepCore (Guo, Zhao, Bai, DEXA 2022).

    Examples
    --------
    >>> prediction_entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(4).tolist()
    [0.6931, 0.0]
    """
    p = probs_last.astype(np.float64, order="C")
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p), p * 0.0)  # NaN stays NaN
    entropy = np.zeros(len(p))
    for k in range(p.shape[1]):  # class after class, so that the sum has one order
        entropy -= terms[:, k]
    return np.abs(entropy.round(DIGITS))
