"""A dataset opened for curation: one row per sample, sorted by a stable id, whatever order the source had.

`row`, the position in this order over all splits, is what loaders and recorders carry; everything that is
kept is keyed by `sample_id`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import polars as pl
from PIL import Image

from tracesift.catalog.schema import SPLITS, BadInput
from tracesift.pipelines import identity, splits
from tracesift.pipelines.sources import beside
from tracesift.pipelines.sources import inputs as model_inputs
from tracesift.pipelines.sources import labels as spelling
from tracesift.pipelines.sources.guessing import (
    CONTENT_IDS,
    NO_LABELS,
    Columns,
    Wanted,
    resolve,
    without_labels,
)
from tracesift.pipelines.sources.images import ImageFiles
from tracesift.pipelines.sources.loaded import Loaded
from tracesift.pipelines.sources.opening import load
from tracesift.pipelines.sources.parts import gather

if TYPE_CHECKING:
    import datasets
    import pandas as pd
    import pyarrow as pa
    import torch

Inputs: TypeAlias = "np.ndarray | ImageFiles | list[str] | pl.DataFrame"

Source: TypeAlias = (
    "str | Path | pl.DataFrame | pd.DataFrame | pa.Table | datasets.Dataset | datasets.DatasetDict | "
    "torch.utils.data.Dataset[Any]"
)
"""What `open_dataset` opens: a path or name, or the data themselves."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Samples, labels, splits and model inputs of one source, in the order of `sample_id`.

    Attributes
    ----------
    name, source, options : str, str, dict
        What it is called and what opens it again: ``open_dataset(source, **options)``.
    kind : {"image", "text", "tabular"}
        What a sample is.
    samples : DataFrame, N rows
        `sample_id, split, label, label_true, content_hash`, `group` where one was named, then the columns of
        the source that are no input.
    classes : tuple of str, length K
        Label names in natural order; arrays hold indices into it.
    inputs : uint8 (N, H, W, C) or ImageFiles, list of N texts, DataFrame of N rows, or float32 (N, D)
        What a model reads, row by row as in `samples`.
    fingerprint : str
        64 hex digits for the source; planted noise leaves it as it is.
    transform : dict or None
        What was done to the source, such as planted noise.
    notes : tuple of str
        What was guessed or found, a sentence each.
    skipped : tuple of str
        Files left out because they could not be read (`on_error="skip"`).
    originals : ImageFiles or None
        Image files before resizing, for people to look at.
    positions : int64 (N,) or None
        Where each row stood in the source; rows of a separate val or test source count on behind it.
    """

    name: str
    source: str
    options: dict[str, Any]
    kind: str
    samples: pl.DataFrame
    classes: tuple[str, ...]
    inputs: Inputs
    fingerprint: str
    transform: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    originals: ImageFiles | None = field(default=None, repr=False)
    positions: np.ndarray | None = field(default=None, repr=False)
    withheld: np.ndarray | None = field(default=None, repr=False)
    """Rows that belong to no split any more (n,), because somebody asked for their deletion; see `without`."""
    withheld_by: tuple[str, ...] = ()
    """The deletion requests that they were withheld for."""

    def __len__(self) -> int:
        return self.samples.height

    @property
    def dataset_id(self) -> str:
        """The first 16 digits of the fingerprint."""
        return self.fingerprint[:16]

    @property
    def num_classes(self) -> int:
        """K, the number of classes over all splits."""
        return len(self.classes)

    @cached_property
    def labels(self) -> np.ndarray:
        """Labels as indices into `classes`, int64 (N,)."""
        index = pl.Series(range(self.num_classes), dtype=pl.Int64)
        given = self.samples["label"]
        return given.replace_strict(list(self.classes), index, return_dtype=pl.Int64).to_numpy()

    def rows(self, split: str) -> np.ndarray:
        """Return the rows of a split, ascending int64."""
        if split not in SPLITS:
            raise BadInput(f"no split '{split}'; there are {', '.join(SPLITS)}")
        inside = (self.samples["split"] == split).to_numpy()
        if self.withheld is not None:
            inside = inside.copy()
            inside[self.withheld] = False
        return np.flatnonzero(inside)

    def without(self, sample_ids: Iterable[str], requests: Iterable[str]) -> Dataset:
        """Return this dataset with samples that were asked to be deleted left out of every split.

        They keep their rows, so that positions mean the same; but nothing that asks for the rows of a split trains
        on them, validates with them or tests on them, and a recording made of it has an id of its own.
        """
        wanted = pl.Series(sorted(set(sample_ids)), dtype=pl.String)
        rows = self.samples["sample_id"].is_in(wanted.implode()).arg_true().to_numpy().astype(np.int64)
        return replace(
            self, withheld=rows if len(rows) else None, withheld_by=tuple(requests) if len(rows) else ()
        )

    def content(self, rows: Iterable[int]) -> list[Image.Image] | list[str] | list[dict[str, Any]]:
        """Return samples as a person reads them: images as in their files, texts, or a dict per table row."""
        wanted = [int(row) for row in rows]
        if self.originals is not None:
            return [self.originals.original(row) for row in wanted]
        if isinstance(self.inputs, pl.DataFrame):
            return self.inputs[wanted].to_dicts()
        if isinstance(self.inputs, np.ndarray) and self.inputs.ndim == 4:
            return [
                Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
                for image in self.inputs[wanted]
            ]
        if isinstance(self.inputs, np.ndarray):
            return [{f"x{at}": float(v) for at, v in enumerate(vector)} for vector in self.inputs[wanted]]
        return [str(self.inputs[row]) for row in wanted]


def open_dataset(
    source: Source,
    *,
    name: str | None = None,
    label: str | None = None,
    id: str | None = None,
    text: str | None = None,
    image: str | None = None,
    features: str | Sequence[str] | None = None,
    metadata: str | Sequence[str] = (),
    split: str | None = None,
    val: Any = None,
    test: Any = None,
    group: str | None = None,
    format: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    clean_labels: bool = False,
    on_error: str = "raise",
    ids: Sequence[Any] | None = None,
) -> Dataset:
    """Open a source and give every sample its id, label and split; nothing is written.

    Parameters
    ----------
    source : str, Path or object
        ``"digits"``; a file or folder of Parquet, CSV, TSV, JSON Lines, JSON records, Arrow or npz; a folder
        of class folders with images; a folder of IDX files; a ``save_to_disk`` folder;
        ``"hf:NAME[:CONFIG]"``; a polars or pandas frame, an Arrow table, a Hugging Face Dataset or
        DatasetDict, a torch dataset.
    name : str, optional
        What to call it; the file's or folder's name otherwise.
    label, id, text, image, features, split, group : str, optional
        Columns. Guessed where only one answer is possible, which `notes` then says. `features` takes several
        names (a list, or one text with commas); ``id="content-hash"`` asks for content ids in spite of an id
        column; rows of one `group` are never cut apart. ``label="no-labels"`` is for data without classes, a
        language model's or a regression's: recorded by `update_loss`, scored by what needs the loss alone.
    metadata : str or sequence of str
        Columns of a table that no model reads and that are kept beside the samples, such as an owner or a date;
        several as for `features`. Of texts and images every other column is kept so.
    val, test : source or share, optional
        Another source, or the share of train to cut (0.1 where the source has none; 0 for no such split).
    format, delimiter, encoding : str, optional
        How to read files, where their names and content do not say it.
    clean_labels : bool
        Strip blanks and one trailing punctuation mark from labels.
    on_error : {"raise", "skip"}
        Whether an unreadable image stops the opening or is left out and noted.
    ids : sequence, optional
        One id per row of a torch dataset.

    Returns
    -------
    Dataset
        Sorted by `sample_id`.

    Raises
    ------
    BadInput
        For anything that cannot be used as it is: one line that says what, where, and what to do.

    Examples
    --------
    >>> digits = open_dataset("digits")
    >>> digits.kind, len(digits), digits.num_classes, digits.inputs.shape
    ('image', 1797, 10, (1797, 8, 8, 1))
    """
    if on_error not in ("raise", "skip"):
        raise BadInput(f"on_error='{on_error}': it is 'raise' or 'skip' (--on-error)")
    names, beside = _names(features or ()), _names(metadata)
    wanted = Wanted(
        label=label,
        id=id,
        text=text,
        image=image,
        split=split,
        group=group,
        features=names or None,
        metadata=beside,
    )
    where = str(source) if isinstance(source, (str, Path)) else type(source).__name__
    reading: dict[str, Any] = {"format": format, "delimiter": delimiter, "encoding": encoding}
    main = load(source, ids=ids, **reading)
    if label == NO_LABELS:
        main = without_labels(main, where)
    columns = resolve(main, wanted, where)
    loaded, split_values, shares = gather(main, columns, where, {"val": val, "test": test}, reading)
    options = {
        "label": columns.label, "id": CONTENT_IDS if id == CONTENT_IDS else columns.id, "text": columns.text,
        "image": columns.image, "features": list(columns.features) or None, "split": columns.split,
        "val": _recorded(val), "test": _recorded(test), "group": group, "format": format,
        "delimiter": delimiter, "encoding": encoding, "clean_labels": clean_labels, "on_error": on_error,
    }  # fmt: skip
    return _assemble(
        loaded,
        columns,
        split_values,
        shares,
        where=where,
        name=name or main.name,
        source=str(source) if isinstance(source, (str, Path)) else f"<{type(source).__module__}.{where}>",
        options=options,
    )


def _names(columns: str | Sequence[str]) -> tuple[str, ...]:
    """Return column names: given as such, or one text with commas."""
    return tuple(part.strip() for part in columns.split(",")) if isinstance(columns, str) else tuple(columns)


def _recorded(part: Any) -> Any:
    if part is None or isinstance(part, (int, float, str)):
        return part
    return str(part) if isinstance(part, Path) else f"<{type(part).__module__}.{type(part).__name__}>"


def _assemble(
    loaded: Loaded,
    columns: Columns,
    split: pl.Series,
    shares: dict[str, float | None],
    *,
    where: str,
    name: str,
    source: str,
    options: dict[str, Any],
) -> Dataset:
    notes = [*loaded.notes, *columns.notes]
    labels, truth = _labels(loaded, columns, split, where, notes, clean=options["clean_labels"])
    prepared = model_inputs.prepare(loaded, columns, where, on_error=options["on_error"])
    notes += [*prepared.notes, *beside.odd_values(loaded.table, columns)]
    table = loaded.table.filter(prepared.kept)
    labels, truth, split = (column.filter(prepared.kept) for column in (labels, truth, split))
    if labels.n_unique() < 2 and columns.label != NO_LABELS:
        raise BadInput(
            f"{where}: every label is '{labels[0]}'; curation needs at least two classes (--label), or --label "
            f"{NO_LABELS} where a model of yours that has none, a language model or a regression, is recorded"
        )
    rest = beside.remaining(table.drop(beside.used(table, columns)), notes)
    group = beside.groups(table, columns, where)
    if columns.id is None:
        told_apart = pl.DataFrame([*rest.get_columns(), split.alias("split:"), truth.alias("label_true:")])
        ids, keys = identity.number_twins(prepared.hashes, labels, told_apart), prepared.hashes
    else:
        ids = keys = identity.user_ids(table[columns.id], where, loaded.mixed.get(columns.id))
    split = splits.cut(split, labels, group or keys, **shares, groups=group is not None)
    own = {"sample_id": ids, "split": split, "label": labels, "label_true": truth}
    own |= {"content_hash": prepared.hashes} | ({} if group is None else {"group": group})
    samples = pl.DataFrame([*pl.DataFrame(own).get_columns(), *rest.get_columns()])
    order = samples["sample_id"].arg_sort().to_numpy()
    samples = samples[order].rechunk()
    notes += beside.findings(samples)
    return Dataset(
        name=name,
        source=source,
        options=options,
        kind=prepared.kind,
        samples=samples,
        classes=spelling.natural_order(labels),
        inputs=model_inputs.take(prepared.inputs, order),
        fingerprint=identity.fingerprint(samples, {"kind": prepared.kind, "inputs": prepared.names}),
        notes=tuple(dict.fromkeys(note[0].upper() + note[1:] for note in notes)),
        skipped=prepared.skipped,
        originals=None if prepared.originals is None else prepared.originals.take(order),
        positions=np.flatnonzero(prepared.kept.to_numpy())[order],
    )


def _labels(
    loaded: Loaded, columns: Columns, split: pl.Series, where: str, notes: list[str], *, clean: bool
) -> tuple[pl.Series, pl.Series]:
    """Return labels and known true labels as text; splits that spell them differently are an error."""
    if loaded.mixed.get(columns.label) == "objects":
        raise BadInput(f"{where}: {spelling.of_objects(columns.label)}")
    if loaded.mixed.get(columns.label) == "nested values":
        raise BadInput(
            f"{where}: label column '{columns.label}' holds lists or objects beside other values: multi-label data are "
            "not supported; give a column with one label per row (--label)"
        )
    labels = spelling.read_labels(loaded.table[columns.label], where)
    if columns.label in loaded.mixed:
        notes.append(
            f"label column '{columns.label}' mixes {loaded.mixed[columns.label]}; all are read as text."
        )
    truth = beside.known_truth(loaded.table, notes)
    if clean:
        labels, truth = spelling.clean(labels), spelling.clean(truth)
    notes += spelling.check_spelling(labels, split)
    return labels, truth
