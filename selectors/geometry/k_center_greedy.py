"""Greedy k-center: always the sample that is farthest from everything picked so far.

The paper's symbols: s is the set picked, Delta(x, s) the distance of x to its nearest member, and the radius is the
largest Delta over all samples. The greedy radius is at most twice the least that any set of that size has.

Where we differ from the reference implementation: it keeps the distances of every pick to every sample; here only
the least per sample is kept, and samples that a pick cannot be nearer to are passed over.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from tracesift.catalog.nearest_rows import Metric
from tracesift.selectors.budget import Quota
from tracesift.selectors.contract import selector
from tracesift.selectors.geometry.distances import (
    Space,
    laid_out,
    mean_point,
    space,
    squared_distances,
)
from tracesift.selectors.geometry.nearest_pick import NearestPick
from tracesift.selectors.geometry.picking import Picks, pick_by_class
from tracesift.selectors.ranking import seeded_keys

First = Literal["random", "central"]


@selector(
    version=1,
    random=True,
    reference="Sener and Savarese 2018 (core-set), algorithm 1; Gonzalez 1985 for the guarantee",
)
def k_center_greedy(
    frame: pl.DataFrame,
    embedding: np.ndarray,
    *,
    size: int,
    seed: int,
    metric: Metric = "euclidean",
    first: First = "random",
    per_class: bool = False,
    quota: Quota = "proportional",
) -> pl.DataFrame:
    """Pick the sample farthest from its nearest pick, again and again, so that no sample is far from a pick.

    Parameters
    ----------
    embedding : ndarray (N, D)
        Features of an evaluation without augmentation; rows of zeros and copies may occur.
    metric : {"euclidean", "cosine"}
        Features as they are, or scaled to length 1 (the distance is then sqrt(2 - 2 cos)).
    first : {"random", "central"}
        The first pick: drawn by the seed, as in the paper, or the sample nearest to the mean, which leaves
        nothing to chance.
    per_class : bool
        Run within each class, by quotas; the paper's method knows no classes.
    quota : {"proportional", "equal"}
        How the budget is divided among classes.

    Raises
    ------
    BadInput
        For an unknown `metric` or `first`.

    Notes
    -----
    Distances are summed in float64 in the order of the features; equal ones go to the smaller `sample_id`. A step
    costs one pass over the embedding at most. Copies of picks, at distance 0, are picked last.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcd"), "label": ["x"] * 4})
    >>> line = np.array([[0.0], [1.0], [2.0], [9.0]])
    >>> result = k_center_greedy(frame, line, size=2, seed=0, first="central")
    >>> result["reason"][2], result["reason"][3]
    ('picked 1st of 2, the sample nearest to the mean', 'picked 2nd of 2, 7 from the nearest picked before it')
    """
    where = space(embedding, metric, "k_center_greedy")
    keys = seeded_keys(frame, seed, "k_center_greedy") if first == "random" else None

    def pick(rows: np.ndarray, count: int, of: str) -> Picks:
        start = central(where, rows) if keys is None else int(rows[keys[rows].argmin()])
        told = [f"drawn by seed {seed}" if keys is not None else f"the sample nearest to the mean{of}"]
        nearest = NearestPick(where, rows, count)
        picked = [start]
        nearest.add(start)
        while len(picked) < count:
            row, squared = nearest.farthest
            told.append(f"{np.sqrt(squared):.4g} from the nearest picked before it")
            picked.append(row)
            nearest.add(row)
        distance = np.zeros(frame.height)
        distance[rows] = np.sqrt(nearest.squared())
        radius = distance[rows].max()

        def left_told(left: np.ndarray) -> list[str]:
            return [
                f"{far:.4g} from the nearest pick{of}; none is farther than {radius:.4g}"
                for far in distance[left]
            ]

        return Picks(np.array(picked), told, left_told)

    return pick_by_class(frame, size, pick, per_class=per_class, quota=quota)


def central(where: Space, rows: np.ndarray) -> int:
    """Return the row, of `rows`, that is nearest to their mean: the medoid by squared distance; ties to the first."""
    laid = laid_out(where, rows)
    return int(rows[squared_distances(laid, mean_point(laid)).argmin()])
