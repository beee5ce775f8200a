"""SemDeDup: of samples that mean the same, keep the first.

Items of a cluster are put in an order, and each is compared with the earlier ones. As published, those that are removed
themselves count as well, so that a chain a-b-c of small steps loses b and c although c may be far from a;
``compare="kept"`` leaves that out and keeps c.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from tracesift.catalog.earlier_twins import EarlierTwins, earlier_twins
from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import outcome


@selector(
    version=1,
    budget=False,
    random=True,
    reference="Abbas, Tirumala, Simig, Ganguli and Morcos 2023 (SemDeDup), section 3",
)
def semdedup(
    frame: pl.DataFrame,
    embedding: np.ndarray,
    *,
    seed: int,
    eps: float = 0.02,
    clusters: int | None = None,
    order: Literal["hard", "easy", "random"] = "hard",
    compare: Literal["earlier", "kept"] = "earlier",
) -> pl.DataFrame:
    """Drop every sample that resembles an earlier one of its cluster, by a cosine above 1 - `eps`.

    Parameters
    ----------
    embedding : ndarray (N, D)
        Of a general-purpose encoder, rows as in `frame`; a row of zeros resembles nobody and is kept.
    eps : float
        How far from 1 a duplicate's cosine may be, in (0, 1). What is right depends on the embedding: the command
        says how many duplicates there are for several.
    clusters : int, optional
        Clusters of k-means; by default one for every thousand samples. Duplicates in different clusters are
        missed; 1 compares all with all, in N^2 steps.
    order : {"hard", "easy", "random"}
        Which items of a cluster are early, and so kept: the farthest from its centroid (the paper's), the nearest,
        or as drawn.
    compare : {"earlier", "kept"}
        Whether an item is compared with all earlier ones, as published, or with those that are kept alone.

    Raises
    ------
    BadInput
        For an eps outside (0, 1), or fewer than one cluster.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": list("xxy")})
    >>> result = semdedup(frame, np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.02]]), seed=0)
    >>> result["role"].to_list(), result["reason"][2]
    (['keep', 'keep', 'drop'], "cosine 0.99995 with 'a', which comes before it in cluster 1: above 0.98 (eps=0.02)")
    """
    if not 0 < eps < 1:
        raise BadInput(f"semdedup: eps is in (0, 1), a duplicate's cosine is above 1 - eps; got {eps!r}")
    limit = limit_of(eps)
    found = earlier_twins(
        embedding, number=clusters, order=order, seed=seed, limit=limit, kept_only=compare == "kept"
    )
    return outcome(frame, ~found.removed, pl.Series(_reasons(frame, found, eps, limit), dtype=pl.String))


def limit_of(eps: float) -> float:
    """Return the cosine above which samples are duplicates, 1 - eps, as it is written in decimals.

    Examples
    --------
    >>> limit_of(0.07), 1 - 0.07
    (0.93, 0.9299999999999999)
    """
    return round(1 - eps, 12)


def _reasons(frame: pl.DataFrame, found: EarlierTwins, eps: float, limit: float) -> list[str]:
    ids = frame["sample_id"].to_list()
    reasons = []
    for cosine, twin, cluster, removed in zip(
        found.cosine.tolist(),
        found.twin.tolist(),
        found.cluster.tolist(),
        found.removed.tolist(),
        strict=True,
    ):
        if cluster < 0:
            reasons.append("no vector to compare, so it duplicates nothing")
        elif twin < 0:
            reasons.append(f"nothing alike comes before it in cluster {cluster + 1}")
        else:
            at = f"cosine {cosine:g} with '{ids[twin]}', which comes before it in cluster {cluster + 1}"
            chained = " and is dropped itself" if found.removed[twin] else ""
            reasons.append(f"{at}{chained}: {'above' if removed else 'not above'} {limit:g} (eps={eps:g})")
    return reasons
