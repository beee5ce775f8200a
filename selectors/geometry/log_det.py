"""Log-determinant: picks that span the largest volume in the space of similarities.

The paper's symbols: f(A) = log det S_A. Adding x changes it by log(s_xx - s^T S_A^-1 s), s being the similarities of x
to A: the part of x that A does not explain. A Cholesky factor grows by one row per pick, and what is left of every
sample falls by the square of its entry.

Where we differ from the reference implementation: its gain is s^T S_A^-1 s, the part that A does explain, so that it
seeks what is redundant.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from tracesift.catalog.compiled import loop
from tracesift.catalog.nearest_rows import Metric
from tracesift.catalog.schema import BadInput
from tracesift.selectors.budget import Quota
from tracesift.selectors.contract import selector
from tracesift.selectors.geometry.distances import space
from tracesift.selectors.geometry.picking import Picks, pick_by_class
from tracesift.selectors.geometry.similarity import Similarity

EXPLAINED = 1e-10
"""What is left of a sample that the picks explain up to rounding: its gain is minus infinity."""


@selector(
    version=1,
    reference="Iyer et al. 2021 (submodular information measures); Chen, Zhang and Zhou 2018 for the greedy steps",
)
def log_det(
    frame: pl.DataFrame,
    embedding: np.ndarray,
    *,
    size: int,
    metric: Metric = "cosine",
    ridge: float = 1e-3,
    per_class: bool = True,
    quota: Quota = "proportional",
) -> pl.DataFrame:
    """Pick, again and again, the sample whose similarity to the others is explained least by the picks.

    Parameters
    ----------
    embedding : ndarray (N, D)
        Features of an evaluation without augmentation, or gradients of the last layer; rows of zeros and copies
        may occur.
    metric : {"cosine", "euclidean"}
        The similarity: (1 + cos) / 2, or exp(-d^2 / mean d^2).
    ridge : float
        Added to the diagonal of S, 0 or more. Cosines of D features span D + 1 dimensions at most, and copies none
        of their own; without a ridge there is nothing to choose by beyond.
    per_class : bool
        Run within each class, by quotas.
    quota : {"proportional", "equal"}
        How the budget is divided among classes.

    Raises
    ------
    BadInput
        For an unknown `metric` or a `ridge` below 0; or, without a ridge, a budget above the rank of the similarities.

    Notes
    -----
    n picks of a class of N samples take n passes over the embedding and n^2 N / 2 steps, and n N numbers of memory.
    Ties go to the smaller `sample_id`; so the first pick is the first sample, all having the same gain.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": ["x"] * 3})
    >>> log_det(frame, np.array([[1.0, 0.0], [1.0, 0.1], [-1.0, 1.0]]), size=2)["role"].to_list()
    ['keep', 'drop', 'keep']
    """
    if not 0 <= ridge < math.inf:
        raise BadInput(f"log_det: ridge must be a number, 0 or more, not {ridge!r}")
    where = space(embedding, metric, "log_det")

    def pick(rows: np.ndarray, count: int, of: str) -> Picks:
        similarity = Similarity(where, rows, metric)
        unexplained = np.full(rows.size, 1.0 + ridge)
        factor = np.empty((count, rows.size))
        free = np.ones(rows.size, dtype=bool)
        picked, told = [], []
        for number in range(count):
            place = int(np.where(free, unexplained, -np.inf).argmax())
            rest = unexplained[place]
            if rest <= EXPLAINED:
                raise BadInput(
                    f"log_det: {number} picks{of} explain all others, so none of the {count} asked for remains to "
                    "choose by; ask for fewer, or pass a ridge such as ridge=0.001"
                )
            free[place] = False
            picked.append(place)
            told.append(
                f"gain {math.log(rest):.6g}: {rest:.6g} of it is not explained by the picks before it"
            )
            factor[number] = similarity.to_all(place)
            _next_row(factor, number, place, math.sqrt(rest), unexplained)

        def left_told(left: np.ndarray) -> list[str]:
            rests = unexplained[np.searchsorted(rows, left)]
            return [f"{rest:.6g} of it is not explained by the picks" for rest in rests]

        return Picks(rows[picked], told, left_told)

    return pick_by_class(frame, size, pick, per_class=per_class, quota=quota)


@loop
def _next_row(factor: np.ndarray, number: int, place: int, root: float, unexplained: np.ndarray) -> None:
    """Turn row `number` of the factor from similarities to the new pick into its row of the Cholesky factor."""
    for start in range(0, factor.shape[1], 512):  # a block stays in the nearest cache
        stop = min(start + 512, factor.shape[1])
        for earlier in range(number):
            with_pick = factor[earlier, place]
            for sample in range(start, stop):
                factor[number, sample] -= with_pick * factor[earlier, sample]
        for sample in range(start, stop):
            factor[number, sample] /= root
            unexplained[sample] -= factor[number, sample] * factor[number, sample]
