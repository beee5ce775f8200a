"""How hard each sample is to forget, one column per axis, and strata of low, medium and high difficulty.

Two things are called hard, and they can be opposites. A sample that the rest of the data predicts is still answered
right after any unlearning, retraining included (the worst case of Fan et al.). A memorized one is where an unlearned
model differs most from a retrained one (RUM). So an axis says which it means, and no mean is taken over axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput

Meaning = Literal["still_known", "far_from_retrained"]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One column that tells how hard samples are to forget."""

    hard: Literal["high", "low"]
    """Which end of the score is hard to forget."""
    meaning: Meaning
    """``still_known``: answered right after unlearning, as after retraining. ``far_from_retrained``: where unlearned
    and retrained models differ."""
    source: str


AXES: dict[str, Axis] = {
    "memorization_subset": Axis(hard="high", meaning="far_from_retrained", source="Zhao et al. 2024 (RUM)"),
    "entanglement_distance": Axis(
        hard="high", meaning="far_from_retrained", source="Zhao et al. 2024 (RUM), their code"
    ),
    "first_learned": Axis(
        hard="high", meaning="far_from_retrained", source="stands in for memorization: learned late"
    ),
    "forgetting_events": Axis(
        hard="high", meaning="far_from_retrained", source="stands in for memorization: forgotten often"
    ),
    "last_loss": Axis(hard="low", meaning="still_known", source="Li et al. 2025 (LoReUn)"),
    "unlearn_loss": Axis(hard="low", meaning="still_known", source="Fan et al. 2024 (worst case)"),
    "worst_case_weight": Axis(hard="high", meaning="still_known", source="Fan et al. 2024 (worst case)"),
    "sharpness": Axis(
        hard="low",
        meaning="still_known",
        source="Kwon et al. 2026 (CUPID): easily learned, hard to forget; side ours",
    ),
}
"""What is known of hardness, by the name of the score."""


def difficulty(frame: pl.DataFrame) -> pl.DataFrame:
    """Return how hard each sample is to forget along every axis that the frame has a score for.

    Parameters
    ----------
    frame : polars.DataFrame
        `sample_id` and some of the scores in `AXES`. Percentiles are among its rows: give all training samples, and
        take the forget set out of the result.

    Returns
    -------
    polars.DataFrame
        `sample_id` and, for each score there is, ``hard_by_<score>``: the share of samples that are easier to forget,
        equals counting half, in (0, 1); high is hard to forget. Null without a score. Sorted by `sample_id`; the axes
        in the order of `AXES`.

    Raises
    ------
    BadInput
        No `sample_id`, repeated ids, or none of the scores.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcd"), "last_loss": [0.1, 2.0, 0.5, 0.1]})
    >>> difficulty(frame)["hard_by_last_loss"].to_list()
    [0.75, 0.125, 0.375, 0.75]
    """
    present = [name for name in AXES if name in frame.columns]
    if "sample_id" not in frame.columns or frame["sample_id"].is_duplicated().any():
        raise BadInput("difficulty: the frame needs a column 'sample_id' whose ids are unique")
    if not present:
        raise BadInput(
            f"difficulty: none of {', '.join(AXES)} is in the frame; `tracesift score NAME` makes them"
        )
    return frame.sort("sample_id").select("sample_id", *(_percentile(name) for name in present))


def _percentile(name: str) -> pl.Expr:
    value = pl.col(name).cast(pl.Float64).fill_nan(None)
    rank = value.rank("average", descending=AXES[name].hard == "low")
    return ((rank - 0.5) / value.count()).alias(f"hard_by_{name}")


def strata(ids: Sequence[str], difficulty: Sequence[float | None] | np.ndarray | pl.Series) -> pl.Series:
    """Cut samples into thirds of low, medium and high difficulty, between values and never among equal ones.

    Parameters
    ----------
    ids : sequence of str (n,)
        Unique.
    difficulty : (n,)
        One axis; high is hard to forget. Missing values (None, NaN) have no part in the thirds.

    Returns
    -------
    polars.Series
        ``"low"``, ``"medium"``, ``"high"`` in the order of `ids`; null without a value, and of all where all values
        are equal. Without ties sizes differ by one at most, the larger ones first; equal values go together, to where
        the middle one of them would be. RUM unlearns the strata in this order.

    Raises
    ------
    BadInput
        Sizes that differ, or repeated ids.

    Examples
    --------
    >>> strata(["b", "a", "c", "d", "e"], [0.5, 0.5, 0.9, 0.1, 0.5]).to_list()
    ['medium', 'medium', 'high', 'low', 'medium']
    """
    values = pl.Series("value", difficulty, dtype=pl.Float64, strict=False).fill_nan(None)
    names = pl.Series("sample_id", ids, dtype=pl.String)
    if len(names) != len(values) or names.n_unique() != len(names):
        raise BadInput(
            f"strata: {len(names)} ids, {names.n_unique()} of them different, and {len(values)} values; give one value "
            "for each unique id"
        )
    known = values.drop_nulls()
    if known.n_unique() < 2:
        return pl.Series("stratum", [None] * len(values), dtype=pl.String)
    sizes = [len(part) for part in np.array_split(np.arange(len(known)), 3)]
    by_place = np.repeat(("low", "medium", "high"), sizes)
    middle = ((known.rank("min") + known.rank("max")) // 2 - 1).cast(pl.Int64)
    found = pl.Series("stratum", [None] * len(values), dtype=pl.String)
    return found.scatter(values.is_not_null().arg_true(), by_place[middle.to_numpy()].tolist())
