"""Positive similarities of samples, 1 of a sample with itself: what graph cut and log-determinant are made of.

"cosine" is the half of one plus the cosine. "euclidean" is exp(-d^2 / 2 h^2) with h^2 half the mean squared
distance between samples, so that a pair at the usual distance has exp(-1). Both make positive semi-definite
matrices. A row of zeros has cosine 0 to every other.
"""

from __future__ import annotations

import numpy as np

from tracesift.catalog.nearest_rows import Metric
from tracesift.selectors.geometry.distances import Space, laid_out, mean_point, squared_distances

DIGITS = 9
"""Decimals that an exponential is rounded to, whose last bits depend on the machine."""


class Similarity:
    """The similarities among the samples at some rows of a space.

    Parameters
    ----------
    where : Space
    rows : ndarray (n,)
    metric : {"cosine", "euclidean"}
        The one that the space was made with.

    Examples
    --------
    >>> from tracesift.selectors.geometry.distances import space
    >>> corners = space(np.array([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), "cosine", "graph_cut")
    >>> Similarity(corners, np.arange(3), "cosine").to_all(0).round(9).tolist()
    [1.0, 0.5, 0.0]
    """

    def __init__(self, where: Space, rows: np.ndarray, metric: Metric) -> None:
        self._space, self._rows, self._metric = where, rows, metric
        self._laid = laid_out(where, rows)
        self._mean = mean_point(self._laid)
        self._empty = where.empty[rows]
        # the mean squared distance between samples is twice that to their mean
        self._width = 2 * float(np.cumsum(squared_distances(self._laid, self._mean))[-1]) / rows.size

    def to_all(self, place: int) -> np.ndarray:
        """Return the similarities (n,) of the sample at `place` of the rows to all of them."""
        squared = squared_distances(self._laid, self._space.at(int(self._rows[place])))
        if self._metric == "euclidean":
            return self._from_squared(squared)
        cosines = 1 - squared / 2
        similar = (1 + np.where(self._empty | self._empty[place], 0.0, cosines)) / 2
        similar[place] = 1.0
        return similar

    def sums(self) -> np.ndarray:
        """Return the sum (n,) of the similarities of each sample to all.

        The cosines of a sample to all add up to its product with the sum of all; the exponentials take a pass over
        the embedding for each sample.
        """
        n = self._rows.size
        if self._metric == "euclidean":
            return np.array([float(np.cumsum(self.to_all(place))[-1]) for place in range(n)])
        to_mean, from_origin = (
            squared_distances(self._laid, point) for point in (self._mean, 0 * self._mean)
        )
        length = float(np.cumsum(self._mean * self._mean)[-1])
        products = n * (from_origin + length - to_mean) / 2
        return (n + 1 + products - from_origin) / 2  # with itself a sample has 1, whatever its rounded length

    def _from_squared(self, squared: np.ndarray) -> np.ndarray:
        return np.exp(-squared / self._width).round(DIGITS) if self._width > 0 else np.ones(squared.size)
