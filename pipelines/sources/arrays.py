"""Arrays: the embedded digits, npz files, and folders of IDX files as MNIST has them."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.sources.json_records import as_column
from tracesift.pipelines.sources.loaded import Loaded


def digits() -> Loaded:
    """Return scikit-learn's digits: 1,797 grey images of 8 by 8, values 0..16 spread over 0..255."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    return from_arrays(images, bunch.target, name="digits", where="digits")


def as_images(x: np.ndarray, where: str) -> tuple[np.ndarray, list[str]]:
    """Return uint8 images as (N, H, W, C), and a note where channels stood first."""
    if x.ndim == 3:
        return x[..., None], []
    for likely in ((1, 3), (2, 4)):  # (N, 3, 5, 4) is three colours of 5 by 4
        if x.shape[3] in likely:
            return x, []
        if x.shape[1] in likely:
            note = f"in {where}, the channels of the images stand first."
            return np.ascontiguousarray(x.transpose(0, 2, 3, 1)), [note]
    raise BadInput(
        f"{where}: images of shape {x.shape} have no axis of 1 to 4 channels; (N, H, W, C) is needed"
    )


def from_arrays(
    x: np.ndarray, y: np.ndarray, *, name: str, where: str, columns: dict[str, np.ndarray] | None = None
) -> Loaded:
    """Return a source made of inputs `x` (texts, features (N, D), or uint8 images) and labels `y` (N,)."""
    if x.ndim == 0 or len(x) == 0:
        raise BadInput(f"{where}: no rows in x; a dataset needs samples")
    table = {"label": _column("y", y, len(x), where)}
    for key, values in (columns or {}).items():
        if values.ndim == 1 or key in ("id", "split"):
            table[key] = _column(key, values, len(x), where)
    arrays: np.ndarray | None = None
    notes: list[str] = []
    if x.dtype.kind in "USO" and x.ndim == 1:
        table["text"] = _column("x", x, len(x), where)
    elif x.dtype == np.uint8 and x.ndim in (3, 4):
        arrays, notes = as_images(x, where)
    elif x.ndim == 2 and x.dtype.kind in "fiub":
        arrays = x
    else:
        raise BadInput(
            f"{where}: x of type {x.dtype} and shape {x.shape} is no input known here; uint8 images "
            "(N, H, W[, C]), features (N, D) or texts (N,) are"
        )
    return Loaded(
        table=pl.DataFrame(table),
        name=name,
        arrays=arrays,
        label="label",
        id="id" if "id" in table else None,
        notes=tuple(notes),
    )


def _column(name: str, values: np.ndarray, count: int, where: str) -> pl.Series:
    if values.ndim == 2 and name == "y":
        raise BadInput(
            f"{where}: y of shape {values.shape} is multi-label or one-hot; one label per row is needed"
        )
    if values.shape != (count,):
        raise BadInput(f"{where}: '{name}' has shape {values.shape} where x has {count} rows")
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    if values.dtype.kind in "OU":
        return as_column(name, values.tolist())[0]
    return pl.Series(name, values)


def idx_files(folder: Path) -> list[Path]:
    """Return the IDX files that stand directly in a folder, by name."""
    return sorted(path for path in folder.iterdir() if re.search(r"idx[13]-ubyte(\.gz)?$", path.name))


def read_idx(path: Path) -> np.ndarray:
    """Return the array of one IDX file of unsigned bytes, gz or not."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise BadInput(f"{path}: not a whole gzip file ({error}); fetch it again") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != 8:
        begins = raw[:4].hex() or "nothing"
        raise BadInput(f"{path}: not an IDX file of unsigned bytes (it begins with {begins}); fetch it again")
    axes = raw[3]
    shape = tuple(int(size) for size in np.frombuffer(raw[4 : 4 + 4 * axes], dtype=">u4"))
    content = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * axes)
    if len(content) != int(np.prod(shape)):
        raise BadInput(f"{path}: holds {len(content)} values where its head says {shape}; fetch it again")
    return content.reshape(shape)


def read_idx_folder(folder: Path) -> Loaded:
    """Return an MNIST-style folder: ``train-*`` is train, ``t10k-*`` (or ``test-*``) is test."""
    files = idx_files(folder)
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    split: list[str] = []
    for prefix, name in (("train", "train"), ("t10k", "test"), ("test", "test"), ("val", "val")):
        ours = [path for path in files if path.name.startswith(f"{prefix}-")]
        if not ours:
            continue
        x, y = _read_pair(folder, ours, prefix)
        if images and x.shape[1:] != images[0].shape[1:]:
            raise BadInput(f"{folder}: {prefix}- images are {x.shape[1:]}, others {images[0].shape[1:]}")
        images.append(x)
        labels.append(y)
        split += [name] * len(x)
    if not images:
        found = ", ".join(path.name for path in files[:4])
        raise BadInput(f"{folder}: IDX files must be named train-*, val-*, test-* or t10k-*, found {found}")
    name = folder.resolve().name
    loaded = from_arrays(np.concatenate(images), np.concatenate(labels), name=name, where=str(folder))
    return replace(loaded, split=pl.Series("split", split))


def _read_pair(folder: Path, files: list[Path], prefix: str) -> tuple[np.ndarray, np.ndarray]:
    pair = [[path for path in files if part in path.name] for part in ("images", "labels")]
    if [len(found) for found in pair] != [1, 1]:
        raise BadInput(f"{folder}: {prefix}- needs one images and one labels file, found {len(files)} files")
    x, y = read_idx(pair[0][0]), read_idx(pair[1][0])
    if len(x) != len(y):
        raise BadInput(f"{folder}: {prefix}- has {len(x)} images and {len(y)} labels; fetch both again")
    return x, y
