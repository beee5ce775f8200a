"""The user's own vectors, from a file or from a column of the dataset's source, put in the order of its samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput, nearest

ORDERS = ("source", "id")
_IDS = ("sample_id", "sample_ids", "id", "ids")


def from_file(dataset: Any, path: Path, *, order: str | None = None) -> np.ndarray:
    """Return the user's own vectors of all samples, (N, D) in the order of sample_id.

    Parameters
    ----------
    path
        A Parquet file with `sample_id` and one column of lists or arrays; an .npz with an array of ids (`sample_ids`)
        and one of vectors; or an .npy, or an .npz without ids, whose rows go by `order`.
    order : {"source", "id"}, optional
        Where no ids stand beside them: rows as in the dataset's source, or by ascending sample_id.

    Raises
    ------
    BadInput
        The file cannot be read, does not cover all samples, or does not say whose vectors it holds.
    """
    ids, vectors = read_vectors(path)
    if ids is None and path.suffix.lower() in (".parquet", ".pq"):
        raise BadInput(f"{path} should have sample_id beside the vectors, so that it is known whose each is")
    return _aligned(dataset, ids, vectors, str(path), order)


def read_vectors(path: Path) -> tuple[list[str] | None, np.ndarray]:
    """Return the ids in a file of vectors, None where it has none, and the vectors (N, D) float32.

    Raises
    ------
    BadInput
        The file cannot be read, or holds none or several arrays that could be the vectors.
    """
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return _read_parquet(path)
    if suffix not in (".npy", ".npz"):
        raise BadInput(f"{path}: vectors come as .npy, .npz or .parquet")
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {name: loaded[name] for name in loaded.files} if suffix == ".npz" else {"values": loaded}
    except (ValueError, OSError, EOFError, BadZipFile):
        raise BadInput(
            f"{path} cannot be read as {suffix} of plain numbers; write it with numpy.save or numpy.savez, without "
            "pickled objects"
        ) from None
    named = [arrays.pop(name) for name in _IDS if name in arrays]
    tables = {name: values for name, values in arrays.items() if values.ndim == 2}
    if len(named) > 1 or len(tables) != 1:
        raise BadInput(
            f"{path} holds {', '.join(f'{name} {values.shape}' for name, values in arrays.items()) or 'no vectors'}; "
            "it should hold one array of vectors (N, D), and in an .npz its ids as sample_ids (N,)"
        )
    (values,) = tables.values()
    return _texts(named[0]) if named else None, _floats(values, str(path))


def _read_parquet(path: Path) -> tuple[list[str] | None, np.ndarray]:
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInput(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    lists = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.List | pl.Array)]
    if len(lists) != 1:
        raise BadInput(
            f"{path} has the columns {', '.join(frame.columns)}; it should have sample_id and one column of lists or "
            "arrays, the vectors"
        )
    vectors = _matrix(frame[lists[0]], f"column '{lists[0]}' of {path}")
    if "sample_id" not in frame.columns:
        return None, vectors
    ids = frame["sample_id"].cast(pl.String)
    if ids.null_count():
        raise BadInput(f"{path}: {ids.null_count()} of {len(ids)} sample_id are empty")
    return ids.to_list(), vectors


def _matrix(lists: pl.Series, where: str) -> np.ndarray:
    """Return a column of lists of one length as (n, D) float32."""
    lengths = lists.list.len() if isinstance(lists.dtype, pl.List) else lists.arr.len()
    if lists.null_count() or lengths.n_unique() != 1 or not lengths[0]:
        raise BadInput(
            f"{where}: vectors must all be there and of one length, got {lists.null_count()} empty and lengths "
            f"{', '.join(map(str, lengths.drop_nulls().unique().sort().head(5)))}"
        )
    try:
        values = lists.explode().cast(pl.Float32)
    except pl.exceptions.PolarsError:
        raise BadInput(f"{where} holds other things than numbers") from None
    return values.to_numpy().reshape(len(lists), -1)


def vectors_in(dataset: Any, name: str) -> np.ndarray:
    """Return the vectors in a column of the dataset's source, (N, D) in the order of sample_id."""
    return _matrix(list_column(dataset, name), f"column '{name}' of {dataset.name}")


