"""From a source's columns or arrays to what a model reads, with the content hash of each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.pipelines import identity
from tracesift.pipelines.sources import images
from tracesift.pipelines.sources.columns import infer
from tracesift.pipelines.sources.guessing import Columns
from tracesift.pipelines.sources.images import ImageFiles
from tracesift.pipelines.sources.loaded import ImageList, Loaded


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Model inputs in the source's order; `kept` marks the rows that could be read."""

    kind: str
    inputs: Any
    names: list[str]
    hashes: list[str]
    kept: pl.Series
    originals: ImageFiles | None = None
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def prepare(loaded: Loaded, columns: Columns, where: str, *, on_error: str) -> Prepared:
    """Return the inputs that `columns` names, or the arrays that the source came with."""
    every = pl.repeat(True, loaded.table.height, dtype=pl.Boolean, eager=True)  # noqa: FBT003
    arrays = loaded.arrays
    if isinstance(arrays, ImageList):
        return _decoded(arrays, loaded.table["path"].to_list(), on_error)
    if isinstance(arrays, np.ndarray) and arrays.ndim == 4:
        return Prepared(
            kind="image", inputs=arrays, names=["image"], hashes=identity.hash_images(arrays), kept=every
        )
    if isinstance(arrays, np.ndarray):
        return Prepared(
            kind="tabular",
            inputs=np.ascontiguousarray(arrays, dtype=np.float32),
            names=["x"],
            hashes=identity.hash_matrix(arrays),
            kept=every,
        )
    if columns.image is not None:
        return _decoded(*_listed_images(loaded, columns.image, where), on_error)
    if columns.text is not None:
        texts, notes = _texts(loaded.table[columns.text], where)
        hashes = identity.hash_texts(texts)
        return Prepared(kind="text", inputs=texts, names=["text"], hashes=hashes, kept=every, notes=notes)
    frame = loaded.table.select(columns.features)
    hashes = identity.hash_table(frame)
    inputs = _features(frame, where)
    return Prepared(kind="tabular", inputs=inputs, names=sorted(frame.columns), hashes=hashes, kept=every)


def take(inputs: Any, order: np.ndarray) -> Any:
    """Return inputs in another row order."""
    if isinstance(inputs, ImageFiles):
        return inputs.take(order)
    return [inputs[row] for row in order.tolist()] if isinstance(inputs, list) else inputs[order]


def _decoded(listed: ImageList, names: Sequence[str], on_error: str) -> Prepared:
    decoded = images.decode(listed, names, on_error=on_error)
    return Prepared(
        kind="image",
        inputs=decoded.pixels,
        names=["image"],
        hashes=decoded.hashes,
        kept=pl.Series(decoded.kept),
        originals=decoded.originals,
        skipped=decoded.skipped,
        notes=decoded.notes,
    )


def _listed_images(loaded: Loaded, column: str, where: str) -> tuple[ImageList, list[str]]:
    root = (loaded.root or Path()).absolute()
    files: list[Path | bytes] = []
    names: list[str] = []
    for row, value in enumerate(loaded.table[column].to_list(), start=1):
        given = value if not isinstance(value, dict) else (value["bytes"] or value["path"])
        if isinstance(given, str):
            files.append(root / given)
            names.append(str((loaded.root or Path()) / given))
        elif isinstance(given, (bytes, type(None))):
            files.append(given or b"")
            names.append(f"{where}: row {row}, column '{column}'")
        else:
            raise BadInput(
                f"{where}: column '{column}' holds {type(given).__name__}, no image file or its bytes"
            )
    return ImageList(files=tuple(files)), names


def _texts(values: pl.Series, where: str) -> tuple[list[str], tuple[str, ...]]:
    if values.dtype.is_nested() or values.dtype in (pl.Binary, pl.Object):
        raise BadInput(
            f"{where}: text column '{values.name}' holds {values.dtype} values; give a column of text"
        )
    text = values if values.dtype == pl.String else identity.canonical_column(values)
    empty = int((text.fill_null("").str.len_bytes() == 0).sum())
    notes = (f"text column '{values.name}' is empty in {empty} row{'s' * (empty > 1)}.",) if empty else ()
    return text.fill_null("").to_list(), notes


def _features(frame: pl.DataFrame, where: str) -> pl.DataFrame | np.ndarray:
    """Return feature columns as booleans, numbers, dates, text; a column of vectors as float32 (N, D)."""
    nested = [column.name for column in frame.get_columns() if column.dtype.is_nested()]
    if nested and frame.width > 1:
        raise BadInput(
            f"{where}: column '{nested[0]}' holds lists beside other features; give features='{nested[0]}' "
            "to use it alone, or name the others (--features)"
        )
    if nested:
        vectors = frame[nested[0]].to_list()
        widths = {len(vector) if vector is not None else 0 for vector in vectors}
        if len(widths) > 1:
            raise BadInput(
                f"{where}: the lists in column '{nested[0]}' differ in length; one length is needed"
            )
        try:
            return np.asarray(vectors, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"{where}: the lists in column '{nested[0]}' hold no plain numbers ({error})"
            ) from error
    return frame.select(_plain(column) for column in frame.get_columns())


def _plain(values: pl.Series) -> pl.Series:
    dtype = values.dtype
    if isinstance(dtype, pl.Decimal):
        return values.cast(pl.Float64)
    if dtype == pl.Duration:
        return values.dt.total_microseconds() / 1e6
    if dtype in (pl.Categorical, pl.Enum, pl.Time, pl.Null):
        return values.cast(pl.String)
    return infer(values)
