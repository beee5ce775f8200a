"""Loss at the last presentation: a baseline, and a warning, since a memorised wrong label has a small one."""

from __future__ import annotations

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.scorers.contract import scorer


@scorer(mode="in_training", direction="suspicious", per_sample=True, reference="baseline")
def last_loss(loss: np.ndarray) -> np.ndarray:
    """Return the loss of the last recorded presentation; high is suspicious.

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
    >>> last_loss(np.array([[0.5, 2.0], [0.25, np.nan]])).tolist()
    [0.25, 2.0]
    """
    return _last(loss)


@loop
def _last(loss: np.ndarray) -> np.ndarray:
    epochs, samples = loss.shape
    last = np.full(samples, np.nan)
    for t in range(epochs):
        for i in range(samples):
            x = np.float64(loss[t, i])
            if x == x:
                last[i] = x
    return last
