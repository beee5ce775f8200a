"""Mahalanobis distance to the own class: how many standard deviations off, in the directions that there are.

One covariance is shared by all classes, as each alone has seldom enough samples for its own. It is shrunk towards a
multiple of the identity, so that it can be inverted where there are more dimensions than samples.
"""

from __future__ import annotations

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Floats, row_blocks
from tracesift.scorers.contract import scorer
from tracesift.scorers.geometry.cal import finite_rows
from tracesift.scorers.geometry.class_centroid_distance import centre

DIGITS = 6
"""Significant digits that are kept: those of matrix products beyond them differ from machine to machine."""


@scorer(
    mode=None,
    direction="outlier",
    experimental=True,
    reference="Lee, Lee, Lee, Shin, A simple unified framework for detecting out-of-distribution samples, NeurIPS "
    "2018; Ledoit, Wolf, A well-conditioned estimator for large-dimensional covariance matrices, 2004",
)
def outlier_mahalanobis(
    embedding: np.ndarray, labels: np.ndarray, *, per_class: bool = True, shrinkage: float | None = None
) -> np.ndarray:
    """Return the Mahalanobis distance to the mean of the sample's class; high is unlike the class.

    Parameters
    ----------
    embedding : array of shape (N, D)
        Of the trained model, as in the paper, or of a general-purpose encoder. A row that is not finite stands for
        no vector and has no part in means and covariance.
    labels : array of shape (N,)
    per_class
        Measure from the mean of the own class; otherwise from that of all samples.
    shrinkage
        Share s of the scaled identity in the covariance, (1 - s) S + s trace(S)/D I, from 0 to 1; by Ledoit and Wolf's
        formula for None.

    Returns
    -------
    array of shape (N,)
        sqrt(r^T Sigma^-1 r) with r the sample less the mean: in standard deviations, at least 0, rounded to 6
        significant digits. 0 for the only sample of a class, which is its own mean. NaN without a vector, and where
        fewer than two samples have one.

    Raises
    ------
    BadInput
        For a shrinkage outside [0, 1].

    Notes
    -----
    The samples are measured by a covariance that they are part of, so no sample of n in a class is farther than
    sqrt(N) away, and a few extreme ones hide one another. Without any shrinkage, and D of N or more, all are about
    equally far. Every r lies where Sigma does not vanish, so its pseudo-inverse is exact.

    References
    ----------
    Lee et al., NeurIPS 2018, section 2.1 (class means, one covariance); Ledoit, Wolf, Journal of Multivariate
    Analysis 2004, section 3.

    Examples
    --------
    >>> x = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, -2.0], [0.0, 2.0]])
    >>> outlier_mahalanobis(x, np.zeros(4, dtype=int), shrinkage=0.0).tolist()
    [1.41421, 1.41421, 1.41421, 1.41421]
    >>> outlier_mahalanobis(x, np.zeros(4, dtype=int), shrinkage=1.0).tolist()
    [0.894427, 0.894427, 1.78885, 1.78885]
    """
    if shrinkage is not None and not 0 <= shrinkage <= 1:
        raise BadInput(f"outlier_mahalanobis: shrinkage is a share from 0 to 1, got {shrinkage}")
    score = np.full(len(embedding), np.nan)
    there = finite_rows(embedding)
    if len(there) < 2:
        return score
    residual = np.ascontiguousarray(embedding[there], dtype=np.float64)
    groups = labels[there] if per_class else np.zeros(len(there), dtype=np.int64)
    for group in np.unique(groups):
        own = groups == group
        residual[own] -= centre(residual[own], "mean")
    whitening = _whitening(residual, shrinkage)
    for block in row_blocks(len(there), embedding.shape[1]):
        squares = (np.ascontiguousarray(residual[block] @ whitening) ** 2).sum(axis=1)
        score[there[block]] = [float(f"{value:.{DIGITS}g}") for value in np.sqrt(squares)]
    return score


def _whitening(residual: Floats, shrinkage: float | None) -> Floats:
    """Return W (D, D') with Sigma^-1 = W W^T on the directions in which the residuals vary."""
    from sklearn.covariance import ledoit_wolf  # a second of import that listing the scorers spares

    if shrinkage is None:
        sigma, _ = ledoit_wolf(residual, assume_centered=True)
    else:
        sample = residual.T @ residual / len(residual)
        sigma = (1 - shrinkage) * sample + shrinkage * np.trace(sample) / len(sample) * np.eye(len(sample))
    values, vectors = np.linalg.eigh(sigma)
    varies = values > values[-1] * len(values) * np.finfo(np.float64).eps
    return np.asarray(vectors[:, varies] / np.sqrt(values[varies]))
