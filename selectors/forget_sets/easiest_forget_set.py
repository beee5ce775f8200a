"""The forget set that an unlearning method is best at: the other end of the search for the worst case."""

from __future__ import annotations

import polars as pl

from tracesift.selectors.contract import selector
from tracesift.selectors.forget_sets.by_rank import Nulls, forget_by_rank


@selector(
    version=1, columns=("score",), chooses="forget", reference="Fan et al. 2024, ECCV; the reversed mode"
)
def easiest_forget_set(
    frame: pl.DataFrame, *, size: int, score: str = "easiest_weight", nulls: Nulls = None
) -> pl.DataFrame:
    """Forget the `size` samples of highest weight in the easiest forget set, and retain the others.

    Parameters
    ----------
    score : str
        Column of weights; `tracesift record --job worst_case --param easiest=true` and `tracesift score easiest_weight`
        make it.
    nulls : {"retain"}, optional
        Samples without a value are never chosen; without it they are an error.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": list("xxy"), "easiest_weight": [0.1, 1.0, 1.0]})
    >>> easiest_forget_set(frame, size=1)["role"].to_list()
    ['retain', 'forget', 'retain']
    """
    return forget_by_rank(frame, score, size, highest_first=True, selector="easiest_forget_set", nulls=nulls)
