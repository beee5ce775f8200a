"""A graph of nearest neighbours made symmetric, as a list of edges: never N x N."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.catalog.nearest_rows import Metric
from tracesift.catalog.neighbor_graph import EXACT_UP_TO, NeighborGraph, graph_among, neighbor_graph
from tracesift.catalog.schema import BadInput


@dataclass(frozen=True)
class Edges:
    """A symmetric graph: sample i's neighbours are ``target[start[i]:start[i + 1]]``."""

    start: np.ndarray
    target: np.ndarray
    distance: np.ndarray


def symmetric_edges(
    selector: str,
    embedding: np.ndarray,
    group: np.ndarray,
    k: int,
    graph: NeighborGraph | None = None,
    metric: Metric = "euclidean",
) -> Edges:
    """Return the neighbours in either direction within each group, with Euclidean distances.

    Parameters
    ----------
    selector : str
        Who asks, for the message of an error.
    embedding : array of shape (N, D)
        Searched within each group where there is no graph, approximately where that has more than 200,000 samples.
    group : array of shape (N,)
        Samples of group -1 have no neighbours.
    k : int
        Nearest others of each sample, before the graph is made symmetric.
    graph : NeighborGraph, optional
        Of all N samples; within the groups, whoever lost a neighbour is searched again.
    metric : {"euclidean", "cosine"}
        Of the vectors as they are, or scaled to length 1: then the distance is sqrt(2 - 2 cos).

    Raises
    ------
    BadInput
        The graph is of another metric, or of fewer than `k` neighbours.

    Examples
    --------
    >>> edges = symmetric_edges("d2_pruning", np.array([[0.0], [1.0], [3.0]]), np.zeros(3, int), 1)
    >>> edges.start.tolist(), edges.target.tolist(), edges.distance.tolist()
    ([0, 1, 3, 4], [1, 0, 2, 1], [1.0, 1.0, 2.0, 2.0])
    """
    if graph is not None and graph.metric != metric:
        raise BadInput(
            f"{selector}: the graph holds neighbours by {graph.metric}, not {metric}; leave it out to search again"
        )
    if graph is not None and graph.index.shape[1] < min(k, len(group) - 1):
        held = graph.index.shape[1]
        raise BadInput(
            f"{selector}: the graph holds {held} neighbours of each sample; pass k={held}, or leave the graph out to "
            "search again"
        )
    index, distance = _within(embedding, group, k, metric, graph)
    if metric == "cosine":
        distance = np.sqrt(2 * np.maximum(distance, 0.0))
    index = np.ascontiguousarray(index, dtype=np.int32)
    start = np.concatenate([[0], np.cumsum(_degrees(index, group))])
    target, apart = np.empty(start[-1], dtype=np.int32), np.empty(start[-1])
    _fill(index, np.ascontiguousarray(distance), group, start[:-1].copy(), target, apart)
    return Edges(start, target, apart)


def _within(
    embedding: np.ndarray, group: np.ndarray, k: int, metric: Metric, graph: NeighborGraph | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest within each group, -1 where there are fewer others."""
    index, distance = np.full((group.size, k), -1, dtype=np.int64), np.zeros((group.size, k))
    order = np.argsort(group, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if group[rows[0]] >= 0 and rows.size > 1:
            if graph is None:
                part = embedding if rows.size == group.size else embedding[rows]
                found = neighbor_graph(part, k, metric=metric, exact_up_to=EXACT_UP_TO)
            else:
                found = graph if rows.size == group.size else graph_among(graph, embedding, rows)
            width = min(k, found.index.shape[1])
            index[rows, :width] = rows[found.index[:, :width]]
            distance[rows, :width] = found.distance[:, :width]
    return index, distance


@loop
def _degrees(index: np.ndarray, group: np.ndarray) -> np.ndarray:
    samples, k = index.shape
    degree = np.zeros(samples, dtype=np.int64)
    for i in range(samples):
        for a in range(k):
            j = index[i, a]
            if j < 0 or group[i] < 0 or group[i] != group[j]:
                continue
            degree[i] += 1
            mutual = False
            for b in range(k):
                mutual |= index[j, b] == i
            if not mutual:
                degree[j] += 1
    return degree


@loop
def _fill(
    index: np.ndarray, distance: np.ndarray, group: np.ndarray, place: np.ndarray, target: np.ndarray,
    apart: np.ndarray,
) -> None:  # fmt: skip
    samples, k = index.shape
    for i in range(samples):
        for a in range(k):
            j = index[i, a]
            if j < 0 or group[i] < 0 or group[i] != group[j]:
                continue
            target[place[i]], apart[place[i]] = j, distance[i, a]
            place[i] += 1
            mutual = False
            for b in range(k):
                mutual |= index[j, b] == i
            if not mutual:
                target[place[j]], apart[place[j]] = i, distance[i, a]
                place[j] += 1
