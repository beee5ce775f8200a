"""How much of the early-learning target lies on other classes than the given label.

Early-learning regularisation keeps a running average t_i of each sample's predictions. The method itself
flags nobody; reading t_i against the label is our derivation. Dividing by the sum takes out the start at
zero, since the entries of t add up to 1 - beta^n after n updates.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.arrays import row_blocks
from tracesift.scorers.contract import scorer


@scorer(
    mode="in_training",
    direction="suspicious",
    reference="Liu et al., Early-learning regularization, NeurIPS 2020 (the target; the score is derived)",
)
def elr_target_disagreement(elr_target: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return 1 - t[label] / sum(t), the share of the target off the given label; high is suspicious.

    Parameters
    ----------
    elr_target : array of shape (N, K)
        Temporal-ensemble target, read at the end of early learning (or at any time when trained with the
        regulariser).
    labels : array of shape (N,)

    Returns
    -------
    array of shape (N,)
        In [0, 1]; NaN for a sample without an update, whose target is all zero.

    References
    ----------
    Liu, Niles-Weed, Razavian, Fernandez-Granda, NeurIPS 2020, section 4 (the target).

    Examples
    --------
    >>> elr_target_disagreement(np.array([[0.25, 0.25], [0.0, 0.5]]), np.array([0, 1])).tolist()
    [0.5, 0.0]
    """
    score = np.empty(len(labels))
    for rows in row_blocks(*elr_target.shape):
        target = elr_target[rows].astype(np.float64, order="C")
        total = target.sum(axis=1)
        total[total == 0] = np.nan
        score[rows] = 1 - target[np.arange(len(target)), labels[rows]] / total
    return score
