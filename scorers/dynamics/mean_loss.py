"""Mean training loss: the plainest detector of wrong labels, and the one to beat."""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import mean_and_count


@scorer(
    mode="in_training",
    direction="suspicious",
    per_sample=True,
    tensors=True,
    reference="baseline; Jiang et al., Benchmarking noisy label detection methods, 2025",
)
def mean_loss(loss: np.ndarray) -> np.ndarray:
    """Return the mean loss over the recorded presentations; high is suspicious.

    Parameters
    ----------
    loss : array of shape (T, N)
        Cross-entropy with the given label; NaN where the sample was not presented.

    Returns
    -------
    array of shape (N,)
        NaN for a sample that was never presented.

    Examples
    --------
    >>> mean_loss(np.array([[0.5, 2.0], [0.1, np.nan]])).tolist()
    [0.3, 2.0]
    """
    return mean_and_count(loss)[0]
