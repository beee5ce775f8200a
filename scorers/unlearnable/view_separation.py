"""Does a view of the images carry a label-specific signal? Cross-fitted discriminants, no network.

For one view (whole numbers, one row per image) two numbers per sample: the *unsplit* score, label log-odds
of a linear discriminant fitted on the other folds, minus the median of the class; and the *split* score,
projection on the direction that separates two groups inside the class, found by iterating cut, fit on the
other folds, project. For the whole set, how far apart the two groups are (`separation`, D) and how much
more of the label the upper group carries (`gap`).

Anything that iterates finds two groups in clean data too: a split score means nothing without D and gap.

All sums of products are of small whole numbers in exact arithmetic; folds and order come from the content.
So the result does not depend on the order of the rows, nor, up to the last bits of the solve, on the thread
count.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg.blas import ssyrk

FOLDS = 3
ROUNDS = 4
_BLOCK = 1024  # rows per exact float32 product: 1024 * 107 * 107 < 2**24

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The samples that can be judged, sorted by class, fold and content."""

    order: NDArray[np.int64]  # (n,) positions in the caller's arrays
    bounds: NDArray[np.int64]  # (K, FOLDS + 1) class k, fold f is [bounds[k, f], bounds[k, f + 1])
    classes: NDArray[np.int64]  # (K,) the caller's class index

    def part(self, group: int, fold: int) -> slice:
        """Return the rows of one class in one fold."""
        return slice(int(self.bounds[group, fold]), int(self.bounds[group, fold + 1]))

    def whole(self, group: int) -> slice:
        """Return the rows of one class."""
        return slice(int(self.bounds[group, 0]), int(self.bounds[group, -1]))


@dataclass(frozen=True, kw_only=True)
class Separation:
    """What one view says: two scores per sample in layout order, and two statistics per class."""

    unsplit: Floats  # (n,) label log-odds minus class median
    split: Floats  # (n,) held-out position between the two groups, within-group SD near 1
    upper: NDArray[np.bool_]  # (n,) in the upper of the class's two groups
    separation: Floats  # (K,) distance of the two groups' means in pooled SD
    gap: Floats  # (K,) the same distance measured in unsplit log-odds


