"""Loss at the last presentation: a baseline, and a warning, since a memorised wrong label has a small one."""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import last_presented


@scorer(mode="in_training", direction="suspicious", per_sample=True, tensors=True, reference="baseline")
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
    return last_presented(loss)
