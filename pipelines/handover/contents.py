"""What samples are, as columns that other people's tools read."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.sources.images import ImageFiles

CHUNK = 1024
"""Samples held at once: images of a large set do not fit into memory together."""

_OURS = ("sample_id", "split", "label", "label_true", "content_hash")


def plain_name(name: str) -> str:
    """Return a dataset's name as part of a file's name or a key: nothing but letters, digits and ``_``.

    Examples
    --------
    >>> plain_name("../TOFU v1.0")
    'TOFU_v1_0'
    """
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "dataset"


def chunks(dataset: Dataset, rows: np.ndarray) -> Iterator[tuple[slice, pl.DataFrame]]:
    """Yield which of some rows, and their content; once with none where there are no rows."""
    for start in range(0, max(len(rows), 1), CHUNK):
        part = slice(start, start + CHUNK)
        yield part, content(dataset, rows[part])


def content(dataset: Dataset, rows: np.ndarray) -> pl.DataFrame:
    """Return the content of some rows: a text, an encoded image, or features, then the source's other columns.

    Parameters
    ----------
    dataset : Dataset
        The data.
    rows : int64 (n,)
        Rows of it.

    Returns
    -------
    DataFrame
        n rows. An image is ``{"bytes", "path"}`` as `datasets` holds it: the bytes of its file where there is one, of
        a PNG otherwise, and no path. A vector is a list of float32 `x`.

    Examples
    --------
    >>> from tracesift.pipelines.dataset import open_dataset
    >>> table = pl.DataFrame({"id": ["b", "a"], "text": ["two", "one"], "label": ["x", "y"], "page": [2, 1]})
    >>> content(open_dataset(table, val=0, test=0), np.array([0])).to_dicts()
    [{'text': 'one', 'page': 1}]
    """
    wanted = rows.tolist()
    inputs = _inputs(dataset, wanted)
    doubled = {"group"} if dataset.options.get("group") not in (None, "group") else set()
    rest = dataset.samples[wanted].drop(_OURS).drop(doubled, strict=False)
    twice = {name: f"{name}_source" for name in rest.columns if name in inputs.columns}
    whole = pl.concat([inputs, rest.rename(twice)], how="horizontal")
    return whole.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))


def _inputs(dataset: Dataset, rows: list[int]) -> pl.DataFrame:
    inputs = dataset.inputs
    if isinstance(inputs, pl.DataFrame):
        return inputs[rows]
    if isinstance(inputs, list):
        name = dataset.options.get("text") or "text"
        return pl.DataFrame({name: pl.Series([inputs[row] for row in rows], dtype=pl.String)})
    if isinstance(inputs, ImageFiles) or inputs.ndim == 4:
        name = dataset.options.get("image") or "image"
        held = [{"bytes": _encoded(dataset, row), "path": None} for row in rows]
        image = pl.Struct({"bytes": pl.Binary(), "path": pl.String()})
        return pl.DataFrame({name: pl.Series(held, dtype=image)})
    return pl.DataFrame({"x": pl.Series(inputs[rows].tolist(), dtype=pl.List(pl.Float32))})


def _encoded(dataset: Dataset, row: int) -> bytes:
    files: Any = dataset.originals or (dataset.inputs if isinstance(dataset.inputs, ImageFiles) else None)
    if files is not None:
        file = files.files[row]
        return file.read_bytes() if isinstance(file, Path) else bytes(file)
    (image,), written = dataset.content([row]), io.BytesIO()
    assert isinstance(image, Image.Image)
    image.save(written, format="PNG")
    return written.getvalue()
