"""Table files: Parquet, CSV, TSV, JSON, JSON Lines, Arrow and npz, one of them or a folder of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput, nearest
from tracesift.pipelines.sources.arrays import from_arrays
from tracesift.pipelines.sources.delimited import read_delimited
from tracesift.pipelines.sources.json_records import read_json
from tracesift.pipelines.sources.loaded import Loaded, join, known_split

FORMATS = ("parquet", "csv", "tsv", "jsonl", "json", "arrow", "npz")
_SUFFIXES = {"ndjson": "jsonl", "feather": "arrow", "ipc": "arrow", "pq": "parquet"}


def format_of(path: Path) -> str | None:
    """Return the format that a file's suffix names (``.csv.gz`` is csv), or None."""
    suffixes = [suffix.lstrip(".").lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == "gz":
        suffixes.pop()
    if not suffixes:
        return None
    suffix = _SUFFIXES.get(suffixes[-1], suffixes[-1])
    return suffix if suffix in FORMATS else None


def read_file(
    path: Path, *, format: str | None = None, delimiter: str | None = None, encoding: str | None = None
) -> Loaded:
    """Return one table file as read; errors name the file and what to do."""
    kind = check_format(format) or format_of(path)
    if kind is None:
        raise BadInput(f"{path}: cannot tell the format from the name; give --format ({', '.join(FORMATS)})")
    notes: list[str] = []
    mixed: dict[str, str] = {}
    if kind == "npz":
        return _read_npz(path)
    if kind in ("csv", "tsv"):
        table, notes = read_delimited(path, delimiter=delimiter, encoding=encoding, kind=kind)
    elif kind in ("json", "jsonl"):
        table, mixed = read_json(path, encoding=encoding, lines=kind == "jsonl")
    else:
        table = _read_binary(path, kind)
    if table.is_empty():
        raise BadInput(f"{path}: no rows; a dataset needs samples")
    return Loaded(table=table, name=_stem(path), root=path.parent, mixed=mixed, notes=tuple(notes))


def check_format(format: str | None) -> str | None:
    """Return a known format's name, or raise for an unknown one."""
    if format is None:
        return None
    wanted = _SUFFIXES.get(format.lstrip(".").lower(), format.lstrip(".").lower())
    if wanted not in FORMATS:
        raise BadInput(
            f"unknown format '{format}'{nearest(wanted, FORMATS)}; known: {', '.join(FORMATS)} (--format)"
        )
    return wanted


def _stem(path: Path) -> str:
    stem = path.name.split(".")[0]
    return (path.resolve().parent.name or stem) if known_split(stem) else stem


def _read_binary(path: Path, kind: str) -> pl.DataFrame:
    try:
        if kind == "parquet":
            return pl.read_parquet(path)
        with path.open("rb") as file:
            stream = file.read(6) != b"ARROW1"
        return pl.read_ipc_stream(path) if stream else pl.read_ipc(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).split("\n")[0]
        raise BadInput(f"{path}: not a whole {kind} file ({reason}); write or fetch it again") from error


def _read_npz(path: Path) -> Loaded:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise BadInput(f"{path}: not a readable npz of plain arrays ({error})") from error
    missing = [name for name in ("x", "y") if name not in arrays]
    if missing:
        raise BadInput(
            f"{path}: has no array '{missing[0]}'; an npz holds x and y (optionally id, split), found: "
            f"{', '.join(arrays) or 'nothing'}"
        )
    columns = {name: values for name, values in arrays.items() if name not in ("x", "y")}
    return from_arrays(arrays["x"], arrays["y"], name=_stem(path), columns=columns, where=str(path))


def table_files(folder: Path, format: str | None) -> list[Path]:
    """Return the table files that stand directly in a folder, by name."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if format is None:
        return [path for path in files if format_of(path)]
    wanted = check_format(format)
    return [path for path in files if format_of(path) == wanted] or files


def split_of_file(path: Path) -> str | None:
    """Return the split that a file's name says: ``train.csv``, ``dev-00000-of-00002.parquet``."""
    match = re.fullmatch(r"([A-Za-z]+)(?:[-_.][0-9].*)?", path.name.split(".")[0])
    return known_split(match[1]) if match else None


def read_folder(
    folder: Path, *, format: str | None = None, delimiter: str | None = None, encoding: str | None = None
) -> Loaded:
    """Return all table files of a folder as one source; files named ``train``, ``test``, ... are splits."""
    files = table_files(folder, format)
    kinds = sorted({format_of(path) or "unknown" for path in files})
    if format is None and len(kinds) > 1:
        raise BadInput(f"{folder}: holds {' and '.join(kinds)} files; give --format, or name one file")
    splits = [split_of_file(path) for path in files]
    if any(splits) and not all(splits):
        plain = [path.name for path, split in zip(files, splits, strict=True) if split is None]
        raise BadInput(
            f"{folder}: some file names are splits and {', '.join(plain[:3])} is none; "
            "name the train file as SOURCE and the others with --val and --test"
        )
    parts: list[Loaded] = []
    for path, split in zip(files, splits, strict=True):
        part = read_file(path, format=format, delimiter=delimiter, encoding=encoding)
        if parts and set(part.table.columns) != set(parts[0].table.columns):
            odd = sorted(set(part.table.columns) ^ set(parts[0].table.columns))
            raise BadInput(
                f"{path}: its columns differ from those of {files[0].name} in {', '.join(odd[:5])}"
            )
        if split:
            part = replace(part, split=pl.Series("split", [split] * part.table.height))
        parts.append(part)
    return replace(join(parts), name=folder.resolve().name, root=folder)
