"""The standard error of `memorization_subset`: how far its estimate from so many models may be off."""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer
from tracesift.scorers.influence.subset_sides import in_and_out


@scorer(
    mode=None,
    direction="hard",
    per_sample=True,
    reference="the standard error of a difference of two shares; for Feldman, Zhang, NeurIPS 2020",
)
def memorization_subset_error(subset_trained: np.ndarray, subset_correct: np.ndarray) -> np.ndarray:
    """Return sqrt(a (1 - a) / n + b (1 - b) / m) of the shares a of n models that saw a sample and b of m that did not.

    Parameters
    ----------
    subset_trained, subset_correct : bool arrays of shape (N, R)
        As in `memorization_subset`.

    Returns
    -------
    array of shape (N,)
        0 where all the models of either side agree, which few models do by chance; NaN where a side is empty.

    References
    ----------
    Feldman, Zhang, NeurIPS 2020, appendix A, for the spread of the estimate.

    Examples
    --------
    >>> seen = np.array([[1, 1, 0, 0, 0, 0]], dtype=bool)
    >>> right = np.array([[1, 1, 1, 0, 1, 0]], dtype=bool)
    >>> memorization_subset_error(seen, right).tolist()
    [0.25]
    """
    inside, outside, seen, unseen = in_and_out(subset_trained, subset_correct)
    return np.sqrt(inside * (1 - inside) / seen + outside * (1 - outside) / unseen)
