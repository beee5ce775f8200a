"""Spread within sliding windows of consecutive epochs, which the scores of dynamic uncertainty share.

A window with a presentation missing is no window: it is left out, not bridged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput
from tracesift.scorers.twins import twinned

if TYPE_CHECKING:
    from torch import Tensor


def check_window(epochs: int, window: int, *, scorer: str, least: int = 2) -> None:
    """Raise where a window of that many epochs does not fit into the recording."""
    if not least <= window <= epochs:
        raise BadInput(
            f"{scorer}: a window of {window} epochs does not fit the {epochs} recorded ones; "
            f"record more, or pass a window= of at least {least}"
        )


@twinned
@loop
def window_spreads(q: np.ndarray, window: int, weight: float) -> np.ndarray:
    """Return the mean over windows of s (1 - weight m), with the mean m and the spread s within.

    Parameters
    ----------
    q : array of shape (T, N)
        NaN where a sample was not presented.
    window
        Epochs of a window, J.
    weight
        0 for the spread alone, 1 for uncertainty times difficulty.

    Returns
    -------
    float64 array of shape (N,)
        s is the unbiased standard deviation (ddof 1); NaN for a sample without a whole window.
    """
    epochs, samples = q.shape
    total, count = np.zeros(samples), np.zeros(samples)
    mean, square = np.empty(samples), np.empty(samples)
    for w in range(epochs - window + 1):
        mean[:] = 0.0
        square[:] = 0.0
        for t in range(w, w + window):
            for i in range(samples):
                mean[i] += np.float64(q[t, i])
        for i in range(samples):
            mean[i] /= window
        for t in range(w, w + window):
            for i in range(samples):
                off = np.float64(q[t, i]) - mean[i]
                square[i] += off * off
        for i in range(samples):
            s = np.sqrt(square[i] / (window - 1))
            if s == s:
                total[i] += s * (1.0 - weight * mean[i])
                count[i] += 1.0
    for i in range(samples):
        total[i] /= count[i]
    return total


@window_spreads.on_tensors
def _(q: Tensor, window: int, weight: float) -> Tensor:
    windows = q.double().unfold(0, window, 1)  # (windows, N, window), a view
    spread = windows.std(-1)
    count = len(spread) - spread.isnan().sum(0)
    return (spread * (1.0 - weight * windows.mean(-1))).nansum(0) / count
