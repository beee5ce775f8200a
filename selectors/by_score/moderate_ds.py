"""Moderate coreset: keep the samples whose distance to their class's centre is near the median.

The nearest are redundant and the farthest may be wrong. The published code ranks all classes together and returns the
ids to *drop*; here as everywhere the kept ones are marked. Its window, between two rounded ranks, can miss the
budget by one; ours has exactly `size` samples.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.selectors.budget import quotas
from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import Nulls, class_codes, outcome, rank_within, score_column, score_values


@selector(version=1, columns=("score",), reference="Xia et al. 2023 (Moderate coreset), section 3.2")
def moderate_ds(
    frame: pl.DataFrame,
    *,
    size: int,
    score: str = "class_centroid_distance",
    per_class: bool = False,
    nulls: Nulls = None,
) -> pl.DataFrame:
    """Keep the window of `size` samples in the middle of the order by `score`.

    Parameters
    ----------
    score : str
        Column of distances to the centre of the own class; any other score has a middle as well.
    per_class : bool
        One window for each class, the budget divided in proportion to class sizes. Without it there is one for
        all, as in the published code: a class whose features lie close together may lose more than its share.
    nulls : {"keep", "drop"}, optional
        Samples without a value: kept as part of the budget, or left out; without it an error.

    Raises
    ------
    BadInput
        If missing values leave too few samples, or too many that must be kept.

    Notes
    -----
    Of n ranks, q are kept from the rank floor((n - q) / 2), counted from 0: where the middle cannot be hit exactly, the
    window lies half a rank nearer to the centre.

    Examples
    --------
    >>> frame = pl.DataFrame({
    ...     "sample_id": list("abcde"), "label": ["x"] * 5, "class_centroid_distance": [0.1, 9.0, 0.5, 0.6, 0.4],
    ... })
    >>> moderate_ds(frame, size=3)["role"].to_list()
    ['drop', 'drop', 'keep', 'keep', 'keep']
    """
    column = score_column(frame, score, "moderate_ds")
    values = score_values(frame, column, nulls, "moderate_ds")
    missing = np.isnan(values)
    always = missing if nulls == "keep" else np.zeros_like(missing)
    left, room = size - int(always.sum()), int((~missing).sum())
    if not 0 <= left <= room:
        raise BadInput(
            f"moderate_ds: {size} samples wanted, {room} of {frame.height} have a '{column}' and {int(always.sum())} "
            f"without must be kept (nulls={nulls!r}); change the budget"
        )
    names, codes = class_codes(frame, per_class=per_class)
    sizes, known = (np.bincount(codes, which, names.size).astype(np.int64) for which in (None, ~missing))
    shares = np.array(quotas(sizes.tolist(), left, upper=known.tolist()))
    first = (known - shares) // 2
    places = rank_within(codes, (missing, values))
    inside = ~missing & (places >= first[codes]) & (places < (first + shares)[codes])
    return outcome(
        frame, inside | always, _reasons(frame, column, names, codes, places, first, shares, known, nulls)
    )


def _reasons(
    frame: pl.DataFrame, column: str, names: np.ndarray, codes: np.ndarray, places: np.ndarray, first: np.ndarray,
    shares: np.ndarray, known: np.ndarray, nulls: Nulls,
) -> pl.Expr:  # fmt: skip
    in_class = pl.Series([f" of label '{name}'" if name else "" for name in names], dtype=pl.String)
    value = pl.col(column).cast(pl.Float64).fill_nan(None).round_sig_figs(6)
    at = pl.format(
        f"{column}={{}}: rank {{}} of {{}}{{}} from the centre; ",
        value, pl.Series(places + 1), pl.Series(known[codes]), in_class[codes],
    )  # fmt: skip
    window = pl.format(
        "kept are the middle ranks {} to {}",
        pl.Series((first + 1)[codes]),
        pl.Series((first + shares)[codes]),
    )
    window = pl.when(pl.Series(shares[codes] == 0)).then(pl.lit("none is kept")).otherwise(window)
    unknown = pl.lit(f"{column} is missing; nulls='{nulls}'")
    return pl.when(value.is_null()).then(unknown).otherwise(pl.concat_str(at, window))
