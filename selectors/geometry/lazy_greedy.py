"""Greedy picks of a submodular function, looking only at samples that can still be the best.

A gain never grows as picks are added, so an old gain is a bound. The sample with the largest bound is measured anew;
where it stays the largest, it is the next pick. Gains that are sums of terms which never grow, added in one fixed
order, do not grow in floating point either, so the picks and their gains are exactly those of measuring all each time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np


def lazy_greedy(
    gains: np.ndarray, gain: Callable[[int], float], take: Callable[[int], None], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pick `count` places, each time the one with the largest gain, ties to the smallest place.

    Parameters
    ----------
    gains : ndarray (n,)
        The gain of each place before anything is picked, or bounds above them.
    gain : callable
        From a place to its gain after what was taken so far.
    take : callable
        Called with each place that is picked.
    count : int
        At most n.

    Returns
    -------
    tuple of ndarray (count,)
        The places in the order picked, and the gain of each.

    Examples
    --------
    >>> covered, covers = set(), [{1, 2}, {2, 3, 4}, {4, 5}]
    >>> def gain(place):
    ...     return float(len(covers[place] - covered))
    >>> lazy_greedy(np.array([2.0, 3.0, 2.0]), gain, lambda place: covered.update(covers[place]), 2)
    (array([1, 0]), array([3., 1.]))
    """
    heap = [(-bound, place) for place, bound in enumerate(gains.tolist())]
    heapq.heapify(heap)
    picked, gained = np.empty(count, dtype=np.int64), np.empty(count)
    for number in range(count):
        while True:
            now = -gain(heap[0][1]), heap[0][1]
            least = min(heap[1:3], default=now)  # the next in line is one of the two below the top
            if now <= least:
                break
            heapq.heapreplace(heap, now)
        heapq.heappop(heap)
        picked[number], gained[number] = now[1], -now[0]
        take(now[1])
    return picked, gained
