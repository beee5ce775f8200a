"""Dataset cartography, the colour of the map: at how many presentations the prediction was right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import ABSENT, RIGHT, first_epochs, outcomes
from tracesift.scorers.twins import twinned

if TYPE_CHECKING:
    from torch import Tensor


@scorer(
    mode="in_training",
    direction="easy",
    per_sample=True,
    tensors=True,
    reference="Swayamdipta et al., Dataset cartography, EMNLP 2020",
)
def cartography_correctness(
    correct: np.ndarray, seen: np.ndarray | None = None, *, burn_out: int | None = None
) -> np.ndarray:
    """Count the presentations at which a sample was right; high is easy.

    Parameters
    ----------
    correct : array of shape (T, N)
        Whether the prediction equals the given label, at each presentation.
    seen : array of shape (T, N), optional
        Where False, there was no presentation.
    burn_out
        Use the first that many epochs; all for None.

    Returns
    -------
    array of shape (N,)
        A number from 0 to T, not a share, as in the paper's code; NaN for a sample that was never presented.

    References
    ----------
    Swayamdipta et al., EMNLP 2020, section 2.

    Examples
    --------
    >>> cartography_correctness(np.array([[1, 0], [1, 0]], dtype=bool)).tolist()
    [2.0, 0.0]
    """
    correct = first_epochs(correct, burn_out, setting="cartography_correctness: burn_out")
    return _right(outcomes(correct, seen if seen is None else seen[: len(correct)]))


@twinned
@loop
def _right(outcome: np.ndarray) -> np.ndarray:
    epochs, samples = outcome.shape
    count, ever = np.zeros(samples), np.zeros(samples, np.uint8)
    for t in range(epochs):
        for i in range(samples):
            count[i] += outcome[t, i] == RIGHT
            ever[i] |= outcome[t, i]
    for i in range(samples):
        if ever[i] == ABSENT:
            count[i] = np.nan
    return count


@_right.on_tensors
def _(outcome: Tensor) -> Tensor:
    count = (outcome == RIGHT).sum(0).double()
    count[(outcome == ABSENT).all(0)] = np.nan
    return count
