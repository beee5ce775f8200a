"""The type of a column of texts, decided by the whole column and by the same rule for every format.

Ids do not depend on this (they are decided value by value, see `identity`); what a model reads does.
"""

from __future__ import annotations

import polars as pl

from tracesift.pipelines.identity import MOMENT, NOT_FINITE, NUMBER, PLAIN_INTEGER, TRUTH

NUMERIC = f"(?:{NUMBER})|(?:{NOT_FINITE})"
# the regex engine of polars knows no look-around, so each pattern carries its own anchors


def infer(values: pl.Series) -> pl.Series:
    """Return a text column as integers, floats, booleans, dates or date-times where all its values are such.

    ``01`` keeps its zero and stays text; ``true`` counts in any case; only the empty text is missing.

    Examples
    --------
    >>> infer(pl.Series(["1", "", "3"])).to_list(), infer(pl.Series(["1", "02"])).to_list()
    ([1, None, 3], ['1', '02'])
    """
    if values.dtype != pl.String:
        return values
    values = values.replace("", None)
    present = values.drop_nulls()
    if present.is_empty():
        return values
    if _all(present, PLAIN_INTEGER):
        whole = values.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == values.null_count() else values
    if _all(present, NUMERIC):
        numbers = [None if value is None else float(value) for value in values]
        return pl.Series(values.name, numbers, dtype=pl.Float64)
    if _all(present, TRUTH):
        return values.str.to_lowercase() == "true"
    if _all(present, MOMENT):
        return _moments(values)
    return values


def _all(present: pl.Series, pattern: str) -> bool:
    # the first values settle most columns without a pass over all of them
    return bool(present.head(64).str.contains(pattern).all() and present.str.contains(pattern).all())


def _moments(values: pl.Series) -> pl.Series:
    text = values.str.replace(" ", "T", literal=True)
    dates = text.str.to_date("%Y-%m-%d", strict=False)
    if dates.null_count() == values.null_count():
        return dates
    text = pl.select(pl.when(text.str.len_bytes() == 10).then(text + "T00:00:00").otherwise(text)).to_series()
    zoned = text.str.contains(r"(?:Z|[+-][0-9]{2}:?[0-9]{2})$").any()
    moments = text.str.to_datetime(
        "%+" if zoned else "%Y-%m-%dT%H:%M:%S%.f",
        time_unit="us",
        strict=False,
        time_zone="UTC" if zoned else None,
    )
    return moments.alias(values.name) if moments.null_count() == values.null_count() else values
