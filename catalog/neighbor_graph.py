"""A graph of nearest neighbours: for each sample its k nearest others.

Made once per embedding and read by whoever needs neighbours. Up to a size that the caller states the graph is exact,
see `tracesift.catalog.nearest_rows`. Beyond it an inverted file of faiss proposes the neighbours, and looks through as
many of its lists as it takes to find the share of the true ones that is asked for; their distances are still measured
exactly, and `recall` says which share that is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tracesift.catalog.nearest_rows import (
    QUERIES,
    Metric,
    Report,
    Vectors,
    nearest_rows,
    plain_rows,
    ranked_rows,
    unit_rows,
)
from tracesift.catalog.schema import BadInput

EXACT_UP_TO = 200_000
"""Samples up to which `tracesift embed` searches exactly: a minute or two of a processor at 128 dimensions."""
NEIGHBORS = 20
"""Neighbours that `tracesift embed` searches: no scorer and no selector asks for more with its default settings."""
LISTS, PROBED = 4.0, 32
"""The inverted file has LISTS * sqrt(N) lists; a query looks through PROBED of them, or twice as many, and so on."""
RECALL = 0.95
"""Share of the true neighbours that an approximate search goes on for."""
WORTH = 8
"""An exact search takes less time of a processor than one through more than an eighth of the lists."""
MOST_ON_GPU = 2048
"""Lists that faiss looks through at most on a GPU."""
MEASURED = 1000
"""Samples that recall is measured on."""


@dataclass(frozen=True)
class NeighborGraph:
    """The k nearest others of each of N samples."""

    index: np.ndarray
    """(N, k) whole numbers, nearest first, ties to the smaller position."""
    distance: np.ndarray
    """(N, k) float64: 1 - cosine, or Euclidean."""
    metric: Metric
    approximate: bool = False
    """Whether neighbours may have been missed."""
    recall: float | None = None
    """Share of the true neighbours among those found, on a sample; None where it was not measured."""
    lists: int | None = None
    """Lists of the inverted file of an approximate search."""
    probed: int | None = None
    """How many of these a query looked through."""

    def restricted(self, rows: np.ndarray) -> NeighborGraph:
        """Return the graph of `rows`, in their order, of as many neighbours as all of them still have.

        `graph_among` gives every row its k neighbours.

        Raises
        ------
        BadInput
            Some row has no neighbour among `rows`.
        """
        index, there = self._placed(rows)
        k = int(there.sum(axis=1).min(initial=self.index.shape[1]))
        if k == 0:
            raise BadInput("the graph of neighbours has none left for some sample; search again")
        front = np.argsort(~there, axis=1, kind="stable")[:, :k]
        return replace(
            self,
            index=np.take_along_axis(index, front, axis=1),
            distance=np.take_along_axis(self.distance[rows], front, axis=1),
        )

    def _placed(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the neighbours of `rows` as positions in `rows`, and which of them are there at all."""
        place = np.full(len(self.index), -1)
        place[rows] = np.arange(len(rows))
        index = place[self.index[rows]]
        return index, index >= 0


def neighbor_graph(
    embedding: np.ndarray,
    k: int,
    *,
    metric: Metric = "cosine",
    exact_up_to: int | None = None,
    least_recall: float = RECALL,
    seed: int = 0,
    threads: int | None = None,
    report: Report | None = None,
) -> NeighborGraph:
    """Search the k nearest others of every row of an embedding.

    Parameters
    ----------
    embedding : ndarray (N, D)
    k : int
        Neighbours of each row, the row itself not among them; N - 1 where there are fewer others.
    metric : {"cosine", "euclidean"}
        A row of zeros has cosine 0 to every other.
    exact_up_to : int, optional
        With more rows than this the search is approximate, and its recall measured; never where None.
    least_recall : float
        An approximate search looks through twice as many lists until this share, in (0, 1], of the true neighbours of
        1,000 rows is found. Where that takes more than an eighth of the lists, an exact search is the faster one, and
        counts as one through all.
    seed : int
        Of an approximate search; an exact one draws nothing.
    threads : int, optional
        As many as there are processors where None; they leave no trace in an exact graph.
    report : callable, optional
        Called in an exact search with how many rows are done and how many there are.

    Raises
    ------
    BadInput
        Fewer than two rows or one neighbour, a row with NaN or infinity, or a recall that is no share.

    Examples
    --------
    >>> neighbor_graph(np.array([[0.0], [1.0], [5.0]]), 1, metric="euclidean").index.ravel().tolist()
    [1, 0, 1]
    """
    if k < 1 or len(embedding) < 2:
        raise BadInput(f"a graph needs two samples and one neighbour, got {len(embedding)} and k={k}")
    if not 0 < least_recall <= 1:
        raise BadInput(f"a recall of {least_recall:g} cannot be asked for: it is a share in (0, 1]")
    vectors = _vectors(embedding, metric)
    k = min(k, len(embedding) - 1)
    everyone = np.arange(len(embedding))
    if exact_up_to is None or len(embedding) <= exact_up_to:
        return NeighborGraph(*_others(vectors, everyone, everyone, k, threads, report), metric)
    index, distance, lists, probed = _proposed(vectors, k, seed, threads, least_recall)
    graph = NeighborGraph(index, distance, metric, approximate=True, lists=lists, probed=probed)
    return replace(graph, recall=recall(graph, embedding, seed=seed))


