"""The Shapley value of each training sample in a game whose prize is a nearest-neighbour classifier's accuracy.

For one validation sample the K nearest vote, and the value has a closed form along the training samples sorted by
their distance to it. Values of several validation samples are averaged, as the Shapley value is additive.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Floats, Integers
from tracesift.scorers.contract import scorer
from tracesift.scorers.geometry.cal import finite_rows
from tracesift.scorers.noise.neighbors.nearest_others import with_vector

TOGETHER = 8
"""Validation samples whose distances are measured at a time, so that the others are read once for all of them."""
MILLIONTHS = 1e6
"""A cosine is compared by whole millionths."""
DECIMALS = 15
"""Decimals that are kept: beyond them the order of the validation samples leaves traces in their sum."""


@scorer(
    mode=None,
    direction="keep",
    experimental=True,
    reference="Jia, Dao, Wang, Hubis, Gurel, Li, Zhang, Spanos, Song, Efficient task-specific data valuation for "
    "nearest neighbor algorithms, VLDB 2019",
)
def knn_shapley(
    embedding: np.ndarray,
    labels: np.ndarray,
    val_embedding: np.ndarray,
    val_labels: np.ndarray,
    *,
    k: int = 5,
    metric: Literal["euclidean", "cosine"] = "euclidean",
) -> np.ndarray:
    """Return the exact Shapley value for a k-nearest-neighbour vote on the validation samples; negative is harmful.

    Parameters
    ----------
    embedding, labels : arrays of shape (N, D) and (N,)
        A row that is not finite, or for the cosine all zero, stands for no vector and does not play.
    val_embedding, val_labels : arrays of shape (M, D) and (M,)
        The samples to be classified; their labels are taken to be right.
    k
        Neighbours that vote.
    metric
        ``"euclidean"`` as in the paper, compared to the 24 binary digits of a float32, or ``"cosine"``, to 6 digits.
        Ties go to the smaller row.

    Returns
    -------
    array of shape (N,)
        Rounded to 15 decimals; together the mean over validation samples of (how many of the k nearest have its
        label) / k. NaN without a vector.

    Raises
    ------
    BadInput
        k below 1, an unknown metric, or no validation sample with a vector.

    Notes
    -----
    With a_1, ..., a_N by ascending distance and m_i = 1 where a_i has the label of the validation sample,
    s(a_N) = m_N min(k, N) / (k N) and s(a_i) = s(a_{i+1}) + (m_i - m_{i+1}) / k min(k, i) / i. The authors' code starts
    with m_N / N, which for N below k is not the Shapley value. Costs N D + N log N for each validation sample, and
    memory for N numbers times those that are worked on at a time.

    References
    ----------
    Jia et al., VLDB 2019, theorem 1 (the recursion, for N of at least k).

    Examples
    --------
    >>> x, near = np.array([[0.0], [1.0], [2.0]]), np.array([[0.0]])
    >>> knn_shapley(x, np.array([0, 1, 0]), near, np.array([0]), k=1).round(3).tolist()
    [0.833, -0.167, 0.333]
    """
    if k < 1:
        raise BadInput(f"knn_shapley: k is a number of neighbours, at least 1, got {k}")
    if metric not in ("euclidean", "cosine"):
        raise BadInput(f"knn_shapley: metric is 'euclidean' or 'cosine', not {metric!r}")
    rows_of = with_vector if metric == "cosine" else finite_rows
    rows, targets = rows_of(embedding), rows_of(val_embedding)
    if not len(targets):
        raise BadInput("knn_shapley: no validation sample has a vector; give a val split and embed it")
    score = np.full(len(labels), np.nan)
    columns = np.ascontiguousarray(embedding[rows].T)
    lengths = _lengths(columns) if metric == "cosine" else np.empty(0)
    places = np.ascontiguousarray(val_embedding[targets])
    total = _total(columns, lengths, labels[rows], places, val_labels[targets], k)
    score[rows] = (total / len(targets)).round(DECIMALS) + 0.0
    return score


def _total(
    columns: np.ndarray,
    lengths: Floats,
    labels: Integers,
    targets: np.ndarray,
    target_labels: Integers,
    k: int,
) -> Floats:
    """Return the sum of the values over all targets, added one after the other in their order."""
    threads = os.cpu_count() or 1

    def values(start: int) -> Floats:
        these = slice(start, start + TOGETHER)
        near = np.empty((len(targets[these]), len(labels)), np.float32)
        _measure(columns, lengths, targets[these], near)
        out = np.empty(near.shape)
        place = np.arange(len(labels), dtype=np.uint64)
        for one, key in enumerate(near):
            # A float that is not negative is ordered like its bits; beside the position every key is another.
            order = np.sort(key.view(np.uint32).astype(np.uint64) << np.uint64(32) | place)
            order &= np.uint64(0xFFFFFFFF)
            _shapley(order.astype(np.int64), labels, target_labels[start + one], k, out[one])
        return out

    total = np.zeros(len(labels))
    step = TOGETHER * threads  # no more is computed ahead of the sum, which has one order
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(targets), step):
            for block in pool.map(values, range(first, min(first + step, len(targets)), TOGETHER)):
                for value in block:
                    total += value
    return total


@loop
def _shapley(order: np.ndarray, labels: np.ndarray, label: int, k: int, out: np.ndarray) -> None:
    """Write the values for one validation sample, given the training samples from near to far."""
    n = order.size
    if n == 0:
        return
    later = 1.0 if labels[order[n - 1]] == label else 0.0
    value = later * min(k, n) / (np.float64(k) * n)
    out[order[n - 1]] = value
    for i in range(n - 1, 0, -1):  # a_i, counted from 1
        match = 1.0 if labels[order[i - 1]] == label else 0.0
        value += (match - later) / k * min(k, i) / i
        out[order[i - 1]] = value
        later = match


@loop
def _lengths(columns: np.ndarray) -> np.ndarray:
    """Return the Euclidean length of each column."""
    total = np.zeros(columns.shape[1])
    for d in range(columns.shape[0]):
        for i in range(columns.shape[1]):
            total[i] += np.float64(columns[d, i]) * np.float64(columns[d, i])
    return np.sqrt(total)


@loop
def _measure(columns: np.ndarray, lengths: np.ndarray, targets: np.ndarray, out: np.ndarray) -> None:
    """Write how far each column is from each target: 1 - cosine in millionths, or a distance without `lengths`."""
    samples, few = columns.shape[1], targets.shape[0]
    cosine = lengths.size > 0
    total, own = np.empty((few, 512)), np.zeros(few)
    for b in range(few):
        for d in range(columns.shape[0]):
            own[b] += np.float64(targets[b, d]) * np.float64(targets[b, d])
    for start in range(0, samples, 512):
        width = min(512, samples - start)
        total[:] = 0.0
        for d in range(columns.shape[0]):
            for b in range(few):
                at = np.float64(targets[b, d])
                if cosine:
                    for i in range(width):
                        total[b, i] += at * np.float64(columns[d, start + i])
                else:
                    for i in range(width):
                        off = np.float64(columns[d, start + i]) - at
                        total[b, i] += off * off
        for b in range(few):
            for i in range(width):
                if cosine:
                    far = np.rint((1.0 - total[b, i] / (math.sqrt(own[b]) * lengths[start + i])) * MILLIONTHS)
                else:
                    far = math.sqrt(total[b, i])
                out[b, start + i] = far if far > 0.0 else 0.0
