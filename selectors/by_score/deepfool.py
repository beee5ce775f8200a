"""DeepFool: keep the samples nearest to the model's decision boundary."""

from __future__ import annotations

import polars as pl

from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import Nulls, keep_by_rank, score_column


@selector(
    version=1,
    columns=("score",),
    reference="Ducoffe and Precioso 2018, section 3; Guo et al. 2022 (DeepCore), section 3.2",
)
def deepfool(
    frame: pl.DataFrame, *, size: int, score: str = "deepfool", per_class: bool = False, nulls: Nulls = None
) -> pl.DataFrame:
    """Keep the `size` samples with the smallest distance to the decision boundary.

    Parameters
    ----------
    score : str
        Column of squared distances; `tracesift record --job deepfool` and `tracesift score` make it.
    per_class : bool
        Divide the budget among classes in proportion to their sizes and rank within each.
    nulls : {"keep", "drop"}, optional
        Samples without a value: kept as part of the budget, or left out; without it an error.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": list("xxy"), "deepfool": [4.0, 0.25, 1.0]})
    >>> deepfool(frame, size=2)["role"].to_list()
    ['drop', 'keep', 'keep']
    """
    return keep_by_rank(
        frame, score_column(frame, score, "deepfool"), size, highest_first=False, selector="deepfool",
        per_class=per_class, nulls=nulls,
    )  # fmt: skip
