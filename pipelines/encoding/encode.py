"""From a dataset's inputs to batches of tensors: one encoder per kind, fitted on training rows alone.

Every encoder has ``input_shape`` (see `models.contract`), ``batch(rows, generator)``, ``to(device)`` and
``nbytes``. Rows are int64 on the CPU; a generator asks for the augmented view.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tracesift.pipelines.encoding.images import Pixels
from tracesift.pipelines.encoding.table import encode_table
from tracesift.pipelines.encoding.text import Ngrams, Tokens
from tracesift.pipelines.models.contract import Model


class Encoded(Protocol):
    """What the training loop asks of the inputs."""

    input_shape: tuple[int, ...]
    nbytes: int

    def batch(self, rows: Tensor, generator: torch.Generator | None = None) -> Any:
        """Return the model's input for these rows (B,), augmented where a generator is given."""
        ...

    def to(self, device: torch.device) -> Encoded:
        """Return the same inputs, to be batched on `device`."""
        ...


class Rows:
    """An encoded table: float32 (N, D)."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self.input_shape: tuple[int, ...] = (values.shape[1],)
        self.nbytes = values.numel() * 4

    def batch(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return (B, D); tables are not augmented."""
        return self.values[rows.to(self.values.device, non_blocking=True)]

    def to(self, device: torch.device) -> Rows:
        """Return the table on `device`."""
        return Rows(self.values.to(device))


class Encodings:
    """The inputs of one dataset as models take them, each made when first asked for and shared by its readers."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._made: dict[tuple[str, int], Encoded] = {}

    def of(self, model: Model) -> Encoded:
        """Return the inputs as `model` takes them; images are kept once, however they are augmented."""
        key = (model.recipe.encoding + (model.argument or ""), model.recipe.largest_side)
        if key not in self._made:
            self._made[key] = encode(self.dataset, model)
        made = self._made[key]
        return made.augmented(model.recipe.augmentation) if isinstance(made, Pixels) else made


def encode(dataset: Any, model: Model, *, fit: np.ndarray | None = None) -> Encoded:
    """Return the inputs of all samples as `model` takes them.

    Parameters
    ----------
    dataset
        The opened dataset.
    model
        Decides the image size, the augmentation, and whether text becomes n-grams or tokens.
    fit
        Rows that means, levels and document frequencies are taken from; the training rows by default.
    """
    rows = dataset.rows("train") if fit is None else np.asarray(fit, dtype=np.int64)
    if dataset.kind == "image":
        return Pixels.encode(
            dataset.inputs, rows, side=model.recipe.largest_side, augmentation=model.recipe.augmentation
        )
    if dataset.kind == "text" and model.recipe.encoding == "tokens":
        return Tokens(dataset.inputs, model.argument or "")
    if dataset.kind == "text":
        return Ngrams.encode(dataset.inputs, rows)
    return Rows(torch.from_numpy(encode_table(dataset.inputs, rows)))
