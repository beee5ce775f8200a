"""Two hidden layers over the columns of a table: the default for tables."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tracesift.pipelines.models.contract import Recipe

RECIPE = Recipe(
    optimizer="adamw",
    lr=2e-3,
    batch_size=256,
    epochs=10,
    weight_decay=1e-3,
    kinds=("tabular", "image"),
    stack=16,
)
WIDTH = 128


class MLP(nn.Module):
    """Flatten, two layers of 128 with batch normalisation, and a linear head."""

    def __init__(self, size: int, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(size, WIDTH, bias=False),
            nn.BatchNorm1d(WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, WIDTH, bias=False),
            nn.BatchNorm1d(WIDTH),
            nn.ReLU(),
        )
        self.head = nn.Linear(WIDTH, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the last hidden layer (B, 128)."""
        return self.body(torch.flatten(x, 1))

    def layers(self) -> list[nn.Module]:
        """Return what `forward` runs through once the input is flat; see `stacked`."""
        return [*self.body, self.head]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return self.head(self.features(x))


def mlp(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return the network for ``input_shape`` (D,) or (C, H, W)."""
    return MLP(math.prod(input_shape), num_classes)
