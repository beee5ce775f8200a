"""Geometric-median matching: herding towards a centre that corrupted samples cannot drag away.

The geometric median minimises the sum of distances to all samples; it stays next to the clean ones as long as they
are more than half. It is found by Weiszfeld's iteration, mu <- sum of x / |x - mu| over sum of 1 / |x - mu|, with the
step of Vardi and Zhang where mu falls on samples. Picking then goes as in `herding`.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from tracesift.catalog.nearest_rows import Metric
from tracesift.catalog.schema import BadInput
from tracesift.selectors.budget import Quota
from tracesift.selectors.contract import selector
from tracesift.selectors.geometry.distances import (
    Laid,
    laid_out,
    mean_point,
    space,
    squared_distances,
)
from tracesift.selectors.geometry.matching import match
from tracesift.selectors.geometry.picking import Picks, pick_by_class

TOLERANCE = 1e-7
"""A step shorter than this share of the mean distance ends the iteration."""
STEPS = 10_000
"""Far more than any class has needed: most end within a hundred."""


@selector(
    version=1,
    reference="Acharyya et al. 2024, Geometric median (GM) matching; Vardi and Zhang 2000 for the median",
)
def gm_matching(
    frame: pl.DataFrame,
    embedding: np.ndarray,
    *,
    size: int,
    metric: Metric = "euclidean",
    per_class: bool = True,
    quota: Quota = "proportional",
) -> pl.DataFrame:
    """Pick samples one by one so that the mean of the picks stays nearest to the geometric median of their class.

    Parameters
    ----------
    embedding : ndarray (N, D)
        Features of an evaluation without augmentation; rows of zeros and copies may occur.
    metric : {"euclidean", "cosine"}
        Features as they are, or scaled to length 1.
    per_class : bool
        Match the median of each class, by quotas; otherwise that of all samples.
    quota : {"proportional", "equal"}
        How the budget is divided among classes.

    Raises
    ------
    BadInput
        For an unknown `metric`.

    See Also
    --------
    herding : The same towards the mean, which a few far samples move.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcde"), "label": ["x"] * 5})
    >>> result = gm_matching(frame, np.array([[0.0], [1.0], [2.0], [90.0], [1.5]]), size=1)
    >>> result["role"].to_list()
    ['drop', 'drop', 'drop', 'drop', 'keep']
    """
    where = space(embedding, metric, "gm_matching")

    def pick(rows: np.ndarray, count: int, of: str) -> Picks:
        laid = laid_out(where, rows)
        return match(where, laid, rows, geometric_median(laid), count, "the geometric median")

    return pick_by_class(frame, size, pick, per_class=per_class, quota=quota)


def geometric_median(laid: Laid) -> np.ndarray:
    """Return the point (D,) with the least sum of distances to the samples laid out.

    Raises
    ------
    BadInput
        The iteration does not come to rest.

    Examples
    --------
    >>> corners = space(np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]]), "euclidean", "gm_matching")
    >>> geometric_median(laid_out(corners, np.arange(4))).tolist()
    [1.0, 1.0]
    """
    median = mean_point(laid)
    for _ in range(STEPS):
        distance = np.sqrt(squared_distances(laid, median))
        apart = distance > 0
        if not apart.any():
            return median
        weights = np.where(apart, 1.0, 0.0) / np.where(apart, distance, 1.0)
        step = mean_point(laid, weights) - median
        # samples under the median hold it with a force of one each; the others pull with that of their unit vectors
        pull = _length(step) * _in_turn(weights)
        held = min(1.0, int((~apart).sum()) / pull) if pull > 0 else 1.0
        median = median + (1 - held) * step
        if (1 - held) * _length(step) <= TOLERANCE * _in_turn(distance) / distance.size:
            return median
    raise BadInput(
        f"gm_matching: the geometric median of {distance.size} samples does not come to rest in {STEPS} steps; "
        "scale the features, or use herding"
    )


def _length(vector: np.ndarray) -> float:
    return float(np.sqrt(_in_turn(vector * vector)))


def _in_turn(values: np.ndarray) -> float:
    """Return the sum in the order of the values, which is the same everywhere."""
    return float(np.cumsum(values)[-1])
