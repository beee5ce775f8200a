"""Class-wise patches: the pattern of a class, its own, of plus and minus eps."""

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.protection.class_patches import class_patches


def test_each_class_has_one_pattern_of_its_own():
    grey = np.full((40, 3, 18, 17), 128, dtype=np.uint8)
    labels = np.arange(40) % 20
    made = class_patches(grey, labels, seed=3)
    change = made.inputs.astype(int) - 128
    assert set(np.unique(change)) == {-8, 8}
    assert (change[:20] == change[20:]).all()
    assert len({one.tobytes() for one in change[:20]}) == 20
    assert made.report == {"patch": 4}
    assert (change[:, :, :4, :4] == change[:, :, :1, :1]).all()
    assert 0.3 < (change[:20] > 0).mean() < 0.7


def test_a_pattern_knows_neither_the_images_nor_the_other_classes():
    grey = np.full((4, 1, 8, 8), 100, dtype=np.uint8)
    change = class_patches(grey, np.array([0, 1, 2, 3]), seed=0).inputs.astype(int) - 100
    other = class_patches(grey[:2] + 50, np.array([3, 1]), seed=0, num_classes=9).inputs.astype(int) - 150
    assert (change[[3, 1]] == other).all()


def test_few_patches_for_many_classes():
    """Two cells hold four patterns: four classes get one each, five are refused."""
    grey = np.full((5, 1, 4, 8), 100, dtype=np.uint8)
    made = class_patches(grey[:4], np.arange(4), seed=0, patch=4)
    assert len({one.tobytes() for one in made.inputs}) == 4
    with pytest.raises(BadInput, match="5 classes are too many"):
        class_patches(grey, np.arange(5), seed=0, patch=4)


def test_a_budget_that_is_no_whole_level_is_not_exceeded():
    grey = np.full((2, 1, 8, 8), 100, dtype=np.uint8)
    change = class_patches(grey, np.array([0, 1]), seed=0, eps=7.9).inputs.astype(int) - 100
    assert set(np.unique(change)) == {-7, 7}
