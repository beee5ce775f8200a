"""The nearest other samples of every sample: what the scorers of this folder judge labels by.

The last search is kept, because several scorers ask for the same one and it is by far their dearest part. The k
nearest are the first of any longer list, ties included, so a search for more neighbours serves those who need fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from tracesift.catalog.nearest_rows import nearest_rows, unit_rows
from tracesift.catalog.neighbor_graph import without_itself
from tracesift.scorers.arrays import Floats, Integers, row_blocks

USUAL = 10
"""At least so many are searched: no scorer of this folder needs more with its default settings."""


@dataclass(frozen=True)
class Neighbors:
    """Who is near whom, by cosine."""

    rows: Integers
    """(n,) samples that have a vector of some direction, ascending."""
    nearest: Integers
    """(n, k) their nearest others, as rows of the embedding, nearest first, ties by row."""
    cosines: Floats
    """(n, k) rounded to 6 digits."""


_kept: dict[bytes, Neighbors] = {}


def nearest_others(embedding: np.ndarray, k: int) -> Neighbors:
    """Return the k nearest others of each sample; fewer where there are fewer.

    Parameters
    ----------
    embedding : array of shape (N, D)
        A row that is all zero or not finite has no direction: such a sample is nobody's neighbour and has none.
    k
        How many.

    Examples
    --------
    >>> found = nearest_others(np.array([[1.0, 0.0], [3.0, 4.0], [np.nan, 0.0], [0.0, 2.0]]), 1)
    >>> found.rows.tolist(), found.nearest.tolist(), found.cosines.tolist()
    ([0, 1, 3], [[1], [3], [1]], [[0.6], [0.8], [0.8]])
    """
    key = _digest(embedding)
    known = _kept.get(key)
    if known is None or known.nearest.shape[1] < min(k, len(known.rows) - 1):
        known = _search(embedding, max(k, USUAL))
        _kept.clear()
        _kept[key] = known
    return Neighbors(known.rows, known.nearest[:, :k], known.cosines[:, :k])


def with_vector(embedding: np.ndarray) -> Integers:
    """Return the rows that are finite and not all zero, ascending."""
    there = np.empty(len(embedding), dtype=bool)
    for rows in row_blocks(*embedding.shape):
        block = embedding[rows]
        there[rows] = np.isfinite(block).all(axis=1) & block.any(axis=1)
    return np.flatnonzero(there)


def _search(embedding: np.ndarray, k: int) -> Neighbors:
    rows = with_vector(embedding)
    index, cosines = nearest_rows(unit_rows(embedding), rows, rows, k + 1)
    nearest, cosines = without_itself(index, cosines, np.arange(len(rows)))
    return Neighbors(rows, rows[nearest], cosines)


def _digest(embedding: np.ndarray) -> bytes:
    state = blake2b(repr((embedding.shape, embedding.dtype.str)).encode())
    for rows in row_blocks(*embedding.shape):
        state.update(np.ascontiguousarray(embedding[rows]).data)
    return state.digest()
