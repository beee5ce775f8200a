"""Bringing a caller's frame to the columns and types of a table, or saying what does not fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import polars as pl

from tracesift.catalog.schema import BadInput, nearest


def conform(
    frame: pl.DataFrame, schema: Mapping[str, pl.DataType], *, what: str, required: Collection[str] = ()
) -> pl.DataFrame:
    """Return `frame` with exactly the columns of `schema`, in order and cast; absent ones are null.

    Raises
    ------
    BadInput
        A required column is absent, a column is not of `schema`, or a value does not fit its type.
    """
    missing = [name for name in required if name not in frame.columns]
    if missing:
        raise BadInput(
            f"{what}: the column '{missing[0]}' is missing; present are {', '.join(frame.columns)}"
        )
    extra = [name for name in frame.columns if name not in schema]
    if extra:
        raise BadInput(f"{what}: unknown column '{extra[0]}'{nearest(extra[0], list(schema))}")
    columns = [
        pl.col(name).cast(kind) if name in frame.columns else pl.lit(None, dtype=kind).alias(name)
        for name, kind in schema.items()
    ]
    try:
        whole = frame.select(columns)
    except pl.exceptions.PolarsError as error:
        raise BadInput(f"{what}: {str(error).splitlines()[0]}") from error
    for name in required:
        empty = whole[name].null_count()
        if empty:
            raise BadInput(f"{what}: the column '{name}' is empty in {empty} of {whole.height} rows")
    return whole


def distinct_ids(frame: pl.DataFrame, *, what: str) -> None:
    """Raise BadInput where a sample_id stands twice in `frame`."""
    if frame["sample_id"].n_unique() == frame.height:
        return
    twice = frame.filter(frame["sample_id"].is_duplicated())["sample_id"].sort()
    raise BadInput(f"{what}: {twice.n_unique()} sample ids stand more than once, for example '{twice[0]}'")
