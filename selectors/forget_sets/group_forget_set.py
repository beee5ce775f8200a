"""A group as forget set: the samples with one value in a column, such as what one person has given."""

from __future__ import annotations

import polars as pl

from tracesift.catalog.schema import BadInput, nearest
from tracesift.selectors.contract import selector
from tracesift.selectors.forget_sets.class_forget_set import forget_part

LISTED = 20
"""Values of a column that a refusal lists."""


@selector(
    version=1,
    budget=False,
    random=True,
    chooses="forget",
    reference="group-wise forgetting, De Min et al. 2025",
)
def group_forget_set(
    frame: pl.DataFrame,
    *,
    seed: int,
    column: str | None = None,
    value: str | float | bool | None = None,
    count: int | None = None,
) -> pl.DataFrame:
    """Forget the samples whose `column` is `value`, or `count` of them at random, and retain the others.

    Parameters
    ----------
    column : str
        A column of the source, a score or a flag.
    value
        Compared as a number in a column of floats, else as text; samples without a value are retained.
    count : int, optional
        How many of them; all by default.

    Raises
    ------
    BadInput
        No such column, or no sample with this value.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": list("xxy"), "author": ["p", "q", "p"]})
    >>> group_forget_set(frame, seed=0, column="author", value="p")["role"].to_list()
    ['forget', 'retain', 'forget']
    """
    if column is None or column not in frame.columns or value is None:
        meant = "" if column in frame.columns else nearest(str(column), frame.columns)
        raise BadInput(
            f"group_forget_set: say column=NAME and value=VALUE, got {column!r} and {value!r}{meant}; there are "
            f"{', '.join(frame.columns)}"
        )
    inside = _equal(frame[column], value).fill_null(value=False).to_numpy()
    if not inside.any():
        there = frame[column].cast(pl.String).drop_nulls().unique().sort()
        few = ", ".join(there[:LISTED]) + (" …" if len(there) > LISTED else "")
        raise BadInput(f"group_forget_set: no sample has {column} = {value}; there are {few or 'no values'}")
    return forget_part(frame, inside, count, seed, "group_forget_set", f"{column} = {value}")


def _equal(values: pl.Series, value: str | float) -> pl.Series:
    """Tell which values are this one; of a column of floats 1 is 1.0, and of text '01' is not '1'."""
    if values.dtype.is_float():
        return values == pl.Series([str(value)]).cast(pl.Float64, strict=False)
    wanted = str(value).lower() if values.dtype == pl.Boolean else str(value)
    return values.cast(pl.String) == wanted
