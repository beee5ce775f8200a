"""A dataset some of whose model inputs were changed: everything else of it is as it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tracesift.catalog.schema import ID_RULE
from tracesift.pipelines import identity
from tracesift.pipelines.dataset import Dataset


@dataclass(frozen=True, kw_only=True, eq=False)
class ChangedDataset:
    """A dataset, the rows that were changed, and what they hold now."""

    dataset: Dataset
    """As it was opened."""
    rows: NDArray[np.int64]
    """Changed rows, ascending (M,)."""
    inputs: NDArray[np.uint8] | list[str]
    """What they hold now: uint8 (M, H, W, C) or M texts."""
    facts: dict[str, Any]
    """Method, version, parameters, report, source and classes, as plain JSON."""

    @property
    def changed(self) -> list[str]:
        """The ids of the changed samples, ascending."""
        return self.dataset.samples["sample_id"].gather(self.rows).to_list()

    def part(self, start: int, stop: int) -> NDArray[np.uint8] | list[str]:
        """Return the inputs of the rows from `start` to before `stop`, changed ones as they are now."""
        before = self.dataset.inputs
        first, last = np.searchsorted(self.rows, (start, stop))
        here = self.rows[first:last] - start
        if isinstance(before, list):
            texts = before[start:stop]
            for at, row in zip(range(first, last), here.tolist(), strict=True):
                texts[row] = str(self.inputs[at])
            return texts
        assert not isinstance(before, pl.DataFrame)
        images = np.array(before[start:stop])
        images[here] = self.inputs[first:last]
        return images

    def samples(self, hashes: Sequence[str]) -> pl.DataFrame:
        """Return the samples with the content hashes of the inputs as they are now."""
        return self.dataset.samples.with_columns(pl.Series("content_hash", hashes))

    def fingerprint(self, hashes: Sequence[str]) -> str:
        """Return the fingerprint that the changed dataset has when it is opened."""
        schema: dict[str, object] = {"kind": self.dataset.kind, "inputs": [self.dataset.kind]}
        return identity.fingerprint(self.samples(hashes), schema)


def source_facts(dataset: Dataset) -> dict[str, Any]:
    """Return what a record says of the dataset that was changed."""
    return {
        "name": dataset.name, "source": dataset.source, "fingerprint": dataset.fingerprint,
        "num_samples": len(dataset), "id_rule": ID_RULE,
    }  # fmt: skip
