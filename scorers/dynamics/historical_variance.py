"""Variance of a prompt's accuracy over training, by which single prompts for reinforcement learning were found.

For answers that are right or wrong it is a (1 - a) with a the share of right ones: highest where the model is
right half of the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import ABSENT, RIGHT, outcomes
from tracesift.scorers.twins import twinned

if TYPE_CHECKING:
    from torch import Tensor


@scorer(
    mode="in_training",
    direction="keep",
    per_sample=True,
    tensors=True,
    reference="Wang et al., Reinforcement learning for reasoning with one training example, 2025",
    experimental=True,
)
def historical_variance(correct: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray:
    """Return the population variance over presentations of being right; high is to keep.

    Parameters
    ----------
    correct : array of shape (T, N)
        Whether the answer was right, at each presentation.
    seen : array of shape (T, N), optional
        Where False, there was no presentation.

    Returns
    -------
    array of shape (N,)
        In [0, 0.25]; NaN for a sample that was never presented.

    Notes
    -----
    Experimental: the source ranks prompts by the variance of rollout accuracies, of which one presentation
    here is a single rollout; its details beyond the abstract are unconfirmed.

    Examples
    --------
    >>> historical_variance(np.array([[1, 1], [0, 1]], dtype=bool)).tolist()
    [0.25, 0.0]
    """
    return _variance(outcomes(correct, seen))


@twinned
@loop
def _variance(outcome: np.ndarray) -> np.ndarray:
    epochs, samples = outcome.shape
    right, count = np.zeros(samples), np.zeros(samples)
    for t in range(epochs):
        for i in range(samples):
            right[i] += outcome[t, i] == RIGHT
            count[i] += outcome[t, i] != ABSENT
    for i in range(samples):
        a = right[i] / count[i]
        right[i] = a * (1.0 - a)
    return right


@_variance.on_tensors
def _(outcome: Tensor) -> Tensor:
    a = (outcome == RIGHT).sum(0).double() / (outcome != ABSENT).sum(0)
    return a * (1.0 - a)
