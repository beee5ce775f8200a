"""Exact nearest neighbours by cosine: faiss finds candidates, float64 decides.

One thread and blocks of queries: after a multi-threaded search a forked child hangs, and N x N never fits.
faiss multiplies matrices only above a size of its own choosing and is twenty times slower below; we ask it to
always do so.
faiss works in float32, whose last bits depend on the machine; candidates are therefore measured again in
float64 and rounded, and ties go to the smaller index, so the answer is the same everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracesift.catalog.schema import BadInput

BLOCK = 1024
SPARE = 16
"""Candidates beyond the k asked for, so that a tie in float32 is decided in float64."""
DIGITS = 6


def unit_rows(embedding: np.ndarray) -> np.ndarray:
    """Return the rows scaled to length 1, as float64; a zero row stays zero and is near nobody."""
    rows = np.asarray(embedding, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)


def nearest_rows(queries: np.ndarray, base: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest rows of `base` for every row of `queries`, and their cosines.

    Parameters
    ----------
    queries : ndarray (Q, D)
        Unit rows, see `unit_rows`.
    base : ndarray (B, D)
        Unit rows.
    k : int
        At most B are returned.

    Returns
    -------
    tuple of ndarray (Q, min(k, B))
        Indices into `base`, nearest first, ties by index; cosines rounded to 6 digits.
    """
    found = min(k, base.shape[0])
    if found == 0 or queries.shape[0] == 0:
        return np.zeros((queries.shape[0], found), np.int64), np.zeros((queries.shape[0], found))
    faiss = _faiss()
    index = faiss.IndexFlatIP(base.shape[1])
    threads, smallest = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
    faiss.omp_set_num_threads(1)
    faiss.cvar.distance_compute_blas_threshold = 1
    try:
        index.add(np.ascontiguousarray(base, dtype=np.float32))
        parts = []
        for start in range(0, queries.shape[0], BLOCK):
            block = queries[start : start + BLOCK]
            _, candidates = index.search(
                np.ascontiguousarray(block, dtype=np.float32), min(found + SPARE, base.shape[0])
            )
            parts.append(_decided(block, base, candidates, found))
    finally:
        faiss.omp_set_num_threads(threads)
        faiss.cvar.distance_compute_blas_threshold = smallest
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _decided(
    block: np.ndarray, base: np.ndarray, candidates: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    cosines = np.einsum("qd,qcd->qc", block, base[candidates]).round(DIGITS)
    order = np.lexsort((candidates, -cosines), axis=1)[:, :k]
    return np.take_along_axis(candidates, order, axis=1), np.take_along_axis(cosines, order, axis=1)


def _faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise BadInput(
            "faiss is not installed; install tracesift[cpu] (or tracesift[gpu]) for neighbour search"
        ) from error
    return faiss
