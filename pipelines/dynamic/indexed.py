"""A torch dataset whose samples say which they are: the row travels with the batch, through any loader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import Dataset as TorchDataset

from tracesift.catalog.schema import BadInput


class Indexed(TorchDataset[Any]):
    """A map-style dataset that puts the int64 row before what each sample was.

    A sample that is a tuple (or list) ``(x, y)`` becomes ``(row, x, y)``, a dict gets the key ``"row"``,
    anything else becomes ``(row, sample)``. `RowDataset` and `WithRows` of `tracesift.pipelines.rows` carry the
    rows of an opened dataset and need no such wrapper.

    Parameters
    ----------
    inner
        The user's dataset, with ``len()`` and ``[]``; its order must not change between epochs.

    Examples
    --------
    >>> Indexed(["a", "b"])[1]
    (tensor(1), 'b')
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, row: int) -> Any:
        item = self.inner[row]
        if isinstance(item, Mapping):
            if "row" in item:
                raise BadInput("the samples have a field 'row' of their own; rename it, it would be replaced")
            return {**item, "row": torch.tensor(row)}
        return (torch.tensor(row), *(item if isinstance(item, (tuple, list)) else (item,)))
