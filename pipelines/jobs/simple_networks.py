"""Simple networks: how well a linear model and one of two layers do on samples that they did not train on."""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import nn

from tracesift.pipelines.crossfit import assign_folds
from tracesift.pipelines.encoding.images import Pixels
from tracesift.pipelines.jobs.contract import job
from tracesift.pipelines.jobs.workbench import Workbench, at_least

NETWORKS = ("linear", "two_layer")


def ahead(bench: Workbench, numbers: range, *, folds: int, **settings: Any) -> None:
    """Train the networks of these numbers alone."""
    fold = assign_folds(bench.dataset, folds)
    for number in numbers:
        _judged(bench, fold, number, folds, **settings)


@job(
    version=2,
    reference="Zhu, Yu, Gao, Detection and defense of unlearnable examples, AAAI 2024, algorithm 1",
    ahead=ahead,
    kinds=("image", "tabular"),
    because="as many hidden units as n-grams is more than a machine holds; `tracesift record --folds 3` has a linear "
    "model's answers",
)
def simple_networks(
    bench: Workbench, *, epochs: int = 100, folds: int = 5, batch_size: int = 128, lr: float = 0.01
) -> dict[str, np.ndarray]:
    """Train both networks without each fold, on the data as they are, and judge the fold.

    Parameters
    ----------
    bench
        Images or a table. Trained by SGD with momentum 0.9 and weight decay 5e-4 as in the paper's code, whatever the
        model's recipe says; the rate falls in a line to nothing, where theirs drops twice in the last quarter. Images
        are augmented for the network of two layers alone, as the recipe says (theirs: crop and flip).
    epochs
        100 in the paper for CIFAR-10, 200 for larger sets.
    folds
        The paper holds out one part of five; we each of the five in turn, so that every sample is judged.
    batch_size
        Samples in a batch, as in the paper's code.
    lr
        Rate of the optimiser at its start, as in the paper's code.

    Returns
    -------
    dict
        ``linear_correct`` and ``two_layer_correct``, bool (N,): predicted as labelled. The hidden layer is as wide as
        the input, with ReLU.

    Raises
    ------
    BadInput
        Texts: as many hidden units as n-grams is more than any machine holds.

    Notes
    -----
    The work lies in the hidden layer of D inputs and D units: 4 N D^2 multiplications and additions an epoch, for every
    training sample forward and back; 41e12 in all for 2,700 images of 32x32x3, of which the paper's one held-out part
    is a fifth.

    References
    ----------
    Zhu, Yu, Gao, AAAI 2024, algorithm 1.
    """
    at_least("simple_networks", epochs=(epochs, 1), batch_size=(batch_size, 1))
    fold = assign_folds(bench.dataset, folds)
    bench.work = cache(partial(_work, bench, folds))
    right = {network: np.empty(len(bench.train), dtype=bool) for network in NETWORKS}
    for held in range(folds):  # both networks in turn, so that the pace so far is that of what is left
        for at, network in enumerate(NETWORKS):
            number = at * folds + held
            correct = _judged(bench, fold, number, folds, epochs=epochs, batch_size=batch_size, lr=lr)
            right[network][fold == held] = correct
    return {f"{network}_correct": values for network, values in right.items()}


def _judged(
    bench: Workbench, fold: np.ndarray, number: int, folds: int, *, epochs: int, batch_size: int, lr: float
) -> np.ndarray:
    """Return which samples of its fold the network of this number predicts as labelled, bool (n,)."""
    recipe: dict[str, Any] = {
        "optimizer": "sgd", "lr": lr, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": batch_size,
        "schedule": "linear",
    }  # fmt: skip
    one = partial(_one_fold, bench, NETWORKS[number // folds], fold == number % folds, epochs, recipe)
    return bench.part(number, folds * len(NETWORKS), one)["correct"]


def _work(bench: Workbench, folds: int) -> list[int]:
    """Return how many weights each network has, in the order in which they are trained: the work goes up with them."""
    shape = (
        bench.inputs.input_shape
    )  # out here: the inputs may be encoded only now, and not on a device without values
    with torch.device("meta"):  # sizes alone
        modules = [simple_network(network, shape, bench.dataset.num_classes) for network in NETWORKS]
    return folds * [sum(weights.numel() for weights in module.parameters()) for module in modules]


def _one_fold(
    bench: Workbench, network: str, held: np.ndarray, epochs: int, recipe: dict[str, Any], seed: int
) -> dict[str, np.ndarray]:
    module = simple_network(network, bench.inputs.input_shape, bench.dataset.num_classes)
    learner = bench.learner(int((~held).sum()), epochs, module=module, fused=True, **recipe)
    inputs = bench.inputs
    if network == "linear" and isinstance(inputs, Pixels):
        inputs = inputs.augmented("none")
    for _ in bench.fit(learner, bench.train[torch.from_numpy(~held)], seed=seed, inputs=inputs):
        pass
    return {"correct": bench.correct(learner, bench.train[torch.from_numpy(held)])}


def simple_network(network: str, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return a fresh ``"linear"`` or ``"two_layer"`` network over the flattened input.

    Examples
    --------
    >>> [tuple(weight.shape) for weight in simple_network("two_layer", (3, 2, 2), 5).parameters()]
    [(12, 12), (12,), (5, 12), (5,)]
    """
    size = math.prod(input_shape)
    hidden = [] if network == "linear" else [nn.Linear(size, size), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(size, classes))
