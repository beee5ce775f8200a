"""JSON Lines and JSON lists of records, read so that 1 and "1" stay apart until someone asks for text."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.sources.delimited import read_text


def read_json(path: Path, *, encoding: str | None, lines: bool) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return the table of a .jsonl or .json file, and for each column of mixed types which types it mixes."""
    text = read_text(path, encoding)
    records = _records_by_line(path, text) if lines else _record_list(path, text)
    names = list(dict.fromkeys(name for record in records for name in record))
    mixed: dict[str, str] = {}
    columns = []
    for name in names:
        column, found = as_column(name, [record.get(name) for record in records])
        columns.append(column)
        if found:
            mixed[name] = found
    return pl.DataFrame(columns), mixed


def _records_by_line(path: Path, text: str) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(
                f"{path}: line {number} is not JSON ({error.msg} at column {error.colno}); mend it"
            ) from error
        if not isinstance(record, dict):
            raise BadInput(f"{path}: line {number} holds {type(record).__name__}, not an object of columns")
        records.append(record)
    return records


def _record_list(path: Path, text: str) -> list[dict[str, Any]]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{path}: not JSON ({error.msg}, line {error.lineno}); for one record a line give --format jsonl"
        ) from error
    if not isinstance(value, list) or not all(isinstance(record, dict) for record in value):
        held = (
            f"an object with keys {', '.join(list(value)[:5])}"
            if isinstance(value, dict)
            else "no list of records"
        )
        raise BadInput(
            f'{path}: holds {held}; a list of records [{{"text": ..., "label": ...}}, ...] is needed '
            "(examples/clinc150.py shows how to turn a nested file into Parquet)"
        )
    return value


def as_column(name: str, values: list[Any]) -> tuple[pl.Series, str | None]:
    """Return a column of Python values, and the types it mixes where text stands beside something else."""
    if not {type(value) for value in values} <= {int, float, type(None)}:
        # NaN among texts says that the value is missing; written as text it would be a value of its own.
        values = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
    kinds = Counter(type(value) for value in values if value is not None)
    types = set(kinds)
    if dict in types or (list in types and len(types) > 1):
        values = [None if v is None else json.dumps(v, sort_keys=True, ensure_ascii=False) for v in values]
        return pl.Series(name, values, dtype=pl.String), "objects" if types == {dict} else "nested values"
    if types == {int, float}:
        return pl.Series(name, [None if v is None else float(v) for v in values], dtype=pl.Float64), None
    if types == {int} and any(abs(value) >= 2**63 for value in values if value is not None):
        return pl.Series(name, [None if v is None else str(v) for v in values], dtype=pl.String), None
    if len(types) > 1:
        texts = [None if v is None else v if isinstance(v, str) else json.dumps(v) for v in values]
        return pl.Series(name, texts, dtype=pl.String), " and ".join(sorted(kind.__name__ for kind in types))
    try:
        return pl.Series(name, values, strict=True), None
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise BadInput(f"column '{name}': its values do not fit one type ({error})".split("\n")[0]) from error
