"""A protected dataset on disk: a Parquet file that opens again, and the truth beside it.

    FOLDER/data.parquet              id, image (PNG) or text, label, split, unlearnable_true, and label_true, group
                                     where the source knows them
    FOLDER/truth/protection.json     what was done, to which samples, with hashes

A projected dataset is written the same way, with another record; `unlearnable_true` where its source knows it.
Ids are those of the source, so scores of both can be joined. The same source, settings and seed give the same bytes.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from tracesift.catalog.files import canonical_json, check_can_be_made, sha256, write_json, write_parquet
from tracesift.catalog.schema import BadInput
from tracesift.pipelines import identity
from tracesift.pipelines.protection.changed import ChangedDataset
from tracesift.pipelines.protection.contract import Progress, silent
from tracesift.pipelines.protection.protecting import TRUTH_COLUMN, ProtectedDataset

PROTECTION_SCHEMA = 1
"""Version of the layout of protection.json."""

DATA, RECORD = "data.parquet", "truth/protection.json"
_CHUNK = 1024


def write_protected(
    protected: ProtectedDataset, folder: Path, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Write a protected dataset into a new folder, whole or not at all, and return its record.

    Raises
    ------
    BadInput
        The folder is there and holds something, or its name is taken by a file.
    """
    samples = protected.dataset.samples
    changed = samples[protected.rows]
    counts = {
        "train": int((samples["split"] == "train").sum()), "changed": len(changed),
        "changed_by_label": dict(changed.group_by("label").len().sort("label").iter_rows()),
    }  # fmt: skip
    said = {"counts": counts, "changed": protected.changed}
    return write_changed(protected, folder, RECORD, PROTECTION_SCHEMA, said, progress=progress)


def write_changed(
    changed: ChangedDataset,
    folder: Path,
    record: str,
    schema_version: int,
    said: Mapping[str, Any],
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a changed dataset into a new folder, whole or not at all, and return its record.

    Parameters
    ----------
    changed
        The dataset.
    folder
        Where; a new or empty one.
    record, schema_version
        File of the record inside the folder, and the version of its layout.
    said
        What the record says beside the facts, the data file and the versions.
    progress
        Called with what is done, the total, and words.

    Raises
    ------
    BadInput
        The folder is there and holds something, or its name is taken by a file.
    """
    check_free(folder)
    dataset, tell = changed.dataset, progress or silent
    values: list[Any] = []
    hashes: list[str] = []
    for start in range(0, len(dataset), _CHUNK):
        tell(start, len(dataset), "samples written")
        part = changed.part(start, start + _CHUNK)
        if isinstance(part, list):
            values += part
            hashes += identity.hash_texts(part)
        else:
            values += [{"bytes": _png(image), "path": None} for image in part]
            hashes += identity.hash_images(part)
    samples = changed.samples(hashes)
    known = [
        name
        for name in ("label_true", "group")
        if name in samples and samples[name].null_count() < len(samples)
    ]
    truth = [TRUTH_COLUMN] if samples.schema.get(TRUTH_COLUMN) == pl.Boolean else []
    image = pl.Struct({"bytes": pl.Binary(), "path": pl.String()})
    frame = samples.select(
        pl.col("sample_id").alias("id"),
        pl.Series(dataset.kind, values, dtype=pl.String() if dataset.kind == "text" else image),
        "label", *known, "split", *truth,
    )  # fmt: skip
    with whole(folder) as making:
        write_parquet(frame, making / DATA)
        written = {
            "schema_version": schema_version, "tool_version": version("tracesift"), **changed.facts,
            "data": {
                "file": DATA, "sha256": sha256(making / DATA), "rows": len(frame),
                "fingerprint": changed.fingerprint(hashes),
            },
            **said,
        }  # fmt: skip
        write_json(making / record, written)
    return written


def made_before(folder: Path, wanted: Mapping[str, Any], fingerprint: str) -> dict[str, Any] | None:
    """Return the record of a folder that holds this very protection of this source, whole; else None.

    Parameters
    ----------
    wanted
        ``method``, ``method_version``, ``parameters``, ``seed`` and ``share``.
    fingerprint
        The source's.
    """
    if not (folder / RECORD).is_file():
        return None
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_bytes())
    except ValueError:  # somebody else's file, or a damaged one: the folder is not this protection
        return None
    if record.get("schema_version") != PROTECTION_SCHEMA:
        return None
    asked = json.loads(canonical_json(wanted))
    same = {key: record.get(key) for key in asked} == asked and record["source"]["fingerprint"] == fingerprint
    data = folder / record["data"]["file"]
    return record if same and data.is_file() and sha256(data) == record["data"]["sha256"] else None


def check_free(folder: Path) -> None:
    """Refuse a folder that something is in, for nothing is ever written over, or that cannot be made."""
    if folder.is_dir() and any(folder.iterdir()):
        raise BadInput(f"--out {folder}: is there and holds something; name a new folder, or remove it first")
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--out {folder}: is a file; name a new folder")
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir():
        raise BadInput(f"--out {folder}: {above} is a file; name another folder")
    check_can_be_made(folder, "--out")


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """Yield a folder to write into, which becomes `folder` when the block ends well, and is gone when it does not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
    try:
        making.chmod(0o755)
        yield making
        making.replace(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _png(image: NDArray[np.uint8]) -> bytes:
    """Return the bytes of a PNG file of one image (H, W, C)."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, format="PNG")
    return file.getvalue()