def graph_among(
    graph: NeighborGraph, embedding: np.ndarray, rows: np.ndarray, *, exact_up_to: int = EXACT_UP_TO
) -> NeighborGraph:
    """Return the graph of some rows of an embedding: what a fresh search among them would find.

    Where enough of a row's neighbours are among `rows`, they are its nearest there; the others are searched again.

    Parameters
    ----------
    graph : NeighborGraph
        Of all rows of the embedding.
    embedding : ndarray (N, D)
    rows : ndarray (n,)
        Ascending, at least two.
    exact_up_to : int
        Where more rows than this lack neighbours and the graph is approximate, so is the search.

    Examples
    --------
    >>> line = np.array([[0.0], [1.0], [5.0], [7.0]])
    >>> graph = neighbor_graph(line, 1, metric="euclidean")
    >>> graph_among(graph, line, np.array([0, 2, 3])).index.ravel().tolist()  # 0 has lost its neighbour
    [1, 2, 1]
    """
    if len(graph.index) != len(embedding):
        raise BadInput(f"a graph of {len(graph.index)} samples does not belong to {len(embedding)} vectors")
    if len(rows) < 2 or (np.diff(rows) <= 0).any():
        raise BadInput("give at least two rows in ascending order: ties go to the smaller position")
    k = min(graph.index.shape[1], len(rows) - 1)
    index, there = graph._placed(rows)
    lacking = np.flatnonzero(there.sum(axis=1) < k)
    if graph.approximate and lacking.size > exact_up_to:
        least_recall = graph.recall or RECALL
        return neighbor_graph(
            embedding[rows], k, metric=graph.metric, exact_up_to=exact_up_to, least_recall=least_recall
        )
    front = np.argsort(~there, axis=1, kind="stable")[:, :k]
    index = np.take_along_axis(index, front, axis=1)
    distance = np.take_along_axis(np.asarray(graph.distance[rows]), front, axis=1)
    if lacking.size:
        vectors = _vectors(embedding, graph.metric)
        index[lacking], distance[lacking] = _others(vectors, rows, lacking, k, None)
    return replace(graph, index=index, distance=distance)


def recall(graph: NeighborGraph, embedding: np.ndarray, *, sample: int = MEASURED, seed: int = 0) -> float:
    """Return the share of true neighbours that a graph holds, over some rows drawn at random.

    A neighbour counts that is no farther than the true k-th, so that ties may be resolved either way.
    """
    vectors = _vectors(embedding, graph.metric)
    size, k = graph.index.shape
    drawn = _drawn(size, sample, seed)
    _, farthest = _others(vectors, np.arange(size), drawn, k, None)
    _, found = _ranked(vectors, drawn, np.asarray(graph.index[drawn]), k)
    return float((found <= farthest[:, -1:]).mean())


def _drawn(size: int, sample: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(size)[:sample])


def _vectors(embedding: np.ndarray, metric: Metric) -> Vectors:
    makers = {"cosine": unit_rows, "euclidean": plain_rows}
    if metric not in makers:
        raise BadInput(f"metric '{metric}': it is cosine or euclidean")
    bad = sum(
        int((~np.isfinite(embedding[start : start + QUERIES]).all(axis=1)).sum())
        for start in range(0, len(embedding), QUERIES)
    )
    if bad:
        raise BadInput(f"{bad} of {len(embedding)} vectors hold NaN or infinity; embed these samples again")
    return makers[metric](embedding)


