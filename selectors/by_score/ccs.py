"""CCS, coverage-centric coreset selection: cut the hardest, then spread the budget evenly over strata of a
score.

The paper's symbols: alpha is the pruning rate (our share kept is 1 - alpha), beta the share of hardest
samples cut (`mis_ratio` in the code), k = 50 strata. The cut is always by the accumulated margin, whatever
score is stratified.

Where we differ from the reference implementation, each a defect there: the last stratum is closed, so the top
sample is never lost (`max * 1.0001` lies below a negative maximum); equal scores make one stratum instead of
an empty selection; the budget must fit beside the cut; ties at the cut go by id.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.selectors.budget import exact_share, quotas
from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import (
    Nulls,
    class_codes,
    outcome,
    rank_within,
    score_column,
    score_values,
    seeded_keys,
)

BETA_BY_PRUNING = ((0.9, 0.3), (0.7, 0.1), (0.0, 0.0))
"""Least pruning rate and its default beta: the paper's CIFAR-10 settings for the accumulated margin."""


@selector(
    version=1,
    random=True,
    columns=("score", "cutoff"),
    reference="Zheng, Liu, Lai and Prakash 2023 (CCS), algorithm 1 and appendix",
)
def ccs(
    frame: pl.DataFrame,
    *,
    size: int,
    seed: int,
    score: str = "aum_prob_sum",
    cutoff: str = "aum_prob_sum",
    beta: float | None = None,
    strata: int = 50,
    per_class: bool = False,
    nulls: Nulls = None,
) -> pl.DataFrame:
    """Keep `size` samples spread over equal-width strata of `score`, after cutting the lowest `cutoff`.

    Parameters
    ----------
    score : str
        Column that is stratified; its direction plays no role.
    cutoff : str
        Column whose lowest floor(beta N) samples are cut first (an accumulated margin: low = suspicious); not
        read where beta is 0.
    beta : float, optional
        Share cut, in [0, 1). Default by the share pruned: 0.3 from 90 %, 0.1 from 70 %, else 0. The paper
        tunes it per dataset; tune it on validation data, never on the test set.
    strata : int
        Number of equal-width strata between the lowest and the highest remaining score.
    per_class : bool
        Run the strata within each class, with quotas in proportion to class sizes; the cut stays global.
    nulls : {"keep", "drop"}, optional
        Samples without `score` or `cutoff`: kept as part of the budget, or left out; without it an error.

    Raises
    ------
    BadInput
        If fewer than `size` samples remain after the cut, or for infinite scores.

    Examples
    --------
    >>> frame = pl.DataFrame(
    ...     {"sample_id": list("abcdef"), "label": ["x"] * 6, "aum_prob_sum": [-9.0, 1.0, 1.1, 1.2, 1.3, 9.0]}
    ... )
    >>> ccs(frame, size=2, seed=0, beta=0.2, strata=2)["role"].to_list()[0::5]
    ['drop', 'keep']
    """
    beta = _beta(beta, size, frame.height)
    cutoff = cutoff if beta > 0 else score  # nothing is cut, so nothing need be known
    values, margins = (
        score_values(frame, score_column(frame, column, "ccs"), nulls, "ccs") for column in (score, cutoff)
    )
    missing = np.isnan(values) | np.isnan(margins)
    if np.isinf(values).any():
        raise BadInput(
            f"ccs: '{score}' is infinite for {np.isinf(values).sum()} of {values.size} samples and fits in no stratum"
        )
    if strata < 1:
        raise BadInput(f"ccs: strata must be at least 1, not {strata}")
    cut = _cut(margins, missing, beta)
    always = missing if nulls == "keep" else np.zeros_like(missing)
    pool, left = ~missing & ~cut, size - int(always.sum())
    if not 0 <= left <= int(pool.sum()):
        raise BadInput(
            f"ccs: a budget of {size} does not fit: beta={beta} cuts {int(cut.sum())} of {frame.height}, "
            f"{int(missing.sum())} have no score (nulls={nulls!r}) and {int(pool.sum())} remain; "
            "lower beta or the budget"
        )
    names, codes = class_codes(frame, per_class=per_class)
    sizes, room = (
        np.bincount(codes, minlength=names.size),
        np.bincount(codes, pool, names.size).astype(np.int64),
    )
    shares = quotas(sizes.tolist(), left, upper=room.tolist())
    keys, stratum = seeded_keys(frame, seed, "ccs"), np.full(frame.height, -1)
    kept = always.copy()
    for code, share in enumerate(shares):
        rows = np.flatnonzero(pool & (codes == code))
        if rows.size:
            stratum[rows] = bins(values[rows], strata)
            drawn = rank_within(stratum[rows], (keys[rows],))
            kept[rows] = (
                drawn
                < np.array(water_fill(np.bincount(stratum[rows], minlength=strata), share))[stratum[rows]]
            )
    return _explained(frame, score, cutoff, kept, cut, missing, stratum, beta, strata, seed, nulls)


