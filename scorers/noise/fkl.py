"""First-time k-epoch learning: how late a sample is first predicted as labelled k epochs running.

The score of a single run. The multi-round filter of the paper skips the first epochs and leaves the current
one out of its own check; those belong to the filter, not to this number.
"""

from __future__ import annotations

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import presented


@scorer(
    mode="epoch_end",
    direction="suspicious",
    reference="Yuan, Feng, Liu, Late stopping, ICCV 2023",
)
def fkl(correct: np.ndarray, seen: np.ndarray | None = None, *, k: int = 3) -> np.ndarray:
    """Return the first epoch at which a sample has been right k epochs running; late is suspicious.

    Parameters
    ----------
    correct : array of shape (T, N)
        Whether the prediction equals the given label, at the end of each epoch.
    seen : array of shape (T, N), optional
        Where False, there was no prediction, and the epoch is skipped rather than counted as wrong.
    k
        Length of the stretch; 1 is ordinary first learning.

    Returns
    -------
    array of shape (N,)
        Epochs are counted from 1, so the earliest value is k; T + 1 if it never happens, NaN if never seen.

    References
    ----------
    Yuan, Feng, Liu, ICCV 2023, section 3.2 (first-time k-epoch learning).

    Examples
    --------
    >>> right = np.array([[1, 0], [1, 1], [1, 0], [1, 1]], dtype=bool)
    >>> fkl(right).tolist(), fkl(right, k=1).tolist()
    ([3.0, 5.0], [1.0, 2.0])
    """
    if k < 1:
        raise BadInput(f"fkl: k is a number of epochs, at least 1, got {k}")
    epochs, samples = correct.shape
    first = np.full(samples, epochs + 1.0)
    running = np.zeros(samples, dtype=np.int64)  # length of the present stretch
    shown = np.zeros(samples, dtype=bool)
    for t, (there, right) in enumerate(presented(correct, seen)):
        running[right] += 1
        running[there & ~right] = 0
        first[right & (running >= k) & (first > epochs)] = t + 1
        shown |= there
    first[~shown] = np.nan
    return first
