"""Writing files so that nothing half-written is ever read as whole, and naming content by its hash."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from tracesift.catalog.schema import BadInput


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it is flushed to disk and renamed over `path`.

    A reader sees the old file or the new one, whatever kills the writer. Leftovers begin with ``.tmp-``. A full
    disk raises OSError with the path, whoever was writing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except Exception as error:
        refused = _refused_write(error)
        if refused is None or (isinstance(error, OSError) and error.filename is not None):
            raise
        raise OSError(refused, os.strerror(refused), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_can_be_made(path: Path, option: str) -> None:
    """Refuse a folder or file that the machine would not let be made, before its content is.

    Raises
    ------
    BadInput
        Beside it, where it will be made first under another name, or in the nearest folder above that is there,
        nothing can be written; named as what was given for `option`.
    """
    above = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        Path(tempfile.mkdtemp(prefix=".tmp-", dir=above)).rmdir()
    except OSError as error:
        raise BadInput(
            f"{option} {path}: cannot be written ({os.strerror(error.errno or errno.EIO)}); name another folder, or "
            "mend it"
        ) from error


def _refused_write(error: BaseException | None) -> int | None:
    """Return the errno of a write that the disk refused; polars says it in words, torch in the chain behind."""
    while error is not None:
        said = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(said[1]) if said else None
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO):
            return number
        error = error.__cause__ or error.__context__
    return None


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def canonical_json(value: Any) -> bytes:
    """Return the one JSON form of `value`: sorted keys, no blanks, UTF-8, NaN refused."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


def digest(value: Any, *, length: int = 16) -> str:
    """Return the first `length` hex digits of BLAKE2b over the canonical JSON of `value`."""
    return hashlib.blake2b(canonical_json(value), digest_size=32).hexdigest()[:length]


def frame_digest(frame: pl.DataFrame) -> str:
    """Return 32 hex digits of BLAKE2b over the values of a frame, row by row in their order.

    Values, not bytes: how a frame lies in memory depends on how the file came about that it was read from.
    """
    return hashlib.blake2b(frame.hash_rows(seed=0).to_numpy().tobytes(), digest_size=16).hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


ROW_GROUP = 262_144
"""Rows that a Parquet file holds, and is read, together."""


def write_parquet(frame: pl.DataFrame, path: Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write `frame` atomically; the same rows and schema give the same bytes with the same polars build.

    Chunks, statistics, row groups and compression are fixed here because each of them changes the bytes. Where
    a column holds NaN, least and largest values are left out: they pass NaN over, and a reader that trusts them
    (DuckDB, for ``WHERE isnan(loss)``) then skips the rows that were asked for. `metadata` are the file's own, text
    by key.
    """
    floats = frame.select(pl.selectors.float())
    bounds = not any(column.is_nan().any() for column in floats.get_columns())
    statistics = {"min": bounds, "max": bounds, "distinct_count": False, "null_count": True}
    with replacing(path) as temporary:
        frame.rechunk().write_parquet(
            temporary,
            compression="zstd",
            compression_level=3,
            statistics=statistics,
            row_group_size=ROW_GROUP,
            metadata=None if metadata is None else dict(metadata),
        )
