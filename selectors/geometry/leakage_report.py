"""Leakage between splits: training samples that duplicate one of the samples a model is judged by.

An accuracy measured on them is partly memory. Unlike within a split, nothing is approximate here: every training
sample is compared with every other one's.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from tracesift.catalog.nearest_rows import nearest_rows, unit_rows
from tracesift.catalog.schema import BadInput
from tracesift.selectors.geometry.semdedup import limit_of


def leakage_report(train: np.ndarray, other: np.ndarray, eps: float = 0.02) -> pl.DataFrame:
    """Return the training samples that duplicate a sample of another split.

    Parameters
    ----------
    train : ndarray (N, D)
        Vectors of the training samples, of a general-purpose encoder.
    other : ndarray (M, D)
        Vectors of the validation or test samples, by the same encoder.
    eps : float
        Duplicates have a cosine above 1 - eps, in (0, 1).

    Returns
    -------
    polars.DataFrame
        `train_row`, `other_row`, its nearest, and their `cosine`, rounded to 6 digits: one row for each training
        sample that leaks, most alike first, ties by `train_row`. Rows of zeros, or not finite, duplicate nothing.

    Raises
    ------
    BadInput
        For an eps outside (0, 1), or vectors of different widths.

    References
    ----------
    Abbas et al. 2023 (SemDeDup), applied across splits.

    Examples
    --------
    >>> leakage_report(np.array([[1.0, 0.0], [0.6, 0.8]]), np.array([[0.0, 1.0], [3.0, 0.01]])).rows()
    [(0, 1, 0.999994)]
    """
    if isinstance(eps, bool) or not 0 < eps < 1:
        raise BadInput(
            f"leakage_report: eps is in (0, 1), a duplicate's cosine is above 1 - eps; got {eps!r}"
        )
    if train.ndim != 2 or other.ndim != 2 or train.shape[1] != other.shape[1]:
        raise BadInput(
            f"leakage_report: both are (samples, dimensions) of one encoder, got {train.shape} and {other.shape}"
        )
    rows, base = _directed(train), _directed(other)
    index, cosines = nearest_rows(unit_rows(train), rows, base, 1, among=unit_rows(other))
    if not index.size:
        rows, index, cosines = rows[:0], np.zeros((0, 1), dtype=np.int64), np.zeros((0, 1))
    found = pl.DataFrame({"train_row": rows, "other_row": base[index[:, 0]], "cosine": cosines[:, 0]})
    return found.filter(pl.col("cosine") > limit_of(eps)).sort(
        "cosine", "train_row", descending=[True, False]
    )


def _directed(vectors: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1))
