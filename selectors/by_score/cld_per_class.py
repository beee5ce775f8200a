"""Keep, in every class, the samples whose loss moves with the validation loss of their class.

The paper keeps the same number k in each class; here k follows from the budget: equal quotas that add up to
it exactly, and a class with fewer samples gives all it has, the rest being divided equally again. The
reference sorts with an unstable, reversed sort; ours breaks ties by id.
"""

from __future__ import annotations

import polars as pl

from tracesift.selectors.budget import Quota
from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import Nulls, keep_by_rank, score_column


@selector(version=1, columns=("score",), reference="Nagaraj, Ravikumar and Roy 2025 (CLD), section 3")
def cld_per_class(
    frame: pl.DataFrame, *, size: int, score: str = "cld", quota: Quota = "equal", nulls: Nulls = None
) -> pl.DataFrame:
    """Keep the highest `cld` of each class, the same number per class, `size` in all.

    Parameters
    ----------
    score : str
        Column to rank by.
    quota : {"equal", "proportional"}
        The paper's equal numbers, or quotas in proportion to class sizes.
    nulls : {"keep", "drop"}, optional
        CLD is NaN for a class without validation samples; without `nulls` that is an error.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcd"), "label": list("xxyy"), "cld": [0.9, 0.8, 0.1, 0.2]})
    >>> cld_per_class(frame, size=2)["role"].to_list()
    ['keep', 'drop', 'drop', 'keep']
    """
    column = score_column(frame, score, "cld_per_class")
    return keep_by_rank(
        frame, column, size, highest_first=True, selector="cld_per_class",
        per_class=True, quota=quota, nulls=nulls,
    )  # fmt: skip
