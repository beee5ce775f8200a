"""Semantic duplicates: the largest cosine with an earlier item of the same cluster.

For any eps, SemDeDup removes exactly the samples whose value is above 1 - eps, so one column serves them all. An
item is compared with earlier ones that may themselves go: a chain of small steps is removed but for its head. The
selector `semdedup` has the option to compare with kept items alone.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from tracesift.catalog.earlier_twins import earlier_twins
from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="redundant",
    experimental=True,
    reference="Abbas, Tirumala, Simig, Ganguli, Morcos, SemDeDup, 2023 (arXiv 2303.09540)",
)
def dup_similarity(
    embedding: np.ndarray,
    *,
    clusters: int | None = None,
    order: Literal["hard", "easy", "random"] = "hard",
    seed: int = 0,
) -> np.ndarray:
    """Return the largest cosine with an earlier item of the own cluster; high is a copy of something kept.

    Parameters
    ----------
    embedding : array of shape (N, D)
        A general-purpose embedding: to a model trained on the labels, all of a class look alike. A row that is
        all zero or not finite stands for no vector.
    clusters
        Of spherical k-means; one for every thousand samples for None, and 1 compares all with all.
    order
        Which items of a cluster come first and are kept: the farthest from the centroid (the paper's), the nearest,
        or in an order drawn by `seed`.
    seed
        Of the clusters and the drawn order.

    Returns
    -------
    array of shape (N,)
        In [0, 1], rounded to 6 digits; 0 for the first of a cluster, and where nothing earlier is alike at all. NaN
        without a vector.

    Raises
    ------
    BadInput
        For another order, or fewer than one cluster.

    References
    ----------
    Abbas et al. 2023, section 3 and appendix A.

    Examples
    --------
    >>> dup_similarity(np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.02]])).tolist()
    [0.0, 0.0, 0.99995]
    """
    return earlier_twins(embedding, number=clusters, order=order, seed=seed).cosine
