"""Forget sets of one half of the samples, where the loss is flat around them or where it is sharp."""

from __future__ import annotations

from typing import Literal

import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import selector
from tracesift.selectors.forget_sets.by_rank import Nulls, forget_by_rank, scored


@selector(
    version=1,
    columns=("score",),
    chooses="forget",
    experimental=True,
    reference="Kwon et al. 2026 (CUPID), AAAI: the split by sharpness; at the median, names and sizes ours",
)
def sharpness_partition(
    frame: pl.DataFrame,
    *,
    size: int,
    part: Literal["flat", "sharp"] = "flat",
    score: str = "sharpness",
    nulls: Nulls = None,
) -> pl.DataFrame:
    """Forget the `size` flattest samples of the flat half, or the sharpest of the sharp half; retain the others.

    Parameters
    ----------
    part : {"flat", "sharp"}
        Side of the median. The middle one of an odd number of samples is flat.
    score : str
        Column of per-sample sharpness.
    nulls : {"retain"}, optional
        Samples without a value are never chosen; without it they are an error.

    Raises
    ------
    BadInput
        More samples than the half has.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcd"), "label": ["x"] * 4, "sharpness": [0.1, 0.9, 0.2, 0.4]})
    >>> sharpness_partition(frame, size=2, part="sharp")["role"].to_list()
    ['retain', 'forget', 'retain', 'forget']
    """
    _, _, known = scored(frame, score, size, "sharpness_partition", nulls)
    half = (known + 1) // 2 if part == "flat" else known // 2
    if size > half:
        raise BadInput(
            f"sharpness_partition: {size} samples to forget, and the {part} half has {half}; lower the budget"
        )
    return forget_by_rank(
        frame, score, size, highest_first=part == "sharp", selector="sharpness_partition", nulls=nulls
    )
