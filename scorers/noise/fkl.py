"""First-time k-epoch learning: how late a sample is first predicted as labelled k epochs running.

The score of a single run. The multi-round filter of the paper skips the first epochs and leaves the current
one out of its own check; those belong to the filter, not to this number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import ABSENT, RIGHT, WRONG, outcomes, rights_so_far
from tracesift.scorers.twins import twinned

if TYPE_CHECKING:
    from torch import Tensor


@scorer(
    mode="epoch_end",
    direction="suspicious",
    per_sample=True,
    tensors=True,
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
    return _first_stretch(outcomes(correct, seen), k)


@twinned
@loop
def _first_stretch(outcome: np.ndarray, k: int) -> np.ndarray:
    epochs, samples = outcome.shape
    first = np.full(samples, epochs + 1.0)
    stretch, ever = np.zeros(samples, np.int32), np.zeros(samples, np.uint8)
    for t in range(epochs):
        for i in range(samples):
            now = outcome[t, i]
            stretch[i] = (stretch[i] + (now == RIGHT)) * (now != WRONG)
            if (now == RIGHT) & (stretch[i] >= k) & (first[i] > epochs):
                first[i] = t + 1
            ever[i] |= now
    for i in range(samples):
        if ever[i] == ABSENT:
            first[i] = np.nan
    return first


@_first_stretch.on_tensors
def _(outcome: Tensor, k: int) -> Tensor:
    right, until_wrong = rights_so_far(outcome)
    there = (outcome == RIGHT) & (right - until_wrong >= k)
    first = (there.byte().argmax(0) + 1).double()
    first[~there.any(0)] = len(outcome) + 1
    first[(outcome == ABSENT).all(0)] = np.nan
    return first
