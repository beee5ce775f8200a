"""The Fréchet distance between two clouds of vectors, each taken as a normal distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DIGITS = 9
"""Significant digits of a distance: products and eigenvalues differ in their last bits between machines."""


@dataclass(frozen=True)
class Moments:
    """Count, sum (D,) and sum of outer products (D, D) of vectors; those of a union add up."""

    count: int
    total: np.ndarray
    outer: np.ndarray

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.count + other.count, self.total + other.total, self.outer + other.outer)


def moments(vectors: np.ndarray) -> Moments:
    """Return the moments of vectors (n, D)."""
    x = vectors.astype(np.float64)
    return Moments(len(x), x.sum(axis=0), x.T @ x)


def normal(of: Moments, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (D,) and covariance (D, D), unbiased, with `ridge` added to the diagonal.

    Fewer vectors than dimensions have a singular covariance, and a single one has none at all.
    """
    mean = of.total / of.count
    spread = (of.outer - of.count * np.outer(mean, mean)) / max(of.count - 1, 1)
    return mean, (spread + spread.T) / 2 + ridge * np.eye(mean.size)


class FrechetDistance:
    """Squared Fréchet distances to one target, |m - m_t|^2 + tr(C + C_t - 2 (C C_t)^(1/2)).

    Parameters
    ----------
    target : ndarray (M, D)
        At least two vectors.
    ridge : float
        Added to the diagonal of both covariances.

    Examples
    --------
    >>> to = FrechetDistance(np.array([[-1.0], [1.0]]), 0.0)  # mean 0, variance 2
    >>> to.of(moments(np.array([[2.0], [4.0]])))  # mean 3, variance 2
    9.0
    """

    def __init__(self, target: np.ndarray, ridge: float) -> None:
        self._ridge = ridge
        self.mean, self._covariance = normal(moments(target), ridge)
        values, vectors = np.linalg.eigh(self._covariance)
        self._root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T

    def of(self, cloud: Moments) -> float:
        """Return the squared distance of a cloud, rounded to 9 significant digits."""
        mean, covariance = normal(cloud, self._ridge)
        # the eigenvalues of C C_t are those of the symmetric C_t^(1/2) C C_t^(1/2)
        product = self._root @ covariance @ self._root
        shared = np.sqrt(np.maximum(np.linalg.eigvalsh((product + product.T) / 2), 0.0)).sum()
        apart = ((mean - self.mean) ** 2).sum()
        distance = apart + np.trace(covariance) + np.trace(self._covariance) - 2 * shared
        return float(f"{max(distance, 0.0):.{DIGITS - 1}e}")
