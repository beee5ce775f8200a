"""Images as the generators take them, and back to 8 bits without leaving the budget.

A budget is counted in grey levels: 8 is the 8/255 of the publications. It is kept by the rounded image, against the
image that was given, because the rounded image is the one that is saved, trained on and looked at.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracesift.catalog.schema import BadInput

Images = NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.float64]
Floats = NDArray[np.float64]

CHUNK = 1024
_SNAP = 1e-3  # a float this near to a whole grey level was one: 100/255 in float32 is 100.000004 levels
LEAST_CELLS = 16
"""Cells of a coarse pattern: a 4 x 4 grid, as 8-pixel patches make it of 32 x 32."""


def checked_images(images: Images) -> Images:
    """Return the images, or refuse what is no (N, C, H, W) array of grey levels."""
    if images.ndim != 4 or 0 in images.shape:
        raise BadInput(f"images of shape {images.shape}: (N, C, H, W) is needed, with at least one image")
    if images.shape[1] not in (1, 3):
        raise BadInput(
            f"images of {images.shape[1]} channels: give grey ones (N, 1, H, W) or colour (N, 3, H, W)"
        )
    if images.dtype == np.uint8:
        return images
    if images.dtype not in (np.float32, np.float64):
        raise BadInput(f"images of type {images.dtype}: give uint8, or floats in [0, 1]")
    if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1):
        raise BadInput("float images lie in [0, 1], without NaN; divide grey levels by 255")
    return images


def checked_labels(labels: Any, count: int, num_classes: int | None) -> tuple[NDArray[np.int64], int]:
    """Return the labels as int64 (N,) and the number of classes K, or refuse what is no class index."""
    given = np.asarray(labels)
    if given.shape != (count,) or given.dtype.kind not in "iu":
        raise BadInput(
            f"labels of type {given.dtype} and shape {given.shape}: {count} class indices are needed"
        )
    found = int(given.max()) + 1
    classes = found if num_classes is None else num_classes
    if given.min() < 0 or found > classes:
        raise BadInput(f"labels from {given.min()} to {given.max()}: indices of {classes} classes start at 0")
    if classes < 2:
        raise BadInput("every label is the same: a signal that tells classes apart needs two (num_classes=)")
    return given.astype(np.int64), classes


def checked_eps(eps: float) -> float:
    """Return the budget in grey levels, or refuse one that rounding to 8 bits leaves nothing of."""
    if not 1 <= eps <= 255:
        raise BadInput(f"eps={eps}: grey levels of 255, from 1 to 255; 8 is the 8/255 of the publications")
    return float(eps)


def levels(images: Images) -> Floats:
    """Return images in grey levels 0..255, float64 of the same shape.

    Examples
    --------
    >>> levels(np.full((1, 1, 1, 2), 100 / 255, dtype=np.float32)).ravel()
    array([100., 100.])
    """
    if images.dtype == np.uint8:
        return images.astype(np.float64)
    scaled = images.astype(np.float64) * 255
    whole = np.round(scaled)
    return np.where(np.abs(scaled - whole) < _SNAP, whole, scaled)


def perturbed(
    images: Images, added: NDArray[Any], carries: NDArray[np.int64] | None = None, *, eps: float | None = None
) -> NDArray[np.uint8]:
    """Add noise, keep the budget, and round to 8 bits.

    Parameters
    ----------
    images : (N, C, H, W) uint8, or float in [0, 1]
    added : (N, C, H, W) or (M, C, H, W)
        Noise in grey levels.
    carries : (N,) int, optional
        Which row of `added` an image carries; its own by default.
    eps : float, optional
        Largest change of any value, in grey levels. Each value of the result differs from the one given by at most
        this much, rounding included.

    Returns
    -------
    (N, C, H, W) uint8
    """
    out = np.empty(images.shape, dtype=np.uint8)
    for at in range(0, len(images), CHUNK):
        here = slice(at, at + CHUNK)
        clean = levels(images[here])
        wanted = np.round(clean + added[here if carries is None else carries[here]])
        if eps is not None:
            wanted = np.clip(wanted, np.ceil(clean - eps), np.floor(clean + eps))
        out[here] = np.clip(wanted, 0, 255)
    return out


def content_order(images: Images, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows ordered by what they hold, so that what is drawn row by row ignores the order given (N,)."""
    keys = []
    for at in range(0, len(images), CHUNK):
        whole = np.round(levels(images[at : at + CHUNK])).astype(np.uint8)
        keys += [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in whole]
    return np.array(sorted(range(len(keys)), key=lambda row: (keys[row], labels[row])), dtype=np.int64)


def cell_side(height: int, width: int, largest: int) -> int:
    """Return the side of the square cells of a coarse pattern: `largest`, halved until there are 16 cells.

    Examples
    --------
    >>> cell_side(32, 32, 8), cell_side(28, 28, 8), cell_side(8, 8, 8), cell_side(8, 8, 4)
    (8, 8, 2, 2)
    """
    side = largest
    while side > 1 and math.ceil(height / side) * math.ceil(width / side) < LEAST_CELLS:
        side //= 2
    return side


def checked_patch(patch: int | None, height: int, width: int, largest: int) -> int:
    """Return the side of the cells: the one asked for, or what `cell_side` says."""
    if patch is None:
        return cell_side(height, width, largest)
    if not 1 <= patch <= max(height, width):
        raise BadInput(
            f"patch={patch}: from 1 to {max(height, width)} pixels; left out, the size of the images decides"
        )
    return patch


def spread(cells: NDArray[Any], patch: int, height: int, width: int) -> NDArray[Any]:
    """Repeat each cell of (..., h, w) over `patch` x `patch` pixels, and cut to (..., height, width)."""
    return cells.repeat(patch, axis=-2).repeat(patch, axis=-1)[..., :height, :width]
