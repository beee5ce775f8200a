"""Which column is what: taken as told, guessed where only one answer is possible, and said either way."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from tracesift.catalog.schema import BadInput, nearest
from tracesift.pipelines.sources.images import SUFFIXES
from tracesift.pipelines.sources.loaded import Loaded

CONTENT_IDS = "content-hash"
"""Value of the id option that asks for content ids although the source has a column called id."""

NO_LABELS = "no-labels"
"""Value of the label option for data without classes: language models, regression."""

UNLABELLED = "unlabelled"
"""The one class of data without classes."""

TRUTH_COLUMN = "label_true"
"""A column of this name is known truth: kept beside the label, never a model input."""

_LABELS = ("label", "labels", "target", "class", "category", "intent", "y", "gold_label")
_IDS = ("sample_id", "id", "uid", "uuid", "guid")
_TEXTS = ("text", "sentence", "content", "document", "utterance")
_IMAGES = ("image", "img", "picture")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the user said about columns; None where nothing was said."""

    label: str | None = None
    id: str | None = None
    text: str | None = None
    image: str | None = None
    features: tuple[str, ...] | None = None
    metadata: tuple[str, ...] = ()
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The part that each column of a source plays, with what was guessed."""

    label: str
    id: str | None
    text: str | None
    image: str | None
    features: tuple[str, ...]
    split: str | None
    group: str | None
    ignored: tuple[str, ...]
    notes: tuple[str, ...]


def check_columns(table: pl.DataFrame, wanted: Wanted, where: str) -> None:
    """Refuse a column that the source does not have, and name the nearest that it has."""
    asked = {"label": wanted.label, "text": wanted.text, "image": wanted.image, "split": wanted.split}
    asked |= {"group": wanted.group, "id": None if wanted.id == CONTENT_IDS else wanted.id}
    pairs = [(option, name) for option, name in asked.items() if name is not None]
    pairs += [("features", name) for name in wanted.features or ()]
    pairs += [("metadata", name) for name in wanted.metadata]
    for option, name in pairs:
        if name not in table.columns:
            raise BadInput(
                f"{where}: no column '{name}'{nearest(name, table.columns)}; "
                f"its columns are {listed(table.columns)} ({option}=, --{option})"
            )


def without_labels(loaded: Loaded, where: str) -> Loaded:
    """Return the source with a column in which every sample is of the one class `UNLABELLED`."""
    if NO_LABELS in loaded.table.columns:
        raise BadInput(
            f"{where}: --label {NO_LABELS} says that there are no labels, and there is a column of that name; rename it"
        )
    return replace(
        loaded, table=loaded.table.with_columns(pl.lit(UNLABELLED).alias(NO_LABELS)), label=NO_LABELS
    )


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them, the first twelve of many."""
    return ", ".join(f"'{name}'" for name in names[:12]) + (
        f" and {len(names) - 12} more" if len(names) > 12 else ""
    )


def resolve(loaded: Loaded, wanted: Wanted, where: str) -> Columns:
    """Return the part of each column; what is guessed is noted, what is ambiguous is an error."""
    table = loaded.table
    check_columns(table, wanted, where)
    _check_metadata(wanted)
    if sum(option is not None for option in (wanted.text, wanted.image, wanted.features)) > 1:
        raise BadInput("text=, image= and features= name three kinds of input; give one of them")
    notes: list[str] = []
    identity = _resolve_id(loaded, wanted, notes)
    if wanted.split is not None and loaded.split is not None:
        raise BadInput(f"{where}: has splits of its own; leave out split= (--split)")
    split = wanted.split or (_named(table, ("split",), exact=True) if loaded.split is None else None)
    taken = {name for name in (identity, split, wanted.group, TRUTH_COLUMN, *wanted.metadata) if name}
    label = wanted.label or loaded.label
    inputs = {wanted.text, wanted.image, *(wanted.features or ())}
    if label is None:
        free = [name for name in table.columns if name not in taken | inputs]
        label = loaded.class_label or _guess_label(table, free, where)
        notes.append(f"column '{label}' is taken as the label.")
    if label in inputs or label == identity:
        raise BadInput(f"column '{label}' cannot be both the label and an input or the id")
    taken.add(label)
    text, image, features = wanted.text, wanted.image, wanted.features or ()
    ignored = [name for name in table.columns if name not in taken | inputs and _is_row_index(table[name])]
    if ignored:
        notes.append(f"column {listed(ignored)} counts the rows and is left out.")
    if loaded.arrays is not None:
        if text or image or features:
            raise BadInput(
                f"{where}: its inputs are arrays or image files; leave out text=, image=, features="
            )
    elif not (text or image or features):
        free = [name for name in table.columns if name not in {*taken, *ignored}]
        text, image, features = _guess_inputs(table, free, where, notes)
    return Columns(
        label=label,
        id=identity,
        text=text,
        image=image,
        features=tuple(features),
        split=split,
        group=wanted.group,
        ignored=tuple(ignored),
        notes=tuple(notes),
    )


def _check_metadata(wanted: Wanted) -> None:
    """Refuse a column that is asked to be no input and to be one, or the label."""
    read = {wanted.label, wanted.text, wanted.image, *(wanted.features or ())}
    for name in wanted.metadata:
        if name in read:
            raise BadInput(
                f"column '{name}' cannot be both an input or the label and kept beside them (metadata=, --metadata)"
            )


