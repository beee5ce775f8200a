"""Herding towards a point: pick samples one by one so that the mean of the picks stays next to it."""

from __future__ import annotations

import numpy as np

from tracesift.selectors.geometry.distances import Laid, Space, squared_distances
from tracesift.selectors.geometry.picking import Picks


def match(where: Space, laid: Laid, rows: np.ndarray, target: np.ndarray, count: int, called: str) -> Picks:
    """Pick `count` samples, each the one with which the sum of the picks is nearest to as many times the target.

    Parameters
    ----------
    where : Space
    laid : Laid
        The samples at `rows`, in their order.
    rows : ndarray (n,)
    target : ndarray (D,)
        The point that the mean of the picks is to match.
    count : int
        How many to pick, each sample once; ties to the first row.
    called : str
        What reasons call the target.
    """
    picked, told = [], []
    free = np.ones(rows.size, dtype=bool)
    total = np.zeros(target.size)
    for number in range(1, count + 1):
        squared = squared_distances(laid, number * target - total)
        place = int(np.where(free, squared, np.inf).argmin())
        free[place] = False
        total += where.at(int(rows[place]))
        picked.append(int(rows[place]))
        told.append(f"the mean of the picks is then {np.sqrt(squared[place]) / number:.4g} from {called}")
    distance = np.sqrt(squared_distances(laid, target))

    def left_told(left: np.ndarray) -> list[str]:
        return [
            f"{far:.4g} from {called}; the picks match it without"
            for far in distance[np.searchsorted(rows, left)]
        ]

    return Picks(np.array(picked), told, left_told)
