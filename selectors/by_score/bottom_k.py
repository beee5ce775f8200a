"""Keep the samples with the lowest value of one score, as a whole or by class."""

from __future__ import annotations

import polars as pl

from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import Nulls, keep_by_rank, score_column


@selector(version=1, columns=("score",), reference="rank of one score; per class by largest remainder")
def bottom_k(
    frame: pl.DataFrame, *, size: int, score: str | None = None, per_class: bool = False, nulls: Nulls = None
) -> pl.DataFrame:
    """Keep the `size` samples with the lowest `score`, ties by ascending `sample_id`.

    Parameters
    ----------
    score, per_class, nulls
        As in `top_k`.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": list("xxy"), "mean_loss": [0.9, 0.9, 0.1]})
    >>> bottom_k(frame, size=2)["role"].to_list()
    ['keep', 'drop', 'keep']
    """
    column = score_column(frame, score, "bottom_k")
    return keep_by_rank(
        frame, column, size, highest_first=False, selector="bottom_k", per_class=per_class, nulls=nulls
    )
