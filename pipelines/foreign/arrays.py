"""Recordings in `.npz` and `.npy` files: arrays under the vocabulary's names, read an epoch at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from tracesift.catalog.files import sha256
from tracesift.catalog.schema import SIGNALS, BadInput, nearest
from tracesift.pipelines.foreign.recording import (
    IDS,
    LABELS,
    PER_CLASS,
    PER_EPOCH,
    PER_SAMPLE,
    Epochs,
    Foreign,
    checked_ids,
    checked_mode,
    label_array,
)
from tracesift.pipelines.foreign.slabs import Stored, stored_arrays


def read_arrays(path: Path) -> Foreign:
    """Return the recording in an ``.npz`` or ``.npy`` file; only headers, ids and labels are read at once."""
    stored = stored_arrays(path)
    if "" in stored:  # an .npy tells by its shape alone what it is
        if len(stored[""].shape) != 3:
            raise BadInput(f"{path}: has shape {stored[''].shape}; an .npy holds logits (T, N, K)")
        stored = {"logits": stored[""]}
    main = {name: array for name, array in stored.items() if not name.startswith("val_")}
    val = {name.removeprefix("val_"): array for name, array in stored.items() if name.startswith("val_")}
    content = sha256(path)
    whole = _recording(main, path, content)
    if not val:
        return whole
    if not set(val) & set(IDS):
        raise BadInput(f"{path}: has val_{next(iter(val))} without 'val_ids'; name the validation samples")
    apart = _recording(val, path, content)
    if apart.epochs and len(apart.epochs) != len(whole.epochs):
        raise BadInput(f"{path}: {len(apart.epochs)} epochs of val beside {len(whole.epochs)} of train")
    return replace(whole, val=apart)


def _recording(stored: Mapping[str, Stored], path: Path, content: str) -> Foreign:
    """Return one set of arrays over the same samples, every shape checked from the headers alone."""
    known = (*PER_EPOCH, *PER_SAMPLE, *IDS, *LABELS, "classes", "epochs", "mode")
    unknown = [name for name in stored if name not in known]
    for name in unknown:
        if close := nearest(name, known):
            raise BadInput(f"{path}: unknown array '{name}'{close}; the names are those of the vocabulary")
    per_epoch = {name: stored[name] for name in PER_EPOCH if name in stored}
    arrays = {name: stored[name] for name in PER_SAMPLE if name in stored}
    if not per_epoch and not arrays:
        raise BadInput(
            f"{path}: holds none of {', '.join((*PER_EPOCH, *PER_SAMPLE))}; "
            f"found {', '.join(stored) or 'nothing'}"
        )
    names = _stored_ids(stored, path)
    size = len(names) if names is not None else _rows(per_epoch, arrays)
    span = _check_shapes(per_epoch, size)
    for name, array in arrays.items():
        if array.shape[:1] != (size,):
            raise BadInput(f"{array.where} has shape {array.shape}; its first axis must be {size} samples")
        if len(array.shape) != len(axes := SIGNALS[name].axes):
            raise BadInput(f"{array.where} has shape {array.shape}; its axes are ({', '.join(axes)})")
    labels = next((stored[name].whole() for name in LABELS if name in stored), None)
    epochs = stored["epochs"].whole().tolist() if "epochs" in stored else range(span)
    if len(epochs) != span:
        raise BadInput(f"{path}: array 'epochs' numbers {len(epochs)} epochs, and {span} are there")
    return Foreign(
        where=f"{path}", form=path.suffix[1:].lower(), content=content,
        ids=names if names is not None else [str(row) for row in range(size)], numbered=names is None,
        labels=None if labels is None else label_array(labels, size, f"{path}"),
        classes=tuple(map(str, stored["classes"].whole().tolist())) if "classes" in stored else None,
        epochs=tuple(epochs), fields=tuple(per_epoch), read=partial(_read_slabs, per_epoch),
        arrays={name: _of_its_type(name, array) for name, array in arrays.items()},
        mode=checked_mode(str(stored["mode"].whole()), f"{path}") if "mode" in stored else None,
        notes=(f"not imported from {path.name}: {', '.join(unknown)}.",) if unknown else (),
    )  # fmt: skip


def _of_its_type(name: str, array: Stored) -> np.ndarray:
    """Return an array whole; what is true or false may be written as 1 and 0."""
    values = array.whole()
    if values.dtype.kind not in "fiub":
        raise BadInput(f"{array.where} holds {values.dtype}; it has to hold numbers")
    if SIGNALS[name].dtype != "bool" or values.dtype.kind == "b":
        return values
    if not np.isin(values, (0, 1)).all():
        raise BadInput(f"{array.where} holds more than 0 and 1, which stand for false and true")
    return values.astype(bool)


def _stored_ids(stored: Mapping[str, Stored], path: Path) -> list[str] | None:
    found = [name for name in IDS if name in stored]
    if not found:
        return None
    values = stored[found[0]].whole()
    if values.ndim != 1:
        raise BadInput(f"{path}: '{found[0]}' has shape {values.shape}; it holds one id per sample")
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    series = pl.Series(found[0], values.tolist() if values.dtype.kind == "U" else values)
    return checked_ids(series, f"{path}")


def _rows(per_epoch: Mapping[str, Stored], arrays: Mapping[str, Stored]) -> int:
    """Return N where no ids say it."""
    if arrays:
        return next(iter(arrays.values())).shape[0]
    name, array = next(iter(per_epoch.items()))
    samples_at = len(array.shape) - (2 if name in PER_CLASS else 1)
    return array.shape[samples_at] if samples_at >= 0 else 0


def _check_shapes(per_epoch: Mapping[str, Stored], size: int) -> int:
    """Return T; one checkpoint may leave the axis of epochs out."""
    spans = {}
    for name, array in per_epoch.items():
        axes, wanted = (3, f"(T, {size}, K)") if name in PER_CLASS else (2, f"(T, {size})")
        shape = array.shape if len(array.shape) == axes else (1, *array.shape)
        if len(shape) != axes or shape[1] != size:
            swapped = "; epochs come first: transpose it" if len(shape) == axes and shape[0] == size else ""
            raise BadInput(f"{array.where} has shape {array.shape}, expected {wanted}{swapped}")
        spans[name] = shape[0]
    if len(set(spans.values())) > 1:
        told = ", ".join(f"{name} {span}" for name, span in spans.items())
        raise BadInput(f"{array.path}: the arrays hold different numbers of epochs ({told})")
    return next(iter(spans.values()), 0)


def _read_slabs(per_epoch: Mapping[str, Stored]) -> Epochs:
    sources = {
        name: array.slabs() if len(array.shape) == (3 if name in PER_CLASS else 2) else iter([array.whole()])
        for name, array in per_epoch.items()
    }
    while sources:
        slabs = {name: next(source, None) for name, source in sources.items()}
        if any(slab is None for slab in slabs.values()):
            return
        yield slabs  # type: ignore[misc]
