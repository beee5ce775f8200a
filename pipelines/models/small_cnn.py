"""Three strided convolutions and one hidden layer: the default for images, sized for a CPU.

Strides instead of pooling: on a CPU, pooling and wide early layers take most of the time of such a net.
"""

from __future__ import annotations

from torch import Tensor, nn

from tracesift.pipelines.models.contract import Recipe

RECIPE = Recipe(
    optimizer="adamw",
    lr=5e-3,
    batch_size=128,
    epochs=10,
    weight_decay=1e-2,
    largest_side=64,
    kinds=("image",),
)
WIDTH = 16
FEATURES = 128


class SmallCNN(nn.Module):
    """Convolutions of 16, 32, 64 channels, a hidden layer of 128, and a linear head."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        first = 1 if max(height, width) <= 16 else 2  # tiny images would be gone after three halvings
        self.convolutions = nn.Sequential(
            _block(channels, WIDTH, first), _block(WIDTH, 2 * WIDTH, 2), _block(2 * WIDTH, 4 * WIDTH, 2)
        )
        side = min(4, -(-max(height, width) // (4 * first)))
        self.hidden = nn.Sequential(
            nn.AdaptiveAvgPool2d(side), nn.Flatten(), nn.Linear(4 * WIDTH * side * side, FEATURES), nn.ReLU()
        )
        self.head = nn.Linear(FEATURES, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the hidden layer (B, 128)."""
        return self.hidden(self.convolutions(x))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return self.head(self.features(x))


def _block(channels: int, width: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def small_cnn(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return the network for ``input_shape`` (C, H, W)."""
    return SmallCNN(input_shape, num_classes)
