"""What stands beside label and inputs: known truth, groups, other columns; and what deserves a look."""

from __future__ import annotations

import json

import polars as pl

from tracesift.catalog.schema import SPLITS, BadInput
from tracesift.pipelines import identity
from tracesift.pipelines.sources.columns import infer
from tracesift.pipelines.sources.guessing import TRUTH_COLUMN, Columns, listed

STAND_INS = (
    "?", "NA", "N/A", "na", "n/a", "nan", "NaN", "NAN", "null", "Null", "NULL", "none", "None", "NONE", "-",
)  # fmt: skip
"""Texts that often stand for a missing value; only the empty one, and NaN among numbers, is taken as missing."""

RESERVED = ("sample_id", "split", "label", "label_true", "content_hash", "group", "row")


def known_truth(table: pl.DataFrame, notes: list[str]) -> pl.Series:
    """Return the true labels that a source brings in a column `label_true`; null where it says nothing."""
    if TRUTH_COLUMN not in table.columns:
        return pl.Series(TRUTH_COLUMN, [None] * table.height, dtype=pl.String)
    notes.append(f"column '{TRUTH_COLUMN}' is taken as known true labels.")
    return identity.canonical_column(infer(table[TRUTH_COLUMN])).cast(pl.String).alias(TRUTH_COLUMN)


def groups(table: pl.DataFrame, columns: Columns, where: str) -> list[str] | None:
    """Return the group of each row as text, or None where no group column was named."""
    if columns.group is None:
        return None
    group = identity.canonical_column(table[columns.group])
    if empty := group.null_count():
        raise BadInput(
            f"{where}: group column '{columns.group}' is empty in {empty} row{'s' * (empty > 1)}; fill it"
        )
    return group.to_list()


def odd_values(table: pl.DataFrame, columns: Columns) -> list[str]:
    """Say which values of the features and of the label may be meant otherwise than they are read."""
    notes: list[str] = []
    standing: dict[str, list[str]] = {}
    for name in (*columns.features, columns.label):
        values = table[name]
        if values.dtype.is_float() and name != columns.label and (count := int(values.is_infinite().sum())):
            cells = "cell" if count == 1 else "cells"
            notes.append(f"column '{name}' has {count} infinite {cells}, taken as missing.")
        if values.dtype in (pl.Categorical, pl.Enum):
            values = values.cast(pl.String)
        if values.dtype != pl.String:
            continue
        present = values.drop_nulls()
        others = present.filter(present.str.strip_chars().cast(pl.Float64, strict=False).is_null())
        if name != columns.label and 0 < len(others) <= len(present) // 10:
            cells = "cell" if len(others) == 1 else "cells"
            told = listed(others.unique().sort().head(3).to_list())
            notes.append(
                f"column '{name}' holds numbers but for {len(others)} {cells} ({told}), so it is taken as "
                "categories; leave those cells empty if they are missing numbers."
            )
            continue
        found = others.filter(others.is_in(STAND_INS)).alias("text").value_counts()
        for text, count in found.sort("count", "text", descending=[True, False]).iter_rows():
            standing.setdefault(text, []).append(f"{count} row{'s' * (count > 1)} of '{name}'")
    for text, places in standing.items():
        told = ", ".join(places[:5]) + (f" and in {len(places) - 5} more columns" if len(places) > 5 else "")
        notes.append(
            f"'{text}' stands in {told}; it is read as a value of its own; leave those cells empty if they are missing."
        )
    return notes


def used(table: pl.DataFrame, columns: Columns) -> list[str]:
    """Return the columns that `samples` or the inputs hold already; paths of images stay beside them."""
    named = {
        columns.label,
        columns.id,
        columns.split,
        columns.text,
        TRUTH_COLUMN,
        *columns.features,
        *columns.ignored,
    }
    if columns.image is not None and table[columns.image].dtype != pl.String:
        named.add(columns.image)
    if columns.group == "group":
        named.add("group")
    return [name for name in table.columns if name in named]


def remaining(rest: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Return columns beside the inputs in plain types; a name of ours gets ``_source`` behind it."""
    kept = []
    for column in rest.get_columns():
        dtype = column.dtype
        if dtype in (pl.Binary, pl.Object) or (isinstance(dtype, pl.Struct) and "Binary" in str(dtype)):
            notes.append(f"column '{column.name}' ({dtype.base_type().__name__}) is not kept.")
            continue
        if dtype.is_nested():
            column = _as_json(column)
        elif dtype in (pl.Categorical, pl.Enum, pl.Null):
            column = column.cast(pl.String)
        kept.append(infer(column).alias(f"{column.name}_source" if column.name in RESERVED else column.name))
    return pl.DataFrame(kept)


def _as_json(values: pl.Series) -> pl.Series:
    texts = [None if v is None else json.dumps(v, default=str, ensure_ascii=False) for v in values.to_list()]
    return pl.Series(values.name, texts, dtype=pl.String)


def findings(samples: pl.DataFrame) -> list[str]:
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
        notes.append(
            f"{extra} {'sample repeats' if extra == 1 else 'samples repeat'} the exact input of another."
        )
    for column, one, several in (
        ("splits", "input stands in more than one split", "inputs stand in more than one split"),
        ("labels", "input carries different labels", "inputs carry different labels"),
    ):
        found = repeats.filter(pl.col(column) > 1)["sample_id"].sort()
        if len(found):
            told = f"{len(found)} repeated {one if len(found) == 1 else several}"
            notes.append(f"{told} (first: {', '.join(found.head(5))}).")
    for split in SPLITS:
        absent = sorted(set(samples["label"]) - set(samples.filter(pl.col("split") == split)["label"]))
        if absent:
            shown = ", ".join(f"'{label}'" for label in absent[:5]) + (", ..." if len(absent) > 5 else "")
            notes.append(
                f"{len(absent)} {'class has' if len(absent) == 1 else 'classes have'} no {split} sample: {shown}."
            )
    return notes
