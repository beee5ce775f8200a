"""Leave-one-out distinguishability: how far a sample moves the prediction at its own place.

Training is modelled as Gaussian process regression on the labels, whose posterior without one sample follows from the
posterior with it. Of sample i only two numbers are needed: its leverage l_i = k_i^T M^-1 e_i, with M = K + s^2 I, and
its residual r_i = y_i - f(x_i). Without it the mean at x_i moves by l_i r_i / (1 - l_i), and the variance from s^2 l_i
to s^2 l_i / (1 - l_i).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Floats, Integers, row_blocks
from tracesift.scorers.contract import scorer
from tracesift.scorers.geometry.cal import finite_rows

DIGITS = 6
"""Significant digits that are kept: beyond them the order of the samples leaves traces in their sums."""

Distance = Literal["mean", "kl"]


@scorer(
    mode=None,
    direction="hard",
    experimental=True,
    reference="Ye, Borovykh, Hayou, Shokri, Leave-one-out distinguishability in machine learning, ICLR 2024",
)
def lood(
    embedding: np.ndarray,
    labels: np.ndarray,
    *,
    kernel: Literal["linear", "rbf"] = "linear",
    distance: Distance = "mean",
    noise: float = 0.05,
    bandwidth: float | None = None,
    max_samples: int = 4000,
) -> np.ndarray:
    """Return how far leaving the sample out moves the prediction for it; high is memorised.

    Parameters
    ----------
    embedding : array of shape (N, D)
        Features of the trained model or of another encoder. A row that is not finite stands for no vector.
    labels : array of shape (N,)
        Regressed on as onehot(y) - 1/K, as in the authors' code.
    kernel
        ``"linear"``, 1 + <h, h'>, the tangent kernel of a last layer, exact for any N in N D^2; or ``"rbf"``,
        exp(-|h - h'|^2 / (2 b^2)), which inverts an N x N matrix.
    distance
        ``"mean"``, the squared Euclidean distance of the posterior means; ``"kl"``, KL(without the sample | with it)
        of the posteriors, in nats, over all classes.
    noise
        s^2, as a multiple of the mean k(x, x); 0.05 in the authors' code.
    bandwidth
        b of the rbf kernel; the median distance between two samples where None.
    max_samples
        The rbf kernel is refused for more: memory grows with N^2 and time with N^3.

    Returns
    -------
    array of shape (N,)
        At least 0, rounded to 6 significant digits: about 0 where others predict the sample as well, large for one that
        stands alone and is labelled otherwise than its surroundings. NaN without a vector.

    Raises
    ------
    BadInput
        A setting that does not exist or is not above 0, more samples than `max_samples`, or identical samples only
        where a bandwidth is to be found.

    Notes
    -----
    The paper's kernel is that of a randomly initialised network over its inputs (NNGP); ours is one over features,
    which is what a recording holds. `leave_one_out_distance` takes any kernel matrix.

    References
    ----------
    Ye et al., ICLR 2024, section 3 (mean and KL LOOD of Gaussian processes); the authors' code for the constants.

    Examples
    --------
    >>> x = np.array([[0.0], [0.1], [0.2], [5.0]])
    >>> score = lood(x, np.array([0, 0, 1, 1]), kernel="rbf", bandwidth=1.0)
    >>> score.argsort().tolist()  # those that agree, the one among others, the one that no other speaks for
    [1, 0, 2, 3]
    """
    if kernel not in ("linear", "rbf") or distance not in ("mean", "kl"):
        raise BadInput(
            f"lood: kernel is 'linear' or 'rbf' and distance 'mean' or 'kl', not {kernel!r} and {distance!r}"
        )
    for name, value in (("noise", noise), ("bandwidth", bandwidth)):
        if value is not None and not 0 < value < math.inf:
            raise BadInput(f"lood: {name} is above 0, got {value}")
    rows = finite_rows(embedding)
    score = np.full(len(labels), np.nan)
    if not len(rows):
        return score
    if kernel == "rbf" and len(rows) > max_samples:
        raise BadInput(
            f"lood: the rbf kernel of {len(rows)} samples is larger than max_samples={max_samples}; use "
            "kernel='linear', which takes any number, or raise max_samples"
        )
    x, classes = np.ascontiguousarray(embedding[rows]), int(labels.max()) + 1
    if kernel == "rbf":
        targets = _centred(labels[rows], classes)
        moved = leave_one_out_distance(_rbf(x, bandwidth), targets, noise, distance=distance)
    else:
        moved = _by_features(x, labels[rows], classes, noise, distance)
    score[rows] = [float(f"{value:.{DIGITS}g}") for value in moved]
    return score


def leave_one_out_distance(
    kernel: np.ndarray, targets: np.ndarray, noise: float, *, distance: Distance = "mean"
) -> Floats:
    """Return `lood` at each sample's own place, for any kernel matrix and targets.

    Parameters
    ----------
    kernel : array of shape (n, n)
    targets : array of shape (n, K)
    noise
        s^2.
    distance
        As in `lood`.

    Returns
    -------
    array of shape (n,)

    Examples
    --------
    >>> leave_one_out_distance(np.eye(2), np.array([[1.0], [2.0]]), 1.0).round(9).tolist()  # from y/2 to 0
    [0.25, 1.0]
    """
    inverse, alpha = _inverse(kernel, targets, noise)
    leverages = np.maximum(1.0 - noise * np.diagonal(inverse), 0.0)
    return _moved(leverages, noise * alpha, noise, distance)


def leave_one_out_changes(
    kernel: np.ndarray, queries: np.ndarray, targets: np.ndarray, noise: float
) -> Floats:
    """Return how far leaving each sample out moves the posterior mean at other places.

    Parameters
    ----------
    kernel : array of shape (n, n)
    queries : array of shape (Q, n)
        The kernel between places and samples.
    targets : array of shape (n, K)
    noise
        s^2.

    Returns
    -------
    array of shape (Q, n, K)
        Mean with the sample minus mean without it: (k_q^T M^-1 e_i) alpha_i / (M^-1)_ii, with alpha = M^-1 y.

    Examples
    --------
    >>> leave_one_out_changes(np.eye(1), np.array([[0.5]]), np.array([[2.0]]), 1.0).round(9).tolist()
    [[[0.5]]]
    """
    inverse, alpha = _inverse(kernel, targets, noise)
    return _times(np.array(queries, dtype=np.float64, order="C"), inverse)[:, :, None] * (
        alpha / np.diagonal(inverse)[:, None]
    )


def _moved(leverages: Floats, residuals: Floats, noise: float, distance: Distance) -> Floats:
    """Return the distance between both posteriors from leverages (n,) and residuals (n, K)."""
    left = 1.0 - leverages
    squares = (residuals**2).sum(axis=1)
    if distance == "mean":
        return (leverages / left) ** 2 * squares
    spread = residuals.shape[1] * (np.log(left) + leverages / left)
    return np.maximum((spread + leverages * squares / (noise * left**2)) / 2, 0.0)


def _by_features(x: np.ndarray, labels: Integers, classes: int, noise: float, distance: Distance) -> Floats:
    """Return the same for the kernel 1 + <x, x'>, from matrices of D + 1 rows."""
    width = 1 + x.shape[1]
    gram, moments = np.zeros((width, width)), np.zeros((width, classes))
    for block in row_blocks(len(x), width + classes):
        _add_moments(_with_one(x[block]), _centred(labels[block], classes), gram, moments)
    noise *= float(np.cumsum(np.diagonal(gram))[-1]) / len(x)
    gram[np.diag_indices(width)] += noise
    _cholesky(gram)
    _solve(gram, moments)
    moved = np.empty(len(x))
    for block in row_blocks(len(x), width + classes):
        columns = np.ascontiguousarray(_with_one(x[block]).T)
        _solve(gram, columns)
        leverages, residuals = np.zeros(columns.shape[1]), _centred(labels[block], classes)
        _fit(columns, moments, leverages, residuals)
        moved[block] = _moved(leverages, residuals, noise, distance)
    return moved


def _with_one(x: np.ndarray) -> Floats:
    return np.hstack([np.ones((len(x), 1)), x.astype(np.float64)])


def _inverse(kernel: np.ndarray, targets: np.ndarray, noise: float) -> tuple[Floats, Floats]:
    """Return M^-1 and M^-1 y."""
    lower = np.array(kernel, dtype=np.float64, order="C")
    lower[np.diag_indices(len(lower))] += noise
    _cholesky(lower)
    root = np.eye(len(lower))
    _solve(lower, root)
    inverse = np.empty(root.shape)
    _square(root, inverse)
    return inverse, _times(inverse, np.array(targets, dtype=np.float64, order="C"))


def _centred(labels: Integers, classes: int) -> Floats:
    targets = np.full((len(labels), classes), -1.0 / classes)
    targets[np.arange(len(labels)), labels] += 1.0
    return targets


def _rbf(x: np.ndarray, bandwidth: float | None) -> Floats:
    squares = _distances(x)
    if bandwidth is None and len(x) > 1:
        bandwidth = float(np.median(np.sqrt(squares[np.triu_indices(len(x), 1)])))
        if bandwidth == 0:
            raise BadInput(
                "lood: most samples are identical, so there is no median distance; name a bandwidth"
            )
    return np.exp(-squares / (2 * (bandwidth or 1.0) ** 2))


@loop
def _distances(x: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean distances (n, n)."""
    n = x.shape[0]
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(i):
            total = 0.0
            for d in range(x.shape[1]):
                total += (np.float64(x[i, d]) - np.float64(x[j, d])) ** 2
            out[i, j] = out[j, i] = total
    return out


@loop
def _add_moments(phi: np.ndarray, targets: np.ndarray, gram: np.ndarray, moments: np.ndarray) -> None:
    """Add the lower half of Phi^T Phi, and Phi^T Y, row after row."""
    for i in range(phi.shape[0]):
        for d in range(phi.shape[1]):
            for e in range(d + 1):
                gram[d, e] += phi[i, d] * phi[i, e]
            for k in range(targets.shape[1]):
                moments[d, k] += phi[i, d] * targets[i, k]


@loop
def _cholesky(matrix: np.ndarray) -> None:
    """Replace the lower half of a positive definite matrix by its Cholesky factor."""
    n = matrix.shape[0]
    column = np.empty(n)
    for j in range(n):
        pivot = math.sqrt(matrix[j, j])
        for i in range(j, n):
            matrix[i, j] /= pivot
            column[i] = matrix[i, j]
        for i in range(j + 1, n):
            by = column[i]
            for e in range(j + 1, i + 1):
                matrix[i, e] -= by * column[e]


@loop
def _solve(lower: np.ndarray, columns: np.ndarray) -> None:
    """Replace columns (n, m) by L^-1 times them."""
    for i in range(columns.shape[0]):
        for j in range(i):
            by = lower[i, j]
            for at in range(columns.shape[1]):
                columns[i, at] -= by * columns[j, at]
        for at in range(columns.shape[1]):
            columns[i, at] /= lower[i, i]


@loop
def _square(root: np.ndarray, out: np.ndarray) -> None:
    """Write R^T R, for a lower triangular R."""
    n = root.shape[0]
    out[:] = 0.0
    for j in range(n):
        for i in range(j + 1):
            by = root[j, i]
            for e in range(j + 1):
                out[i, e] += by * root[j, e]


@loop
def _times(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    out = np.zeros((matrix.shape[0], right.shape[1]))
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            for k in range(right.shape[1]):
                out[i, k] += matrix[i, j] * right[j, k]
    return out


@loop
def _fit(columns: np.ndarray, moments: np.ndarray, leverages: np.ndarray, residuals: np.ndarray) -> None:
    """Add the leverages of a block to zeros, and take its fit off its targets, given L^-1 phi and L^-1 Phi^T Y."""
    for d in range(columns.shape[0]):
        for i in range(columns.shape[1]):
            leverages[i] += columns[d, i] * columns[d, i]
            for k in range(moments.shape[1]):
                residuals[i, k] -= columns[d, i] * moments[d, k]
