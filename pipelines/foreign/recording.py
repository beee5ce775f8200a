"""What somebody else's recording holds, by the vocabulary's names, before anything is computed or matched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from tracesift.catalog.schema import MODES, SCALAR_FIELDS, SIGNALS, BadInput
from tracesift.pipelines.identity import user_ids
from tracesift.pipelines.sources.columns import infer

PER_CLASS = ("logits", "probs")
PER_EPOCH = (*PER_CLASS, *SCALAR_FIELDS, "seen")
PER_SAMPLE = tuple(
    name
    for name, signal in SIGNALS.items()
    if signal.axes[0] == "N"
    and name not in ("labels", "images", "texts")
    # The classes of a file may stand in another order, which is known along the second axis alone.
    and ("K" not in signal.axes or signal.axes == "NK")
)
"""Arrays that belong to no epoch: predictions, vectors, and what else would train models of its own."""
IDS = ("sample_id", "sample_ids", "id", "ids", "guid")
LABELS = ("labels", "label", "gold", "target", "targets")

Epochs = Iterator[dict[str, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A recording as its file holds it; T epochs, N samples in the file's order, K columns per class.

    Attributes
    ----------
    where, form, content
        The path, what kind of file it is, and a hash of its bytes.
    ids
        N sample ids, each once.
    labels
        Given labels (N,): int64 indices of the class axis, or names; None where the file has none.
    classes
        Names of the class axis, in its order, where the file says it.
    epochs
        The epochs as numbered in the file, ascending.
    fields
        What every epoch holds, out of `PER_EPOCH`.
    read
        Yields one dict per epoch: field -> (N,) or, for logits and probs, (N, K). NaN, or ``seen`` false,
        where a sample was not observed.
    arrays
        Arrays over samples that belong to no epoch, such as ``probs_oos`` (N, K).
    val
        The validation samples, where the file keeps them apart.
    mode
        The mode that the file names.
    """

    where: str
    form: str
    content: str
    ids: list[str]
    labels: np.ndarray | None = None
    classes: tuple[str, ...] | None = None
    epochs: tuple[int, ...]
    fields: tuple[str, ...]
    read: Callable[[], Epochs] = field(repr=False)
    arrays: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    val: Foreign | None = None
    mode: str | None = None
    numbered: bool = False
    """The file has no ids: they are the numbers of its rows."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A table of one row per sample whose numbers are scores already, not signals to score."""

    where: str
    form: str
    content: str
    frame: pl.DataFrame
    """sample_id and numeric columns."""


def checked_ids(values: pl.Series, where: str) -> list[str]:
    """Return ids as text (1.0 is "1"), each there and there once."""
    present = values.fill_nan(None) if values.dtype.is_float() else values
    empty = present.null_count() + (int((present == "").sum()) if present.dtype == pl.String else 0)
    if empty:
        raise BadInput(f"{where}: no id (empty or NaN) in {empty} of {len(values)} rows; every row needs one")
    doubled = present.filter(present.is_duplicated())
    if len(doubled):
        raise BadInput(f"{where}: ids that stand there twice: {doubled.n_unique()}, first '{doubled[0]}'")
    return user_ids(present, where)


def label_array(values: np.ndarray | Sequence[object], size: int, where: str) -> np.ndarray:
    """Return labels (N,) as int64 where all are whole numbers, else as text; never with a gap."""
    labels = np.asarray(values)
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8")
    if labels.shape != (size,):
        raise BadInput(f"{where}: labels have shape {labels.shape}; expected one for each of {size} samples")
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all() or (labels % 1).any():
            raise BadInput(f"{where}: labels must be class indices or names, not fractions or NaN")
        return labels.astype(np.int64)
    if labels.dtype.kind in "biu":
        return labels.astype(np.int64)
    if labels.dtype.kind not in "U":
        raise BadInput(f"{where}: labels are {labels.dtype}; give class indices or names")
    series = infer(pl.Series(labels.tolist(), dtype=pl.String))
    if series.null_count():
        raise BadInput(
            f"{where}: no label for {series.null_count()} of {size} samples; every sample needs one"
        )
    return series.to_numpy() if series.dtype == pl.Int64 else labels


def checked_mode(mode: str, where: str) -> str:
    """Return a mode's name, or raise for an unknown one."""
    if mode not in MODES:
        raise BadInput(f"{where}: mode '{mode}' is none of {', '.join(MODES)}")
    return mode