def lay_out(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Layout:
    """Sort samples by class, fold and content hash; leave out classes under two distinct images a fold.

    Identical images of one class share a fold: none of them is judged by a model that saw its twin.
    """
    hashes = np.array([hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in images])
    orders, bounds, kept = [], [], []
    offset = 0
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        _, rank = np.unique(hashes[rows], return_inverse=True)
        if rank.max() + 1 < 2 * FOLDS:
            continue
        fold = rank % FOLDS
        orders.append(rows[np.lexsort((rank, fold))])
        bounds.append(offset + np.concatenate([[0], np.cumsum(np.bincount(fold, minlength=FOLDS))]))
        kept.append(label)
        offset += len(rows)
    return Layout(
        order=np.concatenate(orders) if orders else np.empty(0, dtype=np.int64),
        bounds=np.array(bounds, dtype=np.int64).reshape(-1, FOLDS + 1),
        classes=np.array(kept, dtype=np.int64),
    )


def separate(view: NDArray[np.int8], layout: Layout, *, ridge: float) -> Separation:
    """Return what one view says about every sample of the layout.

    Parameters
    ----------
    view : (n, D) int8
        One row per sample in layout order, absolute values at most 127.
    layout : Layout
        At least two classes.
    ridge : float
        Added to the covariance's diagonal, in units of its mean diagonal.
    """
    grams = [_gram(view, layout, fold) for fold in range(FOLDS)]
    whole = np.zeros(len(view), dtype=bool)
    sizes, sums = _group_sums(view, layout, whole)
    covariances = [_covariance(grams, sizes, sums, fold, ridge) for fold in range(FOLDS)]
    groups = range(len(layout.classes))
    unsplit = _log_odds(view, layout, covariances, sizes, sums)
    for group in groups:
        unsplit[layout.whole(group)] -= np.median(unsplit[layout.whole(group)])
    upper = unsplit > 0
    split = unsplit
    for _ in range(ROUNDS):
        split = _project(view, layout, covariances, upper)
        upper = np.concatenate([_above_cut(split[layout.whole(group)]) for group in groups])
    rows = [layout.whole(group) for group in groups]
    return Separation(
        unsplit=unsplit,
        split=split,
        upper=upper,
        separation=np.array([distance(split[part], upper[part]) for part in rows]),
        gap=np.array([distance(unsplit[part], upper[part]) for part in rows]),
    )


def otsu_cut(values: Floats, *, smallest: int = 1) -> float:
    """Return the value between two samples where the variance between the two sides is largest (Otsu 1979).

    Exact, on the sorted values rather than on a histogram; both sides keep at least `smallest` samples. The
    first of equal cuts counts. All values equal: that value, so that nothing lies above it.
    """
    ordered = np.sort(values)
    count = len(ordered)
    if ordered[0] == ordered[-1]:
        return float(ordered[-1])
    below = np.arange(1, count)
    centred = ordered - ordered.mean()
    between = np.cumsum(centred)[:-1] ** 2 / (below * (count - below))
    between[: smallest - 1] = -1.0
    between[count - smallest :] = -1.0
    at = int(np.argmax(between))
    return float((ordered[at] + ordered[at + 1]) / 2)


def distance(values: Floats, upper: NDArray[np.bool_]) -> float:
    """Return the distance of two groups' means in pooled standard deviations; 0 without two groups."""
    high, low = values[upper], values[~upper]
    if len(high) < 2 or len(low) < 2:
        return 0.0
    pooled = spread_within(values, upper)
    return float((high.mean() - low.mean()) / pooled) if pooled > 0 else 0.0


def spread_within(values: Floats, upper: NDArray[np.bool_]) -> float:
    """Return the pooled standard deviation of two groups; 0 where there are no two degrees of freedom."""
    squares = sum(group.var() * len(group) for group in (values[upper], values[~upper]) if len(group))
    return float(np.sqrt(squares / (len(values) - 2))) if len(values) > 2 else 0.0


def _above_cut(values: Floats) -> NDArray[np.bool_]:
    return values > otsu_cut(values, smallest=min(len(values) // 3, max(2, len(values) // 50)))


def _gram(view: NDArray[np.int8], layout: Layout, fold: int) -> Floats:
    """Return the lower triangle of the sum of outer products of one fold's rows (D, D); exact."""
    total = np.zeros((view.shape[1], view.shape[1]))
    rows = np.concatenate([np.arange(part.start, part.stop) for part in _parts(layout, fold)])
    for start in range(0, len(rows), _BLOCK):
        block = view[rows[start : start + _BLOCK]].astype(np.float32)
        total += ssyrk(1.0, block.T, lower=True)
    return total


def _parts(layout: Layout, fold: int) -> list[slice]:
    return [layout.part(group, fold) for group in range(len(layout.classes))]


def _group_sums(view: NDArray[np.int8], layout: Layout, upper: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the number (FOLDS, K, 2) and the sum (FOLDS, K, 2, D) of each fold's, class's and side's rows; exact."""
    sizes = np.zeros((FOLDS, len(layout.classes), 2))
    sums = np.zeros((*sizes.shape, view.shape[1]))
    for fold in range(FOLDS):
        for group, part in enumerate(_parts(layout, fold)):
            for side, there in enumerate((~upper[part], upper[part])):
                sizes[fold, group, side] = there.sum()
                sums[fold, group, side] = view[part][there].sum(axis=0, dtype=np.int32)
    return sizes, sums


@dataclass(frozen=True, kw_only=True)
class _Covariance:
    """Covariance within the classes of all folds but one, ridge included, factored once for all rounds."""

    factor: tuple[Floats, bool]
    degrees: float
    """Degrees of freedom that the factored scatter was divided by."""


def _covariance(
    grams: list[Floats], sizes: Floats, sums: Floats, fold: int, ridge: float
) -> _Covariance | None:
    """Fit on the other folds; None where the view does not vary within the classes."""
    others = [other for other in range(FOLDS) if other != fold]
    scatter = np.zeros_like(grams[fold])
    for other in others:
        scatter += grams[other]
    number, total = sizes[others].sum(axis=(0, 2)), sums[others].sum(axis=(0, 2))
    scatter -= (total / np.maximum(number, 1)[:, None]).T @ total
    diagonal = np.trace(scatter) / len(scatter)
    if diagonal <= 1e-9:
        return None
    degrees = max(number.sum() - (number > 0).sum(), 1.0)
    scatter[np.diag_indices_from(scatter)] += ridge * diagonal
    scatter /= degrees
    factor = scipy.linalg.cho_factor(scatter, lower=True, overwrite_a=True, check_finite=False)
    return _Covariance(factor=factor, degrees=degrees)


def _log_odds(
    view: NDArray[np.int8], layout: Layout, covariances: list[_Covariance | None], sizes: Floats, sums: Floats
) -> Floats:
    """Return the held-out log-odds of the given label, (n,)."""
    out = np.zeros(len(view))
    for fold, covariance in enumerate(covariances):
        if covariance is None:
            continue
        others = [other for other in range(FOLDS) if other != fold]
        number = sizes[others].sum(axis=(0, 2))
        means = sums[others].sum(axis=(0, 2)) / np.maximum(number, 1)[:, None]
        weights = scipy.linalg.cho_solve(covariance.factor, means.T, check_finite=False)  # (D, K)
        offset = np.log(number / number.sum()) - 0.5 * np.einsum("kd,dk->k", means, weights)
        for group, part in enumerate(_parts(layout, fold)):
            value = view[part].astype(np.float64) @ weights + offset
            label = value[:, group].copy()
            value[:, group] = -np.inf
            out[part] = label - np.logaddexp.reduce(value, axis=1)
    return out


def _project(
    view: NDArray[np.int8], layout: Layout, covariances: list[_Covariance | None], upper: NDArray[np.bool_]
) -> Floats:
    """Return each sample's held-out position on its class's upper-minus-lower discriminant, (n,).

    The covariance within the split groups is that within the classes less what lies between the two groups of
    each class, one outer product a class; its inverse follows from the factor by Woodbury's identity.
    """
    sizes, sums = _group_sums(view, layout, upper)
    out = np.zeros(len(view))
    for fold, covariance in enumerate(covariances):
        if covariance is None:
            continue
        others = [other for other in range(FOLDS) if other != fold]
        number, total = sizes[others].sum(axis=0), sums[others].sum(axis=0)  # (K, 2), (K, 2, D)
        means = total / np.maximum(number, 1)[:, :, None]
        known = (number > 0).all(axis=1)
        shift = np.where(known[:, None], means[:, 1] - means[:, 0], 0.0)  # (K, D)
        between = np.where(known, number.prod(axis=1) / np.maximum(number.sum(axis=1), 1), 0.0)
        solved = scipy.linalg.cho_solve(covariance.factor, shift.T, check_finite=False)
        rest = np.eye(len(shift)) - (between / covariance.degrees)[:, None] * (shift @ solved)
        weights = np.linalg.solve(rest.T, solved.T).T
        spread = np.sqrt(
            np.maximum(np.einsum("kd,dk->k", shift, weights), 0.0)
        )  # within-group SD of the projection
        for group, part in enumerate(_parts(layout, fold)):
            if spread[group] > 0:
                centred = view[part] - means[group].mean(axis=0)
                out[part] = centred @ weights[:, group] / spread[group]
    return out
