"""When a sample was predicted as labelled for the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import RIGHT, WRONG, outcomes
from tracesift.scorers.twins import twinned

if TYPE_CHECKING:
    from torch import Tensor


@scorer(
    mode="in_training",
    direction="hard",
    per_sample=True,
    tensors=True,
    reference="Toneva et al., An empirical study of example forgetting, ICLR 2019",
)
def first_learned(correct: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray:
    """Return the index of the first presentation at which a sample was right; late is hard.

    Parameters
    ----------
    correct : array of shape (T, N)
        Whether the prediction equals the given label, at each presentation.
    seen : array of shape (T, N), optional
        Where False, there was no presentation; the index counts presentations, not epochs.

    Returns
    -------
    array of shape (N,)
        Counted from 0; NaN for a sample that was never right or never presented.

    References
    ----------
    Toneva et al., ICLR 2019, section 4 (first learning events).

    Examples
    --------
    >>> first_learned(np.array([[0, 1, 0], [1, 0, 0]], dtype=bool)).tolist()
    [1.0, 0.0, nan]
    """
    return _first_right(outcomes(correct, seen))


@twinned
@loop
def _first_right(outcome: np.ndarray) -> np.ndarray:
    epochs, samples = outcome.shape
    wrong, right = np.zeros(samples), np.zeros(samples, np.uint8)  # wrong ones before the first right one
    for t in range(epochs):
        for i in range(samples):
            right[i] |= outcome[t, i] == RIGHT
            wrong[i] += (right[i] == 0) & (outcome[t, i] == WRONG)
    for i in range(samples):
        if right[i] == 0:
            wrong[i] = np.nan
    return wrong


@_first_right.on_tensors
def _(outcome: Tensor) -> Tensor:
    right = (outcome == RIGHT).cumsum(0)
    wrong = ((right == 0) & (outcome == WRONG)).sum(0).double()
    wrong[right[-1] == 0] = np.nan
    return wrong
