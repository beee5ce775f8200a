"""A random forget set: what every other one is compared with."""

from __future__ import annotations

import numpy as np
import polars as pl

from tracesift.selectors.budget import quotas
from tracesift.selectors.contract import selector
from tracesift.selectors.forget_sets.by_rank import forget_set
from tracesift.selectors.ranking import class_codes, rank_within, seeded_keys


@selector(
    version=1,
    random=True,
    chooses="forget",
    reference="uniform without replacement, by a keyed hash of the id",
)
def random_forget_set(frame: pl.DataFrame, *, size: int, seed: int, per_class: bool = False) -> pl.DataFrame:
    """Forget `size` samples at random, and retain the others.

    With the same seed a larger set contains a smaller one.

    Parameters
    ----------
    per_class : bool
        Divide the budget among classes in proportion to their sizes.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": ["a", "b", "c"], "label": ["x", "x", "y"]})
    >>> int((random_forget_set(frame, size=2, seed=0)["role"] == "forget").sum())
    2
    """
    names, codes = class_codes(frame, per_class=per_class)
    sizes = np.bincount(codes, minlength=names.size)
    counts = np.array(quotas(sizes.tolist(), size))
    places = rank_within(codes, (seeded_keys(frame, seed, "random_forget_set"),))
    within = [f" of label '{name}'" if name else "" for name in names]
    reason = pl.format(
        f"random draw, seed {seed}: place {{}} of {{}}{{}}; forgotten are the first {{}}",
        pl.Series(places + 1), pl.Series(sizes[codes]), pl.Series(within, dtype=pl.String)[codes],
        pl.Series(counts[codes]),
    )  # fmt: skip
    return forget_set(frame, places < counts[codes], reason)
