"""Rows of the source to forget or to keep, ascending int64 in npy files.

DIR/DATASET_N_forget.npy, DIR/DATASET_N_remain.npy    N samples are forgotten; the names of published code
DIR/DATASET_N_keep.npy, DIR/DATASET_N_drop.npy        where nothing is to be forgotten; N samples are kept
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.handover.contents import plain_name
from tracesift.pipelines.subset import Subset


def write_indices(subset: Subset, dataset: Dataset, making: Path, target: Path) -> Mapping[str, Any]:
    """Write where the samples stand in the source into `making`, and return what the record says of it.

    Row i is the i-th sample of the source as tracesift reads it, from 0: for tables and torch datasets that of
    the file or object. Only the training samples have rows here; a holdout was never among them.

    Raises
    ------
    BadInput
        The data were not read from a source that has an order, or what is kept has new labels or weights, which row
        numbers cannot carry.

    References
    ----------
    Fan et al., Challenging forgets: unveiling the worst-case forget sets in machine unlearning, ECCV 2024, whose index
    files are named so.
    """
    if dataset.positions is None:
        raise BadInput(
            f"{dataset.name}: was not read from a source, so its samples have no rows there; use --format parquet"
        )
    parts = {"forget": ("forget",), "remain": ("retain", "neighbor")}
    if not subset.members["role"].is_in(parts["forget"]).any():
        parts = {"keep": ("keep", "relabel"), "drop": ("drop",)}
        kept = subset.members.filter(pl.col("role").is_in(parts["keep"]))
        if kept["new_label"].is_not_null().any() or (kept["weight"] != 1).any():
            raise BadInput(
                f"manifest {subset.manifest.name} gives samples new labels or weights, which row numbers cannot carry; "
                "use --format parquet"
            )
    places = {
        part: np.sort(dataset.positions[subset.taken(dataset, roles)[0].rows].astype(np.int64))
        for part, roles in parts.items()
    }
    first = len(next(iter(places.values())))
    rows = {}
    for part, numbers in places.items():
        file = f"{plain_name(dataset.name)}_{first}_{part}.npy"
        np.save(making / file, numbers, allow_pickle=False)
        rows[file] = len(numbers)
    return {"rows": rows}
