"""Recordings in long tables: a row per sample and epoch, a column per field of the vocabulary."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.foreign.recording import (
    IDS,
    LABELS,
    PER_CLASS,
    PER_EPOCH,
    Epochs,
    Finished,
    Foreign,
    checked_ids,
    checked_mode,
    label_array,
)
from tracesift.pipelines.sources.columns import infer

AUM_COLUMNS = ("num_measurements", "target_logit", "target_val", "other_logit", "other_val", "margin")
AUM_CLASSES = (("target_logit", "other_logit"), ("target_val", "other_val"))
"""Columns that hold the class of the label and the highest other one: in the releases, and in the repository."""
SWAPPED = {
    "target_logit": "target_val", "target_val": "target_logit", "other_logit": "other_val", "other_val": "other_logit",
}  # fmt: skip
"""A column of AUM's records and the one that holds a logit where it holds a class."""
AUM_ROUNDING = 2.0**-8
"""Rounding of one operation in the coarsest precision that networks are trained in (bfloat16)."""


def from_table(table: pl.DataFrame, where: str, form: str, content: str) -> Foreign | Finished:
    """Return the recording in a long table, or its finished scores where it has no signals.

    Parameters
    ----------
    where, form, content
        What messages call the file, what kind it is, and the hash of its bytes.
    """
    if {"sample_id", *AUM_COLUMNS} <= set(table.columns):
        table, form = _aum_records(table, where), "aum"
    table = _named(table, where)
    table = _stacked(table, where)
    fields = tuple(name for name in PER_EPOCH if name in table.columns)
    size = table["sample_id"].n_unique()
    if not fields:
        return _finished(table, where, form, content)
    if "epoch" not in table.columns:
        if size < table.height:
            raise BadInput(f"{where}: samples stand there several times without a column 'epoch'; add one")
        table = table.with_columns(epoch=pl.lit(0, pl.Int64))
    epochs = infer(table["epoch"])
    if not epochs.dtype.is_integer() or epochs.null_count():
        raise BadInput(f"{where}: column 'epoch' must hold whole numbers, without gaps")
    table = table.with_columns(epochs.cast(pl.Int64))
    doubled = table.filter(pl.struct("epoch", "sample_id").is_duplicated())
    if doubled.height:
        row = doubled.select("sample_id", "epoch").row(0)
        raise BadInput(
            f"{where}: sample '{row[0]}' stands twice in epoch {row[1]} ({doubled.height} such rows)"
        )
    ids = table["sample_id"].unique(maintain_order=True)
    numbers = table["epoch"].unique().sort().to_list()
    return Foreign(
        where=where, form=form, content=content, ids=ids.to_list(), labels=_table_labels(table, ids, where),
        epochs=tuple(numbers), fields=fields, read=partial(_read_table, table, ids, numbers, fields, where),
        mode=_table_mode(table, where),
    )  # fmt: skip


def _named(table: pl.DataFrame, where: str) -> pl.DataFrame:
    """Return the table with `sample_id` as checked text and `label` under that name."""
    found = [name for name in IDS if name in table.columns]
    if not found:
        raise BadInput(f"{where}: no column of ids; name one {IDS[0]} (found {', '.join(table.columns[:8])})")
    distinct = table[found[0]].unique(maintain_order=True)
    texts = checked_ids(distinct, where)
    named = pl.DataFrame({found[0]: distinct, "as text": texts})
    table = table.join(named, on=found[0], how="left", maintain_order="left")
    table = table.drop(found).rename({"as text": "sample_id"})
    label = [name for name in LABELS if name in table.columns]
    return table.rename({label[0]: "label"}) if label else table


def _stacked(table: pl.DataFrame, where: str) -> pl.DataFrame:
    """Gather columns ``logits_0``, ``logits_1``, ... into one list column, as a CSV writes them."""
    for name in PER_CLASS:
        numbered = {
            int(match[1]): column
            for column in table.columns
            if (match := re.fullmatch(rf"{name}_([0-9]+)", column))
        }
        if not numbered or name in table.columns:
            continue
        if sorted(numbered) != list(range(len(numbered))):
            raise BadInput(f"{where}: columns {name}_0, {name}_1, ... are numbered {sorted(numbered)}")
        parts = [_numbers(table[numbered[at]], where) for at in range(len(numbered))]
        table = table.drop(list(numbered.values())).with_columns(pl.concat_list(parts).alias(name))
    return table


def _numbers(values: pl.Series, where: str, dtype: pl.DataType | type[pl.DataType] = pl.Float32) -> pl.Series:
    whole = infer(values)
    if whole.null_count() == len(whole):
        return pl.Series(values.name, [None] * len(whole), dtype=dtype)
    if not (whole.dtype.is_numeric() or whole.dtype == pl.Boolean):
        raise BadInput(f"{where}: column '{values.name}' holds text where numbers are expected")
    return whole.cast(dtype)


