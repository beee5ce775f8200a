"""The forget set that an unlearning method is worst at, out of the weights that the job `worst_case` searched for."""

from __future__ import annotations

import polars as pl

from tracesift.selectors.contract import selector
from tracesift.selectors.forget_sets.by_rank import Nulls, forget_by_rank


@selector(version=1, columns=("score",), chooses="forget", reference="Fan et al. 2024, ECCV, section 4")
def worst_case_forget_set(
    frame: pl.DataFrame, *, size: int, score: str = "worst_case_weight", nulls: Nulls = None
) -> pl.DataFrame:
    """Forget the `size` samples of highest weight in the worst-case forget set, and retain the others.

    Parameters
    ----------
    score : str
        Column of weights; `tracesift record --job worst_case` and `tracesift score worst_case_weight` make it. The job
        searches for a set of its own size: give it the same.
    nulls : {"retain"}, optional
        Samples without a value are never chosen; without it they are an error.

    Notes
    -----
    The rest of the data says what these samples say: retrained without them, a model predicts them all the same. They
    are the worst case for accuracy on the forget set, and not for the distance to retraining, which is largest for
    memorized samples (`memorization_strata`). Report both.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": list("xxy"), "worst_case_weight": [0.1, 1.0, 1.0]})
    >>> worst_case_forget_set(frame, size=1)["role"].to_list()
    ['retain', 'forget', 'retain']
    """
    return forget_by_rank(
        frame, score, size, highest_first=True, selector="worst_case_forget_set", nulls=nulls
    )
