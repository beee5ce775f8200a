"""Sums over the recorded presentations of each sample; NaN is a presentation that did not take place.

Epoch after epoch into one float64 per sample: memory stays at N whatever T is, and a value does not depend on
how samples are grouped into blocks or laid out in memory, as it would with NumPy's pairwise sums.
"""

from __future__ import annotations

import numpy as np


def mean_and_count(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def mean_square_around(values: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return the mean over presentations of (values - centre)^2, of shape (N,)."""
    total = np.zeros(values.shape[1])
    count = np.zeros(values.shape[1], dtype=np.int64)
    for row in values:
        there = ~np.isnan(row)
        np.add(total, (row - centre) ** 2, out=total, where=there)
        count += there
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / count
