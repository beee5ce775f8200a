"""Toneva's removal protocol: remove a window of the order by forgetting, train on the rest, and draw the curve.

The names and meanings of the published script: `keep_lowest_n` samples at the easy end stay, the `remove_n` after
them go. A negative `keep_lowest_n` removes at random instead, the curve's baseline. `remove_subsample` is another
protocol in the same script: it thins out the easy end itself, to break its ties, and then `remove_n` is not read.

Unlike there, ties go by sample_id and not by an unstable sort, and a random removal depends on seed and id alone.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import outcome, rank_within, score_column, score_values, seeded_keys


@selector(
    version=1,
    budget=False,
    random=True,
    columns=("score",),
    reference="Toneva et al. 2019, section 5 and figure 5; their order_examples and run_cifar scripts",
)
def removal_protocol(
    frame: pl.DataFrame,
    *,
    seed: int,
    score: str = "forgetting_events",
    keep_lowest_n: int = 0,
    remove_n: int = 0,
    remove_subsample: int = 0,
) -> pl.DataFrame:
    """Remove `remove_n` samples from the order by `score`, lowest first, behind the `keep_lowest_n` lowest.

    Parameters
    ----------
    score : str
        Column to order by, lowest (the most easily remembered) first.
    keep_lowest_n : int
        0 removes the least forgotten; a positive number removes a window that begins at that rank; any negative
        number removes `remove_n` samples at random.
    remove_n : int
        How many go.
    remove_subsample : int
        Where above 0 and `keep_lowest_n` is not negative: that many of the `keep_lowest_n` lowest go, drawn at
        random, and nothing else, whatever `remove_n` says.

    Raises
    ------
    BadInput
        More samples to remove than there are in the window, none left, or a sample without a score.

    Examples
    --------
    >>> frame = pl.DataFrame(
    ...     {"sample_id": list("abcd"), "label": ["x"] * 4, "forgetting_events": [3, 0, 1, 0]}
    ... )
    >>> removal_protocol(frame, seed=0, remove_n=2)["role"].to_list()
    ['keep', 'drop', 'keep', 'drop']
    >>> removal_protocol(frame, seed=0, keep_lowest_n=1, remove_n=2)["role"].to_list()
    ['keep', 'keep', 'drop', 'drop']
    """
    total = frame.height
    if remove_n < 0 or remove_subsample < 0:
        raise BadInput("removal_protocol: remove_n and remove_subsample are 0 or more")
    column = score_column(frame, score, "removal_protocol")
    values = score_values(frame, column, None, "removal_protocol")
    one_class = np.zeros(total, dtype=np.int64)
    rank = rank_within(one_class, (values,))
    keys = seeded_keys(frame, seed, "removal_protocol")
    if keep_lowest_n < 0:
        _check(remove_n, total, total)
        gone = rank_within(one_class, (keys,)) < remove_n
        rule = f"{remove_n} of {total} are removed at random with seed {seed}"
    elif remove_subsample:
        _check(remove_subsample, min(keep_lowest_n, total), total)
        outside = rank >= keep_lowest_n
        gone = rank_within(one_class, (outside, keys)) < remove_subsample
        rule = f"{remove_subsample} of the {keep_lowest_n} lowest are removed at random with seed {seed}"
    else:
        _check(remove_n, max(0, total - keep_lowest_n), total)
        gone = (rank >= keep_lowest_n) & (rank < keep_lowest_n + remove_n)
        rule = (
            f"removed are ranks {keep_lowest_n + 1} to {keep_lowest_n + remove_n}"
            if remove_n
            else "none is removed"
        )
    shown = pl.col(column).cast(pl.Float64).round_sig_figs(6)
    reason = pl.format(
        f"{column}={{}}: rank {{}} of {total}, lowest first; {rule}", shown, pl.Series(rank + 1)
    )
    return outcome(frame, ~gone, reason)


def _check(removed: int, there: int, total: int) -> None:
    """Refuse to remove more samples than there are where they would be taken from, or all of them."""
    if removed > there or removed >= total:
        raise BadInput(
            f"removal_protocol: {removed} samples cannot be removed: {there} stand there, and of {total} one at least "
            "must be left; lower remove_n, remove_subsample or keep_lowest_n"
        )
