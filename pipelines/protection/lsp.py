"""Linearly separable synthetic perturbations (Yu et al., KDD 2022, section 4).

Points of K well separated clusters, one value per cell of a coarse grid, are spread over the pixels, scaled to the L2
norm of `eps` grey levels per value, and added class by class. Where we differ from the published code: a class never
runs out of points (there, one that is larger than the mean fails), images whose side is no multiple of the patch
work, the sum is rounded where it is truncated there, and the norm still holds after rounding.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.protection.contract import Protected, generator
from tracesift.pipelines.protection.grey_levels import (
    CHUNK,
    Floats,
    Images,
    checked_eps,
    checked_images,
    checked_labels,
    checked_patch,
    content_order,
    levels,
    perturbed,
    spread,
)

CLASS_SEP = 10.0
_SHRINK = 0.999


@generator(
    kind="image", reference="Yu, Zhang, Chen, Yin, Liu, KDD 2022: Availability Attacks Create Shortcuts"
)
def lsp(
    images: Images,
    labels: NDArray[np.int64],
    *,
    seed: int,
    eps: float = 6.0,
    patch: int | None = None,
    num_classes: int | None = None,
) -> Protected[NDArray[np.uint8]]:
    """Add to each image a coarse pattern drawn from its class's own cluster of points.

    Which point an image gets follows from its content, so the order of the rows does not matter.

    Parameters
    ----------
    images : (N, C, H, W) uint8, or float in [0, 1]
    labels : (N,) int
        Class indices.
    seed : int
        Another seed draws other clusters.
    eps : float
        Root mean square of the change of an image in grey levels: its L2 norm is at most eps times sqrt(C H W).
    patch : int, optional
        Side of a cell in pixels; 8 as published for 32 x 32, or less where that leaves fewer than 16 cells.
    num_classes : int, optional
        K, where not every class occurs.

    Returns
    -------
    Protected
        `inputs` uint8 (N, C, H, W); the report says `patch`.

    Raises
    ------
    BadInput
        For images, labels or a budget that are none, or too few cells for so many classes.

    Examples
    --------
    >>> grey = np.full((6, 1, 8, 8), 100, dtype=np.uint8)
    >>> made = lsp(grey, np.array([0, 1, 0, 1, 0, 1]), seed=0)
    >>> change = made.inputs.astype(float) - 100
    >>> bool((np.sqrt((change**2).mean((1, 2, 3))) <= 6).all()), made.report
    (True, {'patch': 2})
    """
    images, eps = checked_images(images), checked_eps(eps)
    given, classes = checked_labels(labels, len(images), num_classes)
    _, channels, height, width = images.shape
    side = checked_patch(patch, height, width, largest=8)
    shape = (channels, math.ceil(height / side), math.ceil(width / side))
    if classes > 2 ** min(math.prod(shape), 62):
        raise BadInput(
            f"patch={side}: {math.prod(shape)} cells cannot tell {classes} classes apart; give less"
        )
    points, groups = _clusters(classes, int(np.bincount(given).max()), math.prod(shape), seed)
    order = content_order(images, given)
    noise = np.empty((len(given), points.shape[1]))
    for label in range(classes):
        rows = order[given[order] == label]
        noise[rows] = points[groups == label][: len(rows)]
    noise *= eps / np.sqrt((noise**2).mean(1, keepdims=True))
    out = np.empty(images.shape, dtype=np.uint8)
    for at in range(0, len(images), CHUNK):
        here = slice(at, at + CHUNK)
        out[here] = _within(images[here], spread(noise[here].reshape(-1, *shape), side, height, width), eps)
    return Protected(out, {"patch": side})


def _clusters(classes: int, each: int, features: int, seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return `each` points per class, and the class of each point."""
    from sklearn.datasets import make_classification

    return make_classification(
        n_samples=classes * each, n_features=features, n_informative=features, n_redundant=0, n_repeated=0,
        n_classes=classes, n_clusters_per_class=1, class_sep=CLASS_SEP, flip_y=0.0, random_state=seed,
    )  # fmt: skip


def _within(images: Images, added: Floats, eps: float) -> NDArray[np.uint8]:
    """Return the rounded images, the noise shrunk where rounding lifted its norm above the budget."""
    clean = levels(images)
    scale = eps / np.sqrt(
        (added**2).mean((1, 2, 3))
    )  # a border that is cut off took or left some of the norm
    while True:
        out = perturbed(images, added * scale[:, None, None, None])
        over = np.sqrt(((out - clean) ** 2).mean((1, 2, 3))) > eps
        if not over.any():
            return out
        scale[over] *= _SHRINK
