"""The most similar earlier item of the own cluster: what near-duplicates are told by.

Comparing only within clusters is what makes it possible for millions of samples; a pair that a border divides is
missed. One cluster compares all with all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tracesift.catalog.clusters import clusters, content_order, cosines, directions, lengths
from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput

Order = Literal["hard", "easy", "random"]

EACH = 1000
"""Samples of a cluster by default, about."""
BLOCK = 1024
"""Items that are compared with all earlier ones of their cluster at a time."""


@dataclass(frozen=True)
class EarlierTwins:
    """For every row the earlier row of its cluster that it resembles most."""

    cosine: np.ndarray
    """(N,) float64 in [0, 1], rounded to 6 digits; 0 where no earlier item is alike at all, as for the first of a
    cluster; NaN for a row that has no direction."""
    twin: np.ndarray
    """(N,) int64, the earlier row; -1 where the cosine is 0 or NaN."""
    cluster: np.ndarray
    """(N,) int64; -1 for a row that has no direction."""
    removed: np.ndarray
    """(N,) bool: the cosine is above the limit that was given; nowhere without one."""


def earlier_twins(
    embedding: np.ndarray,
    *,
    number: int | None = None,
    order: Order = "hard",
    seed: int = 0,
    limit: float | None = None,
    kept_only: bool = False,
) -> EarlierTwins:
    """Compare every item with the earlier items of its cluster.

    Parameters
    ----------
    embedding : ndarray (N, D)
        A row that is all zero or not finite has no direction and is compared with nobody.
    number : int, optional
        Clusters; by default one for every thousand samples.
    order : {"hard", "easy", "random"}
        Which items of a cluster are early: the farthest from its centroid, the nearest, or by a hash of their
        content and the seed. Ties by row.
    seed : int
        Of the clusters and of the random order.
    limit : float, optional
        An item whose cosine is above it counts as removed.
    kept_only : bool
        Compare with those earlier items alone that are not removed, which needs a limit. Otherwise an item
        counts as a twin also of one that is itself removed, as in the published code.

    Raises
    ------
    BadInput
        For another order, fewer than one cluster, or `kept_only` without a limit.

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.02]])
    >>> earlier_twins(x, number=1).cosine.tolist()  # row 1 is the farthest from the centroid and comes first
    [0.0, 0.0, 0.99995]
    """
    if order not in ("hard", "easy", "random"):
        raise BadInput(f"the order within a cluster is 'hard', 'easy' or 'random', not {order!r}")
    if kept_only and limit is None:
        raise BadInput("comparing with kept items alone needs a limit above which an item is removed")
    samples = len(embedding)
    number = max(1, round(samples / EACH)) if number is None else number
    found = clusters(embedding, number, seed=seed)
    ranks = _ranks(found.cosine, order, content_order(embedding, seed) if order == "random" else None)
    there = np.flatnonzero(found.label >= 0)
    places = there[np.lexsort((there, ranks[there], found.label[there]))]
    cosine, twin = np.full(samples, np.nan), np.full(samples, -1)
    removed = np.zeros(samples, dtype=bool)
    length = lengths(embedding)
    for members in np.split(places, np.flatnonzero(np.diff(found.label[places])) + 1):
        rows = directions(embedding, members, length)
        best, who, gone = np.zeros(len(rows)), np.full(len(rows), -1), np.zeros(len(rows), dtype=bool)
        for start in range(0, len(rows), BLOCK):
            part = rows[start : start + BLOCK]
            similar = cosines(part, rows[: start + len(part)])
            _scan(similar, start, np.inf if limit is None else limit, kept_only, best, who, gone)
        cosine[members], removed[members] = best, gone
        twin[members] = np.where(who >= 0, members[who], -1)
    return EarlierTwins(cosine, twin, found.label, removed)


def _ranks(cosine: np.ndarray, order: Order, drawn: np.ndarray | None) -> np.ndarray:
    """Return what a cluster's items are sorted by, ascending."""
    if drawn is not None:
        ranks = np.zeros(len(cosine))
        ranks[drawn] = np.arange(len(drawn))
        return ranks
    return cosine if order == "hard" else -cosine


@loop
def _scan(
    similar: np.ndarray,
    start: int,
    limit: float,
    kept_only: bool,  # noqa: FBT001
    best: np.ndarray,
    who: np.ndarray,
    removed: np.ndarray,
) -> None:
    for j in range(similar.shape[0]):
        i = start + j
        for earlier in range(i):
            if kept_only and removed[earlier]:
                continue
            if similar[j, earlier] > best[i]:
                best[i] = similar[j, earlier]
                who[i] = earlier
        removed[i] = best[i] > limit
