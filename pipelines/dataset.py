"""A dataset opened for curation: one row per sample, sorted by a stable id, whatever order the source had.

`row`, the position in this order over all splits, is what loaders and recorders carry; everything that is
kept is keyed by `sample_id`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from PIL import Image

from tracesift.catalog.schema import SPLITS, BadInput
from tracesift.pipelines import identity, splits
from tracesift.pipelines.sources import inputs as model_inputs
from tracesift.pipelines.sources import labels as spelling
from tracesift.pipelines.sources.columns import infer
from tracesift.pipelines.sources.guessing import (
    CONTENT_IDS,
    TRUTH_COLUMN,
    Columns,
    Wanted,
    check_columns,
    resolve,
)
from tracesift.pipelines.sources.images import ImageFiles
from tracesift.pipelines.sources.loaded import Loaded, join
from tracesift.pipelines.sources.opening import load

Inputs: TypeAlias = "np.ndarray | ImageFiles | list[str] | pl.DataFrame"

RESERVED = ("sample_id", "split", "label", "label_true", "content_hash", "group", "row")


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
        return np.flatnonzero((self.samples["split"] == split).to_numpy())

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
        return [self.inputs[row] for row in wanted]


def open_dataset(
    source: Any,
    *,
    name: str | None = None,
    label: str | None = None,
    id: str | None = None,
    text: str | None = None,
    image: str | None = None,
    features: str | Sequence[str] | None = None,
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
        column; rows of one `group` are never cut apart.
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
    names = tuple(part.strip() for part in features.split(",")) if isinstance(features, str) else features
    wanted = Wanted(
        label=label,
        id=id,
        text=text,
        image=image,
        split=split,
        group=group,
        features=tuple(names) if names else None,
    )
    where = str(source) if isinstance(source, (str, Path)) else type(source).__name__
    reading = {"format": format, "delimiter": delimiter, "encoding": encoding}
    main = load(source, ids=ids, **reading)
    columns = resolve(main, wanted, where)
    loaded, split_values, shares = _gather_parts(
        main, columns, wanted, where, {"val": val, "test": test}, reading
    )
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


def _recorded(part: Any) -> Any:
    if part is None or isinstance(part, (int, float, str)):
        return part
    return str(part) if isinstance(part, Path) else f"<{type(part).__module__}.{type(part).__name__}>"


def _gather_parts(
    main: Loaded,
    columns: Columns,
    wanted: Wanted,
    where: str,
    parts: dict[str, Any],
    reading: dict[str, str | None],
) -> tuple[Loaded, pl.Series, dict[str, float | None]]:
    """Join val and test sources to the main one; return rows, their splits so far, and the shares to cut."""
    if main.split is not None and wanted.split is None:
        split = main.split
    elif columns.split is not None:
        split = splits.read_splits(main.table[columns.split], where)
    else:
        split = pl.Series("split", ["train"] * main.table.height)
    present = set(split.unique().to_list())
    loaded, values, shares = [main], [split.alias("split")], {}
    for option, part in parts.items():
        share = splits.parse_share(part, option)
        if part is not None and option in present:
            raise BadInput(
                f"{where}: brings its own {option} rows, so {option}= (--{option}) cannot be given too"
            )
        if part is None or share is not None:
            default = splits.SHARE if share is None else share
            shares[option] = None if option in present else default
            continue
        other = load(part, **reading)
        other_name = str(part) if isinstance(part, (str, Path)) else f"{option}={type(part).__name__}"
        if other.split is not None:
            raise BadInput(f"{other_name}: holds splits of its own; name the one part to use as {option}")
        needed = Wanted(
            label=columns.label, id=columns.id, text=columns.text, image=columns.image,
            features=columns.features or None, group=columns.group,
        )  # fmt: skip
        check_columns(other.table, needed, other_name)
        loaded.append(other)
        values.append(pl.Series("split", [option] * other.table.height))
        shares[option] = None
    if "train" not in present:
        raise BadInput(f"{where}: has no train rows, only {', '.join(sorted(present))}; curation needs train")
    return join(loaded), pl.concat(values), shares


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
    prepared = model_inputs.prepare(loaded, columns, where, on_error=options["on_error"])
    table, split = loaded.table.filter(prepared.kept), split.filter(prepared.kept)
    notes = [*loaded.notes, *columns.notes, *prepared.notes]
    labels = spelling.read_labels(table[columns.label], where)
    if columns.label in loaded.mixed:
        notes.append(
            f"label column '{columns.label}' mixes {loaded.mixed[columns.label]}; all are read as text."
        )
    truth = _known_truth(table, notes)
    if options["clean_labels"]:
        labels, truth = spelling.clean(labels), spelling.clean(truth)
    notes += spelling.check_spelling(labels, split)
    if labels.n_unique() < 2:
        raise BadInput(
            f"{where}: every label is '{labels[0]}'; curation needs at least two classes (--label)"
        )
    used = {
        columns.label,
        columns.id,
        columns.split,
        columns.text,
        columns.image,
        TRUTH_COLUMN,
        *columns.features,
    }
    used |= {columns.group} & {"group"} | set(columns.ignored)
    rest = _remaining(table.drop([column for column in table.columns if column in used]), notes)
    group = _groups(table, columns, where)
    if columns.id is None:
        beside = pl.DataFrame([*rest.get_columns(), split.alias("split:"), truth.alias("label_true:")])
        ids = identity.number_twins(prepared.hashes, labels, beside)
        keys = prepared.hashes
    else:
        ids = keys = identity.user_ids(table[columns.id], where, loaded.mixed.get(columns.id))
    final = splits.cut(split, labels, group or keys, **shares, groups=group is not None)
    samples = pl.DataFrame(
        {
            "sample_id": ids,
            "split": final,
            "label": labels,
            "label_true": truth,
            "content_hash": prepared.hashes,
        }
        | ({} if group is None else {"group": group})
    )
    schema = {"kind": prepared.kind, "inputs": prepared.names}
    order = samples["sample_id"].arg_sort().to_numpy()
    samples = pl.DataFrame([*samples.get_columns(), *rest.get_columns()])[order].rechunk()
    notes += _findings(samples)
    return Dataset(
        name=name,
        source=source,
        options=options,
        kind=prepared.kind,
        samples=samples,
        classes=spelling.natural_order(labels),
        inputs=model_inputs.take(prepared.inputs, order),
        fingerprint=identity.fingerprint(samples, schema),
        notes=tuple(dict.fromkeys(note[0].upper() + note[1:] for note in notes)),
        skipped=prepared.skipped,
        originals=None if prepared.originals is None else prepared.originals.take(order),
        positions=np.flatnonzero(prepared.kept.to_numpy())[order],
    )


def _known_truth(table: pl.DataFrame, notes: list[str]) -> pl.Series:
    if TRUTH_COLUMN not in table.columns:
        return pl.Series(TRUTH_COLUMN, [None] * table.height, dtype=pl.String)
    notes.append(f"column '{TRUTH_COLUMN}' is taken as known true labels.")
    return identity.canonical_column(infer(table[TRUTH_COLUMN])).cast(pl.String).alias(TRUTH_COLUMN)


def _groups(table: pl.DataFrame, columns: Columns, where: str) -> list[str] | None:
    if columns.group is None:
        return None
    group = identity.canonical_column(table[columns.group])
    if group.null_count():
        raise BadInput(
            f"{where}: group column '{columns.group}' is empty in {group.null_count()} rows; fill it"
        )
    return group.to_list()


def _remaining(rest: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Return columns beside the inputs in plain types; a name of ours gets ``_source`` behind it."""
    kept = []
    for column in rest.get_columns():
        dtype = column.dtype
        if dtype in (pl.Binary, pl.Object) or (isinstance(dtype, pl.Struct) and "Binary" in str(dtype)):
            notes.append(f"column '{column.name}' ({dtype.base_type().__name__}) is not kept.")
            continue
        if dtype.is_nested():
            column = model_inputs.as_json(column)
        elif dtype in (pl.Categorical, pl.Enum, pl.Null):
            column = column.cast(pl.String)
        kept.append(infer(column).alias(f"{column.name}_source" if column.name in RESERVED else column.name))
    return pl.DataFrame(kept)


def _findings(samples: pl.DataFrame) -> list[str]:
    """Say what deserves a look before training: repeats over splits, conflicting labels, absent classes."""
    notes = []
    by_content = samples.group_by("content_hash").agg(
        pl.col("split").n_unique().alias("splits"),
        pl.col("label").n_unique().alias("labels"),
        pl.len().alias("copies"),
        pl.col("sample_id").min(),
    )
    repeats = by_content.filter(pl.col("copies") > 1)
    if extra := int((repeats["copies"] - 1).sum()):
        notes.append(f"{extra} samples repeat the exact input of another.")
    for column, what in (("splits", "stand in more than one split"), ("labels", "carry different labels")):
        found = repeats.filter(pl.col(column) > 1)["sample_id"].sort()
        if len(found):
            notes.append(f"{len(found)} repeated inputs {what} (first: {', '.join(found.head(5))}).")
    for split in ("train", "val", "test"):
        absent = sorted(set(samples["label"]) - set(samples.filter(pl.col("split") == split)["label"]))
        if absent:
            shown = ", ".join(f"'{label}'" for label in absent[:5]) + (", ..." if len(absent) > 5 else "")
            notes.append(f"{len(absent)} classes have no {split} sample: {shown}.")
    return notes
