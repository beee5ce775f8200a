"""One-pixel shortcut (Wu et al., ICLR 2023, algorithm 1): a pixel and a colour per class, set in all its images.

For each class, the pixel and extreme colour whose distance to the class's own pixels is largest and steadiest: the mean
of |colour - pixel| over its standard deviation, as the published code has it. A pair that an earlier class took is not
taken again. Where we differ: a pixel that already has the colour in every image (0 / 0 there, which its sort puts
first) is never chosen; one that has another constant colour in every image counts as steadiest, and among such the
largest change wins; grey images work as colour ones do.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.protection.contract import Protected, generator
from tracesift.pipelines.protection.grey_levels import (
    Images,
    checked_images,
    checked_labels,
    levels,
    perturbed,
)


@generator(kind="image", reference="Wu, Chen, Xie, Huang, ICLR 2023: One-Pixel Shortcut")
def one_pixel(
    images: Images, labels: NDArray[np.int64], *, pixels: int = 1, num_classes: int | None = None
) -> Protected[NDArray[np.uint8]]:
    """Set, in every image, the pixel of its class to the extreme colour of its class.

    Nothing is drawn, and the order of the rows does not matter. The change is not bounded in height, only in number.

    Parameters
    ----------
    images : (N, C, H, W) uint8, or float in [0, 1]
    labels : (N,) int
        Class indices.
    pixels : int
        Pixels set per image.
    num_classes : int, optional
        K, where not every class occurs.

    Returns
    -------
    Protected
        `inputs` uint8 (N, C, H, W); the report lists, by class index, row, column and colour.

    Raises
    ------
    BadInput
        For images or labels that are none, or more classes than pixels and colours.

    Examples
    --------
    >>> grey = np.full((4, 1, 2, 2), 100, dtype=np.uint8)
    >>> grey[2:, 0, 0, 0] = 20
    >>> one_pixel(grey, np.array([0, 0, 1, 1])).inputs[:, 0].tolist()[::2]
    [[[255, 100], [100, 100]], [[20, 255], [100, 100]]]
    """
    images = checked_images(images)
    given, _ = checked_labels(labels, len(images), num_classes)
    if pixels < 1:
        raise BadInput(f"pixels={pixels}: at least 1")
    out = perturbed(images, np.zeros((1, 1, 1, 1)), np.zeros(len(images), dtype=np.int64))
    colours = np.array(list(product((0, 255), repeat=images.shape[1])))  # (2^C, C)
    taken = np.zeros((len(colours), *images.shape[2:]), dtype=bool)
    chosen: dict[str, list[dict[str, object]]] = {}
    for label in np.unique(given):
        worth = _worth(levels(images[given == label]), colours)
        for _ in range(pixels):
            worth[taken] = (-1.0, -1.0)
            at = np.lexsort((-worth["mean"].ravel(), -worth["steady"].ravel()))[0]
            colour, row, column = (int(place) for place in np.unravel_index(at, taken.shape))
            if worth["mean"].ravel()[at] <= 0:
                raise BadInput(
                    f"class {label}: no pixel and colour is left to set; there are too many classes"
                )
            taken[colour, row, column] = True
            worth["mean"][:, row, column] = worth["steady"][
                :, row, column
            ] = -1  # one colour per pixel of a class
            out[given == label, :, row, column] = colours[colour]
            chosen.setdefault(str(label), []).append(
                {"row": row, "column": column, "colour": colours[colour].tolist()}
            )
    return Protected(out, {"pixels": chosen})


def _worth(of_class: NDArray[np.float64], colours: NDArray[np.int64]) -> NDArray[np.void]:
    """Return, per colour and pixel, mean and mean over standard deviation of the distance, (2^C, H, W).

    From sums of whole numbers, which are the same in any order, where images are given in 8 bits.
    """
    count = of_class.shape[0] * of_class.shape[1]
    first, second = of_class.sum(0), (of_class**2).sum(0)  # (C, H, W)
    lit = (colours == 255)[:, :, None, None]
    total = np.where(lit, 255 * len(of_class) - first, first).sum(1)
    squares = np.where(lit, 255**2 * len(of_class) - 510 * first + second, second).sum(1)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    worth = np.empty(mean.shape, dtype=[("steady", float), ("mean", float)])
    worth["mean"] = mean
    steady = np.divide(mean, deviation, out=np.full_like(mean, np.inf), where=deviation > 0)
    worth["steady"] = np.where(mean > 0, steady, -1.0)
    return worth
