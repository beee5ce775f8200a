"""Graph cut: picks that are like all samples and unlike each other.

The paper's symbols: f(A) = lambda sum of s_ij over i in V, j in A, minus sum of s_ij over i, j in A. Adding j changes
it by lambda sum of s_ij over V, minus 2 sum of s_ij over A, minus s_jj.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from tracesift.catalog.nearest_rows import Metric
from tracesift.catalog.schema import BadInput
from tracesift.selectors.budget import Quota
from tracesift.selectors.contract import selector
from tracesift.selectors.geometry.distances import space
from tracesift.selectors.geometry.picking import Picks, pick_by_class
from tracesift.selectors.geometry.similarity import Similarity


@selector(
    version=1,
    reference="Iyer and Bilmes 2013; Guo, Zhao and Bai 2022 (DeepCore), section 2.7, for the use as a coreset",
)
def graph_cut(
    frame: pl.DataFrame,
    embedding: np.ndarray,
    *,
    size: int,
    metric: Metric = "cosine",
    lam: float = 1.0,
    per_class: bool = True,
    quota: Quota = "proportional",
) -> pl.DataFrame:
    """Pick samples one by one by how like they are to all samples, less twice how like they are to the picks.

    Parameters
    ----------
    embedding : ndarray (N, D)
        Features of an evaluation without augmentation, or gradients of the last layer; rows of zeros and copies
        may occur.
    metric : {"cosine", "euclidean"}
        The similarity: (1 + cos) / 2, or exp(-d^2 / mean d^2).
    lam : float
        The paper's lambda, above 0. From 2 on f grows with every pick, and greedy picks reach (1 - 1/e) of the most
        possible; below 2, as in the published tables, late picks may lower f, and the budget is filled all the same.
    per_class : bool
        Run within each class, by quotas.
    quota : {"proportional", "equal"}
        How the budget is divided among classes.

    Raises
    ------
    BadInput
        For an unknown `metric`, or a `lam` that is not above 0.

    Notes
    -----
    One pass over the embedding per pick; "euclidean" takes one per sample before the first. Ties go to the smaller
    `sample_id`.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcd"), "label": ["x"] * 4})
    >>> corners = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [0.0, 1.0]])
    >>> graph_cut(frame, corners, size=2, lam=0.5)["role"].to_list()
    ['drop', 'drop', 'keep', 'keep']
    """
    if not 0 < lam < math.inf:
        raise BadInput(f"graph_cut: lam must be a number above 0, not {lam!r}")
    where = space(embedding, metric, "graph_cut")

    def pick(rows: np.ndarray, count: int, of: str) -> Picks:
        similarity = Similarity(where, rows, metric)
        sums, to_picks = similarity.sums(), np.zeros(rows.size)
        free = np.ones(rows.size, dtype=bool)
        picked, told = [], []
        for _ in range(count):
            gains = lam * sums - 2 * to_picks - 1.0
            place = int(np.where(free, gains, -np.inf).argmax())
            free[place] = False
            picked.append(place)
            told.append(
                f"gain {gains[place]:.6g}: {lam:g} x {sums[place]:.6g} to all, less 2 x {to_picks[place]:.6g} to the "
                "picks before it and 1 to itself"
            )
            to_picks += similarity.to_all(place)

        def left_told(left: np.ndarray) -> list[str]:
            places = np.searchsorted(rows, left)
            return [
                f"its gain would be {lam * to_all - 2 * near - 1:.6g}: {lam:g} x {to_all:.6g} to all, less 2 x "
                f"{near:.6g} to the picks and 1 to itself"
                for to_all, near in zip(sums[places], to_picks[places], strict=True)
            ]

        return Picks(rows[picked], told, left_told)

    return pick_by_class(frame, size, pick, per_class=per_class, quota=quota)
