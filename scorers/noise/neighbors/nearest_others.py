"""The nearest other samples of every sample: what the scorers of this folder judge labels by.

Several of them ask for the same ones, and so a search is made once, see `tracesift.catalog.known_graphs`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracesift.catalog.known_graphs import known_graph
from tracesift.scorers.arrays import Floats, Integers, row_blocks


@dataclass(frozen=True)
class Neighbors:
    """Who is near whom, by cosine."""

    rows: Integers
    """(n,) samples that have a vector of some direction, ascending."""
    nearest: Integers
    """(n, k) their nearest others, as rows of the embedding, nearest first, ties by row."""
    cosines: Floats
    """(n, k) rounded to 6 digits."""


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
    rows = with_vector(embedding)
    if len(rows) < 2:
        return Neighbors(rows, np.empty((len(rows), 0), np.int64), np.empty((len(rows), 0)))
    graph = known_graph(embedding if len(rows) == len(embedding) else embedding[rows], k)
    return Neighbors(rows, rows[graph.index], (1 - graph.distance).round(6))


def with_vector(embedding: np.ndarray) -> Integers:
    """Return the rows that are finite and not all zero, ascending."""
    there = np.empty(len(embedding), dtype=bool)
    for rows in row_blocks(*embedding.shape):
        block = embedding[rows]
        there[rows] = np.isfinite(block).all(axis=1) & block.any(axis=1)
    return np.flatnonzero(there)
