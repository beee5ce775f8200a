"""Selectors that pick one sample after another, as a whole or class by class: quotas, and what the result tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from tracesift.selectors.budget import Quota, quotas
from tracesift.selectors.ranking import class_codes


@dataclass(frozen=True)
class Picks:
    """What was picked of one class, in order."""

    rows: np.ndarray
    """(n,) rows of the frame, in the order picked."""
    told: list[str]
    """(n,) what the reason says of each."""
    left_told: Callable[[np.ndarray], list[str]]
    """From rows that were left to what the reason says of them."""
    weights: np.ndarray | None = None
    """(n,) 1 each where None."""


def pick_by_class(
    frame: pl.DataFrame,
    size: int,
    pick: Callable[[np.ndarray, int, str], Picks],
    *,
    per_class: bool,
    quota: Quota,
) -> pl.DataFrame:
    """Pick `size` samples, from all of them or by quotas within each class.

    Parameters
    ----------
    frame : polars.DataFrame
        Sorted by `sample_id`.
    size : int
    pick : callable
        From the rows of one class, how many to pick of them (1 or more) and how a reason calls them, to what was
        picked.
    per_class : bool
    quota : {"proportional", "equal"}
        See `tracesift.selectors.budget.quotas`; read only where `per_class`.

    Returns
    -------
    polars.DataFrame
        `sample_id`, `role`, `weight`, `reason`: the place in the order, and what `pick` tells.
    """
    names, codes = class_codes(frame, per_class=per_class)
    counts = quotas(np.bincount(codes, minlength=names.size).tolist(), size, rule=quota)
    weight = np.zeros(frame.height)
    reason = np.empty(frame.height, dtype=object)
    for code, count in enumerate(counts):
        rows = np.flatnonzero(codes == code)
        of = f" of label '{names[code]}'" if per_class else ""
        if count == 0:
            reason[rows] = f"left: no sample{of} is picked, the budget of {size} is smaller than the classes"
            continue
        picked = pick(rows, count, of)
        weight[picked.rows] = 1.0 if picked.weights is None else picked.weights
        reason[picked.rows] = [
            f"picked {ordinal(place)} of {count}{of}, {told}"
            for place, told in enumerate(picked.told, start=1)
        ]
        left = np.setdiff1d(rows, picked.rows, assume_unique=True)
        reason[left] = [f"left, {told}" for told in picked.left_told(left)]
    return frame.select(
        "sample_id",
        pl.Series("role", np.where(weight > 0, "keep", "drop")),
        pl.Series("weight", weight),
        pl.Series("reason", reason.tolist(), dtype=pl.String),
    )


def ordinal(number: int) -> str:
    """Return a place in an order, in figures.

    Examples
    --------
    >>> [ordinal(number) for number in (1, 2, 3, 11, 22, 113)]
    ['1st', '2nd', '3rd', '11th', '22nd', '113th']
    """
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number // 10 % 10 != 1 else "th"
    return f"{number}{ending}"
