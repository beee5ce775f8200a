"""Making a catalog file that is whole from its first byte: DuckDB opens none whose head is half-written."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from tracesift.catalog import views
from tracesift.catalog.connection import writing
from tracesift.catalog.migrations import migrate

_STALE = 3600.0  # seconds after which a temporary file can only be a killed writer's


def create(path: Path, workspace: Path, *, wait: float) -> None:
    """Make an empty catalog under another name and link it to `path`; one that appeared meanwhile stays."""
    temporary = path.with_name(f".tmp-{uuid4().hex}.duckdb")
    try:
        with writing(temporary, wait=wait) as con:
            migrate(con)
            views.place(con, workspace)
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        for leftover in path.parent.glob(".tmp-*.duckdb*"):
            with suppress(FileNotFoundError):
                if leftover == temporary or leftover.stat().st_mtime < time.time() - _STALE:
                    leftover.unlink()
