"""Exact graphs of neighbours that this process knows already, by what their vectors hold.

Several scorers ask for the neighbours of the same vectors, and a search is by far their dearest part. The newest graph
of each metric is kept; a flow hands in the one that the workspace stores. Scores are the same with and without.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b

import numpy as np

from tracesift.catalog.nearest_rows import QUERIES, Metric
from tracesift.catalog.neighbor_graph import NeighborGraph, neighbor_graph
from tracesift.catalog.schema import BadInput

USUAL = 10
"""At least so many are searched: few ask for more with their default settings."""

_newest: dict[Metric, tuple[bytes, NeighborGraph]] = {}


def known_graph(embedding: np.ndarray, k: int, metric: Metric = "cosine") -> NeighborGraph:
    """Return the exact graph of the k nearest others of every row, searched only where it is not known.

    The k nearest are the first of any longer list, ties included, so a search for more neighbours serves those who
    need fewer. Parameters and errors are those of `neighbor_graph`.

    Examples
    --------
    >>> line = np.array([[0.0], [1.0], [5.0]])
    >>> known_graph(line, 2, "euclidean").index.tolist(), known_graph(line, 1, "euclidean").index.tolist()
    ([[1, 2], [0, 2], [1, 0]], [[1], [0], [1]])
    """
    content = _content(embedding)
    known, graph = _newest.get(metric, (b"", None))
    if graph is None or known != content or graph.index.shape[1] < min(k, len(embedding) - 1):
        graph = neighbor_graph(embedding, max(k, USUAL), metric=metric)
        _newest[metric] = content, graph
    return replace(graph, index=np.asarray(graph.index[:, :k]), distance=np.asarray(graph.distance[:, :k]))


def know(embedding: np.ndarray, graph: NeighborGraph) -> None:
    """Hand in a graph of these vectors, so that nobody searches it.

    Raises
    ------
    BadInput
        It is approximate, or of another number of rows.
    """
    if graph.approximate or len(graph.index) != len(embedding):
        raise BadInput(
            f"only an exact graph of all {len(embedding)} rows can stand for a search; this one is of "
            f"{len(graph.index)}{' and approximate' if graph.approximate else ''}"
        )
    _newest[graph.metric] = _content(embedding), graph


def _content(embedding: np.ndarray) -> bytes:
    state = blake2b(repr((embedding.shape, embedding.dtype.str)).encode())
    for start in range(0, len(embedding), QUERIES):
        state.update(np.ascontiguousarray(embedding[start : start + QUERIES]).data)
    return state.digest()
