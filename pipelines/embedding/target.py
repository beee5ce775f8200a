"""A target domain: samples without labels, beside a dataset, made into vectors by what made the dataset's own.

Nothing is fitted on the target. Means, levels and document frequencies are those of the dataset, so that two equal
samples have equal vectors, whichever side they stand on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.embedding.encoders import encoded
from tracesift.pipelines.embedding.own_vectors import read_vectors
from tracesift.pipelines.sources.guessing import Columns, is_image_column, listed
from tracesift.pipelines.sources.images import ImageFiles
from tracesift.pipelines.sources.inputs import Prepared, prepare
from tracesift.pipelines.sources.loaded import Loaded
from tracesift.pipelines.sources.opening import load

VECTORS = (".npz", ".npy", ".parquet", ".pq")
LEAST = 2
"""Samples that a domain has at least: one has no spread."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """The inputs of a dataset with those of a target behind them; what is fitted is fitted on the dataset's rows."""

    known: Any
    inputs: Any

    @property
    def name(self) -> str:
        """The dataset's."""
        return str(self.known.name)

    @property
    def kind(self) -> str:
        """The dataset's."""
        return str(self.known.kind)

    @property
    def num_classes(self) -> int:
        """The dataset's."""
        return int(self.known.num_classes)

    @property
    def target(self) -> np.ndarray:
        """Where the target's samples stand, ascending int64."""
        return np.arange(len(self.known), len(self.inputs))

    def rows(self, split: str) -> np.ndarray:
        """Return the rows of a split of the dataset; the target's belong to none."""
        rows: np.ndarray = self.known.rows(split)
        return rows


