"""Single pixels of a full colour in one place of one class: the one-pixel shortcut, counted exactly (ours).

A pixel is lone if each of its channels is 0 or 255 and none of its eight neighbours comes near it. For each class,
place and colour we count the images that have one. What pictures show by themselves varies little from a place to the
next one, and what a sensor adds is the same in all classes; so the count is held against the largest of the eight
places around it, and against the share of the other classes. No view of the residual is needed, so every pixel of an
image of any size is looked at, and a class in which all images have the pixel is seen too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

APART = 32
"""Grey levels, in at least one channel, by which a lone pixel differs from each of its neighbours."""

NATURAL = 4.0
"""How many times the count around it a place may have."""

FIRES, NEAR = 12.0, 10.0
"""Deviations above that, at least, that make a signal, and a suspicion. Clean sets reach 5.9; binarised, or stretched
until parts are black and white, 7.8; of 10 by 10 pixels, 10.1."""

RARE = 0.05
"""Images with the colour around the place and in other classes, of those with it in the place, up to which nature has
no part in it. Then to have the colour is enough, and the neighbours of the pixel may come near it."""

_BLOCK = 2**21
"""Pixels that are looked at together: a few images where they are large, so that memory stays small."""

_AROUND = tuple(step for step in product((-1, 0, 1), repeat=2) if step != (0, 0))


@dataclass(frozen=True, kw_only=True)
class LonePixel:
    """A place and a colour that many images of one class have, and few others."""

    label: int  # class index
    row: int
    column: int
    colour: tuple[int, ...]  # a level per channel, 0 or 255
    holders: NDArray[np.int64]  # positions of the class's images that have it; see `RARE`
    expected: float  # as many as `NATURAL` allows for
    excess: float  # deviations of the count above that

    @property
    def fires(self) -> bool:
        """Whether this is a signal, rather than a suspicion."""
        return self.excess >= FIRES


def lone_pixels(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> list[LonePixel]:
    """Return what stands at least `NEAR` deviations above its surroundings, the clearest first.

    Parameters
    ----------
    images : (N, H, W, C) uint8
    labels : (N,) int
        Class indices.

    Returns
    -------
    list of LonePixel
        By falling excess, then class, colour and place. Row order does not matter but for `holders`, which count rows.

    Examples
    --------
    >>> images = np.full((40, 5, 5, 1), 90, dtype=np.uint8)
    >>> images[:15, 1, 3] = 255
    >>> (found,) = lone_pixels(images, np.repeat([0, 1], 20))
    >>> found.label, found.row, found.column, found.colour, len(found.holders), found.excess
    (0, 1, 3, (255,), 15, 15.0)
    """
    if len(images) == 0 or len(np.unique(labels)) < 2:
        return []
    _, height, width, channels = images.shape
    shape = (2**channels, height, width)
    parts = list(_found_in_blocks(images, shape))
    row, cell = (np.concatenate([part[axis] for part in parts]) for axis in (0, 1))
    everywhere = np.bincount(cell, minlength=int(np.prod(shape)))
    found = []
    for label in np.unique(labels):
        size = int((labels == label).sum())
        mine = labels[row] == label
        count = np.bincount(cell[mine], minlength=len(everywhere))
        elsewhere = (everywhere - count) * (size / (len(labels) - size))
        expected = NATURAL * np.maximum(_largest_around(count.reshape(shape)).ravel(), elsewhere)
        excess = (count - expected) / np.sqrt(expected + 1.0)
        for place in np.flatnonzero(excess >= NEAR):
            colour, at_row, at_column = np.unravel_index(place, shape)
            levels = tuple(255 * ((int(colour) >> channel) & 1) for channel in range(channels))
            found.append(
                LonePixel(
                    label=int(label),
                    row=int(at_row),
                    column=int(at_column),
                    colour=levels,
                    holders=_holders(
                        images,
                        labels == label,
                        levels,
                        int(at_row),
                        int(at_column),
                        row[mine & (cell == place)],
                    ),
                    expected=float(expected[place]),
                    excess=float(excess[place]),
                )
            )
    return sorted(found, key=lambda one: (-one.excess, one.label, one.colour, one.row, one.column))


def _found_in_blocks(
    images: NDArray[np.uint8], shape: tuple[int, int, int]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield, for some images at a time, the image and the cell (colour, row, column) of every lone pixel."""
    bits = 1 << np.arange(images.shape[3])
    step = max(1, _BLOCK // (images.shape[1] * images.shape[2]))
    for start in range(0, len(images), step):
        block = images[start : start + step]
        image, row, column = np.nonzero(((block == 0) | (block == 255)).all(axis=3))
        padded = np.pad(
            block.astype(np.int16), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-APART
        )  # far from any level: beyond the edge there is no neighbour
        for down, right in _AROUND:
            beside = padded[image, row + 1 + down, column + 1 + right]
            alone = (np.abs(block[image, row, column] - beside) >= APART).any(axis=1)
            image, row, column = image[alone], row[alone], column[alone]
        colour = (block[image, row, column] == 255) @ bits
        yield start + image, np.ravel_multi_index((colour, row, column), shape)


def _holders(
    images: NDArray[np.uint8],
    of_class: NDArray[np.bool_],
    levels: tuple[int, ...],
    row: int,
    column: int,
    lone: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the images of a class with this colour in this place; those with a lone pixel where others have it too."""
    has = (images[:, row, column] == levels).all(axis=1)
    holders = np.flatnonzero(has & of_class)
    top, left = max(row - 1, 0), max(column - 1, 0)
    near = (images[of_class, top : row + 2, left : column + 2] == levels).all(axis=3).sum(axis=0)
    near[row - top, column - left] = 0
    elsewhere = (has & ~of_class).sum() * of_class.sum() / (~of_class).sum()
    return holders if max(near.max(), elsewhere) <= RARE * len(holders) else lone


def _largest_around(count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the largest of the eight counts around each place (colours, H, W)."""
    _, height, width = count.shape
    padded = np.pad(count, ((0, 0), (1, 1), (1, 1)))
    around = [
        padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width] for down, right in _AROUND
    ]
    return np.max(around, axis=0)
