"""Distances from one point to many samples, for selectors that go over all samples once per pick.

The samples lie in blocks of 64, within a block feature after feature: the inner loop runs over neighbouring
samples, 64 sums fit the nearest cache, and each sample's sum still goes through its features in their order, in
float64. So a distance is the same number on every machine, whatever the threads and wherever a sample lies.
Nothing is multiplied out, so copies are at distance 0 exactly.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.catalog.nearest_rows import Metric

LANES = 64
"""Samples of a block."""
SHARE = 1 << 21
"""How many numbers a thread of its own is worth: a third of a millisecond."""
RANGES = 4
"""Ranges of blocks for each thread, so that a late one is waited for a quarter of its share at most."""


@dataclass(frozen=True)
class Space:
    """Samples as points: the features as they are, or their directions only."""

    points: np.ndarray
    """(N, D) float32 or float64, as they were given, in memory or mapped from a file."""
    lengths: np.ndarray
    """(N,) float64 that each point is divided by: 1 everywhere, or its length; 1 for a row of zeros."""
    empty: np.ndarray
    """(N,) bool: rows of zeros under "cosine", which have no direction; they stay at the origin."""

    def at(self, row: int) -> np.ndarray:
        """Return one point as the passes see it: scaled, in the precision of `points`, as (D,) float64."""
        scaled = (self.points[row].astype(np.float64) / self.lengths[row]).astype(self.points.dtype)
        return scaled.astype(np.float64)


@dataclass(frozen=True)
class Laid:
    """Some of the samples of a space, laid out in blocks of `LANES`."""

    blocks: np.ndarray
    """(B, D, LANES) in the precision of the points; zeros where a lane is empty."""
    rows: np.ndarray
    """(B, LANES) int64, the row of each sample; -1 where a lane is empty."""


def space(embedding: np.ndarray, metric: Metric, selector: str) -> Space:
    """Return the samples as points.

    Parameters
    ----------
    embedding : ndarray (N, D)
        Finite numbers.
    metric : {"cosine", "euclidean"}
        "cosine": rows are scaled to length 1, so that the Euclidean distance is sqrt(2 - 2 cos); "euclidean":
        they are taken as they are.
    selector : str
        Who asks, for the message.

    Examples
    --------
    >>> space(np.array([[3.0, 4.0], [0.0, 0.0]]), "cosine", "herding").at(0).tolist()
    [0.6, 0.8]
    """
    points = np.asarray(embedding)
    if points.dtype not in (np.float32, np.float64):
        points = points.astype(np.float32 if points.dtype == np.float16 else np.float64)
    lengths, empty = np.ones(len(points)), np.zeros(len(points), dtype=bool)
    if metric == "cosine":
        _squared_lengths(points, lengths)
        np.sqrt(lengths, out=lengths)
        empty = lengths == 0
        lengths[empty] = 1.0
    return Space(points, lengths, empty)


def laid_out(where: Space, rows: np.ndarray) -> Laid:
    """Return the samples at `rows`, in that order, laid out in blocks."""
    count = -(-rows.size // LANES)
    placed = np.full((count, LANES), -1, dtype=np.int64)
    placed.ravel()[: rows.size] = rows
    blocks = np.empty((count, where.points.shape[1], LANES), dtype=where.points.dtype)
    shared(lambda first, last: _lay(where.points, where.lengths, placed, blocks, first, last), blocks)
    return Laid(blocks, placed)


def squared_distances(laid: Laid, point: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean distance (n,) of every sample laid out to `point` (D,)."""
    out = np.empty(laid.rows.shape)
    shared(lambda first, last: _squared_distances(laid.blocks, point, out, first, last), laid.blocks)
    return out.ravel()[: int((laid.rows >= 0).sum())]


def mean_point(laid: Laid, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the mean (D,) of the samples laid out, weighted by `weights` (n,) where given."""
    there = np.zeros(laid.rows.shape)
    there.ravel()[: int((laid.rows >= 0).sum())] = 1.0 if weights is None else weights
    sums, total = np.zeros((laid.blocks.shape[1], LANES)), np.zeros(LANES)
    _add_up(laid.blocks, there, sums, total)
    out = np.empty(len(sums))
    _across(sums, total, out)
    return out


def shared(work: Callable[[int, int], Any], blocks: np.ndarray) -> list[Any]:
    """Do `work(first, last)` on ranges of the blocks, in several threads where the blocks are large enough for that.

    The results come back in the order of the ranges. Every thread takes the next range as soon as it is free, and
    the caller waits for nobody who has not begun: a pass is short, and a busy machine may be late to start a thread.
    """
    threads = max(1, min(os.cpu_count() or 1, blocks.size // SHARE, len(blocks)))
    if threads == 1:
        return [work(0, len(blocks))]
    ranges = min(threads * RANGES, len(blocks))
    edges = [len(blocks) * part // ranges for part in range(ranges + 1)]
    left = deque(range(ranges))
    done: list[Any] = [None] * ranges

    def drain() -> None:
        while left:
            try:
                part = left.popleft()
            except IndexError:  # another thread was faster
                return
            done[part] = work(edges[part], edges[part + 1])

    others = [_threads().submit(drain) for _ in range(threads - 1)]
    drain()
    for other in others:
        if not other.cancel():
            other.result()
    return done


def _threads() -> ThreadPoolExecutor:
    return _pool_of(os.getpid())  # a forked child has none of its parent's threads


@cache
def _pool_of(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix=f"distances-{process}")


@loop
def _squared_lengths(points: np.ndarray, out: np.ndarray) -> None:
    for row in range(points.shape[0]):
        total = 0.0
        for d in range(points.shape[1]):
            total += np.float64(points[row, d]) * np.float64(points[row, d])
        out[row] = total


@loop
def _lay(
    points: np.ndarray, lengths: np.ndarray, rows: np.ndarray, blocks: np.ndarray, first: int, last: int
) -> None:
    for b in range(first, last):
        for lane in range(LANES):
            row = rows[b, lane]
            for d in range(points.shape[1]):
                blocks[b, d, lane] = 0.0 if row < 0 else points[row, d] / lengths[row]


@loop
def _squared_distances(blocks: np.ndarray, point: np.ndarray, out: np.ndarray, first: int, last: int) -> None:
    for b in range(first, last):
        for lane in range(LANES):
            out[b, lane] = 0.0
        for d in range(blocks.shape[1]):
            for lane in range(LANES):
                step = blocks[b, d, lane] - point[d]
                out[b, lane] += step * step


@loop
def _add_up(blocks: np.ndarray, weights: np.ndarray, sums: np.ndarray, total: np.ndarray) -> None:
    for b in range(blocks.shape[0]):
        for d in range(blocks.shape[1]):
            for lane in range(LANES):
                sums[d, lane] += weights[b, lane] * blocks[b, d, lane]
        for lane in range(LANES):
            total[lane] += weights[b, lane]


@loop
def _across(sums: np.ndarray, total: np.ndarray, out: np.ndarray) -> None:
    weight = 0.0
    for lane in range(LANES):
        weight += total[lane]
    for d in range(sums.shape[0]):
        out[d] = 0.0
        for lane in range(LANES):
            out[d] += sums[d, lane]
        out[d] /= weight
