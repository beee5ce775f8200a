"""How far each sample is from the nearest pick so far, kept up to date pick by pick.

A pick z changes nothing for a sample x whose nearest pick c satisfies |z - c| >= 2 |x - c|: by the triangle
inequality z is no nearer. Where that holds for a whole block of samples, the block is not read. So that blocks
are of one mind, the samples are laid out anew by their nearest pick whenever the number of picks has doubled and
most samples could be passed over. The result is exactly that of looking at all.
"""

from __future__ import annotations

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.selectors.geometry.distances import LANES, Space, laid_out, shared

CAUTION = 1 + 1e-9
"""More than rounding can do to a squared distance, so that no sample is passed over that rounding would move."""
ROUNDING = 2.0**-23
"""Twice the most by which one operation in single precision is off, relatively."""
FIRST_LOOK = 16
"""Picks after which it is first worth asking whether samples could be passed over."""


class NearestPick:
    """The nearest of the picks so far, for some samples of a space; picks may be among them or not.

    Parameters
    ----------
    where : Space
    rows : ndarray (n,)
        Rows of the samples.
    most : int
        How many picks there will be at most.

    Examples
    --------
    >>> from tracesift.selectors.geometry.distances import space
    >>> line = space(np.array([[0.0], [1.0], [5.0]]), "euclidean", "k_center_greedy")
    >>> nearest = NearestPick(line, np.arange(3), 2)
    >>> nearest.add(0)
    >>> nearest.farthest, nearest.squared().tolist()
    ((2, 25.0), [0.0, 1.0, 25.0])
    """

    farthest: tuple[int, float]
    """Row of the sample, not a pick, that is farthest from its nearest pick, ties to the smallest row, and the
    square of that distance; (-1, -1.0) where all samples are picks."""

    def __init__(self, where: Space, rows: np.ndarray, most: int) -> None:
        self._space, self._rows, self._most = where, rows, most
        self._lay(np.arange(rows.size), np.full(rows.size, np.inf), np.zeros(rows.size, dtype=np.int64))
        self._picks = np.empty((where.points.shape[1], most))
        self._count, self._grouped = 0, False
        self.farthest = (-1, -1.0)

    def add(self, row: int) -> None:
        """Take the sample at `row` of the space as the next pick."""
        point = self._space.at(row)
        rough_point = point.astype(self._laid.blocks.dtype)
        for place in np.flatnonzero(self._laid.rows.ravel() == row):
            block, lane = divmod(int(place), LANES)
            self._squared[block, lane], self._number[block, lane] = -1.0, self._count
            self._block_most[block] = np.nan
        far = np.zeros(self._most)
        looks = self._count >= FIRST_LOOK and self._count & (self._count - 1) == 0
        if looks or self._grouped:
            _squared_to_picks(self._picks, point, self._count, far)
            far /= 4 * CAUTION
        if looks and (self._squared <= far[self._number]).mean() > 0.5:
            self._group()
        self._picks[:, self._count] = point

        def draw_near(first: int, last: int) -> tuple[float, int]:
            return _draw_near(
                self._laid.blocks, self._laid.rows, point, rough_point, self._count, far,
                self._squared, self._number, self._block_most, first, last,
            )  # fmt: skip

        best = min(shared(draw_near, self._laid.blocks), key=lambda one: (-one[0], one[1]))
        self.farthest = int(best[1]), float(best[0])
        self._count += 1

    def squared(self) -> np.ndarray:
        """Return the squared distance (n,) of every sample to its nearest pick; 0 for a pick."""
        return np.maximum(self._in_order(self._squared), 0.0)

    def number(self) -> np.ndarray:
        """Return which pick is nearest (n,), counted from 0: the earliest of equally near ones; itself for a pick."""
        return self._in_order(self._number)

    def _lay(self, order: np.ndarray, squared: np.ndarray, number: np.ndarray) -> None:
        """Lay the samples out in `order`, with what is known of them in that order."""
        self._order, self._laid = order, laid_out(self._space, self._rows[order])
        # a pick and an empty lane stand at -1: nothing is nearer to them, and they are never the farthest
        self._squared, self._number = np.full(self._laid.rows.shape, -1.0), np.zeros_like(self._laid.rows)
        self._squared.ravel()[: order.size], self._number.ravel()[: order.size] = squared, number
        self._block_most = np.full(len(self._squared), np.nan)

    def _group(self) -> None:
        """Lay the samples out by their nearest pick."""
        squared, number = (
            array.ravel()[: self._order.size].copy() for array in (self._squared, self._number)
        )
        together = np.argsort(number, kind="stable")
        self._lay(self._order[together], squared[together], number[together])
        self._grouped = True

    def _in_order(self, laid: np.ndarray) -> np.ndarray:
        out = np.empty(self._order.size, dtype=laid.dtype)
        out[self._order] = laid.ravel()[: self._order.size]
        return out


@loop
def _squared_to_picks(picks: np.ndarray, point: np.ndarray, count: int, out: np.ndarray) -> None:
    for d in range(picks.shape[0]):
        for pick in range(count):
            step = picks[d, pick] - point[d]
            out[pick] += step * step


@loop
def _draw_near(
    blocks: np.ndarray, rows: np.ndarray, point: np.ndarray, rough_point: np.ndarray, pick: int, far: np.ndarray,
    squared: np.ndarray, number: np.ndarray, most: np.ndarray, first: int, last: int,
) -> tuple[float, int]:  # fmt: skip
    """Let `pick` take over the samples that it is strictly nearer to; return the farthest sample of all.

    far[c] is a quarter of the squared distance between the pick and pick c: a sample of c within that stays.
    most[b] is the largest of squared[b], or NaN where that is not known. `rough_point` is the point in the precision of
    the blocks: where a sum in it, twice as fast, is beyond what rounding can do, the exact one is not needed.
    """
    sums, rough = np.empty(LANES), np.empty(LANES, dtype=blocks.dtype)
    margin = 1 - (blocks.shape[1] + 8) * ROUNDING
    farthest, row = -1.0, -1
    for b in range(first, last):
        lane = 0
        while lane < LANES and squared[b, lane] <= far[number[b, lane]]:
            lane += 1
        near = lane < LANES
        if near:
            for lane in range(LANES):
                rough[lane] = 0
            for d in range(blocks.shape[1]):
                for lane in range(LANES):
                    rough_step = blocks[b, d, lane] - rough_point[d]
                    rough[lane] += rough_step * rough_step
            lane = 0
            # a sum too large for its precision is infinite, and says nothing
            while lane < LANES and rough[lane] * margin > squared[b, lane] and rough[lane] < np.inf:
                lane += 1
            near = lane < LANES
        if near:
            for lane in range(LANES):
                sums[lane] = 0.0
            for d in range(blocks.shape[1]):
                for lane in range(LANES):
                    step = blocks[b, d, lane] - point[d]
                    sums[lane] += step * step
            for lane in range(LANES):
                if sums[lane] < squared[b, lane]:
                    squared[b, lane] = sums[lane]
                    number[b, lane] = pick
            most[b] = np.nan
        if np.isnan(most[b]):
            most[b] = squared[b].max()
        if most[b] >= farthest:
            for lane in range(LANES):
                nearer = squared[b, lane] == farthest and rows[b, lane] < row
                if squared[b, lane] > farthest or (nearer and rows[b, lane] >= 0):
                    farthest, row = squared[b, lane], rows[b, lane]
    return farthest, row