def list_column(dataset: Any, name: str) -> pl.Series:
    """Return a column of the dataset's source that holds lists of numbers; they are kept as JSON."""
    known = [
        column
        for column in dataset.samples.columns
        if column not in ("sample_id", "split", "label", "label_true")
    ]
    if name not in known:
        there = f"; beside its inputs it has {', '.join(known)}" if known else ""
        raise BadInput(
            f"--source column:{name}: {dataset.name} keeps no such column{nearest(name, known)}{there}"
        )
    try:
        lists = [None if text is None else json.loads(text) for text in dataset.samples[name].to_list()]
        return pl.Series(name, lists, dtype=pl.List(pl.Float64), strict=True)
    except (TypeError, ValueError, pl.exceptions.PolarsError):
        raise BadInput(f"--source column:{name}: its values are no lists of numbers") from None


def _texts(ids: np.ndarray) -> list[str]:
    return [item.decode() if isinstance(item, bytes) else str(item) for item in ids.ravel().tolist()]


def _floats(values: np.ndarray, where: str) -> np.ndarray:
    if values.dtype.kind not in "fiub":
        raise BadInput(f"{where}: vectors must be numbers, not {values.dtype}")
    with np.errstate(over="ignore"):  # told in the next line
        floats = values.astype(np.float32, copy=False)
    if values.dtype.kind == "f" and (too_large := int((np.isinf(floats) & np.isfinite(values)).sum())):
        raise BadInput(
            f"{where}: {too_large} of {values.size} numbers are too large for float32 (above 3.4e38); scale the vectors"
        )
    return floats


def _aligned(
    dataset: Any, ids: Sequence[str] | None, vectors: np.ndarray, where: str, order: str | None
) -> np.ndarray:
    """Return vectors in the order of the dataset's samples; each of these must have one."""
    samples = dataset.samples["sample_id"]
    if ids is None:
        return _by_position(dataset, vectors, where, order)
    if len(ids) != len(vectors):
        raise BadInput(f"{where}: {len(vectors)} vectors for {len(ids)} ids; they must be row-aligned")
    given = pl.Series("sample_id", ids, dtype=pl.String)
    if given.n_unique() != len(given):
        first = given.filter(given.is_duplicated()).sort()[0]
        raise BadInput(
            f"{where}: {len(given) - given.n_unique()} repeated ids, first '{first}'; one vector a sample"
        )
    places = pl.DataFrame({"sample_id": samples}).join(
        pl.DataFrame({"sample_id": given}).with_row_index("place"), on="sample_id", how="left", maintain_order="left"
    )["place"]  # fmt: skip
    missing = samples.filter(places.is_null())
    if len(missing):
        raise BadInput(
            f"{where} has vectors of {len(samples) - len(missing)} of the {len(samples)} samples of {dataset.name} "
            f"(train, val and test) and lacks {len(missing)}, first '{missing[0]}'; it holds {len(given)} ids, first "
            f"'{given[0] if len(given) else ''}'"
        )
    return vectors[places.to_numpy()]


def _by_position(dataset: Any, vectors: np.ndarray, where: str, order: str | None) -> np.ndarray:
    if order not in ORDERS:
        raise BadInput(
            f"{where} does not say whose its vectors are: add --order source (rows as in the dataset's source) or "
            "--order id (by ascending sample_id), or give an .npz with sample_ids beside the vectors"
        )
    size = len(dataset)
    positions = dataset.positions
    if order == "source" and (positions is None or int(positions.max(initial=-1)) + 1 != size):
        raise BadInput(
            f"{where}: where samples stood in the source of {dataset.name} is not known, or some were left out; give "
            "an .npz with sample_ids beside the vectors"
        )
    if len(vectors) != size:
        raise BadInput(
            f"{where} holds {len(vectors)} vectors; {dataset.name} has {size} samples (all splits)"
        )
    return vectors if order == "id" else vectors[positions]
