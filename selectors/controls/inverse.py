"""The opposite end of a score: the control that shows whether the score's direction means anything."""

from __future__ import annotations

from typing import Any

import polars as pl

from tracesift.catalog.schema import BadInput, nearest
from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import Nulls, keep_by_rank, score_column

INVERTIBLE: dict[str, dict[str, Any]] = {
    "top_k": {"highest_first": False},
    "bottom_k": {"highest_first": True},
    "cld_per_class": {"highest_first": False, "per_class": True, "quota": "equal"},
}


@selector(version=1, columns=("score",), reference="the rank selectors with their direction reversed")
def inverse(
    frame: pl.DataFrame,
    *,
    size: int,
    score: str | None = None,
    of: str = "top_k",
    per_class: bool = False,
    nulls: Nulls = None,
) -> pl.DataFrame:
    """Keep the `size` samples that `of` would drop first.

    Parameters
    ----------
    score : str, optional
        Column to rank by, the one that the inverted selector uses; `cld` for `cld_per_class`.
    of : {"top_k", "bottom_k", "cld_per_class"}
        The selector to invert.
    per_class, nulls
        As in `top_k`.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": list("xxy"), "el2n": [0.1, 0.9, 0.4]})
    >>> inverse(frame, size=1, of="top_k")["role"].to_list()
    ['keep', 'drop', 'drop']
    """
    if of not in INVERTIBLE:
        known = sorted(INVERTIBLE)
        raise BadInput(f"inverse: '{of}' has no opposite end{nearest(of, known)}; of must be one of {known}")
    if of == "cld_per_class" and score is None:
        score = "cld"
    column = score_column(frame, score, "inverse")
    how = {"per_class": per_class, **INVERTIBLE[of]}
    return keep_by_rank(frame, column, size, selector="inverse", nulls=nulls, **how)
