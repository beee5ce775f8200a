"""A readable copy of a catalog that another process may be writing."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import duckdb
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from tracesift.catalog.connection import first_line, literal
from tracesift.catalog.schema import BadInput, WorkspaceBusy


def copied(path: Path, folder: Path, *, wait: float) -> Path:
    """Copy a catalog and its write-ahead log into `folder` without asking for its lock; returns the copy.

    A copy that a writer changed underneath is noticed, by the files' times and by DuckDB's checksums, and
    made again for up to `wait` seconds.

    Raises
    ------
    WorkspaceBusy
        No whole copy came about in that time.
    BadInput
        There is no catalog yet.
    """
    if not path.is_file():
        raise BadInput(f"no catalog at {path}: run `tracesift curate` or `tracesift ingest` there first")
    copy = folder / path.name
    retrying = Retrying(
        retry=retry_if_exception_type((duckdb.Error, _Changed)),
        stop=stop_after_delay(wait),
        wait=wait_random_exponential(multiplier=0.05, max=0.5),
        reraise=True,
    )
    try:
        retrying(_copy_once, path, copy)
    except (duckdb.Error, _Changed) as error:
        raise WorkspaceBusy(
            f"no whole copy of {path} could be made in {wait:g} s ({first_line(error)}): "
            "wait for its writer to end, then try again"
        ) from error
    return copy


class _Changed(Exception):
    """The catalog was written while it was copied."""

    def __str__(self) -> str:
        return "it changed meanwhile"


def _copy_once(path: Path, copy: Path) -> None:
    before = _stamps(path)
    for source, target in zip(_files(path), _files(copy), strict=True):
        target.unlink(missing_ok=True)
        with suppress(FileNotFoundError):  # the log exists only while it holds something
            shutil.copyfile(source, target)
    if _stamps(path) != before:
        raise _Changed
    with duckdb.connect(":memory:") as con:
        con.execute(f"ATTACH {literal(str(copy))} AS catalog (READ_ONLY)")


def _files(path: Path) -> tuple[Path, Path]:
    return path, path.with_name(path.name + ".wal")


def _stamps(path: Path) -> list[tuple[int, int] | None]:
    found = [file.stat() if file.exists() else None for file in _files(path)]
    return [None if one is None else (one.st_mtime_ns, one.st_size) for one in found]
