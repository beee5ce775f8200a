"""From a choice to a forget set: the chosen are forgotten, all others retained, each with the reason.

The model that is to forget was trained on all of them, flagged ones too, so none is dropped.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.selectors.ranking import rank_within, score_column

Nulls = Literal["retain"] | None


def forget_set(frame: pl.DataFrame, chosen: np.ndarray, reason: pl.Expr | pl.Series) -> pl.DataFrame:
    """Return the result frame of a chooser, given which samples (N,) are forgotten; all weigh 1."""
    return frame.with_columns(pl.Series("chosen", chosen)).select(
        "sample_id",
        pl.when("chosen").then(pl.lit("forget")).otherwise(pl.lit("retain")).alias("role"),
        pl.lit(1.0).alias("weight"),
        reason.alias("reason"),
    )


def scored(
    frame: pl.DataFrame, score: str, size: int, selector: str, nulls: Nulls
) -> tuple[str, np.ndarray, int]:
    """Return the column, its values (N,) with NaN where missing, and how many have one, enough for the size."""
    column = score_column(frame, score, selector)
    values = frame[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    missing = int(np.isnan(values).sum())
    if missing and nulls is None:
        raise BadInput(
            f"{selector}: '{column}' is missing (null or NaN) for {missing} of {frame.height} samples; pass "
            "nulls='retain' to retain these samples, whatever is forgotten"
        )
    known = frame.height - missing
    if size > known:
        raise BadInput(
            f"{selector}: {size} samples to forget, and {known} have a '{column}'; lower the budget or score the others"
        )
    return column, values, known


def forget_by_rank(
    frame: pl.DataFrame,
    score: str,
    size: int,
    *,
    highest_first: bool,
    selector: str,
    nulls: Nulls,
    start: int = 0,
) -> pl.DataFrame:
    """Forget `size` samples from rank `start`, counted from 0, of the order by a score; ties by `sample_id`."""
    column, values, known = scored(frame, score, size, selector, nulls)
    places = places_of(-values if highest_first else values)
    chosen = (places >= start) & (places < start + size)
    end = "highest" if highest_first else "lowest"
    return forget_set(
        frame,
        chosen,
        reasons(
            frame,
            column,
            places,
            f"of {known}, {end} first; forgotten are ranks {start + 1} to {start + size}",
        ),
    )


def places_of(values: np.ndarray) -> np.ndarray:
    """Return each sample's 0-based place in ascending order, missing values last, then by id."""
    return rank_within(np.zeros(values.size, dtype=np.int64), (np.isnan(values), values))


def reasons(frame: pl.DataFrame, column: str, places: np.ndarray, rule: str) -> pl.Expr:
    """Return a reason per sample: its value, its rank, and the rule; that it has no value where it has none."""
    value = pl.col(column).cast(pl.Float64).fill_nan(None).round_sig_figs(6)
    told = pl.format(f"{column}={{}}: rank {{}} {rule}", value, pl.Series(places + 1))
    return pl.when(value.is_null()).then(pl.lit(f"{column} is missing: retained")).otherwise(told)
