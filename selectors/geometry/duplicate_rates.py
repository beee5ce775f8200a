"""How many samples SemDeDup would drop, for several eps at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.selectors.geometry.semdedup import limit_of

EPS = (0.0005, 0.002, 0.01, 0.02, 0.05, 0.1)
"""What is told by default."""


def duplicate_rates(similarity: np.ndarray, eps: Sequence[float] = EPS) -> dict[float, float]:
    """Return the share of samples whose similarity is above 1 - eps, for each eps.

    Parameters
    ----------
    similarity : ndarray (N,)
        Largest cosine with an earlier item: the column `dup_similarity`. NaN, no vector, duplicates nothing.
    eps : sequence of float
        Each in (0, 1).

    Raises
    ------
    BadInput
        For an eps outside (0, 1).

    Examples
    --------
    >>> duplicate_rates(np.array([0.0, 0.995, 0.96, 1.0]), [0.01, 0.05])
    {0.01: 0.5, 0.05: 0.75}
    """
    for one in eps:
        if not 0 < one < 1:
            raise BadInput(f"duplicate_rates: eps is in (0, 1), got {one!r}")
    values = np.asarray(similarity, dtype=np.float64)
    count = max(1, values.size)
    return {float(one): float((values > limit_of(one)).sum() / count) for one in eps}
