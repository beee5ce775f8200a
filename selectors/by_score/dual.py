"""DUAL: draw by difficulty times uncertainty under a Beta density, or keep the highest score."""

from __future__ import annotations

from typing import Literal

import polars as pl

from tracesift.selectors.by_score.beta_sampling import beta_sampling
from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import Nulls, keep_by_rank, score_column


@selector(
    version=1,
    random=True,
    columns=("score", "mean"),
    reference="Cho, Shin, Kang and Yun 2025 (DUAL), sections 3.2 and 3.3",
)
def dual(
    frame: pl.DataFrame,
    *,
    size: int,
    seed: int,
    sampling: Literal["beta", "top"] = "beta",
    score: str = "dual",
    mean: str = "cartography_confidence",
    c_d: float = 4.0,
    nulls: Nulls = None,
) -> pl.DataFrame:
    """Keep `size` samples by DUAL: drawn by its Beta sampling, or simply the highest scores.

    Parameters
    ----------
    sampling : {"beta", "top"}
        The paper's whole method, as `beta_sampling` draws; or the score alone, which at high pruning rates keeps
        samples too hard to learn from.
    score : str
        Column of importances.
    mean, c_d
        As in `beta_sampling`; not read by ``sampling="top"``.
    nulls : {"keep", "drop"}, optional
        Samples without a value: kept as part of the budget, or left out; without it an error.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": ["x"] * 3, "dual": [0.1, 0.3, 0.2]})
    >>> dual(frame, size=2, seed=0, sampling="top")["role"].to_list()
    ['drop', 'keep', 'keep']
    """
    if sampling == "beta":
        return beta_sampling(frame, size=size, seed=seed, score=score, mean=mean, c_d=c_d, nulls=nulls)
    return keep_by_rank(
        frame, score_column(frame, score, "dual"), size, highest_first=True, selector="dual", nulls=nulls
    )
