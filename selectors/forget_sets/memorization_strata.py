"""Forget sets of low, medium or high memorization, or a third of each: the first axis of what makes unlearning hard."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from tracesift.selectors.contract import selector
from tracesift.selectors.forget_sets.by_rank import Nulls, forget_set, places_of, reasons, scored

PARTS = ("low", "medium", "high")


@selector(
    version=1,
    columns=("score",),
    chooses="forget",
    reference="Zhao et al. 2024 (RUM), NeurIPS, section 4; their code",
)
def memorization_strata(
    frame: pl.DataFrame,
    *,
    size: int,
    part: Literal["low", "medium", "high", "mix"] = "high",
    score: str = "memorization_subset",
    middle: float = 0.5,
    nulls: Nulls = None,
) -> pl.DataFrame:
    """Forget the `size` samples that are memorized least, most or half, or a third of each; retain the others.

    Parameters
    ----------
    part : {"low", "medium", "high", "mix"}
        ``"low"``: of the lowest scores. ``"high"``: of the highest. ``"medium"``: nearest to `middle`. ``"mix"``: a
        third of each, the remainder of the division to low, then to medium; no sample counts twice.
    score : str
        Column of memorization, in [-1, 1]; with a cheap stand-in for it, give the `middle` of its range.
    middle : float
        What medium means: 0.5 as published. It is half memorized, and not in the middle of the order.
    nulls : {"retain"}, optional
        Samples without a value are never chosen; without it they are an error.

    Notes
    -----
    The more memorized a set is, the harder it is to bring a model near one that was retrained without it.

    Examples
    --------
    >>> frame = pl.DataFrame({
    ...     "sample_id": list("abcd"), "label": ["x"] * 4, "memorization_subset": [0.0, 0.1, 0.6, 1.0],
    ... })
    >>> memorization_strata(frame, size=1, part="medium")["role"].to_list()
    ['retain', 'retain', 'forget', 'retain']
    """
    column, values, known = scored(frame, score, size, "memorization_strata", nulls)
    order = {"low": values, "medium": np.abs(values - middle), "high": -values}
    counts = {one: size * (one == part) for one in PARTS}
    if part == "mix":
        counts = {one: (size + 2 - at) // 3 for at, one in enumerate(PARTS)}
    chosen = np.zeros(frame.height, dtype=bool)
    for one in ("high", "low", "medium"):  # what both ends have taken is no longer in the middle
        chosen |= places_of(np.where(chosen, np.nan, order[one])) < counts[one]
    took = ", ".join(
        f"{count} "
        + (f"nearest to {middle:g}" if one == "medium" else f"{'lowest' if one == 'low' else 'highest'}")
        for one, count in counts.items()
        if count
    )
    rule = f"of {known}, lowest first; forgotten are the {took}"
    return forget_set(frame, chosen, reasons(frame, column, places_of(values), rule))
