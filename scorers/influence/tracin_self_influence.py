"""TracIn's self-influence: how far the steps on a sample moved its own loss, over several checkpoints of a training.

Read from the job `tracin`. A sample that the others do not speak for is learned from itself alone: wrong labels and
rare samples come first.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="suspicious",
    per_sample=True,
    reference="Pruthi, Liu, Kale, Sundararajan, Estimating training data influence by tracing gradient descent, "
    "NeurIPS 2020",
)
def tracin_self_influence(tracin_self: np.ndarray) -> np.ndarray:
    """Return the sum over checkpoints of eta times the squared length of the loss's gradient; high is suspicious.

    Parameters
    ----------
    tracin_self : array of shape (N, C)
        eta_c |g_c|^2 at each of C checkpoints, by the last layer or by all parameters, as the job was asked.

    Returns
    -------
    array of shape (N,)
        In units of the loss, at least 0; NaN where a checkpoint gave no finite gradient.

    References
    ----------
    Pruthi et al., NeurIPS 2020, sections 3 and 4.1.

    Examples
    --------
    >>> tracin_self_influence(np.array([[0.5, 0.25], [2.0, 1.0]])).tolist()
    [0.75, 3.0]
    """
    total = np.zeros(len(tracin_self))
    for checkpoint in tracin_self.T:
        total += checkpoint
    return np.where(np.isfinite(total), total, np.nan)
