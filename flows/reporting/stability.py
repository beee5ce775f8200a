"""Which decisions hold whatever the seed: the recordings of several seeds, each scored and judged by itself.

Scores are compared by rank, flags and subsets by who is in them. The pruned subset is also drawn again from seeds
resampled with replacement (a bootstrap over runs): how far another choice of as many seeds would have changed it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from tracesift.flows.work import Work
from tracesift.scorers.contract import combine, find

RESAMPLED = 200
"""How often the seeds are drawn again."""


def scores_of(work: Work, run_id: str, scorers: Sequence[str]) -> pl.DataFrame:
    """Return what one run alone scored with the usual settings: `sample_id`, ascending, and a column per scorer."""
    usual = work.catalog.query(
        "SELECT scorer, params FROM score_columns JOIN score_runs USING (run_key) "
        "WHERE run_id = ? AND column_name = scorer",
        (run_id,),
    )
    params = dict(usual.iter_rows())
    columns = [
        work.catalog.query(
            "SELECT sample_id, value FROM scores WHERE run_id = ? AND scorer = ? AND params = ? ORDER BY sample_id",
            (run_id, name, params[name]),
        ).rename({"value": name})
        for name in scorers
        if name in params
    ]
    frame = pl.DataFrame(schema={"sample_id": pl.String})
    for column in columns:
        frame = frame.join(column, on="sample_id", how="full", coalesce=True)
    return frame.sort("sample_id")


def rank_correlations(frames: Sequence[pl.DataFrame]) -> list[dict[str, Any]]:
    """Return Spearman's correlation between each two seeds, per scorer: mean and least, least first.

    Parameters
    ----------
    frames
        One per seed: a row per sample in the same order, a column per scorer. Scorers that some seed lacks, and those
        that are the same number for all samples, are left out.
    """
    found = []
    for name in frames[0].columns:
        columns = [
            frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
            for frame in frames
            if name in frame.columns
        ]
        if len(columns) < len(frames):
            continue
        pairs = [_spearman(one, other) for one, other in combinations(columns, 2)]
        if not np.isnan(pairs).any():
            found.append(
                {"scorer": name, "mean": round(float(np.mean(pairs)), 4), "least": round(min(pairs), 4)}
            )
    return sorted(found, key=lambda row: (row["least"], row["scorer"]))


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    there = np.isfinite(one) & np.isfinite(other)
    one, other = one[there], other[there]
    if len(one) < 3 or (one == one[0]).all() or (other == other[0]).all():
        return float("nan")
    from scipy.stats import spearmanr  # a second of import that whoever has one seed is spared

    return float(spearmanr(one, other).statistic)


def held_by(decided: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return who is decided alike: ``every``, by every seed; ``some``, by at least one; ``overlap``, their ratio.

    Parameters
    ----------
    decided
        One bool array (N,) per seed.
    """
    every, some = int(np.logical_and.reduce(decided).sum()), int(np.logical_or.reduce(decided).sum())
    return {"every": every, "some": some, "overlap": round(every / some, 4) if some else None}


def bootstrapped(
    frames: Sequence[pl.DataFrame],
    chosen: np.ndarray,
    choose: Callable[[pl.DataFrame], np.ndarray],
    *,
    seed: int,
) -> dict[str, Any]:
    """Return how much of a selection stands when the seeds are drawn again with replacement.

    Parameters
    ----------
    frames
        Scores of each seed, rows and columns alike.
    chosen
        Bool (N,): the selection that was made from all seeds combined.
    choose
        Scores -> bool (N,), as the selection was made.
    seed
        Of the resampling.

    Returns
    -------
    dict
        ``overlap``: mean share of `chosen` that a resample chooses as well, ``low`` and ``high``: the 2.5 and 97.5 %
        points.
    """
    rng = np.random.default_rng(seed)
    draws = [tuple(sorted(rng.integers(len(frames), size=len(frames)).tolist())) for _ in range(RESAMPLED)]
    shares = {
        draw: float(
            (choose(combined([frames[place] for place in draw])) & chosen).sum() / max(chosen.sum(), 1)
        )
        for draw in sorted(set(draws))
    }
    low, high = np.quantile([shares[draw] for draw in draws], [0.025, 0.975])
    mean = np.mean([shares[draw] for draw in draws])
    return {"overlap": round(float(mean), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def combined(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the frames' scores as one, each column by the rule that its scorer declares."""
    names = [name for name in frames[0].columns if all(name in frame.columns for frame in frames)]
    return pl.DataFrame(
        {name: combine([frame[name] for frame in frames], find(name).combine or "mean")[0] for name in names}
    )
