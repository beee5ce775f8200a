"""Activation clustering: the two groups that a class falls into, and how deep a sample lies in the smaller one.

The paper reduces the features by independent component analysis. FastICA whitens them by their principal components
and then only rotates, and a rotation moves no distance, so that k-means finds the same groups in the whitened principal
components. We take these: no iteration that may not converge, and nothing drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Flags, Floats, Integers
from tracesift.scorers.contract import scorer
from tracesift.scorers.geometry.cal import finite_rows
from tracesift.scorers.geometry.class_centroid_distance import centre
from tracesift.scorers.unlearnable.spectral_signature import principal

LEAST = 4
"""Samples for each component: with as many components as samples all are equally far from one another."""
STEPS = 100
"""Most rounds of k-means from each start."""
UNITS = 10**6
"""Coordinates are whole millionths of a deviation, so that sums are exact and in no order."""
VARIES = 1e-10
"""Share of the largest variance below which a component is rounding error."""


@scorer(
    mode=None,
    direction="suspicious",
    experimental=True,
    reference="Chen, Carvalho, Baracaldo, Ludwig, Edwards, Lee, Molloy, Srivastava, Detecting backdoor attacks on deep "
    "neural networks by activation clustering, SafeAI 2019 (arXiv 1811.03728)",
)
def activation_clustering(embedding: np.ndarray, labels: np.ndarray, *, components: int = 10) -> np.ndarray:
    """Return the silhouette in the smaller of the class's two clusters, negative in the larger; high is suspicious.

    Parameters
    ----------
    embedding : array of shape (N, D)
        Of the model trained on the suspected data, its last hidden layer, as in the paper. A row that is not finite
        stands for no vector.
    labels : array of shape (N,)
    components
        Whitened principal components of the class that are clustered; fewer where there are fewer, and at most one for
        every four of its samples.

    Returns
    -------
    array of shape (N,)
        In [-1, 1], rounded to 6 digits: 1 - a/b with the distances a to the own and b to the other centroid, with a
        minus in the larger cluster. So above 0 is the paper's membership in the suspected cluster, and the size says
        how well the two are apart. Of two clusters of one size the tighter is the suspected one; 0 for all of a class
        without two clusters, or whose two cannot be told apart. NaN without a vector, and for classes below four.

    Raises
    ------
    BadInput
        For fewer than one component.

    Notes
    -----
    The paper decides by class whether its smaller cluster is poison: by its share (of clean classes it is near a half),
    by the silhouette of the class (0.10 to 0.15 with poison), or by training without it. A score per sample, by the
    silhouette to centroids instead of all pairs, is ours. k-means starts from the best cut along each component and
    the tightest result counts.

    Blind to: half of a class or more (the smaller cluster is then the clean one), noise that differs from sample to
    sample, a signal that all of a class carry, and shares of a few per cent, which k-means does not cut off. In a clean
    class it reports the smaller of two halves like any other.

    References
    ----------
    Chen et al. 2019, section 4 and 5; Hruschka, de Castro, Campello, ICDM 2004 (simplified silhouette).

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [20.0], [21.0], [9.0]])
    >>> activation_clustering(x, np.array([0, 0, 0, 0, 0, 0, 0, 1])).round(2).tolist()
    [-0.9, -0.95, -1.0, -0.94, -0.88, 0.97, 0.97, nan]
    """
    if components < 1:
        raise BadInput(f"activation_clustering: components is at least 1, got {components}")
    score = np.full(len(labels), np.nan)
    there = finite_rows(embedding)
    for label in np.unique(labels[there]):
        rows = there[labels[there] == label]
        if len(rows) >= LEAST:
            residual = np.ascontiguousarray(embedding[rows], dtype=np.float64)
            residual -= centre(residual, "mean")
            score[rows] = _depth(_whitened(residual, min(components, len(rows) // LEAST)))
    return score


def _whitened(residual: Floats, components: int) -> Integers:
    """Return the first principal components, each of deviation 1, in whole units (n, at most `components`)."""
    squares, directions = principal(residual, components)
    varies = squares > max(VARIES * squares[0], np.finfo(np.float64).tiny)
    deviations = np.sqrt(squares[varies] / len(residual))
    return np.rint(residual @ directions[:, varies] / deviations * UNITS).astype(np.int64)


@dataclass(frozen=True)
class Halves:
    """Two clusters of the rows of one class."""

    second: Flags
    """(n,) which rows lie in the second one; neither is empty."""
    centres: Floats
    """(2, d)"""
    inertia: int
    """Sum of the squared distances to the own centroid, in squared units."""


def _depth(points: Integers) -> Floats:
    found = [
        halves for at in range(points.shape[1]) if (halves := two_means(points, _best_cut(points[:, at])))
    ]
    if not found:
        return np.zeros(len(points))
    best = min(found, key=lambda halves: halves.inertia)
    small = _suspected(points, best)
    if small is None:
        return np.zeros(len(points))
    distances = np.sqrt(np.stack([_squares(points, centre) for centre in best.centres]))
    own, other = np.where(best.second, distances[::-1], distances)
    depth = 1.0 - own / np.maximum(other, own).clip(min=1.0)
    return np.where(best.second == small, depth, -depth).round(6)


def _suspected(points: Integers, halves: Halves) -> bool | None:
    """Return whether the second cluster is the smaller or, of equal ones, the tighter; None where they are alike."""
    sizes = (int((~halves.second).sum()), int(halves.second.sum()))
    if sizes[0] != sizes[1]:
        return sizes[1] < sizes[0]
    spreads = (_inertia(points[~halves.second]), _inertia(points[halves.second]))
    return None if np.isclose(*spreads, rtol=1e-5) else spreads[1] < spreads[0]


def _best_cut(values: Integers) -> Flags:
    """Return which values lie in the upper of the two groups with the least sum of squares in one dimension."""
    ordered = np.sort(values).astype(np.float64) / UNITS
    below = np.arange(1, len(values))
    sums, total = np.cumsum(ordered)[:-1], ordered.sum()
    between = (sums**2 / below + (total - sums) ** 2 / (len(values) - below)).round(6)
    between[ordered[1:] == ordered[:-1]] = -np.inf  # no cut through equal values
    return np.asarray(values / UNITS >= ordered[1 + int(between.argmax())])


def two_means(points: Integers, second: Flags) -> Halves | None:
    """Return where Lloyd's rounds lead from a division into two; None where one cluster loses all its rows.

    Parameters
    ----------
    points : int64 array of shape (n, d)
    second : bool array of shape (n,)
        The division to start from.

    Examples
    --------
    >>> found = two_means(np.array([[0], [2], [10], [12]]), np.array([False, True, True, True]))
    >>> found.second.tolist(), found.centres.ravel().tolist(), found.inertia
    ([False, False, True, True], [1.0, 11.0], 4)
    """
    for _ in range(STEPS):
        if second.all() or not second.any():
            return None
        centres = np.stack([_mean(points[~second]), _mean(points[second])])
        nearer = _squares(points, centres[1]) < _squares(points, centres[0])
        if (nearer == second).all():
            break
        second = nearer
    inertia = round(_inertia(points[~second]) + _inertia(points[second]))
    return Halves(second, centres, inertia)


def _mean(points: Integers) -> Floats:
    return np.asarray(points.sum(axis=0) / len(points))


def _inertia(points: Integers) -> float:
    return float(np.sort(_squares(points, _mean(points))).sum()) if len(points) else 0.0


def _squares(points: Integers, centre: Floats) -> Floats:
    """Return squared distances (n,), summed column after column."""
    total = np.zeros(len(points))
    for at in range(points.shape[1]):
        total += (points[:, at] - centre[at]) ** 2
    return total
