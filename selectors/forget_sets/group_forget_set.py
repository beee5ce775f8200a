"""A group as forget set: the samples with one value in a column, such as what one person has given."""

from __future__ import annotations

import polars as pl

from tracesift.catalog.schema import BadInput, nearest
from tracesift.selectors.contract import selector
from tracesift.selectors.forget_sets.class_forget_set import forget_part


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
        A column of the source that is no model input, a score or a flag.
    value
        Compared as text; samples without a value are retained.
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
        raise BadInput(
            f"group_forget_set: say column=NAME and value=VALUE, got {column!r} and {value!r}"
            f"{nearest(str(column), frame.columns)}; there are {', '.join(frame.columns)}"
        )
    wanted = str(value).lower() if frame.schema[column] == pl.Boolean else str(value)
    inside = (frame[column].cast(pl.String) == wanted).fill_null(value=False).to_numpy()
    if not inside.any():
        raise BadInput(f"group_forget_set: no sample has {column} = {value}")
    return forget_part(frame, inside, count, seed, "group_forget_set", f"{column} = {value}")
