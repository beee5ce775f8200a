"""Weights that keep groups in proportion after some of their samples were taken out for forgetting."""

from __future__ import annotations

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput


def group_names(frame: pl.DataFrame, column: str | None) -> np.ndarray:
    """Return each sample's group: its label, or its label together with the value of `column`."""
    if column is None:
        return pl.select(pl.format("label '{}'", frame["label"])).to_series().to_numpy()
    if column not in frame.columns:
        raise BadInput(f"the frame has no group column '{column}'; it has {frame.columns}")
    values = frame[column].cast(pl.String).fill_null("(none)")
    return (
        pl.select(pl.format(f"label '{{}}', {column} '{{}}'", frame["label"], values)).to_series().to_numpy()
    )


def retain_weights(
    groups: np.ndarray, trained: np.ndarray, retained: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Return n_train(g) / n_retain(g) per sample, and the names of groups of which nothing is retained.

    Parameters
    ----------
    groups : ndarray (N,) of str
    trained, retained : ndarray (N,) bool
        What the model was trained on, and what of it stays.

    Returns
    -------
    tuple
        Weights (N,), 1 for samples that are not retained; lost groups in ascending order.

    References
    ----------
    De Min et al. 2025, "Group-robust machine unlearning" (reweighting of the retain set).

    Examples
    --------
    >>> both = np.array([True, True, True])
    >>> weights, lost = retain_weights(np.array(["a", "a", "b"]), both, np.array([True, False, False]))
    >>> weights.tolist(), lost
    ([2.0, 1.0, 1.0], ['b'])
    """
    names, codes = np.unique(groups, return_inverse=True)
    before = np.bincount(codes, trained, names.size)
    after = np.bincount(codes, retained, names.size)
    ratio = (before / np.maximum(after, 1))[codes]
    return np.where(retained, ratio, 1.0), names[(before > 0) & (after == 0)].tolist()
