"""One-pixel shortcut: the pixel and colour that a search by brute force finds, and one pixel changed."""

from itertools import product

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.protection.one_pixel import one_pixel


def by_brute_force(images, labels):
    """The published search, pixel after pixel, without its treatment of constant pixels."""
    taken, found = set(), {}
    _, channels, height, width = images.shape
    for label in np.unique(labels):
        best = None
        for colour, row, column in product(product((0, 255), repeat=channels), range(height), range(width)):
            if (colour, row, column) in taken:
                continue
            away = np.abs(np.array(colour)[None] - images[labels == label][:, :, row, column].astype(float))
            worth = away.mean() / away.std()
            if best is None or worth > best[0]:
                best = worth, colour, row, column
        _, colour, row, column = best
        taken.add((colour, row, column))
        found[str(label)] = [{"row": row, "column": column, "colour": list(colour)}]
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_the_search_finds_what_brute_force_finds(channels):
    rng = np.random.default_rng(channels)
    images = (
        rng.normal(rng.uniform(60, 200, (channels, 5, 7)), 25, (48, channels, 5, 7))
        .clip(1, 254)
        .astype(np.uint8)
    )
    labels = np.arange(48) % 6
    made = one_pixel(images, labels)
    assert made.report["pixels"] == by_brute_force(images, labels)
    differs = (made.inputs != images).any(1)
    assert (differs.sum((1, 2)) == 1).all()
    for row, label in enumerate(labels):
        (place,) = made.report["pixels"][str(label)]
        assert made.inputs[row, :, place["row"], place["column"]].tolist() == place["colour"]


def test_constant_pixels():
    """A pixel that is black everywhere is never set to black (0 / 0 in the published code, which sorts first)."""
    rng = np.random.default_rng(0)
    images = rng.integers(1, 250, (12, 1, 3, 3)).astype(np.uint8)
    images[:, 0, 2, 1] = 0
    images[:, 0, 0, 1] = 40
    labels = np.arange(12) % 3
    places = one_pixel(images, labels).report["pixels"]
    assert places["0"] == [{"row": 2, "column": 1, "colour": [255]}]  # constant, and the farthest
    assert places["1"] == [{"row": 0, "column": 1, "colour": [255]}]
    assert places["2"] == [{"row": 0, "column": 1, "colour": [0]}]  # the pair is free: another colour


def test_several_pixels_and_too_many_classes():
    rng = np.random.default_rng(0)
    images = rng.integers(1, 250, (8, 3, 4, 4)).astype(np.uint8)
    made = one_pixel(images, np.arange(8) % 2, pixels=3)
    assert ((made.inputs != images).any(1).sum((1, 2)) == 3).all()
    with pytest.raises(BadInput, match="class 8: no pixel and colour is left"):
        one_pixel(rng.integers(1, 250, (9, 1, 2, 2)).astype(np.uint8), np.arange(9))
    with pytest.raises(BadInput, match="pixels=0"):
        one_pixel(images, np.arange(8) % 2, pixels=0)
