"""A Parquet file for each role: what the samples are, with label, weight and the reason for the role.

DIR/data/ROLE.parquet    the content, the source's other columns, then sample_id, label, weight, reason
DIR/README.md            a card by which `datasets.load_dataset(DIR)` finds a split for each role
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.schema import ROLES
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.handover.contents import chunks
from tracesift.pipelines.subset import Subset

OURS = ("sample_id", "label", "weight", "reason")


def write_role_files(subset: Subset, dataset: Dataset, making: Path, target: Path) -> Mapping[str, Any]:
    """Write the files of all roles that have members into `making`, and return what the record says of them.

    Parameters
    ----------
    subset, dataset
        A manifest and its data, opened and checked.
    making, target
        The folder to write into, and the one that it will be.

    Returns
    -------
    mapping
        ``rows`` by file; ``reading``: what opens such a file with `open_dataset`; ``label_column``: the source's name
        of what is `label` here.

    Notes
    -----
    Rows are sorted by id, `label` is the one to train on. A column of the source that is called as one of ours gets
    ``_source`` behind its name.
    """
    rows = {}
    roles = [role for role in ROLES if subset.given["role"].is_in([role]).any()]
    for role in roles:
        name = f"data/{role}.parquet"
        rows[name] = _write(subset, dataset, role, making / name)
    splits = "".join(f"  - split: {role}\n    path: data/{role}.parquet\n" for role in roles)
    counts = "".join(f"* `{role}`: {rows[f'data/{role}.parquet']} samples\n" for role in roles)
    (making / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{splits}---\n\n"
        f"Members of the manifest `{subset.manifest.name}`, version {subset.manifest.version}, by role:\n\n{counts}\n"
        "`label` is the label to train on, `weight` the factor of the sample's loss, `reason` why it has this role.\n",
        encoding="utf-8",
    )
    inputs = {name: _ours_apart(dataset.options.get(name)) for name in ("text", "image")}
    reading: dict[str, Any] = {"id": "sample_id", "label": "label"}
    reading |= {key: name for key, name in inputs.items() if name}
    if isinstance(dataset.inputs, pl.DataFrame):
        reading["features"] = [_ours_apart(name) for name in dataset.inputs.columns]
    elif isinstance(dataset.inputs, np.ndarray) and dataset.inputs.ndim == 2:
        reading["features"] = ["x"]
    elif len(reading) == 2:  # images from folders or arrays, texts that came alone
        reading[dataset.kind] = dataset.kind
    return {"rows": rows, "reading": reading, "label_column": dataset.options.get("label")}


def _write(subset: Subset, dataset: Dataset, role: str, path: Path) -> int:
    """Write one role and return how many rows it has."""
    import datasets
    import pyarrow.parquet as pq

    taken, _ = subset.taken(dataset, [role])
    reasons = subset.given.filter(role=role)["reason"]
    path.parent.mkdir(exist_ok=True)
    writer = None
    try:
        for part, frame in chunks(dataset, taken.rows):
            whole = frame.rename(
                {name: f"{name}_source" for name in OURS if name in frame.columns}
            ).with_columns(
                sample_id=taken.ids[part],
                label=taken.labels[part],
                weight=taken.weights[part],
                reason=reasons[part],
            )
            table = whole.to_arrow(compat_level=pl.CompatLevel.oldest())
            features = datasets.Features.from_arrow_schema(table.schema)
            for name, dtype in whole.schema.items():
                if isinstance(dtype, pl.Struct) and [one.name for one in dtype.fields] == ["bytes", "path"]:
                    features[name] = datasets.Image()
            schema = features.arrow_schema  # says to `datasets` which columns are images
            writer = writer or pq.ParquetWriter(path, schema, compression="zstd")
            writer.write_table(table.cast(schema))
    finally:
        if writer is not None:
            writer.close()
    return len(taken.ids)


def _ours_apart(name: str | None) -> str | None:
    return f"{name}_source" if name in OURS else name