def _named(table: pl.DataFrame, names: Sequence[str], *, exact: bool = False) -> str | None:
    """Return the only column whose name, in any case, is one of `names`; None where none or several are."""
    found = [column for column in table.columns if (column if exact else column.lower()) in names]
    return found[0] if len(found) == 1 else None


def _resolve_id(loaded: Loaded, wanted: Wanted, notes: list[str]) -> str | None:
    if wanted.id is not None:
        return None if wanted.id == CONTENT_IDS else wanted.id
    if loaded.id is not None:
        return loaded.id
    name = _named(loaded.table, _IDS)
    if name is not None and name not in (wanted.text, wanted.label, wanted.image, *(wanted.features or ())):
        notes.append(
            f"column '{name}' is taken as the sample id; id='{CONTENT_IDS}' (--id {CONTENT_IDS}) makes ids from the "
            "content instead."
        )
        return name
    return None


def _guess_label(table: pl.DataFrame, free: list[str], where: str) -> str:
    named = [name for name in free if name.lower() in _LABELS]
    named = named or [name for name in free if re.search(r"(^|_)label$|^label_", name.lower())]
    if len(named) == 1:
        return named[0]
    if named:
        raise BadInput(f"{where}: {listed(named)} could each be the label; give label= (--label)")
    distinct = {name: table[name].n_unique() for name in free if not table[name].dtype.is_nested()}
    few = [name for name, count in distinct.items() if 1 < count <= max(2, min(table.height // 2, 1000))]
    if len(few) == 1:  # nothing else in the table could name classes
        return few[0]
    hint = f"candidates with few values: {listed(few)}" if few else f"its columns are {listed(table.columns)}"
    raise BadInput(
        f"{where}: cannot tell which column is the label; {hint}; give label= (--label), or --label {NO_LABELS} for "
        "data without classes"
    )


def is_image_column(values: pl.Series) -> bool:
    """Whether a column holds encoded images, or paths that end like images."""
    if isinstance(values.dtype, pl.Struct):
        return {"bytes", "path"} <= {field.name for field in values.dtype.fields}
    if values.dtype == pl.Binary:
        return True
    head = values.drop_nulls().head(20).to_list() if values.dtype == pl.String else []
    return bool(head) and all(any(value.lower().endswith(s) for s in SUFFIXES) for value in head)


def is_prose(values: pl.Series) -> bool:
    """Whether a column reads like text: mostly distinct, three words or more at the median."""
    if values.dtype != pl.String:
        return False
    present = values.drop_nulls()
    if present.is_empty() or present.n_unique() < 0.5 * len(present):
        return False
    words = present.str.count_matches(r"\S+").median()
    return isinstance(words, (int, float)) and words >= 3


def _guess_inputs(
    table: pl.DataFrame, free: list[str], where: str, notes: list[str]
) -> tuple[str | None, str | None, tuple[str, ...]]:
    images = [name for name in free if is_image_column(table[name])]
    if images:
        image = _one(images, _IMAGES, "image", where)
        notes.append(f"column '{image}' is taken as the image.")
        return None, image, ()
    prose = [name for name in free if is_prose(table[name])]
    named = [name for name in free if name.lower() in _TEXTS and table[name].dtype == pl.String]
    numeric = [name for name in free if table[name].dtype.is_numeric() or _looks_numeric(table[name])]
    if named or prose:
        if numeric and not named:
            raise BadInput(
                f"{where}: column '{prose[0]}' reads like text beside numbers ({listed(numeric)}); say what "
                "the model reads with text= or features= (--text, --features)"
            )
        text = _one(named or prose, _TEXTS, "text", where)
        left = [name for name in free if name != text]
        also = f"; {listed(left)} kept beside it" if left else ""
        notes.append(f"column '{text}' is taken as the text{also}.")
        return text, None, ()
    if not free:
        raise BadInput(f"{where}: no column is left for the model to read among {listed(table.columns)}")
    plural = "columns are taken as features" if len(free) > 1 else "column is taken as the feature"
    notes.append(
        f"{len(free)} {plural}: {listed(free)}; what no model should read, name with metadata= (--metadata)."
    )
    unique = [n for n in free if table[n].dtype == pl.String and table[n].n_unique() == table.height > 20]
    unique = [name for name in unique if not _looks_numeric(table[name])]
    if unique:
        notes.append(
            f"column {listed(unique)} differs in every row; keep it out of the features with metadata= (--metadata)."
        )
    return None, None, tuple(free)


def _one(found: list[str], names: Sequence[str], option: str, where: str) -> str:
    if len(found) == 1:
        return found[0]
    best = [name for name in found if name.lower() == names[0]]
    if len(best) == 1:
        return best[0]
    raise BadInput(f"{where}: {listed(found)} could each be the {option}; give {option}= (--{option})")


def _is_row_index(values: pl.Series) -> bool:
    if values.name and not values.name.startswith(("Unnamed: ", "__index_level_")):
        return False
    whole = values.cast(pl.Int64, strict=False) if values.dtype == pl.String else values
    return whole.dtype.is_integer() and whole.null_count() == 0


def _looks_numeric(values: pl.Series) -> bool:
    if values.dtype != pl.String:
        return False
    head = values.drop_nulls().head(50)
    return len(head) > 0 and head.cast(pl.Float64, strict=False).null_count() == 0
