"""CAL: keep the samples that are predicted unlike their neighbours.

DeepCore's code sorts the divergences upwards and keeps the lowest; the paper acquires the highest. `side` offers both.
"""

from __future__ import annotations

from typing import Literal

import polars as pl

from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import Nulls, keep_by_rank, score_column


@selector(
    version=1,
    columns=("score",),
    reference="Margatina et al. 2021 (CAL), algorithm 1; side='lowest' as in DeepCore's code (Guo et al. 2022)",
)
def cal(
    frame: pl.DataFrame,
    *,
    size: int,
    score: str = "cal",
    side: Literal["highest", "lowest"] = "highest",
    per_class: bool = False,
    nulls: Nulls = None,
) -> pl.DataFrame:
    """Keep the `size` samples with the highest divergence from their neighbours, or the lowest.

    Parameters
    ----------
    score : str
        Column of divergences; `tracesift score cal` makes it.
    side : {"highest", "lowest"}
        The paper's side, or that of DeepCore's code: tables under its name show the lowest.
    per_class : bool
        Divide the budget among classes in proportion to their sizes and rank within each; score with
        ``per_class=true`` as well, for neighbours within the class.
    nulls : {"keep", "drop"}, optional
        Samples without a value: kept as part of the budget, or left out; without it an error.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": list("xxy"), "cal": [0.1, 2.5, 0.3]})
    >>> cal(frame, size=1)["role"].to_list(), cal(frame, size=1, side="lowest")["role"].to_list()
    (['drop', 'keep', 'drop'], ['keep', 'drop', 'drop'])
    """
    return keep_by_rank(
        frame, score_column(frame, score, "cal"), size, highest_first=side == "highest", selector="cal",
        per_class=per_class, nulls=nulls,
    )  # fmt: skip