class _Images:
    """Images of two sources, one after the other: sliced like an array (N, H, W, C)."""

    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, rows: slice) -> np.ndarray:
        begin, end, _ = rows.indices(len(self))
        size = len(self.first)
        return np.concatenate(
            [self.first[min(begin, size) : min(end, size)], self.second[max(begin - size, 0) : max(end - size, 0)]]
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Alone:
    """The target as a dataset of its own, for an encoder that knows no other."""

    name: str
    kind: str
    inputs: Any
    originals: ImageFiles | None

    def __len__(self) -> int:
        return len(self.inputs)

    def content(self, rows: Any) -> list[Any]:
        """Return images as in their files."""
        from PIL import Image

        if self.originals is not None:
            return [self.originals.original(int(row)) for row in rows]
        images = self.inputs[np.asarray(rows)]
        return [Image.fromarray(image[..., 0] if image.shape[2] == 1 else image) for image in images]


def target_vectors(
    dataset: Any,
    source: str,
    made: Mapping[str, Any],
    *,
    workspace: Path | str = "",
    width: int,
    device: str = "auto",
) -> np.ndarray:
    """Return the vectors of a target domain, float32 (M, D), in an order that its samples alone decide.

    Parameters
    ----------
    dataset
        The one that the vectors in use are of, in the state that they were made of.
    source
        A dataset of the same kind, in any form that can be opened, or a file of vectors where those in use are the
        user's own.
    made
        What made the vectors in use: ``{"source": "model", "run_id": …}``, ``"content"``, ``"hf:NAME"``, or
        anything else for the user's own.
    width
        D, of the vectors in use.

    Raises
    ------
    BadInput
        The target is of another kind, size or width, holds fewer than two samples, or is no numbers.
    """
    by = str(made["source"])
    if by in ("model", "content") or by.startswith("hf:"):
        found = open_target(dataset, source)
        inputs = _fitting(dataset, found, source)
        beside = Beside(known=dataset, inputs=_joined(dataset.inputs, inputs))
        if by == "model":
            vectors = _by_model(beside, workspace, str(made["run_id"]), device)
        elif by == "content":
            from tracesift.pipelines.embedding.embeddings import content_embedding

            vectors = content_embedding(beside, rows=beside.target, known=len(dataset))
        else:
            alone = _Alone(name=source, kind=found.kind, inputs=inputs, originals=found.originals)
            vectors = encoded(alone, by[len("hf:") :], device=device)
    else:
        vectors = _own(dataset, source)
    _check(vectors, source, width)
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    order = rows.view(np.dtype((np.void, rows.shape[1] * 4))).ravel().argsort(kind="stable")
    return rows[order]


def open_target(dataset: Any, source: str) -> Prepared:
    """Return the samples of a source as `dataset` reads its own; labels, ids and splits are not looked at.

    Raises
    ------
    BadInput
        It cannot be opened, or is of another kind or of other columns.
    """
    where = f"--target {source}"
    if Path(source).suffix.lower() == ".npy":
        raise BadInput(
            f"{where}: vectors are a target where those in use are your own (--embedding NAME); here give a dataset "
            f"like {dataset.name}"
        )
    loaded = load(source, unlabelled=True)
    if not loaded.table.height:
        raise BadInput(f"{where}: holds no samples; a target has at least {LEAST}")
    return prepare(loaded, _columns(dataset, loaded, where), where, on_error=dataset.options["on_error"])


def _columns(dataset: Any, loaded: Loaded, where: str) -> Columns:
    """Return which columns of the target are read: those of the dataset, by their names."""
    said = {name: dataset.options[name] for name in ("text", "image", "features")}
    text, image, features = said["text"], said["image"], tuple(said["features"] or ())
    if loaded.arrays is not None:
        text, image, features = None, None, ()
    elif image is None and dataset.kind == "image":
        found = [name for name in loaded.table.columns if is_image_column(loaded.table[name])]
        if len(found) != 1:
            raise BadInput(
                f"{where}: {dataset.name} is images, and of its columns {listed(loaded.table.columns)} "
                f"{'none holds' if not found else 'several hold'} images; give a folder of images, or one such column"
            )
        (image,) = found
    elif not (text or image or features):
        raise BadInput(
            f"{where}: the samples of {dataset.name} are arrays; give arrays of that shape as .npz"
        )
    lacking = [name for name in (text, image, *features) if name and name not in loaded.table.columns]
    if lacking:
        raise BadInput(
            f"{where}: has no column {listed(lacking)}, which {dataset.name} is read by; its columns are "
            f"{listed(loaded.table.columns)}; rename them, or name a source that has these"
        )
    return Columns(
        label="", id=None, text=text, image=image, features=features, split=None, group=None, ignored=(), notes=()
    )  # fmt: skip


def _fitting(dataset: Any, found: Prepared, source: str) -> Any:
    """Return the target's inputs in the shape and types of the dataset's; refuse what has none of these."""
    where = f"--target {source}"
    if found.kind != dataset.kind:
        raise BadInput(
            f"{where}: is {found.kind}, {dataset.name} is {dataset.kind}; name a source of that kind"
        )
    ours, theirs = dataset.inputs, found.inputs
    if dataset.kind == "image":
        return _of_size(dataset, found, where)
    if dataset.kind == "text":
        return theirs
    if isinstance(ours, np.ndarray) != isinstance(theirs, np.ndarray):
        raise BadInput(
            f"{where}: one of it and {dataset.name} is columns and the other vectors; give both alike"
        )
    if isinstance(ours, np.ndarray):
        if ours.shape[1] != theirs.shape[1]:
            raise BadInput(
                f"{where}: has {theirs.shape[1]} numbers a sample, {dataset.name} has {ours.shape[1]}; give as many"
            )
        gaps = np.isfinite(ours).all(axis=0) & ~np.isfinite(theirs).all(axis=0)
        _check_gaps([str(place) for place in np.flatnonzero(gaps)], dataset, where)
        return theirs
    return _typed(dataset, theirs, where)


def _of_size(dataset: Any, found: Prepared, where: str) -> Any:
    ours, theirs = dataset.inputs.shape[1:], found.inputs.shape[1:]
    if ours == theirs:
        return found.inputs
    files = dataset.originals
    # Files of several sizes were all brought to one, and so are those of the target.
    if files is not None and found.originals is not None and files.sizes() != {tuple(ours[:2])}:
        return ImageFiles(found.originals.files, tuple(ours))
    raise BadInput(
        f"{where}: its images are {_size(theirs)}, those of {dataset.name} {_size(ours)} (height x width x channels); "
        "bring them to that size"
    )


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _typed(dataset: Any, table: pl.DataFrame, where: str) -> pl.DataFrame:
    """Return the target's columns in the types of the dataset's."""
    ours, columns, gaps = dataset.inputs, [], []
    for name in ours.columns:
        known, given = ours[name], table[name]
        numbers = known.dtype.is_numeric() and given.dtype.is_numeric()
        try:
            column = given.cast(pl.Float64 if numbers else known.dtype)
        except pl.exceptions.PolarsError:
            raise BadInput(
                f"{where}: column '{name}' holds {given.dtype} values, in {dataset.name} {known.dtype}; bring them to "
                "that type"
            ) from None
        columns.append(column)
        if known.dtype != pl.String and _gaps(column) and not _gaps(known):
            gaps.append(name)
    _check_gaps(gaps, dataset, where)
    return pl.DataFrame(columns)


def _gaps(column: pl.Series) -> int:
    odd = int((~column.is_finite()).sum()) if column.dtype.is_float() else 0
    return column.null_count() + odd


def _check_gaps(columns: list[str], dataset: Any, where: str) -> None:
    if columns:
        raise BadInput(
            f"{where}: values are missing in column {listed(columns)}, where {dataset.name} lacks none, so nothing was "
            "learned of that; fill them or leave these samples out"
        )


def _joined(ours: Any, theirs: Any) -> Any:
    if isinstance(ours, list):
        return [*ours, *theirs]
    if isinstance(ours, pl.DataFrame):
        return pl.concat([ours, theirs], how="vertical_relaxed")
    return np.concatenate([ours, theirs]) if np.ndim(ours) == 2 else _Images(ours, theirs)


def _by_model(beside: Beside, workspace: Path | str, run_id: str, device: str) -> np.ndarray:
    """Return the penultimate features that a recorded model gives the target."""
    import torch

    from tracesift.pipelines.determinism import choose_device, settled
    from tracesift.pipelines.embedding.embeddings import features, load_module, recorded_model
    from tracesift.pipelines.encoding.encode import encode
    from tracesift.pipelines.signals import read_run

    model = recorded_model(beside, read_run(workspace, run_id))
    with settled(0, model.recipe.threads):
        where = choose_device(device)
        shown = encode(beside, model).to(where)
        module = load_module(beside, workspace, run_id, model, shown).to(where)
        return features(module, shown, torch.from_numpy(beside.target))


def _own(dataset: Any, source: str) -> np.ndarray:
    path = Path(source)
    if path.suffix.lower() not in VECTORS or not path.is_file():
        what = "is no file of vectors" if path.exists() else "no such file"
        raise BadInput(
            f"--target {source}: {what}; the vectors in use are your own, so give those of the target by the same "
            "encoder, as .npz, .npy or Parquet with a column of lists (or another --embedding, such as content)"
        )
    return read_vectors(path)[1]


def _check(vectors: np.ndarray, source: str, width: int) -> None:
    if len(vectors) < LEAST:
        raise BadInput(f"--target {source}: holds {len(vectors)} samples; a target has at least {LEAST}")
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise BadInput(
            f"--target {source}: its vectors have {vectors.shape[1]} numbers, those in use {width}; make both by the "
            "same encoder"
        )
    bad = int((~np.isfinite(vectors).all(axis=1)).sum())
    if bad:
        raise BadInput(
            f"--target {source}: {bad} of {len(vectors)} vectors hold NaN or infinity; make them again"
        )
