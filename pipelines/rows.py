"""Torch datasets that yield each sample's row, the int64 by which a recorder knows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from tracesift.catalog.schema import BadInput


def rows_of(dataset: Any, sample_ids: Sequence[str]) -> np.ndarray:
    """Return the dataset rows of `sample_ids`, (n,) int64.

    Raises
    ------
    BadInput
        When an id is not in the dataset.
    """
    known = dataset.samples["sample_id"]
    table = pl.DataFrame({"sample_id": known, "row": pl.arange(len(known), eager=True, dtype=pl.Int64)})
    wanted = pl.DataFrame({"sample_id": pl.Series(list(sample_ids), dtype=pl.String)})
    found = wanted.join(table, on="sample_id", how="left", maintain_order="left")
    if found["row"].null_count():
        absent = found.filter(pl.col("row").is_null())["sample_id"][0]
        raise BadInput(f"sample id {absent!r} is not in {dataset.name}")
    return found["row"].to_numpy()


class RowDataset(TorchDataset[tuple[Tensor, Any, Tensor]]):
    """One split of an opened dataset as ``(row, input, label)``, for the user's own loop.

    Parameters
    ----------
    dataset
        The opened dataset.
    split
        ``train``, ``val`` or ``test``.
    transform
        Applied to each input as `Dataset.inputs` holds it (a uint8 array H, W, C; a text; a dict).
    """

    def __init__(
        self, dataset: Any, split: str = "train", transform: Callable[[Any], Any] | None = None
    ) -> None:
        self.dataset = dataset
        self.rows = dataset.rows(split)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[Tensor, Any, Tensor]:
        row = int(self.rows[place])
        inputs = self.dataset.inputs
        item = inputs.row(row, named=True) if isinstance(inputs, pl.DataFrame) else inputs[row]
        item = item if self.transform is None else self.transform(item)
        return torch.tensor(row), item, torch.tensor(int(self.dataset.labels[row]))


class WithRows(TorchDataset[tuple[Any, ...]]):
    """A map-style torch dataset that puts the row before what each sample was.

    Parameters
    ----------
    inner
        The user's dataset; item ``i`` belongs to ``sample_ids[i]``.
    dataset
        The opened dataset that holds these ids.
    sample_ids
        One id per item of `inner`.
    """

    def __init__(self, inner: Any, dataset: Any, sample_ids: Sequence[str]) -> None:
        if len(inner) != len(sample_ids):
            raise BadInput(f"{len(sample_ids)} sample ids for {len(inner)} items; one id per item is needed")
        self.inner = inner
        self.rows = rows_of(dataset, sample_ids)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, place: int) -> tuple[Any, ...]:
        item = self.inner[place]
        return (torch.tensor(int(self.rows[place])), *(item if isinstance(item, tuple) else (item,)))
