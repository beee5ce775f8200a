"""Exact nearest neighbours by cosine: faiss finds candidates, float64 decides.

Blocks of queries and of rows: N x N never fits, and neither does a second copy of the rows. Blocks of queries go
to as many threads as there are processors; faiss itself gets one thread in each, because a child forked after
its own threads have run hangs. faiss multiplies matrices only above a size of its own choosing and is twenty
times slower below; we ask it to always do so.
faiss works in float32, whose last bits depend on the machine; candidates are therefore measured again in
float64 and rounded, and ties go to the smaller index. A query whose last candidate could still tie is
measured against the whole block, so the answer is the same everywhere and whatever the blocks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracesift.catalog.schema import BadInput

QUERIES, ROWS = 1024, 8192
"""How many queries meet how many rows at a time: 8 MB of float32 at 256 dimensions."""
UNSURE = 64
"""How many queries are measured against all rows of a block at a time, where ties are many."""
MEASURED = 1 << 22
"""How many numbers of candidates are gathered at a time: 32 MB of float64 for each thread."""
SPARE = 16
"""Candidates beyond the k asked for, so that most ties are decided at the first asking."""
DIGITS = 6
SLACK = 1e-5
"""More than a cosine of unit rows in float32 can be off, and than rounding takes away."""


@dataclass(frozen=True)
class UnitRows:
    """Rows of which only the direction counts; they are scaled where they are read, and never all at once."""

    rows: np.ndarray
    """(N, D) floats as they were given, in memory or mapped from a file."""
    lengths: np.ndarray
    """(N,) float64; 1 for a row of zeros."""

    def at(self, which: np.ndarray) -> np.ndarray:
        """Return these rows scaled to length 1, as float64; a zero row stays zero and is near nobody."""
        lengths = self.lengths[which]
        return self.rows[which].astype(np.float64) / lengths[..., None]


def unit_rows(embedding: np.ndarray) -> UnitRows:
    """Return the rows of an embedding (N, D) as directions; nothing is copied."""
    rows = np.asarray(embedding)
    lengths = np.ones(len(rows))
    for start in range(0, len(rows), ROWS):
        part = np.linalg.norm(rows[start : start + ROWS].astype(np.float64), axis=1)
        lengths[start : start + ROWS] = np.where(part > 0, part, 1.0)
    return UnitRows(rows, lengths)


def nearest_rows(
    vectors: UnitRows,
    queries: np.ndarray,
    base: np.ndarray,
    k: int,
    *,
    among: UnitRows | None = None,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest of the `base` rows for every row in `queries`, and their cosines.

    Parameters
    ----------
    vectors : UnitRows
        See `unit_rows`.
    queries : ndarray (Q,)
        Rows of `vectors` to find neighbours for.
    base : ndarray (B,)
        Rows to find them among, ascending.
    k : int
        At most B are returned.
    among : UnitRows, optional
        What `base` are rows of; `vectors` themselves where None.
    threads : int, optional
        As many as there are processors where None; they leave no trace in the result.

    Returns
    -------
    tuple of ndarray (Q, min(k, B))
        Positions in `base`, nearest first, ties by position; cosines rounded to 6 digits.

    Examples
    --------
    >>> corners = unit_rows(np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]]))
    >>> nearest_rows(corners, np.array([0]), np.array([1, 2]), 2)
    (array([[0, 1]]), array([[0.6, 0. ]]))
    """
    among = vectors if among is None else among
    found = min(k, base.size)
    index = np.zeros((queries.size, found), np.int64)
    cosines = np.full((queries.size, found), -np.inf)
    if found == 0 or queries.size == 0:
        return index, cosines
    with _settled_faiss() as faiss, _one_thread_each(faiss, threads) as pool:
        for first in range(0, base.size, ROWS):
            rows = among.at(base[first : first + ROWS])
            block = faiss.IndexFlatIP(rows.shape[1])
            block.add(rows.astype(np.float32))

            def search(start: int, block: Any = block, rows: np.ndarray = rows, first: int = first) -> None:
                these = slice(start, start + QUERIES)
                best = index[these], cosines[these]
                index[these], cosines[these] = _merged(
                    block, vectors.at(queries[these]), rows, first, best, filled=min(first, found)
                )

            for _ in pool.map(search, range(0, queries.size, QUERIES)):
                pass
    return index, cosines


