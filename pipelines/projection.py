"""A random projection of gradients whose matrix is never there as a whole.

Inner products survive it: of two vectors' images it is that of the vectors, up to a relative error of about
sqrt(2 / dimension) (Johnson, Lindenstrauss). The matrix of signs has a row for each parameter, and is drawn again,
block after block of rows, whenever it is needed; what a block holds follows from the seed and its number alone.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from tracesift.catalog.schema import BadInput

ROWS = 4096
"""Parameters of one block; part of what a seed means."""


class Projection:
    """Vectors of any length brought to `dimension` numbers, by independent signs over sqrt(dimension).

    Parameters
    ----------
    dimension
        Length of the images.
    seed
        Two projections of one seed and dimension are the same on every machine.

    Raises
    ------
    BadInput
        A dimension below 1.

    Examples
    --------
    >>> project = Projection(2000, seed=0)
    >>> a, b = torch.tensor([[3.0, 4.0, 0.0]]), torch.tensor([[4.0, -3.0, 12.0]])
    >>> image = project(torch.cat([a, b])).double()
    >>> bool((image @ image.T - torch.tensor([[25.0, 0.0], [0.0, 169.0]])).abs().max() < 10)
    True
    """

    def __init__(self, dimension: int, *, seed: int) -> None:
        if dimension < 1:
            raise BadInput(f"a projection has at least 1 dimension, not {dimension}")
        self.dimension, self.seed = dimension, seed

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return the images (B, dimension) of vectors (B, P), float32 on their device."""
        images = torch.zeros(len(vectors), self.dimension, device=vectors.device)
        for number, part in enumerate(vectors.float().split(ROWS, dim=1)):
            signs = self.signs(number)[: part.shape[1]].to(vectors.device)
            images.addmm_(part, signs)
        return images / math.sqrt(self.dimension)

    def signs(self, number: int) -> Tensor:
        """Return block `number` of the matrix, (ROWS, dimension), -1 and 1 in float32 on the CPU."""
        drawn = np.random.PCG64(np.random.SeedSequence([self.seed, number]))
        words = drawn.random_raw(math.ceil(ROWS * self.dimension / 64)).astype("<u8")
        bits = np.unpackbits(words.view(np.uint8), count=ROWS * self.dimension)
        return torch.from_numpy(bits).view(ROWS, self.dimension).float().mul_(2).sub_(1)
