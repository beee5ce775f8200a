"""The side file of a manifest that says which tokens of each text a training loop leaves out of its loss.

``goldfish.parquet`` lies beside the manifest.json of its version. It has a row per member that is trained on, sorted
by `sample_id`: how many `tokens` its text has, and the positions of those that are `masked`, from 0 on and ascending.
It holds no text and no token ids. The file's own metadata say under ``goldfish``, in JSON, for which manifest it was
made, by which rule and tokenizer, and the digest of its rows; so a manifest stays what it is, and the file can be told
from one of another version and from one that was changed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import polars as pl

from tracesift.catalog.files import canonical_json, write_parquet
from tracesift.catalog.manifest import Manifest
from tracesift.catalog.schema import BadInput

GOLDFISH_FILE = "goldfish.parquet"
GOLDFISH_SCHEMA = 1
"""Version of the file's columns and metadata."""

KEY = "goldfish"
MEND = "make it again with `tracesift goldfish`, or delete it"
MASKED_ROLES = ("keep", "relabel", "retain", "neighbor")
"""Roles of members that a model is trained on."""

MASKS: dict[str, pl.DataType] = {
    "sample_id": pl.String(),
    "tokens": pl.Int32(),
    "masked": pl.List(pl.Int32),
}
"""Columns of goldfish.parquet."""


@dataclass(frozen=True, kw_only=True)
class MaskRecord:
    """What goldfish.parquet says of itself."""

    manifest: dict[str, Any]
    """`name`, `version` and `fingerprint` of the manifest that it belongs to."""
    rule: dict[str, Any]
    """The settings of `goldfish_mask` that were in force."""
    tokenizer: dict[str, Any]
    """`name` as it was given, `digest` of what it does, and whether `special_tokens` were added."""
    digest: str = ""
    """Of the rows; filled in when they are written."""
    schema_version: int = GOLDFISH_SCHEMA


def masks_path(folder: Path, version: int) -> Path | None:
    """Return the file that belongs to a manifest in `folder`, in its version's folder or beside it; None for none."""
    places = (folder / "versions" / f"{version:04d}", folder)
    return next((place / GOLDFISH_FILE for place in places if (place / GOLDFISH_FILE).is_file()), None)


def write_masks(path: Path, masks: pl.DataFrame, record: MaskRecord) -> None:
    """Write the file atomically; the same masks and record give the same bytes."""
    rows = masks.select(pl.col(name).cast(kind) for name, kind in MASKS.items()).sort("sample_id")
    whole = asdict(replace(record, digest=digest_of(rows)))
    write_parquet(rows, path, metadata={KEY: canonical_json(whole).decode()})


def read_masks(path: Path) -> tuple[pl.DataFrame, MaskRecord]:
    """Read the file and what it says of itself.

    Raises
    ------
    BadInput
        It cannot be read, is no such file, comes from a newer tracesift, or its rows are not those written with it.
    """
    record = read_record(path)
    try:
        rows = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInput(f"{path} is no readable Parquet file: {str(error).splitlines()[0]}; {MEND}") from error
    if dict(rows.schema) != MASKS:
        raise BadInput(f"{path} has the columns {dict(rows.schema)}, expected {MASKS}; {MEND}")
    if digest_of(rows) != record.digest:
        raise BadInput(f"{path} has not the rows that were written: it was changed or damaged; {MEND}")
    return rows, record


def read_record(path: Path) -> MaskRecord:
    """Read what the file says of itself; raises BadInput as `read_masks` does, and does not look at the rows."""
    try:
        value = json.loads(pl.read_parquet_metadata(path)[KEY])
        version = int(value["schema_version"])
    except (pl.exceptions.PolarsError, OSError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} does not say what it is: it was changed or damaged; {MEND}") from error
    if version > GOLDFISH_SCHEMA:
        raise BadInput(
            f"{path} has schema version {version}, this tracesift knows {GOLDFISH_SCHEMA}: upgrade tracesift"
        )
    known = {one.name for one in fields(MaskRecord)}
    if value.keys() != known or not isinstance(value["manifest"].get("fingerprint"), str):
        raise BadInput(f"{path} does not say what it is: it was changed or damaged; {MEND}")
    return MaskRecord(**value)


def masks_of(
    folder: Path, manifest: Manifest, members: pl.DataFrame
) -> tuple[pl.DataFrame, MaskRecord] | None:
    """Return the masks that belong to a manifest in `folder` and what they say of themselves; None where it has none.

    Raises
    ------
    BadInput
        They are damaged, or were made for another content of the manifest or for other members.
    """
    path = masks_path(folder, manifest.version)
    if path is None:
        return None
    rows, record = read_masks(path)
    wanted = members.filter(pl.col("role").is_in(MASKED_ROLES))["sample_id"]
    if record.manifest["fingerprint"] != manifest.fingerprint or not rows["sample_id"].equals(wanted):
        raise BadInput(f"{path} was made for other members than this {manifest.name} has; {MEND}")
    return rows, record


def without_samples(path: Path, target: Path, ids: pl.Series, renamed: dict[str, str]) -> int | None:
    """Write the file to `target` without some samples and for the manifest without them; return how many it lost.

    Parameters
    ----------
    ids
        Of the samples.
    renamed
        Old to new fingerprints of manifests.

    Returns
    -------
    int or None
        None where nothing changes and nothing was written.
    """
    rows, record = read_masks(path)
    left = rows.filter(~pl.col("sample_id").is_in(ids.implode()))
    before = record.manifest["fingerprint"]
    fresh = renamed.get(before, before)
    if left.height == rows.height and fresh == before:
        return None
    write_masks(target, left, replace(record, manifest={**record.manifest, "fingerprint": fresh}))
    return rows.height - left.height


def digest_of(rows: pl.DataFrame) -> str:
    """Return BLAKE2b over the rows of the file, 32 hex digits: values, not how they lie in memory or on disk."""
    whole = hashlib.blake2b(canonical_json(rows["sample_id"].to_list()), digest_size=16)
    lengths = rows["masked"].list.len().cast(pl.Int64)
    for column in (
        rows["tokens"].cast(pl.Int64),
        lengths,
        rows["masked"].explode().drop_nulls().cast(pl.Int64),
    ):
        whole.update(column.to_numpy().astype("<i8").tobytes())
    return whole.hexdigest()
