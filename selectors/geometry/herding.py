"""Herding: pick samples so that the mean of the picks runs towards the mean of the class.

The paper's symbols: mu is the mean of the features; after i picks the next is the x that minimises
|(i + 1) mu - sum of the picks - x|, each sample at most once. |mean of the picks - mu| falls like 1/n, where that of a
random draw falls like 1/sqrt(n).

Where we differ from a widely used implementation: it takes the largest distance, which picks the outermost samples.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from tracesift.catalog.nearest_rows import Metric
from tracesift.selectors.budget import Quota
from tracesift.selectors.contract import selector
from tracesift.selectors.geometry.distances import laid_out, mean_point, space
from tracesift.selectors.geometry.matching import match
from tracesift.selectors.geometry.picking import Picks, pick_by_class


@selector(
    version=1,
    reference="Welling 2009, Herding dynamical weights to learn; Rebuffi et al. 2017 (iCaRL), algorithm 4",
)
def herding(
    frame: pl.DataFrame,
    embedding: np.ndarray,
    *,
    size: int,
    metric: Metric = "euclidean",
    per_class: bool = True,
    quota: Quota = "proportional",
) -> pl.DataFrame:
    """Pick samples one by one so that the mean of the picks stays nearest to the mean of their class.

    Parameters
    ----------
    embedding : ndarray (N, D)
        Features of an evaluation without augmentation; rows of zeros and copies may occur.
    metric : {"euclidean", "cosine"}
        Features as they are, or scaled to length 1.
    per_class : bool
        Match the mean of each class, by quotas; otherwise the mean of all samples.
    quota : {"proportional", "equal"}
        How the budget is divided among classes.

    Raises
    ------
    BadInput
        For an unknown `metric`.

    Notes
    -----
    One pass over the embedding per pick; sums in float64 in a fixed order, ties to the smaller `sample_id`.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcd"), "label": ["x"] * 4})
    >>> result = herding(frame, np.array([[0.0], [4.0], [5.0], [7.0]]), size=2)
    >>> result["role"].to_list(), result["reason"][1]
    (['drop', 'keep', 'keep', 'drop'], "picked 1st of 2 of label 'x', the mean of the picks is then 0 from the mean")
    """
    where = space(embedding, metric, "herding")

    def pick(rows: np.ndarray, count: int, of: str) -> Picks:
        laid = laid_out(where, rows)
        return match(where, laid, rows, mean_point(laid), count, "the mean")

    return pick_by_class(frame, size, pick, per_class=per_class, quota=quota)
