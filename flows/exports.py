"""Where a workspace's manifests were exported to: a purge cannot reach these folders, and names those that stand.

    records/export-<hash of the folder>.json    schema, folder, format, manifest (name and version), at

One file for each folder, so that no lock is needed; it holds neither ids nor hashes of what was exported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tracesift.catalog.files import digest, write_json
from tracesift.catalog.manifest import Manifest
from tracesift.flows.progress import say

EXPORT_NOTE_SCHEMA = 1
NOTES = "records/export-"
"""How the names of these files begin."""


def note_name(folder: Path) -> str:
    """Return the path in the workspace under which an export to a folder is noted."""
    return f"{NOTES}{digest(str(folder.expanduser().resolve()))}.json"


def note_export(workspace: Path, folder: Path, *, format: str, manifest: Manifest) -> None:
    """Note that a manifest is exported to a folder, in place of what was exported there before."""
    note = {
        "schema": EXPORT_NOTE_SCHEMA, "folder": str(folder.expanduser().resolve()), "format": format,
        "manifest": {"name": manifest.name, "version": manifest.version},
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    try:
        write_json(workspace / note_name(folder), note)
    except OSError as error:  # somebody else's workspace, which may be read all the same
        say(
            f"{workspace}: the export cannot be noted there ({error.strerror}), so a purge will not name {folder}"
        )


def noted_exports(workspace: Path) -> Iterator[dict[str, Any]]:
    """Yield what is noted of the exports of a workspace, in the order of their files."""
    for path in sorted(workspace.glob(f"{NOTES}*.json")):
        yield json.loads(path.read_bytes())
