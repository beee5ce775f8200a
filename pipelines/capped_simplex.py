"""The nearest point of a capped simplex: weights between 0 and 1 with a given sum."""

from __future__ import annotations

import numpy as np

from tracesift.catalog.schema import BadInput

HALVINGS = 100
"""More than float64 can tell apart; the authors of the worst-case forget sets stop at a shift known to 1e-5."""


def onto_capped_simplex(values: np.ndarray, total: float) -> np.ndarray:
    """Return the point of {0 <= w <= 1, sum w = total} nearest to `values`.

    The solution is clip(values - shift, 0, 1) with the one shift that gives the sum; it is found by bisection.

    Parameters
    ----------
    values : array of shape (n,)
        Finite.
    total : float
        From 0 to n.

    Returns
    -------
    array of shape (n,)
        float64; the sum is `total` but for rounding.

    Raises
    ------
    BadInput
        A total that no weights have, or values that are not finite.

    References
    ----------
    Wang, Lu, Projection onto the capped simplex, 2015; Fan et al., ECCV 2024, by bisection.

    Examples
    --------
    >>> onto_capped_simplex(np.array([0.9, 0.4, -3.0]), 1.0).round(9).tolist()
    [0.75, 0.25, 0.0]
    """
    given = np.asarray(values, dtype=np.float64)
    if given.ndim != 1 or not np.isfinite(given).all():
        raise BadInput("onto_capped_simplex: values are one row of finite numbers")
    if not 0 <= total <= given.size:
        raise BadInput(f"onto_capped_simplex: {given.size} weights from 0 to 1 cannot add up to {total}")
    if total in (0, given.size):
        return np.full(given.size, float(total > 0))
    low, high = given.min() - 1, given.max()  # all weights are 1 at the one, 0 at the other
    for _ in range(HALVINGS):
        shift = (low + high) / 2
        if np.clip(given - shift, 0, 1).sum() > total:
            low = shift
        else:
            high = shift
    return np.clip(given - (low + high) / 2, 0, 1)
