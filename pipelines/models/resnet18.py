"""ResNet-18 for small images: 3x3 stem, no first pooling, as the pruning literature trains it on CIFAR.

Reference: He et al. 2016; the recipe is the short form of that used by Toneva et al. 2019 (SGD, momentum 0.9,
weight decay 5e-4, crop and flip), with one learning-rate cycle instead of 200 epochs in steps.
"""

from __future__ import annotations

from torch import Tensor, nn

from tracesift.pipelines.models.contract import Recipe

RECIPE = Recipe(
    optimizer="sgd",
    lr=0.1,
    batch_size=128,
    epochs=30,
    weight_decay=5e-4,
    momentum=0.9,
    augmentation="crop_flip",
    kinds=("image",),
    most_steps=None,
    threads=None,
)


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        same = stride == 1 and channels == width
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        )
        self.out = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, H / stride, W / stride)."""
        return self.out(self.body(x) + self.shortcut(x))


class ResNet18(nn.Module):
    """Four stages of two blocks, 64 to 512 channels, global average, linear head."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        stem = [nn.Conv2d(channels, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
        stages = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
        blocks = [block for a, b, s in stages for block in (Block(a, b, s), Block(b, b, 1))]
        self.body = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(512, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the pooled last stage (B, 512)."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return self.head(self.features(x))


def resnet18(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return the network for ``input_shape`` (C, H, W)."""
    return ResNet18(input_shape[0], num_classes)
