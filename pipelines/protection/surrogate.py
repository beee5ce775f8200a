"""The network that noise is made against: one of the built-in models, on images in [0, 1]."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines import determinism
from tracesift.pipelines.models.contract import Model, find

LR, MOMENTUM, WEIGHT_DECAY, GRADIENT_NORM = 0.1, 0.9, 5e-4, 5.0
"""How Huang et al. (ICLR 2021) and Zhang et al. (AAAI 2026) train theirs."""


def surrogate_model(name: str) -> Model:
    """Return the model `name` for images; raises for one that there is not."""
    return find(name, "image")


def build(model: Model, shape: tuple[int, ...], classes: int, device: torch.device) -> nn.Module:
    """Return a fresh network; its weights come from torch's global generator."""
    return model.build(shape, classes).to(device)


def optimiser_of(net: nn.Module) -> torch.optim.SGD:
    """Return the published optimiser."""
    return torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def learn(net: nn.Module, optimiser: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    """Take one step of training on a batch, in train mode, with clipped gradients."""
    net.train()
    optimiser.zero_grad()
    F.cross_entropy(net(images), labels).backward()
    nn.utils.clip_grad_norm_(net.parameters(), GRADIENT_NORM)
    optimiser.step()


def parts(rows: Tensor, size: int) -> tuple[Tensor, ...]:
    """Split rows into batches of at most `size`, as even as can be: batch normalisation needs more than one."""
    return torch.tensor_split(rows, -(-len(rows) // size))


def passes(rows: Tensor, size: int, seed: int) -> Iterator[Tensor]:
    """Yield batches without end: pass after pass over the rows, each in an order of its own."""
    turn = 0
    while True:
        order = torch.randperm(len(rows), generator=determinism.generator(seed, turn))
        yield from parts(rows[order], size)
        turn += 1


def as_batch(images: NDArray[np.uint8] | Tensor, device: torch.device) -> Tensor:
    """Return 8-bit images as float32 in [0, 1] on `device`."""
    return torch.as_tensor(images).to(device).float().div_(255)


def penultimate(net: nn.Module, images: Tensor) -> Tensor:
    """Return the features (B, D) of a built-in model; of any other, the input of its last linear layer."""
    if type(net).__module__.startswith("tracesift.pipelines.models."):
        return net.features(images)  # type: ignore[operator]
    linear = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise BadInput(f"{type(net).__name__} has no linear layer whose input could serve as features")
    caught: list[Tensor] = []
    handle = linear[-1].register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    net(images)
    handle.remove()
    return caught[0].flatten(1)


@torch.no_grad()
def error_rate(
    net: nn.Module, images: NDArray[np.uint8], labels: Tensor, *, size: int, device: torch.device
) -> float:
    """Return the share of 8-bit images that the network, in eval mode, does not label as given."""
    net.eval()
    wrong = 0
    for rows in parts(torch.arange(len(labels)), size):
        predicted = net(as_batch(images[rows.numpy()], device)).argmax(1)
        wrong += int((predicted.cpu() != labels[rows]).sum())
    return wrong / len(labels)
