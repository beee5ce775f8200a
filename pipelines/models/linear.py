"""A single linear layer: the weak model of the shortcut probes, and the plainest baseline."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tracesift.pipelines.models.contract import Bags, Recipe

RECIPE = Recipe(optimizer="adamw", lr=2e-3, batch_size=128, epochs=10, weight_decay=1e-4, stack=32)


class Linear(nn.Module):
    """Logits straight from the flattened input, or from the sum of a text's n-gram vectors."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        text = len(input_shape) == 2
        self.bag = nn.EmbeddingBag(input_shape[1], num_classes, mode="sum", sparse=True) if text else None
        if self.bag is not None:
            nn.init.zeros_(self.bag.weight)
        self.head = nn.Identity() if text else nn.Linear(math.prod(input_shape), num_classes)

    def features(self, x: Tensor | Bags) -> Tensor:
        """Return the flattened input (B, D); for text, the logits themselves."""
        if isinstance(x, Bags):
            assert self.bag is not None
            return self.bag(x.indices, x.offsets, per_sample_weights=x.weights)
        return torch.flatten(x, 1)

    def layers(self) -> list[nn.Module]:
        """Return what `forward` runs through once a table's or an image's input is flat; see `stacked`."""
        return [self.head]

    def forward(self, x: Tensor | Bags) -> Tensor:
        """Return logits (B, K)."""
        return self.head(self.features(x))


def linear(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return the linear model for any kind of input."""
    return Linear(input_shape, num_classes)