def _merged(
    block: Any,
    queries: np.ndarray,
    rows: np.ndarray,
    first: int,
    best: tuple[np.ndarray, np.ndarray],
    *,
    filled: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best of what was found before and of one block of rows, which begins at position `first`.

    Before were found `filled` rows, fewer than k only while fewer than k rows were searched.
    """
    k, asked = best[0].shape[1], min(best[0].shape[1] + SPARE, len(rows))
    index, cosines = best[0].copy(), best[1].copy()

    def put(which: np.ndarray, candidates: np.ndarray, measured: np.ndarray) -> None:
        both = np.concatenate([best[0][which, :filled], candidates + first], axis=1)
        measured = np.concatenate([best[1][which, :filled], measured], axis=1)
        order = _first(both, measured, k)
        width = order.shape[1]
        index[which, :width] = np.take_along_axis(both, order, axis=1)
        cosines[which, :width] = np.take_along_axis(measured, order, axis=1)

    rough, candidates = block.search(queries.astype(np.float32), asked)
    better = np.flatnonzero(rough[:, 0] >= best[1][:, -1] - SLACK)  # seldom many after the first blocks
    step = max(1, MEASURED // (asked * rows.shape[1]))
    for start in range(0, better.size, step):
        which = better[start : start + step]
        near = np.einsum("qd,qcd->qc", queries[which], rows[candidates[which]]).round(DIGITS)
        put(which, candidates[which], near)
    if asked < len(rows):
        # What was not returned is no nearer than the last candidate; where that can still be one of the k,
        # all rows of the block are measured.
        unsure = np.flatnonzero(rough[:, -1] >= cosines[:, -1] - SLACK)
        whole = np.arange(len(rows))
        for start in range(0, unsure.size, UNSURE):
            which = unsure[start : start + UNSURE]
            measured = (queries[which] @ rows.T).round(DIGITS)
            put(which, np.broadcast_to(whole, measured.shape), measured)
    return index, cosines


def _first(positions: np.ndarray, cosines: np.ndarray, k: int) -> np.ndarray:
    """Return where in each row the k nearest stand, nearest first, ties by position."""
    # rounded cosines are whole multiples of 1e-6, so that one integer holds both
    keys = (-cosines * 10**DIGITS).round().astype(np.int64) * 2**40 + positions
    if keys.shape[1] > 4 * k:
        few = np.argpartition(keys, k - 1, axis=1)[:, :k]
        return np.take_along_axis(few, np.argsort(np.take_along_axis(keys, few, axis=1), axis=1), axis=1)
    return np.argsort(keys, axis=1)[:, :k]


def _one_thread_each(faiss: Any, threads: int | None) -> ThreadPoolExecutor:
    """Return a pool in whose threads faiss starts none of its own: the number holds for the calling thread only."""
    return ThreadPoolExecutor(threads or os.cpu_count(), initializer=faiss.omp_set_num_threads, initargs=(1,))


@contextmanager
def _settled_faiss() -> Iterator[Any]:
    """Yield faiss with one thread and matrix products at every size; both are given back."""
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise BadInput(
            "faiss is not installed; install tracesift[cpu] (or tracesift[gpu]) for neighbour search"
        ) from error
    threads, smallest = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
    faiss.omp_set_num_threads(1)
    faiss.cvar.distance_compute_blas_threshold = 1
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(threads)
        faiss.cvar.distance_compute_blas_threshold = smallest
