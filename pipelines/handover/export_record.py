"""What an export says of itself: its record, and the samples that the manifest in it lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from tracesift.catalog.manifest import MEMBERS_FILE

EXPORT_SCHEMA = 1
"""Version of the layout of export.json."""

RECORD, MANIFEST = "export.json", "manifest"
"""The record of an export, and the folder in it that holds the manifest."""


def export_record(folder: Path) -> dict[str, Any] | None:
    """Return what export.json says, None of a folder that is no export."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        whole = all(isinstance(one["file"], str) for one in record["files"])
        named = isinstance(record["manifest"]["name"], str) and isinstance(record["format"], str)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if whole and named else None


def exported_samples(folder: Path) -> frozenset[str] | None:
    """Return the samples that an export's manifest lists, None where that cannot be read any more."""
    try:
        return frozenset(
            pl.read_parquet(folder / MANIFEST / MEMBERS_FILE, columns=["sample_id"])["sample_id"]
        )
    except (OSError, pl.exceptions.PolarsError):
        return None
