"""Sums over the recorded presentations of each sample; NaN is a presentation that did not take place.

Epoch after epoch into one float64 per sample: memory stays at N whatever T is, and a value does not depend on
how samples are grouped into blocks or laid out in memory, as it would with NumPy's pairwise sums.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Floats, Integers


def mean_and_count(values: np.ndarray) -> tuple[Floats, Integers]:
    """Return the mean over presentations, NaN where there are none, and their number.

    Parameters
    ----------
    values : array of shape (T, N)
        NaN where a sample was not presented.

    Returns
    -------
    mean : float64 array of shape (N,)
    count : int64 array of shape (N,)
    """
    total = np.zeros(values.shape[1])
    count = np.zeros(values.shape[1], dtype=np.int64)
    for row in values:  # (N,)
        there = ~np.isnan(row)
        np.add(total, row, out=total, where=there)
        count += there
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / count, count


def mean_square_around(values: np.ndarray, centre: np.ndarray) -> Floats:
    """Return the mean over presentations of (values - centre)^2, of shape (N,)."""
    total = np.zeros(values.shape[1])
    count = np.zeros(values.shape[1], dtype=np.int64)
    for row in values:
        there = ~np.isnan(row)
        np.add(total, (row - centre) ** 2, out=total, where=there)
        count += there
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / count


def first_epochs(signal: np.ndarray, count: int | None, *, setting: str) -> np.ndarray:
    """Return the first `count` epochs of a (T, N) signal; all of them for None.

    `setting` is the scorer and its setting, for the message where the recording is shorter than that.
    """
    if count is None:
        return signal
    if not 1 <= count <= len(signal):
        raise BadInput(f"{setting} is {count}, but the recording has epochs 1 to {len(signal)}")
    return signal[:count]


def presented(
    correct: np.ndarray, seen: np.ndarray | None, loss: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, epoch after epoch, which samples were presented and which of those were right.

    Parameters
    ----------
    correct : bool array of shape (T, N)
    seen : bool array of shape (T, N), optional
        Everything was presented where it is absent.
    loss : array of shape (T, N), optional
        A presentation whose loss is NaN was not predicted right, whatever an argmax over NaN says.

    Yields
    ------
    there, right : bool arrays of shape (N,)
    """
    for t, row in enumerate(correct):
        there = np.ones(len(row), dtype=bool) if seen is None else seen[t]
        right = there & row
        yield there, (right if loss is None else right & ~np.isnan(loss[t]))
