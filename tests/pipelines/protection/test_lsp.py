"""Linearly separable perturbations: a linear model reads the label from them, and from decoys it does not."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.protection.class_patches import class_patches
from tracesift.pipelines.protection.lsp import lsp


def grey(count=1200, classes=10, shape=(1, 28, 28), seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(60, 190, (count, *shape), dtype=np.uint8), rng.integers(0, classes, count)


def norms(change):
    return np.sqrt((change**2).mean((1, 2, 3)))


def fitted(change, labels):
    """Training accuracy of a linear classifier on the perturbations, scaled to [0, 1]."""
    flat = change.reshape(len(change), -1)
    flat = (flat - flat.min()) / (flat.max() - flat.min())
    return RidgeClassifier(alpha=1e-3).fit(flat, labels).score(flat, labels)


@pytest.mark.parametrize("shape", [(1, 20, 28), (3, 12, 10)])
@pytest.mark.parametrize("make", [lsp, class_patches])
def test_a_linear_model_fits_the_perturbations_and_no_decoy(make, shape):
    pixels, labels = grey(shape=shape)
    change = make(pixels, labels, seed=0).inputs.astype(float) - pixels
    assert fitted(change, labels) >= 0.99
    others = np.random.default_rng(1).permutation(labels)
    decoy = make(pixels, others, seed=0).inputs.astype(float) - pixels
    assert fitted(decoy, labels) < 0.4
    assert fitted(decoy, others) >= 0.99


def test_the_grid_is_coarse_and_of_the_published_size():
    pixels, labels = grey(60, 3, (3, 32, 32))
    made = lsp(pixels, labels, seed=0)
    assert made.report == {"patch": 8}
    change = made.inputs.astype(float) - pixels
    cells = change.reshape(60, 3, 4, 8, 4, 8)
    assert np.ptp(cells, axis=(3, 5)).max() <= 1  # a level of rounding
    assert norms(change).max() <= 6
    assert norms(change).min() > 5.8
    uneven = lsp(pixels[:, :, :30, :29], labels, seed=0, patch=8)  # a case the published code fails on
    assert norms(uneven.inputs.astype(float) - pixels[:, :, :30, :29]).max() <= 6
    assert norms(uneven.inputs.astype(float) - pixels[:, :, :30, :29]).min() > 5.8


def test_one_class_may_be_much_larger_than_the_mean():
    """The published code draws N / K points a class and fails beyond."""
    pixels, _ = grey(100, 2, (1, 8, 8))
    labels = np.repeat([0, 1, 2], [90, 8, 2])
    change = lsp(pixels, labels, seed=0).inputs.astype(float) - pixels
    assert fitted(change, labels) >= 0.99
    assert len({bytes(one) for one in change[:90].astype(np.int8)}) == 90  # a point each


def test_too_few_cells():
    pixels, labels = grey(40, 5, (1, 8, 8))
    with pytest.raises(BadInput, match="4 cells cannot tell 20 classes apart"):
        lsp(pixels, labels, seed=0, patch=4, num_classes=20)
    with pytest.raises(BadInput, match="patch=9"):
        lsp(pixels, labels, seed=0, patch=9)
