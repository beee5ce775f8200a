"""Ranks and seeded draws that do not depend on the order of rows: what the selectors have in common.

All functions take a frame that is already sorted by `sample_id`, so "first" means smallest id.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput, nearest
from tracesift.selectors.budget import Quota, quotas

Nulls = Literal["keep", "drop"] | None

NOT_SCORES = frozenset(
    {"sample_id", "label", "label_true", "split", "content_hash", "group", "row", "weight"}
)

FEW = 5
"""Scores that a message names; of more, it says what lists them."""


def score_column(frame: pl.DataFrame, column: str | None, selector: str) -> str:
    """Return the score column meant: the one named, or the only numeric one there is."""
    numeric = [
        name
        for name, dtype in frame.schema.items()
        if name not in NOT_SCORES and dtype.is_numeric() and frame[name].null_count() < frame.height
    ]
    if column is None:
        if len(numeric) != 1:
            raise BadInput(f"{selector}: say which score to use, score=NAME; {_listed(numeric)}")
        return numeric[0]
    if column not in frame.columns:
        raise BadInput(
            f"{selector}: the frame has no column '{column}'{nearest(column, numeric, most=3)}; {_listed(numeric)}; "
            "`tracesift score NAME` makes one that is not there, or names the job that it needs"
        )
    if not (frame.schema[column].is_numeric() or frame.schema[column] == pl.Boolean):
        raise BadInput(f"{selector}: column '{column}' holds {frame.schema[column]}, not numbers")
    return column


def _listed(scores: list[str]) -> str:
    if not scores:
        return "nothing is scored, `tracesift record` comes first"
    if len(scores) <= FEW:
        return f"the frame has {', '.join(scores)}"
    return f'the frame has {len(scores)} scores, `tracesift sql "DESCRIBE sample_scores"` lists them'


def score_values(frame: pl.DataFrame, column: str, nulls: Nulls, selector: str) -> np.ndarray:
    """Return a score column as float64, NaN where missing, which raises unless `nulls` says what to do."""
    values = frame[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    missing = int(np.isnan(values).sum())
    if missing and nulls is None:
        raise BadInput(
            f"{selector}: '{column}' is missing (null or NaN) for {missing} of {frame.height} samples; "
            "pass nulls='drop' to leave these samples out or nulls='keep' to keep them"
        )
    return values


def seeded_keys(frame: pl.DataFrame, seed: int, salt: str) -> np.ndarray:
    """Return one pseudo-random uint64 per sample, from the seed, `salt` and its id alone.

    Taking the smallest keys is a uniform draw without replacement; a larger budget contains the smaller one,
    and a growing dataset keeps its draw.
    """
    prefix = f"{salt}\0{seed}\0".encode()
    digests = [hashlib.blake2b(prefix + name.encode(), digest_size=8).digest() for name in frame["sample_id"]]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def class_codes(frame: pl.DataFrame, *, per_class: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return class names, ascending, and each sample's class; a single nameless class unless `per_class`."""
    if not per_class:
        return np.array([""], dtype=object), np.zeros(frame.height, dtype=np.int64)
    names, codes = np.unique(frame["label"].to_numpy(), return_inverse=True)
    return names, codes


