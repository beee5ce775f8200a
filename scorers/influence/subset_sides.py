"""Means over the models that trained on a sample, and over those that did not."""

from __future__ import annotations

import numpy as np


def in_and_out(
    trained: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the two means and the two counts, float64 (N,) each; a mean over no model is NaN.

    Parameters
    ----------
    trained : bool array of shape (N, R)
    values : array of shape (N, R)

    Examples
    --------
    >>> [side.tolist() for side in in_and_out(np.array([[True, False, False]]), np.array([[1.0, 0.5, 0.0]]))]
    [[1.0], [0.25], [1.0], [2.0]]
    """
    values = values.astype(np.float64)
    inside, outside = trained.sum(axis=1).astype(np.float64), (~trained).sum(axis=1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return (
            np.where(trained, values, 0.0).sum(axis=1) / inside,
            np.where(trained, 0.0, values).sum(axis=1) / outside,
            inside,
            outside,
        )
