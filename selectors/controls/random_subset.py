"""Selector `random`: a uniform draw, the control that every other selector must beat.

The file cannot be called random.py: a module of that name would shadow the standard library's.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import outcome, rank_within, seeded_keys


@selector(
    version=1, name="random", random=True, reference="uniform without replacement, by a keyed hash of the id"
)
def random_subset(frame: pl.DataFrame, *, size: int, seed: int) -> pl.DataFrame:
    """Keep `size` samples at random.

    Whether a sample is drawn depends on the seed, its id and the budget alone: with the same seed a larger
    budget contains a smaller one.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": ["a", "b", "c"], "label": ["x", "x", "y"]})
    >>> int((random_subset(frame, size=2, seed=0)["role"] == "keep").sum())
    2
    """
    places = rank_within(np.zeros(frame.height, dtype=np.int64), (seeded_keys(frame, seed, "random"),))
    drawn = pl.format(
        f"random draw, seed {seed}: place {{}} of {frame.height}; kept are the first {size}", "place"
    )
    return outcome(frame.with_columns(pl.Series("place", places + 1)), places < size, drawn)
