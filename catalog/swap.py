"""Replacing many files of a workspace as if they were one.

What is to stand is first written whole into a folder beside, then a journal says that it counts, and only then are the
files renamed into place and the old ones removed. Killed before the journal, nothing has happened; killed after it,
whoever next holds the workspace's lock finishes the renaming. The journal holds paths, and nothing of what they held.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from tracesift.catalog.files import write_json

JOURNAL = ".swap.json"
STAGE = ".tmp-swap"
"""Begins like every temporary file, so that one left by a killed command is swept."""


def staged(workspace: Path) -> Path:
    """Return an empty folder in which files are made at the paths that they will have in the workspace."""
    folder = workspace / STAGE
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def swap(workspace: Path, removed: Collection[str], *, at: Callable[[str], None] = lambda _: None) -> None:
    """Put what was staged in place and remove the files or folders of these paths; `at` hears of each step."""
    folder = workspace / STAGE
    put = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    gone = sorted(set(removed) - set(put))
    at("staged")
    _to_disk(folder)
    write_json(workspace / JOURNAL, {"put": put, "remove": gone})
    _to_disk(workspace)
    finish_swap(workspace, at=at)


def finish_swap(workspace: Path, *, at: Callable[[str], None] = lambda _: None) -> bool:
    """Go on where a swap was stopped; return whether there was one. The caller holds the workspace's lock."""
    journal = workspace / JOURNAL
    if not journal.exists():
        return False
    steps = json.loads(journal.read_bytes())
    at("journal")
    for name in steps["put"]:
        source, target = workspace / STAGE / name, workspace / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
            at(f"put {name}")
    for name in steps["remove"]:
        path = workspace / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty, or gone
            path.parent.rmdir()
        at(f"remove {name}")
    shutil.rmtree(workspace / STAGE, ignore_errors=True)
    at("cleared")
    _to_disk(workspace)
    journal.unlink()
    return True


def _to_disk(folder: Path) -> None:
    """Flush a folder's entries, and those of the folders below it in a stage, where the system can."""
    if os.name != "posix":
        return
    inside = [path for path in folder.rglob("*") if path.is_dir()] if folder.name == STAGE else []
    for place in (folder, *inside):
        handle = os.open(place, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
