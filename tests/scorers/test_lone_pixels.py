"""Lone pixels: every planted one is found where it is, and what pictures show by themselves is not one."""

from itertools import product

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tracesift.pipelines.protection.one_pixel import one_pixel
from tracesift.scorers.unlearnable import lone_pixels as module
from tracesift.scorers.unlearnable import residual_analysis
from tracesift.scorers.unlearnable.lone_pixels import APART, FIRES, NATURAL, NEAR, lone_pixels
from tracesift.scorers.unlearnable.residual_shortcut import residual_shortcut
from tracesift.scorers.unlearnable.residual_verdict import residual_verdict


def scenes(samples=400, side=40, seed=0):
    """Colour images of 16 levels of smooth noise between 20 and 235, larger than any window; labels of four classes."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 236, (samples, side // 8, side // 8, 3))
    fine = rng.integers(-8, 9, (samples, side, side, 3))
    return np.clip(coarse.repeat(8, 1).repeat(8, 2) + fine, 1, 254).astype(np.uint8), np.arange(samples) % 4


def protected(images, labels, share, seed=1):
    """A share of the images with the one-pixel shortcut of their class, and which."""
    marked = np.random.default_rng(seed).random(len(images)) < share
    changed = one_pixel(images.transpose(0, 3, 1, 2), labels).inputs.transpose(0, 2, 3, 1)
    return np.where(marked[:, None, None, None], changed, images), marked


def by_the_definition(images, labels):
    """Count, pixel by pixel and in plain Python, what the docstring says; returns the largest excess."""
    count, (height, width) = {}, images.shape[1:3]
    for image, label in zip(images.astype(int), labels, strict=True):
        for row, column in product(range(height), range(width)):
            pixel = image[row, column]
            beside = [
                image[y, x]
                for y, x in product(range(row - 1, row + 2), range(column - 1, column + 2))
                if (y, x) != (row, column) and 0 <= y < height and 0 <= x < width
            ]
            lone = all(np.abs(pixel - other).max() >= APART for other in beside)
            if lone and set(pixel.tolist()) <= {0, 255}:
                key = (label, row, column, tuple(pixel.tolist()))
                count[key] = count.get(key, 0) + 1
    best = -np.inf
    for (label, row, column, colour), here in count.items():
        around = max(
            count.get((label, row + down, column + right, colour), 0)
            for down, right in product((-1, 0, 1), repeat=2)
            if (down, right) != (0, 0)
        )
        others = labels != label
        elsewhere = sum(count.get((other, row, column, colour), 0) for other in set(labels[others].tolist()))
        expected = NATURAL * max(around, elsewhere * (~others).sum() / others.sum())
        best = max(best, (here - expected) / np.sqrt(expected + 1))
    return best


@pytest.mark.parametrize("share", [0.2, 0.75, 1.0])
def test_planted_pixels_are_found_where_they_are_and_nothing_else_is(share):
    images, labels = scenes()
    given, marked = protected(images, labels, share)
    found = lone_pixels(given, labels)
    assert {one.label for one in found} == {0, 1, 2, 3}
    assert all(one.fires for one in found)
    held = np.concatenate([one.holders for one in found])
    assert marked[held].all()
    assert len(held) == marked.sum()
    for one in found:
        assert (given[one.holders, one.row, one.column] == one.colour).all()


def test_the_counts_are_those_of_the_definition():
    images, labels = scenes(samples=120, side=8)
    given, _ = protected(images, labels, 0.8)
    assert lone_pixels(given, labels)[0].excess == pytest.approx(by_the_definition(given, labels), abs=1e-9)


def test_how_many_are_looked_at_together_leaves_no_trace(monkeypatch):
    images, labels = scenes()
    given, _ = protected(images, labels, 0.3)
    whole = lone_pixels(given, labels)
    monkeypatch.setattr(module, "_BLOCK", 5000)  # three images, and one more at the end
    for one, other in zip(lone_pixels(given, labels), whole, strict=True):
        assert (one.label, one.row, one.column, one.excess) == (
            other.label,
            other.row,
            other.column,
            other.excess,
        )
        assert one.holders.tolist() == other.holders.tolist()


def test_clean_pictures_have_none():
    images, labels = scenes()
    assert lone_pixels(images, labels) == []
    digits = load_digits()
    grey = np.round(digits.images[..., None] * 255 / 16).astype(np.uint8)
    assert lone_pixels(grey, digits.target) == []
    assert lone_pixels((255 * (grey > 127)).astype(np.uint8), digits.target) == []


def test_pixels_that_are_not_tied_to_the_label_are_none():
    images, labels = scenes()
    given, _ = protected(images, np.random.default_rng(3).permutation(labels), 0.75)
    assert lone_pixels(given, labels) == []


def test_beside_its_like_to_have_the_colour_is_enough_where_nature_has_no_part():
    images, labels = scenes()
    rows = np.flatnonzero(labels == 3)
    images[rows[:40], 7, 7] = 255
    images[rows[30:40], 7, 8] = 250  # the neighbour comes near
    assert lone_pixels(images, labels)[0].holders.tolist() == rows[:40].tolist()
    images[rows[50:60], 7, 6:9] = 255  # white by nature
    assert lone_pixels(images, labels)[0].holders.tolist() == rows[:30].tolist()


def test_a_dead_pixel_of_the_sensor_is_none():
    images, labels = scenes()
    images[:, 5, 5] = 255
    assert lone_pixels(images, labels) == []


def test_a_spot_that_moves_a_little_is_none():
    """A light that all pictures of a class show, but not to the pixel."""
    images, labels = scenes()
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(labels == 2)
    images[rows, 20 + rng.integers(0, 2, len(rows)), 20 + rng.integers(0, 2, len(rows))] = 255
    assert lone_pixels(images, labels) == []


def test_from_when_on_it_is_near_and_fires():
    images, labels = scenes()
    for count, expected in ((NEAR - 1, []), (NEAR, [False]), (FIRES, [True])):
        given = images.copy()
        given[np.flatnonzero(labels == 1)[: int(count)], 3, 4] = (255, 0, 255)
        assert [one.fires for one in lone_pixels(given, labels)] == expected
    assert lone_pixels(given, labels)[0].colour == (255, 0, 255)


def test_nothing_and_one_class_have_none():
    images, _ = scenes(samples=20)
    images[:, 3, 3] = 255
    assert lone_pixels(images, np.zeros(20, dtype=np.int64)) == []
    assert lone_pixels(images[:0], np.zeros(0, dtype=np.int64)) == []


def test_the_verdict_and_the_score_hear_them_outside_the_window_too(monkeypatch):
    """Of 16 x 16, 8 x 8 are looked at by the views. In the corner, the pixel is seen by its count alone."""
    monkeypatch.setattr(residual_analysis, "WINDOW", 192)
    images, labels = scenes(side=16)
    given = images.copy()
    marked = np.flatnonzero(labels == 1)[:30]
    given[marked, 0, 15] = 255
    found, score = residual_verdict(given, labels), residual_shortcut(given, labels)
    assert found["verdict"] == "poisoned"
    assert found["best_view"] == "lone_pixels"
    assert not any(line["fires"] for line in found["views"].values())
    assert found["lone_pixels"] == [
        {"class": 1, "row": 0, "column": 15, "colour": [255, 255, 255], "holders": 30, "of_class": 100,
         "expected": 0.0, "fires": True}
    ]  # fmt: skip
    assert score[marked].min() > np.delete(score, marked).max()
    assert residual_verdict(images, labels)["verdict"] == "clean"
    given[marked[10:], 0, 15] = images[marked[10:], 0, 15]
    few = residual_verdict(given, labels)
    assert (few["verdict"], few["lone_pixels"][0]["holders"]) == ("suspect", 10)
    assert "too few" in few["reason"]


def test_the_order_of_the_rows_does_not_matter(monkeypatch):
    monkeypatch.setattr(residual_analysis, "WINDOW", 192)
    images, labels = scenes(side=16)
    given, _ = protected(images, labels, 0.3)
    order = np.random.default_rng(0).permutation(len(labels))
    assert residual_verdict(given[order], labels[order]) == residual_verdict(given, labels)
    np.testing.assert_array_equal(
        residual_shortcut(given[order], labels[order]), residual_shortcut(given, labels)[order]
    )
