"""The standard error of `memorization_subset`: how far its estimate from so many models may be off."""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer
from tracesift.scorers.influence.subset_sides import in_and_out


@scorer(
    version=3,
    mode=None,
    direction="hard",
    combine="error",
    per_sample=True,
    reference="Agresti, Caffo, Simple and effective confidence intervals for proportions and differences of "
    "proportions, The American Statistician 2000, with half their counts; for Feldman, Zhang, NeurIPS 2020",
)
def memorization_subset_error(subset_trained: np.ndarray, subset_correct: np.ndarray) -> np.ndarray:
    """Return the standard error of a difference of two shares, half a right and half a wrong model more on each side.

    Parameters
    ----------
    subset_trained, subset_correct : bool arrays of shape (N, R)
        As in `memorization_subset`.

    Returns
    -------
    array of shape (N,)
        sqrt(a (1 - a) / (n + 1) + b (1 - b) / (m + 1)), where of n models that saw the sample x are right, of m others
        y, and a = (x + 1/2) / (n + 1), b = (y + 1/2) / (m + 1). Above 0 where all agree, and the smaller the more
        models do; NaN where a side is empty. Of several seeds it is that of the mean of their estimates.

    Notes
    -----
    The plain formula, with the observed shares, is 0 where all the models of either side agree, as few models do by
    chance: three of three right are no proof of always. Agresti and Caffo add one success and one failure to each side;
    the half of it is what the setting `standard_error` of the job `subset_training` goes by, so that its limit is one
    on the mean of this score. At shares of a half it is less than the plain one, by one part in 2 n.
    `memorization_subset` itself is the published estimate, of the observed shares.

    References
    ----------
    Agresti, Caffo, The American Statistician 54, 2000, for the counts that are added to a difference of shares; Brown,
    Cai, DasGupta, Statistical Science 16, 2001, for the half of Jeffreys' prior; Feldman, Zhang, NeurIPS 2020, appendix
    A, for the spread of the estimate.

    Examples
    --------
    >>> seen = np.array([[1, 1, 0, 0, 0, 0, 0]], dtype=bool)
    >>> right = np.array([[1, 1, 1, 0, 1, 0, 0]], dtype=bool)
    >>> memorization_subset_error(seen, right).round(3).tolist()
    [0.295]
    """
    inside, outside, seen, unseen = in_and_out(subset_trained, subset_correct)
    return np.sqrt(_variance(inside, seen) + _variance(outside, unseen))


def _variance(share: np.ndarray, models: np.ndarray) -> np.ndarray:
    """Return that of a share (N,) of so many models, half a right and half a wrong one counted in."""
    rate = (share * models + 0.5) / (models + 1)
    return rate * (1 - rate) / (models + 1)
