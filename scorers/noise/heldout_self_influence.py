"""How much of a sample's fit rests on having been trained on: seen against held out.

A minority sample or a wrong label is fitted by memory. Its label is probable to the model that was trained on it, and
improbable to those that were not. It is the memorization score of Feldman and Zhang with as many models as folds.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.arrays import row_blocks
from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="hard",
    reference="Bayat, Pezeshki, Dohmatob, Lopez-Paz, Vincent, The pitfalls of memorization, ICLR 2025 (the signal); "
    "Feldman, Zhang, NeurIPS 2020",
)
def heldout_self_influence(probs_last: np.ndarray, probs_oos: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the probability of the label when trained on it minus when held out; high is memorised.

    Parameters
    ----------
    probs_last : array of shape (N, K)
        Probabilities after the last epoch of the model that was trained on the sample.
    probs_oos : array of shape (N, K)
        Out-of-sample probabilities; NaN rows for samples without a prediction.
    labels : array of shape (N,)

    Returns
    -------
    array of shape (N,)
        In [-1, 1]; near 0 both for what is learned from others and for what is not learned at all. NaN where
        either model made no prediction. A minority and a wrong label look the same here.

    References
    ----------
    Bayat et al., ICLR 2025, section 3 (held-out predictions); Feldman, Zhang, What neural networks memorize and
    why, NeurIPS 2020, equation 1.

    Examples
    --------
    >>> seen = np.array([[0.875, 0.125], [0.75, 0.25]])
    >>> held_out = np.array([[0.25, 0.75], [0.75, 0.25]])
    >>> heldout_self_influence(seen, held_out, np.array([0, 0])).tolist()
    [0.625, 0.0]
    """
    score = np.empty(len(labels))
    for rows in row_blocks(*probs_oos.shape):
        own = np.arange(len(labels[rows])), labels[rows]
        score[rows] = probs_last[rows][own].astype(np.float64) - probs_oos[rows][own]
    return score
