"""A coreset of a forget set: a few of its samples, in the hope that unlearning them unlearns the whole."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.selectors.by_score.moderate_ds import moderate_ds
from tracesift.selectors.contract import selector
from tracesift.selectors.controls.random_subset import random_subset
from tracesift.selectors.ranking import keep_by_rank, score_column


@selector(
    version=1,
    random=True,
    columns=("score",),
    chooses="forget",
    experimental=True,
    reference="LLM unlearning reveals a stronger-than-expected coreset effect in current benchmarks, 2025 (MU-Coreset)",
)
def mu_coreset(
    frame: pl.DataFrame,
    *,
    size: int,
    seed: int,
    rule: Literal["random", "top", "moderate"] = "random",
    score: str | None = None,
) -> pl.DataFrame:
    """Keep `size` samples of a forget set to unlearn from, and drop its others.

    Parameters
    ----------
    frame : polars.DataFrame
        The samples of one forget set; `tracesift select mu_coreset --from SUBSET` takes those of a subset, and leaves
        its other members as they are.
    rule : {"random", "top", "moderate"}
        ``"random"``: a uniform draw, which the paper finds as good as any at 5 %. ``"top"``: the highest scores, such
        as ``score=grand``. ``"moderate"``: the middle of the order by a score, such as
        ``score=class_centroid_distance``.
    score : str
        Column that ``"top"`` and ``"moderate"`` read.

    Raises
    ------
    BadInput
        A rule without its score, or a score without a rule that reads it.

    Notes
    -----
    The dropped are in neither set: they were trained on, they are to be forgotten as well, and no method is shown them.
    Whether the model forgot is measured on the whole forget set, these included.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": list("xxy"), "grand": [0.1, 0.9, 0.4]})
    >>> mu_coreset(frame, size=1, seed=0, rule="top", score="grand")["role"].to_list()
    ['drop', 'forget', 'drop']
    """
    if (score is None) != (rule == "random"):
        raise BadInput(
            f"mu_coreset: rule={rule} reads "
            + ("no score; leave it out" if rule == "random" else "a score; say which, score=NAME")
        )
    if rule == "random":
        kept = random_subset(frame, size=size, seed=seed)
    elif rule == "top":
        column = score_column(frame, score, "mu_coreset")
        kept = keep_by_rank(frame, column, size, highest_first=True, selector="mu_coreset")
    else:
        kept = moderate_ds(frame, size=size, score=str(score))
    outside = np.where(kept["role"] == "keep", "in the coreset: ", "outside the coreset of the forget set: ")
    return kept.with_columns(
        role=pl.col("role").replace({"keep": "forget"}), reason=pl.Series(outside) + pl.col("reason")
    )
