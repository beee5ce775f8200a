"""A class as forget set, whole or in part."""

from __future__ import annotations

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput, nearest
from tracesift.selectors.contract import selector
from tracesift.selectors.forget_sets.by_rank import forget_set
from tracesift.selectors.ranking import rank_within, seeded_keys


@selector(
    version=1,
    budget=False,
    random=True,
    chooses="forget",
    reference="class-wise forgetting, as of Golatkar et al. 2020",
)
def class_forget_set(
    frame: pl.DataFrame, *, seed: int, label: str | int | None = None, count: int | None = None
) -> pl.DataFrame:
    """Forget the class `label`, or `count` samples of it at random, and retain the others.

    Parameters
    ----------
    label : str
        Name of the class.
    count : int, optional
        How many of its samples; all of them by default.

    Raises
    ------
    BadInput
        No such class, or fewer samples of it than asked for.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": list("xxy")})
    >>> class_forget_set(frame, seed=0, label="x")["role"].to_list()
    ['forget', 'forget', 'retain']
    """
    known = frame["label"].unique().sort().to_list()
    if label is None or str(label) not in known:
        raise BadInput(
            f"class_forget_set: label names the class to forget, not {label!r}{nearest(str(label), known)}; there are "
            f"{', '.join(known[:20])}{' …' if len(known) > 20 else ''}"
        )
    inside = (frame["label"] == str(label)).to_numpy()
    return forget_part(frame, inside, count, seed, "class_forget_set", f"label '{label}'")


def forget_part(
    frame: pl.DataFrame, inside: np.ndarray, count: int | None, seed: int, selector: str, name: str
) -> pl.DataFrame:
    """Forget those that are `inside` (N,), or so many of them at random; none of the others."""
    there = int(inside.sum())
    if count is not None and not 1 <= count <= there:
        raise BadInput(f"{selector}: count is {count}, and {there} samples have {name}; give 1 to {there}")
    if count is None:
        has = pl.when(pl.Series(inside)).then(pl.lit(f"has {name}, which is forgotten"))
        return forget_set(frame, inside, has.otherwise(pl.lit(f"has another than {name}: retained")))
    places = rank_within(inside.astype(np.int64), (seeded_keys(frame, seed, selector),))
    drawn = f"{name}, random draw, seed {seed}: place {{}} of {there}; forgotten are the first {count}"
    told = pl.when(pl.Series(inside)).then(pl.format(drawn, pl.Series(places + 1)))
    chosen = inside & (places < count)
    return forget_set(frame, chosen, told.otherwise(pl.lit(f"has another than {name}: retained")))