def rank_within(codes: np.ndarray, keys: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return each sample's 0-based place within its class, ascending by `keys`, then by id."""
    order = np.lexsort((*reversed(keys), codes))  # stable: equal keys stay in id order
    starts = np.concatenate(([0], np.cumsum(np.bincount(codes))[:-1]))
    places = np.empty(codes.size, dtype=np.int64)
    places[order] = np.arange(codes.size) - starts[codes[order]]
    return places


def keep_by_rank(
    frame: pl.DataFrame,
    column: str,
    size: int,
    *,
    highest_first: bool,
    selector: str,
    nulls: Nulls = None,
    per_class: bool = False,
    quota: Quota = "proportional",
    offset: int = 0,
    spare_classes: bool = False,
) -> pl.DataFrame:
    """Keep `size` samples by the rank of one score, as a whole or by class quotas.

    Missing values (allowed by `nulls`) rank first and are always kept, or rank last and are never kept.

    Parameters
    ----------
    offset : int
        How many samples at the front of the order are skipped; divided among classes like the budget.
    spare_classes : bool
        The samples taken are the ones to be removed: leave one of each class wherever that is possible,
        instead of taking one of each.

    Returns
    -------
    polars.DataFrame
        `sample_id`, `role`, `weight`, `reason`.
    """
    values = score_values(frame, column, nulls, selector)
    names, codes = class_codes(frame, per_class=per_class)
    missing, sizes = np.isnan(values), np.bincount(codes, minlength=names.size)
    category = np.where(missing, -1 if nulls == "keep" else 1, 0)
    places = rank_within(codes, (category, -values if highest_first else values))
    absent = np.bincount(codes, missing, names.size).astype(np.int64)
    skipped = np.zeros(names.size, dtype=np.int64)
    if offset:
        skipped = np.array(quotas(sizes.tolist(), offset, rule=quota, lower=[0] * names.size))
    upper = sizes - skipped - (absent if nulls == "drop" else 0)
    # a share of the window may not fall among the skipped, nor among what may not be kept
    _check_room(selector, size, int(np.maximum(upper, 0).sum()), column, offset, int(absent.sum()))
    lower = None
    if spare_classes:
        spared = np.maximum(upper - (skipped == 0), 0)
        upper, lower = spared if spared.sum() >= size else upper, [0] * names.size
    if nulls == "keep" and absent.any():
        forced = absent if not per_class else np.maximum(absent, size >= names.size)
        lower = np.minimum(forced, np.maximum(upper, 0)).tolist()
        if sum(lower) > size:
            raise BadInput(
                f"{selector}: nulls='keep' asks for {sum(lower)} samples, more than the budget of {size}"
            )
    counts = np.array(
        quotas(sizes.tolist(), size, rule=quota, lower=lower, upper=np.maximum(upper, 0).tolist())
    )
    kept = (places >= skipped[codes]) & (places < (skipped + counts)[codes])
    return _ranked_result(
        frame,
        column,
        kept,
        places,
        names,
        codes,
        sizes,
        skipped,
        counts,
        highest_first=highest_first,
        nulls=nulls,
    )


def outcome(
    frame: pl.DataFrame, kept: np.ndarray, reason: pl.Expr | pl.Series, *, weight: float = 1.0
) -> pl.DataFrame:
    """Return the result frame of a keep-or-drop selection; a dropped sample weighs nothing."""
    return frame.with_columns(pl.Series("kept", kept)).select(
        "sample_id",
        pl.when("kept").then(pl.lit("keep")).otherwise(pl.lit("drop")).alias("role"),
        pl.when("kept").then(weight).otherwise(0.0).alias("weight"),
        reason.alias("reason"),
    )


def _check_room(selector: str, size: int, room: int, column: str, offset: int, absent: int) -> None:
    if size > room:
        where = f"after skipping {offset} and leaving out {absent} without '{column}'"
        raise BadInput(
            f"{selector}: {size} samples wanted, {room} possible {where}; lower the budget or the offset"
        )


def _ranked_result(
    frame: pl.DataFrame,
    column: str,
    kept: np.ndarray,
    places: np.ndarray,
    names: np.ndarray,
    codes: np.ndarray,
    sizes: np.ndarray,
    skipped: np.ndarray,
    counts: np.ndarray,
    *,
    highest_first: bool,
    nulls: Nulls,
) -> pl.DataFrame:
    numbered = frame.with_columns(
        pl.Series("place", places + 1),
        pl.Series("of", sizes[codes]),
        pl.Series("first", skipped[codes] + 1),
        pl.Series("last", (skipped + counts)[codes]),
        pl.col(column).cast(pl.Float64).fill_nan(None).round_sig_figs(6).alias("value"),
        pl.Series("in_class", [f" of label '{name}'" if name else "" for name in names], dtype=pl.String)[
            codes
        ],
    )
    end = "highest first" if highest_first else "lowest first"
    known = pl.format(
        f"{column}={{}}: rank {{}} of {{}}{{}}, {end}; kept are ranks {{}} to {{}}",
        "value", "place", "of", "in_class", "first", "last",
    )  # fmt: skip
    unknown = pl.lit(f"{column} is missing; nulls='{nulls}'")
    nothing = pl.format(f"{column}={{}}: no sample{{}} is kept", "value", "in_class")
    reason = pl.when(pl.col("value").is_null()).then(unknown)
    return outcome(
        numbered, kept, reason.when(pl.col("last") < pl.col("first")).then(nothing).otherwise(known)
    )
