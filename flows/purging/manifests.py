"""A purge of manifests, which are written anew, and of exports, which go or are named."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tracesift.catalog.files import canonical_json, digest
from tracesift.catalog.manifest import (
    MANIFEST_FILE,
    MEMBERS_FILE,
    read_manifest,
    read_members,
    without_members,
    write_copy,
)
from tracesift.catalog.schema import BadInput
from tracesift.flows.exports import note_name, noted_exports
from tracesift.flows.purging.plan import OURS, Purge
from tracesift.flows.purging.purged import was_purged
from tracesift.flows.work import Work
from tracesift.pipelines.handover.export_record import RECORD, export_record, exported_samples


def write_manifests(
    doing: Purge,
) -> tuple[dict[str, str], dict[tuple[str, int], dict[str, Any]]]:
    """Write every version of every manifest that names a sample or its state; return the new ids and catalog columns.

    In the order in which they were made, since one may say of which other it was selected. Copies of their folders
    elsewhere in the workspace are manifests as well.
    """
    recorded = doing.work.catalog.query(
        "SELECT name, version, subset_id, seq, params, scores, dataset_id FROM subset_records ORDER BY seq"
    ).to_dicts()
    order = {(row["name"], row["version"]): row["seq"] for row in recorded}
    places = _manifest_folders(doing)
    ids: dict[str, str] = {}
    columns: dict[tuple[str, int], dict[str, Any]] = {}
    for key in sorted(places, key=lambda key: (order.get(key[:2], len(order) + 1), key)):
        manifest = read_manifest(places[key][0])
        members = read_members(places[key][0], manifest)
        fresh, left = without_members(manifest, members, doing.ids, doing.redaction, doing.left)
        if fresh == manifest and left.equals(members):
            continue
        for place in places[key]:
            target = doing.folder / place.relative_to(doing.work.path)
            written = write_copy(target, fresh, left)
        doing.gone["manifest members"] += members.height - left.height
        ids[manifest.subset_id] = doing.redaction.renamed[manifest.subset_id] = written.subset_id
        doing.redaction.renamed[manifest.fingerprint] = written.fingerprint
        if not any(place.is_relative_to(doing.work.path / "manifests") for place in places[key]):
            continue
        columns[key[:2]] = {
            "subset_id": written.subset_id, "fingerprint": written.fingerprint, "num_members": left.height,
            "params": canonical_json(written.selector.params).decode(),
            "scores": canonical_json([score.as_dict() for score in written.scores]).decode(),
        }  # fmt: skip
    touched = {state.dataset_id for state in doing.states}
    for row in recorded:  # its files were deleted by hand: the name must not go over its members either
        if (row["name"], row["version"]) not in columns and row["dataset_id"] in touched:
            fresh_id = digest(
                {"purged": [row["name"], row["version"]], "params": doing.redaction.text(row["params"])}
            )
            columns[row["name"], row["version"]] = {"subset_id": fresh_id, "fingerprint": None}
            ids[row["subset_id"]] = doing.redaction.renamed[row["subset_id"]] = fresh_id
    return ids, columns


def _manifest_folders(doing: Purge) -> dict[tuple[str, int, str], list[Path]]:
    """Return name, version and fingerprint of each manifest in the workspace -> the folders in which it lies."""
    root = doing.work.path
    places: dict[tuple[str, int, str], list[Path]] = {}
    for path in sorted(root.rglob(MANIFEST_FILE)):
        inside = path.relative_to(root)
        if inside.parts[0] in OURS or any(part.startswith(".tmp-") for part in inside.parts):
            continue
        if goes(doing, inside):
            continue
        try:
            found = read_manifest(path)
            read_members(path, found)
        except BadInput:
            if inside.parts[0] == "manifests":
                raise
            continue  # somebody's file that is called so, or a part of one of ours
        doing.manifests |= {inside.as_posix(), inside.with_name(MEMBERS_FILE).as_posix()}
        places.setdefault((found.name, found.version, found.fingerprint), []).append(path.parent)
    return places


def drop_exports(doing: Purge) -> None:
    """Let go the exports in the workspace that list a sample, or are of a state that held one.

    They are made again by one command. Cleaned, they would be others than their own hashes and shares say, and row
    numbers of the source cannot be cleaned without saying whose they were.
    """
    root = doing.work.path
    for path in sorted(root.glob(f"*/**/{RECORD}")):
        folder, inside = path.parent, path.parent.relative_to(root)
        record = None if inside.parts[0] in OURS else export_record(folder)
        if record is None:
            continue
        listed = exported_samples(folder)
        of_such_a_state = record.get("dataset", {}).get("fingerprint") in doing.left
        if not of_such_a_state and listed is not None and not listed & doing.ids:
            continue
        written = {RECORD, *(one["file"] for one in record["files"])}
        there = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
        if there <= written:
            doing.removed.add(inside.as_posix())
        else:  # what somebody else put there is looked at like any other file
            doing.removed |= {(inside / name).as_posix() for name in there & written}
        doing.removed.add(note_name(folder))
        doing.gone["exports"] += 1
        doing.exports.append(_told_of_export(folder, record, removed=True))


def _told_of_export(folder: Path, record: Mapping[str, Any], *, removed: bool) -> dict[str, Any]:
    name = record["manifest"]["name"]
    return {"folder": str(folder), "format": record["format"], "manifest": name, "removed": removed}


def goes(doing: Purge, inside: Path) -> bool:
    """Tell whether a file, or a folder that it lies in, is removed."""
    return not doing.removed.isdisjoint({inside.as_posix(), *(one.as_posix() for one in inside.parents)})


def exports_outside(work: Work, ids: Collection[str]) -> list[dict[str, Any]]:
    """Return the exports outside of the workspace that stand yet and list one of these samples, or a purged one."""
    root, found = work.path.resolve(), []
    for note in noted_exports(work.path):
        folder = Path(note["folder"])
        if folder.is_relative_to(root) or export_record(folder) is None:
            continue
        listed = exported_samples(folder)
        if listed is None or listed & set(ids) or was_purged(work, listed):
            found.append(_told_of_export(folder, note, removed=False))
    return found
