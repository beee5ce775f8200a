"""Keep, or remove, a window of ranks in the ascending order of one score.

Two protocols in one. data_diet keeps the window [offset, offset + size): with the offset chosen so that the
hardest samples, often mislabeled, stay outside. Toneva et al. remove the window [offset, offset + removed)
and train on the rest (their `keep_lowest_n` is our `offset`; their negative value, the random baseline, is
the selector `random`).
"""

from __future__ import annotations

from typing import Literal

import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.selectors.budget import exact_share
from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import Nulls, keep_by_rank, score_column

INVERTED = {"keep": "drop", "drop": "keep"}


@selector(
    version=1,
    columns=("score",),
    reference="Paul et al. 2021 (data_diet, offset subset); Toneva et al. 2019, section 5 (removal windows)",
)
def offset_window(
    frame: pl.DataFrame,
    *,
    size: int,
    score: str | None = None,
    offset: float = 0,
    window: Literal["keep", "remove"] = "keep",
    per_class: bool = False,
    nulls: Nulls = None,
) -> pl.DataFrame:
    """Keep `size` samples: a window of the order from lowest to highest `score`, or everything but a window.

    Parameters
    ----------
    score, per_class
        As in `top_k`.
    nulls : {"drop"}, optional
        Leave out samples without a value; only where the window is kept.
    offset : int or float
        Rank at which the window begins: a count, or a share in [0, 1) of the samples.
    window : {"keep", "remove"}
        Whether the window is what stays or what goes.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcd"), "label": ["x"] * 4, "el2n": [0.1, 0.2, 0.3, 0.4]})
    >>> offset_window(frame, size=2, offset=1)["role"].to_list()
    ['drop', 'keep', 'keep', 'drop']
    >>> offset_window(frame, size=2, offset=1, window="remove")["role"].to_list()
    ['keep', 'drop', 'drop', 'keep']
    """
    column, skipped = score_column(frame, score, "offset_window"), _offset(offset, frame.height)
    if nulls == "keep" or (nulls and window == "remove"):
        raise BadInput(
            "offset_window: a sample without a value has no rank; nulls='drop', window='keep' leave it out"
        )
    inside = size if window == "keep" else frame.height - size
    if skipped + inside > frame.height:
        raise BadInput(
            f"offset_window: offset {skipped} and window {inside} exceed {frame.height} samples; lower one"
        )
    result = keep_by_rank(
        frame, column, inside, highest_first=False, selector="offset_window",
        per_class=per_class, nulls=nulls, offset=skipped, spare_classes=window == "remove",
    )  # fmt: skip
    if window == "keep":
        return result
    return result.with_columns(
        pl.col("role").replace_strict(INVERTED),
        (1.0 - pl.col("weight")).alias("weight"),
        pl.col("reason").str.replace("kept are", "removed are", literal=True)
        .str.replace("is kept", "is removed", literal=True),
    )  # fmt: skip


def _offset(offset: float, total: int) -> int:
    if isinstance(offset, int):
        if not 0 <= offset < total:
            raise BadInput(f"offset_window: offset {offset} must lie in 0..{total - 1}")
        return offset
    if not 0 <= offset < 1:
        raise BadInput(
            f"offset_window: offset {offset!r} is no share in [0, 1); for a count give a whole number"
        )
    return int(exact_share(offset) * total)
