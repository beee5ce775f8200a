"""Late stopping: in which round a sample was left behind by networks that keep only what they learn first.

Read from the job `late_stopping`, the filter of the paper with its rounds; `fkl` is its measure on a single run.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="suspicious",
    per_sample=True,
    reference="Yuan, Feng, Liu, Late stopping, ICCV 2023",
)
def late_stopping(late_stopping_kept: np.ndarray) -> np.ndarray:
    """Return how many rounds a sample was left out of; left out early is suspicious.

    Parameters
    ----------
    late_stopping_kept : bool array of shape (N, R)
        Whether the sample is still in the training set after each round.

    Returns
    -------
    array of shape (N,)
        R for a sample that the first round removed, 1 for one that the last round removed, 0 for one that is
        left at the end: the paper's set to train on is ``late_stopping = 0``.

    References
    ----------
    Yuan, Feng, Liu, ICCV 2023, algorithm 1.

    Examples
    --------
    >>> late_stopping(np.array([[1, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=bool)).tolist()
    [0.0, 2.0, 3.0]
    """
    return np.asarray((~late_stopping_kept).sum(axis=1).astype(np.float64))
