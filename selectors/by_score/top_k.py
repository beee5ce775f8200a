"""Keep the samples with the highest value of one score, as a whole or by class."""

from __future__ import annotations

import polars as pl

from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import Nulls, keep_by_rank, score_column


@selector(version=1, columns=("score",), reference="rank of one score; per class by largest remainder")
def top_k(
    frame: pl.DataFrame, *, size: int, score: str | None = None, per_class: bool = False, nulls: Nulls = None
) -> pl.DataFrame:
    """Keep the `size` samples with the highest `score`, ties by ascending `sample_id`.

    Parameters
    ----------
    score : str, optional
        Column to rank by; may be left out where the frame has exactly one.
    per_class : bool
        Divide the budget among classes in proportion to their sizes and rank within each; no class is emptied
        while the budget has one sample for each.
    nulls : {"keep", "drop"}, optional
        What happens to samples without a value; without it they are an error.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": list("xxy"), "el2n": [0.9, 0.9, 0.1]})
    >>> top_k(frame, size=1)["role"].to_list()
    ['keep', 'drop', 'drop']
    """
    column = score_column(frame, score, "top_k")
    return keep_by_rank(
        frame, column, size, highest_first=True, selector="top_k", per_class=per_class, nulls=nulls
    )
