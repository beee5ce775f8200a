"""Small residuals of images: what is left below the amplitude of object edges, as small whole numbers.

A bounded perturbation (a few grey levels of 255) hides below the edges of the pictured object. A view
subtracts a local mean or median and sets every residual of `core` grey levels or more to zero ("coring";
clipping instead keeps the edges and is measurably worse). The impulse view is the opposite: it keeps only
the sign of single pixels that stand far out of their neighbourhood.

Everything stays in int8, because sums of products of small whole numbers are exact in any order: the heavy
part of the analysis gives the same bits for every thread count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = 512  # images filtered at once, so that the work stays in the processor's cache


@dataclass(frozen=True, kw_only=True)
class View:
    """One way to look at the residual: which local filter, how wide, and which amplitudes are kept."""

    name: str
    filter: str  # "mean", "median" or "impulse"
    size: int  # side of the square neighbourhood
    core: int  # grey levels: a residual this large or larger is dropped (impulse: kept only if larger)


def views_for(height: int, width: int) -> tuple[View, ...]:
    """Return the four cored views and the impulse view for images of this size.

    Images under 16 pixels a side get a 3x3 median in place of 5x5, which would cover most of the picture.
    """
    side = 5 if min(height, width) >= 16 else 3
    return (
        View(name="mean3_core8", filter="mean", size=3, core=8),
        View(name="mean3_core12", filter="mean", size=3, core=12),
        View(name=f"median{side}_core10", filter="median", size=side, core=10),
        View(name=f"median{side}_core20", filter="median", size=side, core=20),
        View(name="impulse", filter="impulse", size=3, core=102),  # 0.4 of the range of 255
    )


def view_of(images: NDArray[np.uint8], view: View) -> NDArray[np.int8]:
    """Return the view of each image as a flat vector of small whole numbers.

    Parameters
    ----------
    images : (N, H, W, C) uint8
        Grey levels over the full range 0 to 255; each channel is filtered on its own.
    view : View
        Which residual to take.

    Returns
    -------
    (N, H * W * C) int8
        Residual in grey levels (mean filter: in ninths of a grey level), zero where it is cored away.
    """
    out = np.empty((len(images), int(np.prod(images.shape[1:]))), dtype=np.int8)
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK]
        out[start : start + len(block)] = _VIEW_FILTERS[view.filter](block, view).reshape(len(block), -1)
    return out


def _neighbourhood(images: NDArray[np.uint8], size: int) -> list[NDArray[np.uint8]]:
    """Return the size * size shifted copies of `images`, edge pixels repeated outwards."""
    reach = size // 2
    _, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    return [
        padded[:, row : row + height, column : column + width]
        for row in range(size)
        for column in range(size)
    ]


def local_median(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the median of each pixel's `size` x `size` neighbourhood, edge pixels repeated outwards.

    Forgetful selection: of slightly more than half of the values, the smallest and the largest cannot be
    the median and are dropped; the next value joins, until one is left. Only minima and maxima of whole
    arrays, which run several times faster than a sort per pixel.
    """
    waiting = [shifted.copy() for shifted in _neighbourhood(images, size)]
    count = len(waiting) // 2 + 2
    kept, waiting = waiting[:count], waiting[count:]
    spare = np.empty_like(kept[0])
    while len(kept) > 1:
        for index in range(1, len(kept)):  # the largest moves to the end
            spare = _exchange(kept, index - 1, index, spare)
        for index in range(len(kept) - 2, 0, -1):  # the smallest moves to the front
            spare = _exchange(kept, index - 1, index, spare)
        kept = kept[1:-1]
        if waiting:
            kept.append(waiting.pop())
    return kept[0]


def _exchange(
    values: list[NDArray[np.uint8]], low: int, high: int, spare: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Order two of the arrays elementwise; return the array that is free afterwards."""
    np.minimum(values[low], values[high], out=spare)
    np.maximum(values[low], values[high], out=values[high])
    values[low], spare = spare, values[low]
    return spare


def _mean_view(images: NDArray[np.uint8], view: View) -> NDArray[np.int8]:
    pixels = view.size**2
    total = np.zeros(images.shape, dtype=np.int16)
    for shifted in _neighbourhood(images, view.size):
        total += shifted
    residual = np.int16(pixels) * images.astype(np.int16) - total
    residual[np.abs(residual) >= pixels * view.core] = 0
    return residual.astype(np.int8)


def _median_view(images: NDArray[np.uint8], view: View) -> NDArray[np.int8]:
    residual = images.astype(np.int16) - local_median(images, view.size)
    residual[np.abs(residual) >= view.core] = 0
    return residual.astype(np.int8)


def _impulse_view(images: NDArray[np.uint8], view: View) -> NDArray[np.int8]:
    residual = images.astype(np.int16) - local_median(images, view.size)
    return (np.sign(residual) * (np.abs(residual) > view.core)).astype(np.int8)


_VIEW_FILTERS = {"mean": _mean_view, "median": _median_view, "impulse": _impulse_view}
