"""Uncertainty: keep the samples that a trained model is least confident of.

Where we differ from DeepCore's implementation, each a defect there: least confidence is that of the probabilities and
not of the largest logit; and with or without classes, the same end of the order is kept (there, the branch
without classes sorts the other way and keeps the most confident).
"""

from __future__ import annotations

from typing import Literal

import polars as pl

from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import Nulls, keep_by_rank, score_column

Measure = Literal["least_confidence", "prediction_entropy", "prediction_margin"]


@selector(
    version=1,
    columns=("measure",),
    reference="Guo, Zhao and Bai 2022 (DeepCore), section 3.2; Settles 2009 (least confidence, entropy, margin)",
)
def uncertainty(
    frame: pl.DataFrame,
    *,
    size: int,
    measure: Measure = "least_confidence",
    per_class: bool = False,
    nulls: Nulls = None,
) -> pl.DataFrame:
    """Keep the `size` samples that the model is least confident of.

    Parameters
    ----------
    measure : {"least_confidence", "prediction_entropy", "prediction_margin"}
        Column that says how unsure the model is, high where it is least sure: 1 minus the largest probability, the
        entropy, or 1 minus the gap between the two largest.
    per_class : bool
        Divide the budget among classes in proportion to their sizes and rank within each.
    nulls : {"keep", "drop"}, optional
        Samples without a value: kept as part of the budget, or left out; without it an error.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": list("xxy"), "least_confidence": [0.1, 0.4, 0.3]})
    >>> uncertainty(frame, size=2)["role"].to_list()
    ['drop', 'keep', 'keep']
    """
    column = score_column(frame, measure, "uncertainty")
    return keep_by_rank(
        frame, column, size, highest_first=True, selector="uncertainty", per_class=per_class, nulls=nulls
    )
