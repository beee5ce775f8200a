"""The command `export`: a manifest's members, written out for other people's tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tracesift.catalog.schema import BadInput
from tracesift.flows.options import Common
from tracesift.flows.progress import say


def export(
    manifest: Path,
    source: str | None = None,
    /,
    *,
    to: Path,
    format: Annotated[Literal["open-unlearning", "parquet", "indices"], Parameter(negative="")],
    common: Common = Common(),
) -> int:
    """Write the members of a manifest, with what they are, into a folder that other tools read.

    The data are opened as they were for the manifest, and checked against it. The folder holds export.json with counts
    and hashes, and the manifest itself. What was asked to be deleted since is left out, where the manifest lies in its
    workspace; that workspace notes where the export lies, so that a purge can name it.

    Parameters
    ----------
    manifest
        A manifest.json, the folder that holds it, or the name of a subset of the workspace.
    source
        The data; by default the source that the manifest names.
    to
        Folder to write: a new one, or an earlier export of the same manifest that nobody has touched.
    format
        open-unlearning: JSON lines forget10, retain90, holdout10 as TOFU has them, and its configurations. parquet: a
        file for each role. indices: rows of the source to forget and to retain, or to keep and to drop, as npy files.
    """
    from tracesift.catalog.deletions import workspace_around
    from tracesift.flows.care import manifest_at
    from tracesift.flows.commands.stages import answer
    from tracesift.flows.exports import note_export
    from tracesift.pipelines.handover.exporting import export as written
    from tracesift.pipelines.subset import load_manifest

    manifest = manifest_at(common.workspace, manifest) or manifest
    subset = load_manifest(manifest)
    named = subset.manifest.dataset
    if named.options.get("recorded"):
        raise BadInput(
            f"manifest {subset.manifest.name} was selected from the recording {named.source} alone: there are no "
            "samples to export"
        )
    where = named.source if source is None else source
    if source is None and where != "digits" and not where.startswith("hf:") and not Path(where).exists():
        raise BadInput(f"{where}, the source of the manifest, is not found from here; give it as SOURCE")
    workspace = workspace_around(manifest)

    def note() -> None:
        if workspace is not None:
            note_export(workspace, to, format=format, manifest=subset.manifest)

    record = written(subset, subset.opened(where), to, format=format, made=note)
    if said := subset.left_out():
        say(said)
    answer({"folder": str(to), **record} if common.json else _told(to, record), common)
    return 0


def _told(folder: Path, record: dict[str, object]) -> dict[str, object]:
    files = [one for one in record["files"] if one["rows"] is not None]  # type: ignore[attr-defined]
    return {"folder": str(folder), **{one["file"]: one["rows"] for one in files}}
