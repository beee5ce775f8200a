"""Images as standardised float batches out of one uint8 tensor, with the augmentations of the recipes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 1024
_PADDING = {"shift": 2, "crop_flip": 4}


class Pixels:
    """Images (N, C, H, W) uint8, standardised per channel when batched."""

    def __init__(self, pixels: Tensor, mean: Tensor, std: Tensor, augmentation: str) -> None:
        self.pixels = pixels
        self.mean = mean  # (C, 1, 1)
        self.std = std
        self.augmentation = augmentation
        self.input_shape: tuple[int, ...] = tuple(pixels.shape[1:])
        self.nbytes = pixels.numel()

    @classmethod
    def encode(cls, images: Any, fit: np.ndarray, *, side: int, augmentation: str) -> Pixels:
        """Return the images as tensors; means and deviations come from the rows in `fit`.

        Parameters
        ----------
        images
            (N, H, W, C) uint8, an array or anything sliced like one; decoded in chunks.
        side
            Larger images are averaged down to squares of this side.
        """
        parts = [_resized(images[at : at + _CHUNK], side) for at in range(0, len(images), _CHUNK)]
        pixels = torch.cat(parts)
        known = pixels[torch.from_numpy(fit)]
        counts = torch.stack(
            [torch.bincount(channel.flatten(), minlength=256) for channel in known.unbind(1)]
        )
        values = torch.arange(256, dtype=torch.float64)
        total = counts.sum(1)
        mean = (counts * values).sum(1) / total
        std = ((counts * values.square()).sum(1) / total - mean.square()).clamp(min=1.0).sqrt()
        return cls(pixels, mean.float()[:, None, None], std.float()[:, None, None], augmentation)

    def batch(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return (B, C, H, W) float32, augmented where a generator is given."""
        images = self.pixels[rows.to(self.pixels.device, non_blocking=True)]
        if generator is not None and self.augmentation != "none":
            images = _augmented(
                images, generator, _PADDING[self.augmentation], flip=self.augmentation == "crop_flip"
            )
        images = images.float().sub_(self.mean).div_(self.std)
        return images.contiguous(memory_format=torch.channels_last) if images.is_cuda else images

    def augmented(self, augmentation: str) -> Pixels:
        """Return the same images, not copied, with another augmentation."""
        return Pixels(self.pixels, self.mean, self.std, augmentation)

    def to(self, device: torch.device) -> Pixels:
        """Return the images on `device`."""
        return Pixels(self.pixels.to(device), self.mean.to(device), self.std.to(device), self.augmentation)


def _resized(images: np.ndarray, side: int) -> Tensor:
    pixels = torch.tensor(images).movedim(3, 1)
    if max(pixels.shape[2:]) > side:
        pixels = F.interpolate(pixels.float(), size=(side, side), mode="area").round_().to(torch.uint8)
    return pixels.contiguous()


def _augmented(images: Tensor, generator: torch.Generator, padding: int, *, flip: bool) -> Tensor:
    """Shift each image by up to `padding` pixels over a reflected border, and mirror every second one."""
    size, _, height, width = images.shape
    device = images.device
    limit = min(padding, height - 1, width - 1)
    padded = F.pad(images.float(), (limit,) * 4, mode="reflect").to(torch.uint8)
    down, across = torch.randint(0, 2 * limit + 1, (2, size), generator=generator).to(
        device, non_blocking=True
    )
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, shifts, shifts, H, W), nothing copied
    shifted = windows[torch.arange(size, device=device), :, down, across]
    if not flip:
        return shifted
    mirrored = (torch.rand(size, generator=generator) < 0.5).to(device, non_blocking=True)
    return torch.where(mirrored[:, None, None, None], shifted.flip(3), shifted)
