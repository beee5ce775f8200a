"""k-means of numbers on a line, exactly: the best of all divisions, not the one that a start happened to lead to."""

from __future__ import annotations

import numpy as np

from tracesift.catalog.compiled import loop


def kmeans_1d(values: np.ndarray, groups: int) -> np.ndarray:
    """Return the group of each value, 0 for the lowest, by the least sum of squares within groups.

    On a line the best groups are intervals, so that a dynamic programme over the sorted values finds them;
    the best start of the last interval never moves left as values are added, which makes it
    O(groups n log n) (Gronlund et al., Fast exact k-means, k-medians and Bregman divergence clustering in 1D,
    2017). Equal values share a group; of equally good divisions, the one with the earliest starts.

    Parameters
    ----------
    values : ndarray of shape (n,), float
        Finite numbers, in any order.
    groups : int
        Number of groups; with fewer distinct values, each of these is a group.

    Returns
    -------
    ndarray of shape (n,), int64
        Groups in 0..groups-1, ordered by their means.

    Examples
    --------
    >>> kmeans_1d(np.array([9.0, 0.0, 1.0, 5.0, 5.5]), 3)
    array([2, 0, 0, 1, 1])
    """
    distinct, place, counts = np.unique(
        np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True
    )
    if len(distinct) <= groups:
        return place.astype(np.int64)
    middle = distinct[
        len(distinct) // 2
    ]  # near the numbers, so that the differences of squares keep their digits
    starts = _starts(distinct - middle, counts.astype(np.float64), groups)
    return (np.searchsorted(starts, np.arange(len(distinct)), side="right") - 1)[place]


@loop
def _starts(values: np.ndarray, counts: np.ndarray, groups: int) -> np.ndarray:
    """Return the index of each group's first value; `values` ascend and are distinct."""
    n = len(values)
    weight, total, square = np.zeros(n + 1), np.zeros(n + 1), np.zeros(n + 1)  # of the values before i
    for i in range(n):
        weight[i + 1] = weight[i] + counts[i]
        total[i + 1] = total[i] + counts[i] * values[i]
        square[i + 1] = square[i] + counts[i] * values[i] * values[i]
    least, best = np.empty(n), np.empty(n)  # cost of values[..j] in m groups, and in one more
    for j in range(n):
        least[j] = square[j + 1] - total[j + 1] * total[j + 1] / weight[j + 1]
    start = np.zeros((groups, n), dtype=np.int32)  # where the last of m + 1 groups of values[..j] begins
    waiting = np.empty((128, 4), dtype=np.int64)
    for m in range(1, groups):
        waiting[0] = (m, n - 1, m, n - 1)  # values low..high, their last group begins in first..last
        depth = 1
        while depth > 0:
            depth -= 1
            low, high, first, last = waiting[depth]
            j = (low + high) // 2
            cheapest, begin = np.inf, first
            for i in range(first, min(j, last) + 1):
                s = total[j + 1] - total[i]
                cost = least[i - 1] + (square[j + 1] - square[i] - s * s / (weight[j + 1] - weight[i]))
                if cost < cheapest:
                    cheapest, begin = cost, i
            best[j], start[m, j] = cheapest, begin
            if low < j:
                waiting[depth] = (low, j - 1, first, begin)
                depth += 1
            if j < high:
                waiting[depth] = (j + 1, high, begin, last)
                depth += 1
        least, best = best, least
    starts = np.zeros(groups, dtype=np.int64)
    j = n - 1
    for m in range(groups - 1, 0, -1):
        starts[m] = start[m, j]
        j = starts[m] - 1
    return starts
