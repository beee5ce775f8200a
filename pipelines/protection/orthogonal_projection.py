"""Orthogonal projection (Sandoval-Segura et al., NeurIPS 2023, section 4.4): images without their linear class signal.

A logistic regression on pixels learns a pattern that is the same in all images of a class before it learns the content.
What lies along its weights is taken out of every image. Where we differ from the published code:

- the regression is fitted by L-BFGS with a small penalty and an intercept, not by 20 epochs of SGD from a random start,
  so the same images give the same directions in any order;
- only directions that the weights do span are taken: K - 1 of K classes, since a penalised softmax has weights that add
  up to zero, and the last column of a QR of these would be one of chance;
- the mean image stays: images keep what it has along the directions, the same for all. They stay in the range of grey
  levels for the most part, and look as they did;
- the result is rounded and cut to 8 bits, because it is saved as images.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.protection.grey_levels import (
    CHUNK,
    Floats,
    Images,
    checked_images,
    checked_labels,
    content_order,
    levels,
)

REFERENCE = (
    "Sandoval-Segura, Singla, Geiping, Goldblum, Goldstein, NeurIPS 2023: "
    "What Can We Learn from Unlearnable Datasets?"
)
_RANK = 1e-6  # weights this much smaller than the largest are what the optimiser left over


@dataclass(frozen=True, kw_only=True, eq=False)
class Directions:
    """What a logistic regression on the pixels of a set found."""

    basis: Floats
    """Orthonormal rows that span its weights, (R, C * H * W); R is at most K - 1."""
    mean: Floats
    """The mean image in grey levels, (C * H * W,)."""
    facts: dict[str, Any]
    """`directions` (R), `training_accuracy`, `iterations`, and whether the regression `converged`."""


def orthogonal_projection(
    images: Images, labels: NDArray[np.int64], *, penalty: float = 1.0, iterations: int = 200
) -> NDArray[np.uint8]:
    """Return the images without what lies along the weights of a logistic regression on them.

    Takes out a signal that is the same in all images of a class, and with it what content a linear model sees.

    Parameters
    ----------
    images : (N, C, H, W) uint8, or float in [0, 1]
    labels : (N,) int
        Class indices; at least two occur.
    penalty, iterations
        As in `class_directions`.

    Returns
    -------
    (N, C, H, W) uint8
        Rounded to whole grey levels and cut to 0..255, so no longer exactly orthogonal.

    Raises
    ------
    BadInput
        For images, labels or settings that are none, or images in which nothing tells the labels apart.

    Examples
    --------
    >>> grey = np.full((4, 1, 1, 2), 100, dtype=np.uint8)
    >>> grey[:, 0, 0, 1] = 10, 10, 30, 30  # the second pixel says which class, and is taken out
    >>> orthogonal_projection(grey, np.array([0, 0, 1, 1]))[:, 0, 0].tolist()
    [[100, 20], [100, 20], [100, 20], [100, 20]]
    """
    directions = class_directions(images, labels, penalty=penalty, iterations=iterations)
    out = np.empty(images.shape, dtype=np.uint8)
    for at in range(0, len(images), CHUNK):
        out[at : at + CHUNK] = in_8_bits(on_complement(images[at : at + CHUNK], directions))
    return out


def class_directions(
    images: Images, labels: NDArray[np.int64], *, penalty: float = 1.0, iterations: int = 200
) -> Directions:
    """Return the directions that the weights of a logistic regression on the pixels span.

    Parameters
    ----------
    images : (N, C, H, W) uint8, or float in [0, 1]
    labels : (N,) int
        Class indices; at least two occur.
    penalty : float
        Weight of half the squared length of the weights beside the summed loss, on pixels in [0, 1].
    iterations : int
        At most as many steps of L-BFGS.

    Returns
    -------
    Directions
        The order of the images does not matter, nor does the number of threads.

    Raises
    ------
    BadInput
        As `orthogonal_projection`.

    Examples
    --------
    >>> grey = np.full((4, 1, 1, 2), 100, dtype=np.uint8)
    >>> grey[:, 0, 0, 1] = 10, 10, 30, 30
    >>> found = class_directions(grey, np.array([0, 0, 1, 1]))
    >>> np.abs(found.basis).round(6).tolist(), found.mean.tolist()
    ([[0.0, 1.0]], [100.0, 20.0])
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    images = checked_images(images)
    given, _ = checked_labels(labels, len(images), None)
    if not penalty > 0:
        raise BadInput(
            f"penalty={penalty}: above 0; without one the weights of separable classes grow for ever"
        )
    if iterations < 1:
        raise BadInput(f"iterations={iterations}: at least 1")
    if len(np.unique(given)) < 2:
        raise BadInput("every label is the same: a regression that tells classes apart needs two")
    order = content_order(images, given)
    pixels = levels(images[order]).reshape(len(order), -1)
    mean = pixels.mean(0)
    pixels -= mean  # moves the intercept alone, and L-BFGS takes fewer steps
    pixels /= 255
    model = LogisticRegression(C=1 / penalty, max_iter=iterations)
    # Threads would add up in another order.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(pixels, given[order])
        accuracy = float(model.score(pixels, given[order]))
        triangle: Floats
        basis, triangle, _ = scipy.linalg.qr(model.coef_.T, mode="economic", pivoting=True)
    lengths = np.abs(np.diag(triangle))
    if lengths[0] == 0:
        raise BadInput(
            "the images of all labels have the same pixels on average: there is nothing to take out"
        )
    spanned = int((lengths > _RANK * lengths[0]).sum())
    steps = int(np.max(model.n_iter_))
    facts = {
        "directions": spanned, "training_accuracy": accuracy, "iterations": steps, "converged": steps < iterations,
    }  # fmt: skip
    return Directions(basis=np.ascontiguousarray(basis[:, :spanned].T), mean=mean, facts=facts)


def on_complement(images: Images, directions: Directions) -> Floats:
    """Return images in grey levels without what sets them apart from the mean image along the directions; not rounded.

    Parameters
    ----------
    images : (N, C, H, W) uint8, or float in [0, 1]
    directions : Directions

    Returns
    -------
    (N, C, H, W) float64
        Minus the mean image, orthogonal to every direction. May lie below 0 or above 255.
    """
    flat = levels(images).reshape(len(images), -1)
    along = (flat - directions.mean) @ directions.basis.T
    return (flat - along @ directions.basis).reshape(images.shape)


def in_8_bits(projected: Floats) -> NDArray[np.uint8]:
    """Return grey levels rounded to whole ones and cut to 0..255.

    Sums of products differ in their last digits from machine to machine; these are taken off first.
    """
    return np.clip(np.rint(np.round(projected, 6)), 0, 255).astype(np.uint8)
