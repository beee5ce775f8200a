"""Class-wise random patches: one pattern of plus and minus eps per class, added to all of its images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.protection.contract import Protected, generator
from tracesift.pipelines.protection.grey_levels import (
    Images,
    checked_eps,
    checked_images,
    checked_labels,
    checked_patch,
    perturbed,
    spread,
)

_ATTEMPTS = 100


@generator(
    kind="image",
    reference="The random class-wise baseline of Huang et al., ICLR 2021, and of Yu et al., KDD 2022, in patches",
)
def class_patches(
    images: Images,
    labels: NDArray[np.int64],
    *,
    seed: int,
    eps: float = 8.0,
    patch: int | None = None,
    num_classes: int | None = None,
) -> Protected[NDArray[np.uint8]]:
    """Add to each image the random pattern of its class, plus or minus `eps` in each patch and channel.

    A class's pattern is drawn from the seed and the class index alone; two classes never share one. Nothing depends on
    the images, nor on their order.

    Parameters
    ----------
    images : (N, C, H, W) uint8, or float in [0, 1]
    labels : (N,) int
        Class indices.
    seed : int
        Another seed draws other patterns.
    eps : float
        Change of every value, in grey levels of 255 (L-infinity).
    patch : int, optional
        Side of a patch in pixels; 4, or less where that leaves fewer than 16 patches.
    num_classes : int, optional
        K, where not every class occurs.

    Returns
    -------
    Protected
        `inputs` uint8 (N, C, H, W); the report says `patch`.

    Raises
    ------
    BadInput
        For images, labels or a budget that are none, or too few patches to tell the classes apart.

    Examples
    --------
    >>> grey = np.full((4, 1, 8, 8), 100, dtype=np.uint8)
    >>> made = class_patches(grey, np.array([0, 1, 0, 1]), seed=0)
    >>> sorted(set((made.inputs.astype(int) - 100).ravel().tolist())), made.report
    ([-8, 8], {'patch': 2})
    """
    images, eps = checked_images(images), checked_eps(eps)
    given, classes = checked_labels(labels, len(images), num_classes)
    _, channels, height, width = images.shape
    side = checked_patch(patch, height, width, largest=4)
    shape = (channels, math.ceil(height / side), math.ceil(width / side))
    signs = np.stack(_patterns(classes, shape, seed))
    added = spread(signs * math.floor(eps), side, height, width)
    return Protected(perturbed(images, added, given, eps=eps), {"patch": side})


def _patterns(classes: int, shape: tuple[int, ...], seed: int) -> list[NDArray[np.int64]]:
    """Return one pattern of -1 and 1 per class, no two the same."""
    patterns: list[NDArray[np.int64]] = []
    taken: set[bytes] = set()
    for label in range(classes):
        for attempt in range(_ATTEMPTS):
            signs = np.random.default_rng([seed, label, attempt]).integers(0, 2, shape) * 2 - 1
            if signs.tobytes() not in taken:
                break
        else:
            raise BadInput(f"{classes} classes are too many for patterns of {shape}; give a smaller patch=")
        taken.add(signs.tobytes())
        patterns.append(signs)
    return patterns
