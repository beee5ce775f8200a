"""TRAK of a sample on itself: how far leaving it out would lower the log odds of its own label.

Read from the job `trak`. An estimate of what `memorization_subset` measures by training without the sample.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer
from tracesift.scorers.influence.trak import trak


@scorer(
    mode=None,
    direction="hard",
    per_sample=True,
    reference="Park, Georgiev, Ilyas, Leclerc, Madry, TRAK: attributing model behavior at scale, ICML 2023 (of a "
    "sample on itself)",
)
def trak_self_influence(trak_self: np.ndarray, trak_residual: np.ndarray) -> np.ndarray:
    """Return how far the sample raises the log odds of its own label; high is memorised or mislabeled.

    Parameters
    ----------
    trak_self : array of shape (N, R)
        phi_i^T G^-1 phi_i, the sample's leverage, in each of R models.
    trak_residual : array of shape (N, R)
        1 - p_i, with p the probability of the sample's label.

    Returns
    -------
    array of shape (N,)
        The product of the two means over models, in [0, 1]. NaN where a model gave no finite numbers.

    References
    ----------
    Park et al., ICML 2023, equation 17, with the sample on both sides.

    Examples
    --------
    >>> trak_self_influence(np.array([[0.5, 0.25], [0.5, 1.0]]), np.array([[0.5, 1.0], [0.0, 1.0]])).tolist()
    [0.28125, 0.375]
    """
    return trak(trak_self, trak_residual)
