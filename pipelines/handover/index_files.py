"""Rows of the source to forget and to keep, as the code of published unlearning methods reads them.

DIR/DATASET_N_forget.npy, DIR/DATASET_N_remain.npy    int64, ascending; N samples are forgotten
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
        The data were not read from a source that has an order.

    References
    ----------
    Fan et al., Challenging forgets: unveiling the worst-case forget sets in machine unlearning, ECCV 2024, whose index
    files are named so.
    """
    if dataset.positions is None:
        raise BadInput(
            f"{dataset.name}: was not read from a source, so its samples have no rows there; use --format parquet"
        )
    forget, remain = (
        np.sort(dataset.positions[subset.taken(dataset, roles)[0].rows].astype(np.int64))
        for roles in (("forget",), ("retain", "neighbor"))
    )
    rows = {}
    for name, places in (("forget", forget), ("remain", remain)):
        file = f"{plain_name(dataset.name)}_{len(forget)}_{name}.npy"
        np.save(making / file, places, allow_pickle=False)
        rows[file] = len(places)
    return {"rows": rows}
