"""Clusters of directions: spherical k-means that gives the same answer everywhere.

Rows are visited in the order of a hash of their numbers and the seed, so that neither their order in the array nor a
generator of random numbers leaves a trace. Cosines come from matrix products, whose last bits depend on the machine;
they are rounded before anything is decided by them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput

ROWS = 8192
"""Rows that are scaled to length 1 at a time."""
STEPS = 100
"""Most rounds of assigning and averaging; few data need more than thirty."""
SETTLED = 10_000
"""They end where a round takes less than one part in so many off the sum of all distances."""
LEARNED, SPREAD = 1000, 50
"""How many rows for each cluster centroids are learned from, and drawn from at first: a sample where there are more."""
DIGITS = 6
"""Of a cosine, after the point."""


@dataclass(frozen=True)
class Clusters:
    """Which of at most k centroids every row is nearest to."""

    label: np.ndarray
    """(N,) int64; -1 for a row that has no direction: it is all zero, not finite, or of no length in float64."""
    cosine: np.ndarray
    """(N,) float64, with the own centroid, rounded to 6 digits; NaN without a direction."""
    centroids: np.ndarray
    """(k, D) float64 of length 1; fewer than asked for where there are fewer different directions."""


def clusters(embedding: np.ndarray, k: int, *, seed: int = 0) -> Clusters:
    """Divide the rows of an embedding into k clusters by cosine.

    Parameters
    ----------
    embedding : ndarray (N, D)
    k : int
        At least 1.
    seed : int
        Of the first centroids, which are drawn far from one another (k-means++).

    Raises
    ------
    BadInput
        For k below 1 or a negative seed.

    References
    ----------
    Dhillon, Modha, Concept decompositions for large sparse text data using clustering, Machine Learning 2001;
    Arthur, Vassilvitskii, k-means++, SODA 2007.

    Examples
    --------
    >>> found = clusters(np.array([[1.0, 0.1], [0.1, 1.0], [2.0, 0.2], [0.0, 0.0]]), 2)
    >>> bool(found.label[0] == found.label[2] != found.label[1]), int(found.label[3])
    (True, -1)
    """
    if k < 1 or seed < 0:
        raise BadInput(f"clusters: at least 1 cluster and a seed from 0 on, got {k} and seed {seed}")
    order, length = content_order(embedding, seed), lengths(embedding)
    order = order[(length[order] > 0) & (length[order] < np.inf)]  # squares of what is tiny or huge are lost
    label = np.full(len(embedding), -1)
    cosine = np.full(len(embedding), np.nan)
    if not order.size:
        return Clusters(label, cosine, np.zeros((0, embedding.shape[1])))
    # ordered by a hash, so the first ones are a sample
    centroids = _spread(directions(embedding, order[: k * SPREAD], length), k, seed)
    learned, before = order[: k * LEARNED], np.iinfo(np.int64).max
    for _ in range(STEPS):
        sums = np.zeros_like(centroids)
        for rows, part in _blocks(embedding, learned, length):
            label[rows], cosine[rows] = _nearest(part, centroids)
            _add(part, label[rows], sums)
        apart = int(_millionths(cosine[learned]).sum())
        if (before - apart) * SETTLED <= before:
            break
        before = apart
        norms = np.sqrt((sums**2).sum(axis=1, keepdims=True))
        # a cluster that lost all its rows, or whose rows cancel, keeps its centroid
        centroids = np.where(norms > 0, sums / np.where(norms > 0, norms, 1.0), centroids)
    for rows, part in _blocks(embedding, order[k * LEARNED :], length):
        label[rows], cosine[rows] = _nearest(part, centroids)
    return Clusters(label, cosine, centroids)


def content_order(embedding: np.ndarray, seed: int) -> np.ndarray:
    """Return the rows that have a direction, in the order of a hash of the seed and their numbers, ties by row."""
    keys, rows = [], []
    salt = seed.to_bytes(8, "little")
    for start in range(0, len(embedding), ROWS):
        part = np.ascontiguousarray(embedding[start : start + ROWS], dtype="<f8") + 0.0  # no negative zeros
        there = np.flatnonzero(np.isfinite(part).all(axis=1) & part.any(axis=1))
        keys += [hashlib.blake2b(part[row].data, digest_size=8, salt=salt).digest() for row in there]
        rows.append(there + start)
    if not keys:
        return np.zeros(0, dtype=np.int64)
    return np.asarray(np.concatenate(rows)[np.argsort(np.frombuffer(b"".join(keys), ">u8"), kind="stable")])


def _spread(rows: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return the first centroids, (at most k, D): each is drawn from the distances to those before.

    Of a few draws the one that leaves the least distance is taken (greedy k-means++).
    """
    chosen = [0]
    apart = _millionths(cosines(rows, rows[:1]))[:, 0]
    tries = 2 + int(math.log(k))
    while len(chosen) < k and apart.any():  # else every direction there is, is a centroid
        total = np.cumsum(apart)
        draws = [
            int.from_bytes(hashlib.blake2b(f"{seed}\0{len(chosen)}\0{one}".encode()).digest()[:16], "little")
            for one in range(tries)
        ]
        drawn = np.searchsorted(total, [draw % int(total[-1]) for draw in draws], side="right")
        left = np.minimum(apart[:, None], _millionths(cosines(rows, rows[drawn])))
        best = int(left.sum(axis=0).argmin())
        chosen.append(int(drawn[best]))
        apart = left[:, best]
    return rows[chosen]


def lengths(embedding: np.ndarray) -> np.ndarray:
    """Return the Euclidean length of every row, float64 (N,)."""
    found = np.empty(len(embedding))
    for start in range(0, len(embedding), ROWS):
        part = np.ascontiguousarray(embedding[start : start + ROWS], dtype=np.float64)
        with np.errstate(over="ignore", under="ignore"):
            found[start : start + ROWS] = np.sqrt((part**2).sum(axis=1))
    return found


def directions(embedding: np.ndarray, rows: Any, length: np.ndarray) -> np.ndarray:
    """Return these rows scaled to length 1, float64 (n, D); each must have a direction, and `length` is of all rows."""
    part = np.ascontiguousarray(embedding[rows]).astype(np.float64)
    part /= length[rows, None]
    return part


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the cosine of every row of `one` with every row of `other`, all of length 1, rounded to 6 digits."""
    return np.asarray((one @ other.T).round(DIGITS).clip(-1.0, 1.0))


def _nearest(part: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    similar = cosines(part, centroids)
    label = similar.argmax(axis=1)
    return label, similar[np.arange(len(part)), label]


def _millionths(cosine: np.ndarray) -> np.ndarray:
    """Return the distances 1 - cosine as whole numbers, so that their sum is exact."""
    return np.asarray(((1 - cosine) * 10**DIGITS).round().astype(np.int64))


def _blocks(
    embedding: np.ndarray, order: np.ndarray, length: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, order.size, ROWS):
        rows = order[start : start + ROWS]
        yield rows, directions(embedding, rows, length)


@loop
def _add(part: np.ndarray, label: np.ndarray, sums: np.ndarray) -> None:
    for i in range(part.shape[0]):
        own = sums[label[i]]
        for d in range(part.shape[1]):
            own[d] += part[i, d]
