"""A random draw with the same number of samples from every class: the control for what balance alone does."""

from __future__ import annotations

import numpy as np
import polars as pl

from tracesift.selectors.budget import Quota, quotas
from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import class_codes, outcome, rank_within, seeded_keys


@selector(
    version=1,
    random=True,
    reference="uniform without replacement within each class, by a keyed hash of the id",
)
def random_balanced(frame: pl.DataFrame, *, size: int, seed: int, quota: Quota = "equal") -> pl.DataFrame:
    """Keep `size` samples at random, as many from each class as there are to be had.

    Parameters
    ----------
    quota : {"equal", "proportional"}
        Equal numbers per class (a smaller class gives all it has, the rest is divided equally again), or
        numbers in proportion to class sizes.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcd"), "label": list("xxxy")})
    >>> random_balanced(frame, size=2, seed=0)["role"].to_list()[-1]
    'keep'
    """
    names, codes = class_codes(frame, per_class=True)
    sizes = np.bincount(codes, minlength=names.size)
    counts = np.array(quotas(sizes.tolist(), size, rule=quota))
    places = rank_within(codes, (seeded_keys(frame, seed, "random_balanced"),))
    numbered = frame.with_columns(
        pl.Series("place", places + 1), pl.Series("of", sizes[codes]), pl.Series("first", counts[codes])
    )
    drawn = pl.format(
        f"random draw, seed {seed}: place {{}} of {{}} of label '{{}}'; kept are the first {{}}",
        "place", "of", "label", "first",
    )  # fmt: skip
    return outcome(numbered, places < counts[codes], drawn)