def bins(values: np.ndarray, strata: int) -> np.ndarray:
    """Return the stratum (0..strata-1) of each value: equal width from least to greatest, the last one
    closed.

    Examples
    --------
    >>> bins(np.array([-3.0, -2.0, -1.0]), 2).tolist(), bins(np.array([5.0, 5.0]), 50).tolist()
    ([0, 1, 1], [0, 0])
    """
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros(values.size, dtype=np.int64)
    position = (values - low) / (high - low) * strata
    return np.minimum(np.floor(position).astype(np.int64), strata - 1)


def water_fill(sizes: np.ndarray, budget: int) -> list[int]:
    """Return how many to take from each stratum: smallest first, each gives floor(rest / strata left) or all
    it has.

    Examples
    --------
    >>> water_fill(np.array([1, 10, 10]), 8)
    [1, 3, 4]
    """
    taken, rest = [0] * len(sizes), budget
    order = np.argsort(sizes, kind="stable")
    for visited, stratum in enumerate(order):
        taken[stratum] = min(int(sizes[stratum]), rest // (len(order) - visited))
        rest -= taken[stratum]
    return taken


def _beta(beta: float | None, size: int, total: int) -> float:
    if beta is None:
        pruned = round(1 - size / total, 2)  # 180 of 1,797 is a 90 % cut
        return next(share for least, share in BETA_BY_PRUNING if pruned >= least)
    if not 0 <= beta < 1:
        raise BadInput(f"ccs: beta must be a share in [0, 1), not {beta!r}")
    return float(beta)


def _cut(margins: np.ndarray, missing: np.ndarray, beta: float) -> np.ndarray:
    """Return which samples have the lowest floor(beta N) margins, ties by id."""
    order = np.lexsort((np.where(missing, np.inf, margins), missing))
    cut = np.zeros(margins.size, dtype=bool)
    cut[order[: int(exact_share(beta) * margins.size)]] = True
    return cut & ~missing


def _explained(
    frame: pl.DataFrame, score: str, cutoff: str, kept: np.ndarray, cut: np.ndarray, missing: np.ndarray,
    stratum: np.ndarray, beta: float, strata: int, seed: int, nulls: Nulls,
) -> pl.DataFrame:  # fmt: skip
    verb = pl.when(pl.Series(kept)).then(pl.lit("drawn")).otherwise(pl.lit("not drawn"))
    margin, value = (pl.col(column).cast(pl.Float64).round_sig_figs(6) for column in (cutoff, score))
    reason = (
        pl.when(pl.Series(missing)).then(pl.lit(f"{score} or {cutoff} is missing; nulls='{nulls}'"))
        .when(pl.Series(cut)).then(pl.format(f"{cutoff}={{}}: in the lowest {beta:.4g}, cut", margin))
        .otherwise(pl.format(
            f"{score}={{}}: stratum {{}} of {strata}, {{}} with seed {seed} (beta={beta:.4g})",
            value, pl.Series(stratum + 1), verb,
        ))
    )  # fmt: skip
    return outcome(frame, kept, reason)
