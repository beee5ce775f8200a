"""Python objects as sources: polars and pandas frames, Arrow tables, Hugging Face and torch datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.sources.arrays import from_arrays
from tracesift.pipelines.sources.huggingface import from_dataset, from_mapping
from tracesift.pipelines.sources.loaded import Loaded

KNOWN = "a polars or pandas frame, a pyarrow.Table, a datasets.Dataset, or a torch dataset with __len__"


def from_object(source: Any, ids: Sequence[Any] | None) -> Loaded:
    """Return any supported Python object as one source."""
    package = type(source).__module__.split(".")[0]
    if isinstance(source, Mapping):
        loaded = from_mapping(source, "dataset")
    elif package == "datasets":
        loaded = from_dataset(source, "dataset")
    elif isinstance(source, pl.LazyFrame):
        loaded = _from_frame(source.collect())
    elif isinstance(source, pl.DataFrame):
        loaded = _from_frame(source)
    elif package == "pandas":
        loaded = _from_pandas(source)
    elif package == "pyarrow":
        loaded = _from_frame(pl.DataFrame(pl.from_arrow(source)))
    elif (
        hasattr(source, "__getitem__") and hasattr(source, "__len__") and not isinstance(source, (str, bytes))
    ):
        return _from_items(source, ids)
    else:
        raise BadInput(f"a {type(source).__name__} is no source known here; pass {KNOWN}, or a path")
    if ids is not None:
        raise BadInput("ids= is for torch datasets; name the column of a table with id= instead")
    return loaded


def _from_frame(frame: pl.DataFrame) -> Loaded:
    if frame.is_empty():
        raise BadInput("the frame has no rows; a dataset needs samples")
    return Loaded(table=frame, name="dataset")


def _from_pandas(frame: Any) -> Loaded:
    if not hasattr(frame, "columns"):
        raise BadInput("a pandas.Series is one column; pass a pandas.DataFrame")
    try:
        loaded = _from_frame(pl.from_pandas(frame.rename(columns=str)))
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        reason = str(error).split("\n")[0]
        raise BadInput(
            f"the pandas frame holds a column of mixed types ({reason}); cast it to one type"
        ) from error
    if frame.index.name is None:
        return loaded
    note = f"the index '{frame.index.name}' of the pandas frame is not read; reset_index() makes it a column."
    return Loaded(table=loaded.table, name=loaded.name, notes=(note,))


def _from_items(source: Any, ids: Sequence[Any] | None) -> Loaded:
    """Read a map-style dataset of (input, label) pairs once, in order."""
    count = len(source)
    if ids is not None and len(ids) != count:
        raise BadInput(f"ids= has {len(ids)} entries where the dataset has {count} rows")
    if count == 0:
        raise BadInput("the dataset has no rows; a dataset needs samples")
    inputs, labels = [], []
    for row in range(count):
        item = source[row]
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise BadInput(f"row {row} of the {type(source).__name__} is no (input, label) pair")
        inputs.append(item[0])
        labels.append(_label(item[1], row))
    names = getattr(source, "classes", None)
    if isinstance(names, (list, tuple)) and all(isinstance(y, int) and 0 <= y < len(names) for y in labels):
        labels = [str(names[y]) for y in labels]
    columns = {} if ids is None else {"id": _ids(ids)}
    stacked, notes = _stack_inputs(inputs)
    where, y = type(source).__name__, np.asarray(labels, dtype=object)
    loaded = from_arrays(stacked, y, name="dataset", where=where, columns=columns)
    return replace(loaded, notes=(*loaded.notes, *notes))


def _ids(ids: Sequence[Any]) -> np.ndarray:
    plain = [value.item() if hasattr(value, "item") else value for value in ids]
    kinds = sorted({type(value).__name__ for value in plain})
    if len(kinds) > 1:
        raise BadInput(f"ids= mixes {' and '.join(kinds)}; make them one type, best text")
    return np.asarray(plain)


def _label(value: Any, row: int) -> Any:
    plain = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, Mapping):
        raise BadInput(f"row {row}: its label is a {type(plain).__name__} of several fields; give one value")
    if isinstance(plain, (list, tuple)):
        raise BadInput(
            f"row {row}: its label is a {type(plain).__name__}; multi-label data are not supported"
        )
    return plain


def _stack_inputs(inputs: list[Any]) -> tuple[np.ndarray, list[str]]:
    if all(isinstance(value, str) for value in inputs):
        return np.asarray(inputs, dtype=object), []
    arrays = [np.asarray(value) for value in inputs]  # torch tensors, Pillow images and arrays alike
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise BadInput(f"the inputs differ in shape ({len(shapes)} shapes); resize or pad them to one shape")
    stacked = np.stack(arrays)
    if stacked.ndim not in (3, 4) or stacked.dtype.kind != "f":
        return stacked, []
    if stacked.min() < 0 or stacked.max() > 1:
        raise BadInput("images as floats outside 0..1; pass the dataset without its normalising transform")
    return np.round(stacked * 255).astype(np.uint8), ["float images in 0..1 are read as eight bits."]