def _aum_records(table: pl.DataFrame, where: str) -> pl.DataFrame:
    """Return AUM's own records under the vocabulary's names; a tie goes to the lower class.

    Which columns hold the classes is told by the values: what the package's releases call `target_logit` and
    `other_logit` is called `target_val` and `other_val` in the state of its repository, and the other way round.
    """
    numbers = table.select("sample_id", *(_numbers(table[name], where, pl.Float64) for name in AUM_COLUMNS))
    fitting = [names for names in AUM_CLASSES if _holds_classes(numbers, *names)]
    if len(fitting) != 1:
        told = (
            "both can be the classes"
            if fitting
            else "neither is a class of the sample, a whole number that stays the same in all its rows, while the "
            "other pair gives the margin"
        )
        raise BadInput(
            f"{where}: columns target_logit and target_val: {told}; give a table with sample_id, epoch, label and "
            "margin"
        )
    target, other = (pl.col(name).cast(pl.Int64) for name in fitting[0])
    lost = pl.when(pl.col("margin") < 0).then(other).otherwise(pl.min_horizontal(target, other))
    won = pl.when(pl.col("margin") > 0).then(target).otherwise(lost)
    return numbers.select(
        "sample_id", "margin",
        label=target,
        # a network that gave NaN predicted nothing
        pred=pl.when(pl.col("margin").is_not_null() & pl.col("margin").is_not_nan()).then(won),
        epoch=pl.col("num_measurements").cast(pl.Int64) - 1,
    )  # fmt: skip


def _holds_classes(numbers: pl.DataFrame, target: str, other: str) -> bool:
    """Tell whether these two columns can be classes, and the two others the logits whose difference is the margin."""
    classes = numbers.select(target, other)
    whole = ((pl.all() >= 0) & (pl.all() % 1 == 0)).fill_null(value=False)
    if classes.select(whole.all()).row(0) != (True, True) or (classes[target] == classes[other]).any():
        return False
    if numbers.group_by("sample_id").agg(pl.col(target).n_unique())[target].max() != 1:
        return False
    own, others = (SWAPPED[name] for name in (target, other))
    told = numbers.filter(pl.all_horizontal(pl.col(own, others, "margin").is_finite()))
    # the difference was taken in the network's own precision, half precision at worst
    room = AUM_ROUNDING * (pl.col(own).abs() + pl.col(others).abs()) + 1e-6
    off = (pl.col(own) - pl.col(others) - pl.col("margin")).abs() > room
    return not told.select(off.any()).item()


def _finished(table: pl.DataFrame, where: str, form: str, content: str) -> Finished:
    if table["sample_id"].n_unique() < table.height:
        raise BadInput(
            f"{where}: holds none of {', '.join(PER_EPOCH)}, and a sample stands there several times; "
            "rename the columns to the vocabulary, or give one row of scores per sample"
        )
    about = ("sample_id", "label", "split", "epoch")
    rest = [infer(table[name]) for name in table.columns if name not in about]
    scores = [values.cast(pl.Float64) for values in rest if values.dtype.is_numeric()]
    if not scores:
        raise BadInput(f"{where}: holds neither signals ({', '.join(PER_EPOCH)}) nor numeric scores")
    frame = pl.DataFrame([table["sample_id"], *scores])
    return Finished(where=where, form=form, content=content, frame=frame)


def _table_labels(table: pl.DataFrame, ids: pl.Series, where: str) -> np.ndarray | None:
    if "label" not in table.columns:
        return None
    several = table.group_by("sample_id").agg(pl.col("label").n_unique().alias("n")).filter(pl.col("n") > 1)
    if several.height:
        raise BadInput(
            f"{where}: labels that change: those of {several.height} of {len(ids)} samples, first "
            f"{several['sample_id'].min()!r}"
        )
    by_id = table.select("sample_id", "label").unique("sample_id", keep="first")
    order = pl.DataFrame({"sample_id": ids})
    ordered = order.join(by_id, on="sample_id", how="left", maintain_order="left")["label"]
    if ordered.null_count():
        raise BadInput(
            f"{where}: no label for {ordered.null_count()} of {len(ids)} samples; every sample needs one"
        )
    values = ordered.cast(pl.String) if ordered.dtype in (pl.Categorical, pl.Enum) else ordered
    return label_array(values.to_list(), len(ids), where)


def _table_mode(table: pl.DataFrame, where: str) -> str | None:
    if "mode" not in table.columns:
        return None
    modes = table["mode"].unique().drop_nulls().to_list()
    if len(modes) > 1:
        raise BadInput(f"{where}: mixes the modes {', '.join(sorted(modes))}; import them one by one")
    return checked_mode(modes[0], where) if modes else None


def _read_table(
    table: pl.DataFrame, ids: pl.Series, epochs: Sequence[int], fields: Sequence[str], where: str
) -> Epochs:
    order = pl.DataFrame({"sample_id": ids, "at": np.arange(len(ids))})
    for epoch in epochs:
        part = table.filter(pl.col("epoch") == epoch).join(order, on="sample_id", maintain_order="left")
        at = part["at"].to_numpy()
        there = np.zeros(len(ids), dtype=bool)
        there[at] = True
        values = {name: _placed(part[name], at, len(ids), where) for name in fields}
        values["seen"] = values["seen"] == 1 if "seen" in values else there
        yield values


def _placed(values: pl.Series, at: np.ndarray, size: int, where: str) -> np.ndarray:
    """Return one column of an epoch in the order of the ids; text (class names) stays text."""
    if values.dtype.is_nested():
        lists = values.cast(pl.List(pl.Float32))
        lengths = lists.list.len().drop_nulls().unique().to_list()
        if len(lengths) != 1 or lists.null_count():
            raise BadInput(
                f"{where}: column '{values.name}' holds lists of different lengths ({sorted(lengths)})"
            )
        rows = np.full((size, lengths[0]), np.nan, dtype=np.float32)
        rows[at] = lists.explode().to_numpy().reshape(-1, lengths[0])
        return rows
    column = infer(values)
    if values.name == "pred" and column.dtype == pl.String:
        names = np.full(size, "", dtype=object)
        names[at] = column.fill_null("").to_list()
        return names
    placed = np.full(size, np.nan, dtype=np.float32)
    placed[at] = _numbers(values, where).to_numpy()
    return placed
