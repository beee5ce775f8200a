"""How many presentations a sample took until it was right and stayed so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import ABSENT, WRONG, outcomes
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
def learned_for_good(correct: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray:
    """Return the number of the last wrong presentation, the presentations needed to learn; high is hard.

    Parameters
    ----------
    correct : array of shape (T, N)
        Whether the prediction equals the given label, at each presentation.
    seen : array of shape (T, N), optional
        Where False, there was no presentation; presentations are counted, not epochs.

    Returns
    -------
    array of shape (N,)
        Counted from 1, so 0 for a sample that was never wrong and the number of presentations for one that
        was wrong at the end; NaN for a sample that was never presented.

    References
    ----------
    Toneva et al., ICLR 2019; `presentations_needed_to_learn` of the published code.

    Examples
    --------
    >>> learned_for_good(np.array([[0, 1, 1], [1, 0, 1]], dtype=bool)).tolist()
    [1.0, 2.0, 0.0]
    """
    return _last_wrong(outcomes(correct, seen))


@twinned
@loop
def _last_wrong(outcome: np.ndarray) -> np.ndarray:
    epochs, samples = outcome.shape
    last, presentations = np.zeros(samples), np.zeros(samples)
    for t in range(epochs):
        for i in range(samples):
            presentations[i] += outcome[t, i] != ABSENT
            if outcome[t, i] == WRONG:
                last[i] = presentations[i]
    for i in range(samples):
        if presentations[i] == 0:
            last[i] = np.nan
    return last


@_last_wrong.on_tensors
def _(outcome: Tensor) -> Tensor:
    presentations = (outcome != ABSENT).cumsum(0)
    last = (presentations * (outcome == WRONG)).amax(0).double()
    last[presentations[-1] == 0] = np.nan
    return last
