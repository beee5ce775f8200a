"""Who of a manifest's members was asked to be deleted, as far as the workspace around the manifest knows.

A manifest stays as it was made; what is handed out of it leaves these samples out.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl

from tracesift.catalog.connection import CATALOG_FILE
from tracesift.catalog.files import write_bytes, write_parquet
from tracesift.catalog.forgotten import KNOWN
from tracesift.catalog.manifest import Manifest, without_members
from tracesift.catalog.redaction import Redaction
from tracesift.catalog.store import Catalog


def workspace_around(path: str | Path) -> Path | None:
    """Return the workspace that a manifest lies in, None where it was copied elsewhere."""
    parents = Path(path).absolute().parents
    for folder in parents:
        if (folder / CATALOG_FILE).is_file() and (folder / "manifests") in parents:
            return folder
    return None


def deleted_among(members: pl.DataFrame, manifest: Manifest, workspace: Path | None) -> pl.DataFrame | None:
    """Return which members were asked to be deleted, by which request; None where no workspace knows their data.

    They are known again by their ids, and by their content as far as the workspace knows the state of the data.

    Parameters
    ----------
    members
        `sample_id`.

    Returns
    -------
    polars.DataFrame
        The columns of `forgotten.KNOWN`: a row per sample and request, earliest first.

    Raises
    ------
    BadInput
        There are requests, and the key by which their samples are recognised is gone.
    """
    if workspace is None or not (workspace / CATALOG_FILE).is_file():
        return None
    catalog = Catalog(workspace)
    known = catalog.query(
        "SELECT sample_id, content_hash FROM samples JOIN datasets USING (dataset_id) WHERE fingerprint = ?",
        (manifest.dataset.fingerprint,),
    )
    if known.is_empty():
        return None
    return catalog.recognised(members.select("sample_id").join(known, on="sample_id", how="left"))


def not_handed_out(members: pl.DataFrame, manifest: Manifest, path: str | Path) -> frozenset[str]:
    """Return the members that nobody should get any more: those asked to be deleted.

    The role forget of a subset that answers requests is what there is to unlearn, and is handed out for that.

    Parameters
    ----------
    members
        `sample_id` and `role`.
    path
        Where the manifest lies.
    """
    found = deleted_among(members, manifest, workspace_around(path))
    found = pl.DataFrame(schema=KNOWN) if found is None else found
    own = found.filter(pl.col("subset") == manifest.name)["sample_id"]
    to_unlearn = members.filter((pl.col("role") == "forget") & pl.col("sample_id").is_in(own.implode()))
    return frozenset(found["sample_id"]) - frozenset(to_unlearn["sample_id"])


def without_deleted(
    manifest: Manifest, members: pl.DataFrame, deleted: frozenset[str]
) -> tuple[Manifest, pl.DataFrame]:
    """Return a manifest and its members as they are handed out: as a purge would leave them, which they say."""
    return without_members(manifest, members, deleted, Redaction(deleted), {})


def copy_without(path: Path, target: Path, deleted: frozenset[str]) -> None:
    """Copy a file that lies beside a manifest, without what was deleted; what cannot be told to be so is not copied."""
    redaction = Redaction(deleted)
    if not deleted:
        shutil.copyfile(path, target)
    elif path.suffix == ".json":
        write_bytes(target, redaction.text(path.read_text(encoding="utf-8")).encode())
    elif path.suffix == ".parquet":
        try:
            frame = pl.read_parquet(path)
        except pl.exceptions.PolarsError:  # somebody's file that is called so
            return
        if "sample_id" in frame.columns:
            write_parquet(redaction.frame(frame), target)