def _others(
    vectors: Vectors,
    rows: np.ndarray,
    queries: np.ndarray,
    k: int,
    threads: int | None,
    report: Report | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return for `queries`, positions in `rows`, their k nearest others as such positions, with the distances."""
    index, near = nearest_rows(vectors, rows[queries], rows, k + 1, threads=threads, report=report)
    return without_itself(index, _distance(vectors, near), queries)


def without_itself(
    index: np.ndarray, values: np.ndarray, itself: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return found neighbours (Q, k + 1) and their values without the sample that was asked for, (Q, k)."""
    own = index == itself[:, None]
    # A sample with many exact copies may not be among its own nearest; then the last of these goes instead.
    own[~own.any(axis=1), -1:] = True
    shape = len(index), max(index.shape[1] - 1, 0)
    return index[~own].reshape(shape), values[~own].reshape(shape)


def _ranked(
    vectors: Vectors, queries: np.ndarray, candidates: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    index, near = ranked_rows(vectors, queries, candidates, k)
    return index, _distance(vectors, near)


def _distance(vectors: Vectors, near: np.ndarray) -> np.ndarray:
    return (1.0 - near).round(6) if vectors.metric == "cosine" else near


def _proposed(
    vectors: Vectors, k: int, seed: int, threads: int | None, least_recall: float
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Return neighbours from an inverted file, measured and ordered exactly; who got too few is searched exactly.

    With them, how many lists there are and how many of these each query looked through.
    """
    size = len(vectors.rows)
    index, distance = np.empty((size, k), np.int64), np.empty((size, k))
    drawn = _drawn(size, MEASURED, seed)
    _, farthest = _others(vectors, np.arange(size), drawn, k, threads)
    with _settled_faiss() as faiss:
        lists, number = _inverted_file(faiss, vectors, seed)

        def found(these: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            _, candidates = lists.search(vectors.rough(these).rows, k + 1)
            candidates[candidates == these[:, None]] = -1
            return _ranked(vectors, these, candidates, k)

        def search(start: int) -> None:
            these = np.arange(start, min(start + QUERIES, size))
            index[these], distance[these] = found(these)

        on_gpu = faiss.get_num_gpus() > 0
        settings = faiss.GpuParameterSpace() if on_gpu else faiss.ParameterSpace()
        most = min(number, MOST_ON_GPU) if on_gpu else number
        probed = min(PROBED, most)
        while True:
            settings.set_index_parameter(lists, "nprobe", probed)
            near = np.concatenate(
                [found(part)[1] for part in np.array_split(drawn, -(-len(drawn) // QUERIES))]
            )
            if (near <= farthest[:, -1:]).mean() >= least_recall:
                break
            if not on_gpu and 2 * probed * WORTH > number:
                everyone = np.arange(size)
                return *_others(vectors, everyone, everyone, k, threads), number, number
            if probed == most:
                break
            probed = min(2 * probed, most)

        # One search at a time on a GPU, whose index is not for several threads.
        workers = 1 if on_gpu else threads or os.cpu_count()
        with ThreadPoolExecutor(workers, initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(search, range(0, size, QUERIES)):
                pass
    lacking = np.flatnonzero(index[:, -1] < 0)
    if lacking.size:
        index[lacking], distance[lacking] = _others(vectors, np.arange(size), lacking, k, threads)
    return index, distance, number, probed


def _inverted_file(faiss: Any, vectors: Vectors, seed: int) -> tuple[Any, int]:
    """Return a filled inverted file over all rows, on the GPUs where faiss has some, and how many lists it has."""
    size, width = vectors.rows.shape
    kind = faiss.METRIC_INNER_PRODUCT if vectors.metric == "cosine" else faiss.METRIC_L2
    number = max(1, min(int(LISTS * size**0.5), size // 39))  # faiss asks for 39 points a list
    lists = faiss.index_factory(width, f"IVF{number},Flat", kind)
    lists.cp.seed = seed + 1
    if faiss.get_num_gpus():
        lists = faiss.index_cpu_to_all_gpus(lists)
    drawn = np.sort(np.random.default_rng(seed).permutation(size)[: 64 * number])
    lists.train(vectors.rough(drawn).rows)
    for start in range(0, size, QUERIES):
        lists.add(vectors.rough(np.arange(start, min(start + QUERIES, size))).rows)
    return lists, number


@contextmanager
def _settled_faiss() -> Iterator[Any]:
    """Yield faiss with one thread, given back afterwards: a child forked after its own threads have run hangs."""
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise BadInput(
            "faiss is not installed; install tracesift[cpu] (or tracesift[gpu]) for an approximate search, or ask "
            "for an exact one"
        ) from error
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(threads)
