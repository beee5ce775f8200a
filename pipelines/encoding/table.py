"""Tables as float32 columns: numbers standardised, text one-hot, what is missing marked.

Means, deviations and levels are fitted on given rows, so that nothing of val or test leaks into training.
"""

from __future__ import annotations

import numpy as np
import polars as pl

MOST_LEVELS = 100
RARE = 10
"""Levels seen fewer times in the fitted rows are pooled into one column."""

CLIP = 10.0
"""Standard deviations beyond which a number says no more; keeps one outlier from ruling a batch."""


def encode_table(table: pl.DataFrame | np.ndarray, fit: np.ndarray) -> np.ndarray:
    """Return the columns of `table` as float32 (N, D).

    Parameters
    ----------
    table
        Feature columns, or a float matrix (N, d).
    fit
        Rows that means, deviations and levels are taken from.

    Examples
    --------
    >>> table = pl.DataFrame({"age": [20.0, 40.0, None], "job": ["cook", "cook", "pilot"]})
    >>> encode_table(table, np.array([0, 1])).tolist()
    [[-1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]
    """
    if isinstance(table, np.ndarray):
        columns = [part for values in table.T for part in _number(values.astype(np.float64), fit)]
    else:
        # By name: a copy with its columns in another order is the same data, and gives the same recording.
        columns = [part for name in sorted(table.columns) for part in _series(table[name], fit)]
    if not columns:
        columns = [np.zeros(len(table), dtype=np.float32)]
    return np.stack(columns, axis=1).astype(np.float32)


def _series(series: pl.Series, fit: np.ndarray) -> list[np.ndarray]:
    if series.dtype == pl.String:
        return _levels(series, fit)
    if series.dtype.is_temporal():
        series = series.dt.epoch("us")
    return _number(series.cast(pl.Float64).to_numpy(), fit)


def _number(values: np.ndarray, fit: np.ndarray) -> list[np.ndarray]:
    present = np.isfinite(values)
    known = values[fit][present[fit]]
    mean, std = (known.mean(), known.std()) if len(known) else (0.0, 0.0)
    scaled = np.where(present, values - mean, 0.0) / (std if std > 0 else 1.0)
    columns = [np.clip(scaled, -CLIP, CLIP)]
    return columns if present.all() else [*columns, (~present).astype(np.float64)]


def _levels(series: pl.Series, fit: np.ndarray) -> list[np.ndarray]:
    """Return one column per frequent level, in the order of the levels, and one for all others."""
    counts = (
        series.gather(fit).drop_nulls().value_counts().sort(["count", series.name], descending=[True, False])
    )
    frequent = counts.filter(pl.col("count") >= min(RARE, max(2, len(fit) // 100)))[series.name].head(
        MOST_LEVELS
    )
    levels = frequent.sort().to_list()
    columns = [(series == level).fill_null(value=False).to_numpy() for level in levels]
    other = (~series.is_in(levels)).fill_null(value=True).to_numpy()
    return [*columns, other]
