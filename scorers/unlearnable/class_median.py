"""Values as they stand above the middle of their class, so that samples of different classes can be compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracesift.scorers.arrays import Floats, Integers


def above_class_median(values: Floats, labels: Integers) -> NDArray[np.float64]:
    """Return each value minus the median of its class, float64 (N,); NaN stays NaN and has no part in the median.

    Examples
    --------
    >>> above_class_median(np.array([1.0, 2.0, 6.0, 5.0]), np.array([0, 0, 0, 1])).tolist()
    [-1.0, 0.0, 4.0, 0.0]
    """
    above = np.full(len(labels), np.nan)
    for label in np.unique(labels):
        rows = np.flatnonzero((labels == label) & ~np.isnan(values))
        if len(rows):
            own = values[rows].astype(np.float64)
            above[rows] = own - np.median(own)
    return above
