"""TRAK: how far leaving a sample out would lower the log odds of the validation samples' labels.

Read from the job `trak`. Its sign is that of `tracin`, a help counts as positive.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="keep",
    per_sample=True,
    reference="Park, Georgiev, Ilyas, Leclerc, Madry, TRAK: attributing model behavior at scale, ICML 2023",
)
def trak(trak_val: np.ndarray, trak_residual: np.ndarray) -> np.ndarray:
    """Return how far the sample raises the mean log odds of the validation samples' labels; negative harms.

    Parameters
    ----------
    trak_val : array of shape (N, R)
        phi_i^T G^-1 times the mean phi of the validation samples, in each of R models.
    trak_residual : array of shape (N, R)
        1 - p_i, with p the probability of the sample's label.

    Returns
    -------
    array of shape (N,)
        The product of the two means over models, in units of log(p / (1 - p)): to first order, what leaving the sample
        out takes off them. NaN where a model gave no finite numbers.

    Notes
    -----
    The scale is absolute, unlike that of the authors' code, which rescales each model's G^-1.

    References
    ----------
    Park et al., ICML 2023, equation 17, with the mean over the validation samples.

    Examples
    --------
    >>> trak(np.array([[0.5, 0.25], [-0.5, -0.25]]), np.array([[0.5, 1.0], [0.0, 1.0]])).tolist()
    [0.28125, -0.1875]
    """
    score = _mean(trak_val) * _mean(trak_residual)
    return np.where(np.isfinite(score), score, np.nan)


def _mean(models: np.ndarray) -> np.ndarray:
    """Return the mean over models (N,), summed in their order."""
    total = np.zeros(len(models))
    for model in models.T:
        total += model
    return np.asarray(total / models.shape[1])
