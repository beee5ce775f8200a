"""A graph of nearest neighbours: for each sample its k nearest others, by exact distance.

Made once per embedding and read by whoever needs neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tracesift.catalog.schema import BadInput

Metric = Literal["cosine", "euclidean"]

BLOCK = 512
"""Rows whose distances to all others are measured at a time."""
DIGITS = 6
"""Significant digits that a distance is rounded to, so that ties are ties on every machine."""


@dataclass(frozen=True)
class NeighborGraph:
    """The k nearest others of each of N samples."""

    index: np.ndarray
    """(N, k) int64, nearest first, ties to the smaller position."""
    distance: np.ndarray
    """(N, k) float64: 1 - cosine, or Euclidean."""
    metric: Metric

    def restricted(self, rows: np.ndarray) -> NeighborGraph:
        """Return the graph of `rows`, in their order, of as many neighbours as all of them still have.

        Raises
        ------
        BadInput
            Some row has no neighbour among `rows`.
        """
        place = np.full(len(self.index), -1)
        place[rows] = np.arange(len(rows))
        index, distance = place[self.index[rows]], self.distance[rows]
        there = index >= 0
        k = int(there.sum(axis=1).min(initial=self.index.shape[1]))
        if k == 0:
            raise BadInput("the graph of neighbours has none left for some sample; search again")
        front = np.argsort(~there, axis=1, kind="stable")[:, :k]
        return NeighborGraph(
            np.take_along_axis(index, front, axis=1), np.take_along_axis(distance, front, axis=1), self.metric
        )


def neighbor_graph(embedding: np.ndarray, k: int, *, metric: Metric = "cosine") -> NeighborGraph:
    """Search the k nearest others of every row of an embedding.

    Parameters
    ----------
    embedding : ndarray (N, D)
    k : int
        Neighbours of each row, the row itself not among them; N - 1 where there are fewer others.
    metric : {"cosine", "euclidean"}
        A row of zeros has cosine 0 to every other.

    Examples
    --------
    >>> neighbor_graph(np.array([[0.0], [1.0], [5.0]]), 1, metric="euclidean").index.ravel().tolist()
    [1, 0, 1]
    """
    if k < 1 or len(embedding) < 2:
        raise BadInput(f"a graph needs two samples and one neighbour, got {len(embedding)} and k={k}")
    x = np.asarray(embedding, dtype=np.float64)
    if metric == "cosine":
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        x = x / np.where(lengths > 0, lengths, 1.0)
    k = min(k, len(x) - 1)
    index = np.empty((len(x), k), dtype=np.int64)
    distance = np.empty((len(x), k))
    squares = (x**2).sum(axis=1)
    for start in range(0, len(x), BLOCK):
        part = x[start : start + BLOCK]
        dots = part @ x.T
        measured = (
            1 - dots
            if metric == "cosine"
            else np.sqrt(np.maximum(squares[start : start + BLOCK, None] + squares - 2 * dots, 0.0))
        )
        measured = measured.round(DIGITS)
        measured[np.arange(len(part)), start + np.arange(len(part))] = np.inf
        order = np.argsort(measured, axis=1, kind="stable")[:, :k]
        index[start : start + BLOCK] = order
        distance[start : start + BLOCK] = np.take_along_axis(measured, order, axis=1)
    return NeighborGraph(index, distance, metric)
