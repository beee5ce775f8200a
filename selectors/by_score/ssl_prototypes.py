"""Self-supervised prototypes: keep what is far from all prototypes where data abound, else what is near to one.

The paper's theory says which end is right and where it changes over, but no number for a given dataset. Our rule by
default: the farthest where at least half is kept, the nearest where less is.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.selectors.budget import exact_share
from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import Nulls, class_codes, outcome, rank_within, score_column, score_values

ABUNDANT = 0.5
"""From this share kept on, side='auto' is the farthest: ours, as the paper names none."""


@selector(
    version=1,
    columns=("score",),
    experimental=True,
    reference="Sorscher et al. 2022 (Beyond neural scaling laws), section 5 and appendix",
)
def ssl_prototypes(
    frame: pl.DataFrame,
    *,
    size: int,
    score: str = "ssl_prototypes",
    side: Literal["auto", "farthest", "nearest"] = "auto",
    balance: float = 0.0,
    nulls: Nulls = None,
) -> pl.DataFrame:
    """Keep the `size` samples farthest from the nearest prototype, or nearest to it.

    Parameters
    ----------
    score : str
        Column of distances to the nearest prototype.
    side : {"auto", "farthest", "nearest"}
        Which end is kept: hard samples where data abound, typical ones where they are scarce. By default the
        farthest if at least half of the samples is kept, else the nearest.
    balance : float
        Share of its proportional budget that each class gets at least, in [0, 1]; 0.5 in the paper's ImageNet
        experiments. The rest goes by rank over all classes.
    nulls : {"keep", "drop"}, optional
        Samples without a value: kept as part of the budget, or left out; without it an error.

    Raises
    ------
    BadInput
        For a balance outside [0, 1], or missing values that leave no room.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcd"), "label": list("xxyy"), "ssl_prototypes": [0.1, 0.2, 0.3, 0.4]})
    >>> ssl_prototypes(frame, size=2)["role"].to_list(), ssl_prototypes(frame, size=1)["role"].to_list()
    (['drop', 'drop', 'keep', 'keep'], ['keep', 'drop', 'drop', 'drop'])
    >>> ssl_prototypes(frame, size=2, balance=1.0)["role"].to_list()
    ['drop', 'keep', 'drop', 'keep']
    """
    if not 0 <= balance <= 1:
        raise BadInput(f"ssl_prototypes: balance is a share in [0, 1], not {balance!r}")
    if side == "auto":
        side = "farthest" if size >= ABUNDANT * frame.height else "nearest"
    column = score_column(frame, score, "ssl_prototypes")
    values = score_values(frame, column, nulls, "ssl_prototypes")
    missing = np.isnan(values)
    always = missing if nulls == "keep" else np.zeros_like(missing)
    left, room = size - int(always.sum()), int((~missing).sum())
    if not 0 <= left <= room:
        raise BadInput(
            f"ssl_prototypes: {size} samples wanted, {room} of {frame.height} have a '{column}' and "
            f"{int(always.sum())} without must be kept (nulls={nulls!r}); change the budget"
        )
    keys = -values if side == "farthest" else values
    _, codes = class_codes(frame, per_class=True)
    share = exact_share(balance) * left / frame.height
    floor = np.array([int(share * int(number)) for number in np.bincount(codes)])
    sure = ~missing & (rank_within(codes, (missing, keys)) < floor[codes])
    whole = np.zeros(frame.height, dtype=np.int64)
    # who is sure of a place comes first, so that the rest of the budget goes by rank
    kept = always | (~missing & (rank_within(whole, (missing, ~sure, keys)) < left))
    places = rank_within(whole, (missing, keys))
    return outcome(
        frame, kept, _reasons(frame, column, kept, places, sure & (places >= left), side, balance, nulls)
    )


def _reasons(
    frame: pl.DataFrame, column: str, kept: np.ndarray, places: np.ndarray, by_floor: np.ndarray, side: str,
    balance: float, nulls: Nulls,
) -> pl.Expr:  # fmt: skip
    value = pl.col(column).cast(pl.Float64).fill_nan(None).round_sig_figs(6)
    why = (
        pl.when(pl.Series(by_floor)).then(pl.lit(f"kept for its class, by balance={balance:g}"))
        .when(pl.Series(kept)).then(pl.lit("within the budget"))
        .otherwise(pl.lit("beyond the budget"))
    )  # fmt: skip
    at = pl.format(
        f"{column}={{}}: rank {{}} of {frame.height}, {side} first; {{}}", value, pl.Series(places + 1), why
    )
    return pl.when(value.is_null()).then(pl.lit(f"{column} is missing; nulls='{nulls}'")).otherwise(at)
