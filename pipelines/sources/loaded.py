"""What every source is read into, before columns, ids and splits are settled, and how two such are joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Names of splits met in the wild, and ours."""


@dataclass(frozen=True, kw_only=True)
class ImageList:
    """Images still to be decoded: paths of files, or the bytes of files, in row order."""

    files: tuple[Path | bytes, ...]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """One source as read: a table, and the inputs that do not fit into one.

    `arrays` is None where the inputs are columns of `table`; else uint8 (N, H, W, C) for images, (N, D) for
    features. `split` is set where the source's own structure (folders, file names, dictionary keys) says it,
    `label` and `id` where it names those columns, `class_label` where one column alone is typed as class names,
    `root` where relative paths of images start. `mixed` names the columns that held text beside other types
    (JSON 1 and "1").
    """

    table: pl.DataFrame
    name: str
    arrays: np.ndarray | ImageList | None = None
    split: pl.Series | None = None
    label: str | None = None
    class_label: str | None = None
    id: str | None = None
    root: Path | None = None
    mixed: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def known_split(name: object) -> str | None:
    """Return ``train``, ``val`` or ``test`` for a name of a split, or None."""
    return SPLIT_NAMES.get(str(name).strip().lower())


def stack(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the rows of all frames; a column absent from one is null there.

    Where types differ, numbers meet in float64 (a float32 through its shortest text, so that 0.1 stays 0.1)
    and anything else as text.
    """
    names = list(dict.fromkeys(name for frame in frames for name in frame.columns))
    types = {
        name: _meeting_type([frame[name].dtype for frame in frames if name in frame.columns])
        for name in names
    }
    return pl.concat(
        [
            frame.with_columns([_cast(frame[n], t) for n, t in types.items() if n in frame.columns])
            for frame in frames
        ],
        how="diagonal",
    ).select(names)


def _meeting_type(types: list[pl.DataType]) -> pl.DataType:
    present = [dtype for dtype in dict.fromkeys(types) if dtype != pl.Null]
    if len(present) <= 1:
        return present[0] if present else pl.Null()
    if all(dtype.is_integer() for dtype in present):
        return pl.Int64()
    return pl.Float64() if all(dtype.is_numeric() for dtype in present) else pl.String()


def _cast(values: pl.Series, dtype: pl.DataType) -> pl.Series:
    if values.dtype == dtype:
        return values
    if values.dtype.is_nested() or values.dtype == pl.Object:
        raise BadInput(f"column '{values.name}' is {values.dtype} in one part and something else in another")
    through = values.cast(pl.String) if values.dtype == pl.Float32 else values
    return through.cast(dtype)


def join(parts: Sequence[Loaded]) -> Loaded:
    """Return one source that holds the rows of all `parts`, in order."""
    first = parts[0]
    if len(parts) == 1:
        return first
    split = None
    if any(part.split is not None for part in parts):
        split = pl.concat([_split_or_train(part) for part in parts])
    return Loaded(
        table=stack([part.table for part in parts]),
        name=first.name,
        arrays=_join_arrays(parts),
        split=split,
        label=first.label,
        class_label=first.class_label,
        id=first.id,
        root=first.root,
        mixed={name: types for part in parts for name, types in part.mixed.items()},
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _split_or_train(part: Loaded) -> pl.Series:
    return part.split if part.split is not None else pl.Series("split", ["train"] * part.table.height)


def _join_arrays(parts: Sequence[Loaded]) -> np.ndarray | ImageList | None:
    arrays = [part.arrays for part in parts]
    if all(isinstance(array, ImageList) for array in arrays):
        return ImageList(files=tuple(file for array in arrays for file in array.files))  # type: ignore[union-attr]
    if all(array is None for array in arrays):
        return None
    if not all(isinstance(array, np.ndarray) for array in arrays):
        raise BadInput(
            "train, val and test come as different kinds of source (files, arrays, tables); use one kind"
        )
    shapes = {array.shape[1:] for array in arrays}  # type: ignore[union-attr]
    if len(shapes) > 1:
        raise BadInput(f"the parts of this source differ in shape: {sorted(shapes)}; bring them to one shape")
    return np.concatenate(arrays)  # type: ignore[arg-type]
