"""Bias shift: train on images moved by a constant, and judge others as they are.

What a model learned of shapes and shades does not carry over to another brightness; a pattern that was added for a
class does, because it stays the same difference between neighbouring pixels.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.crossfit import assign_folds
from tracesift.pipelines.encoding.images import Pixels
from tracesift.pipelines.jobs.contract import job
from tracesift.pipelines.jobs.workbench import Workbench, at_least


@job(
    reference="Zhu, Yu, Gao, Detection and defense of unlearnable examples, AAAI 2024, algorithm 2",
    kinds=("image",),
    because="only images have a brightness to shift",
)
def bias_shift(
    bench: Workbench, *, epochs: int | None = None, folds: int = 5, shift: float = -0.5
) -> dict[str, np.ndarray]:
    """Train once without each fold, on shifted images, and take the margins of the fold as it is.

    Parameters
    ----------
    bench
        Images. The model and recipe of the recording; the paper's is a ResNet-18.
    epochs
        Of each training; as the recording by default.
    folds
        The paper holds out one part of five; we each of the five in turn, so that every sample is judged.
    shift
        Added to every pixel of the training images, in units of the full range of grey levels, so from -1 to 1; nothing
        is clipped.

    Returns
    -------
    dict
        ``bias_shift_margin``, float32 (N,): logit of the label minus the largest other, on the unshifted sample, by the
        model that did not train on it.

    Raises
    ------
    BadInput
        Texts and tables, which have no grey level, and a shift by more than the full range.

    References
    ----------
    Zhu, Yu, Gao, AAAI 2024, algorithm 2.
    """
    epochs = bench.epochs if epochs is None else epochs
    at_least("bias_shift", epochs=(epochs, 1))
    if not -1 <= shift <= 1:
        raise BadInput(
            f"job 'bias_shift': shift is {shift:g}, it must be from -1 to 1, where 1 is from black to white"
        )
    fold = assign_folds(bench.dataset, folds)
    assert isinstance(bench.inputs, Pixels)
    shifted = Shifted(bench.inputs, shift)
    margin = np.empty(len(bench.train), dtype=np.float32)
    for number in range(folds):
        held = fold == number
        margin[held] = bench.part(number, folds, partial(_one_fold, bench, shifted, held, epochs))["margin"]
    return {"bias_shift_margin": margin}


def _one_fold(
    bench: Workbench, shifted: Shifted, held: np.ndarray, epochs: int, seed: int
) -> dict[str, np.ndarray]:
    learner = bench.learner(int((~held).sum()), epochs)
    for _ in bench.fit(learner, bench.train[torch.from_numpy(~held)], seed=seed, inputs=shifted):
        pass
    return {"margin": bench.margins(learner, bench.train[torch.from_numpy(held)])}


class Shifted:
    """Images with a constant added to every pixel, in units of the full range, before they are standardised."""

    def __init__(self, images: Pixels, shift: float) -> None:
        self.images, self.shift = images, shift
        self.input_shape, self.nbytes = images.input_shape, images.nbytes

    def batch(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return (B, C, H, W) float32, augmented where a generator is given, then shifted; nothing is clipped."""
        return self.images.batch(rows, generator) + 255 * self.shift / self.images.std

    def to(self, device: torch.device) -> Shifted:
        """Return the images on `device`."""
        return Shifted(self.images.to(device), self.shift)
