"""LESS: how far a training text points where the examples of a target task do.

Read from the signal that `tracesift.pipelines.less` makes of a language model.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="keep",
    experimental=True,
    per_sample=True,
    reference="Xia, Malladi, Gururangan, Arora, Chen, LESS: selecting influential data for targeted instruction "
    "tuning, ICML 2024",
)
def less(less_cosine: np.ndarray) -> np.ndarray:
    """Return the largest over subtasks of the sum over checkpoints; high is to keep for the target.

    Parameters
    ----------
    less_cosine : array of shape (N, E, S)
        At each of E checkpoints and for each of S subtasks the mean cosine of Adam's direction for the sample with the
        gradients of the subtask's examples, times the checkpoint's share of the learning rates.

    Returns
    -------
    array of shape (N,)
        In [-1, 1]; negative where a step on the sample raises the loss of every subtask. NaN without a finite loss.

    Notes
    -----
    The paper keeps the highest 5 %.

    References
    ----------
    Xia et al., ICML 2024, section 4.

    Examples
    --------
    >>> less(np.array([[[0.25, -0.5], [0.5, 0.0]], [[-0.25, -0.5], [-0.25, -0.5]]])).tolist()
    [0.75, -0.5]
    """
    total = np.zeros((len(less_cosine), less_cosine.shape[2]))
    for checkpoint in range(less_cosine.shape[1]):
        total += less_cosine[:, checkpoint]
    return np.where(np.isfinite(total).all(axis=1), total.max(axis=1, initial=-np.inf), np.nan)
