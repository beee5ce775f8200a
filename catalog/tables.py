"""Writing the small tables and the samples: one row or one state in place of what stood under its key."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import duckdb
import polars as pl

from tracesift.catalog.connection import first_line, identifier, rows
from tracesift.catalog.files import canonical_json
from tracesift.catalog.frames import conform, distinct_ids
from tracesift.catalog.schema import BadInput

_JSON_COLUMNS = frozenset(
    {"classes", "options", "transform", "notes", "wheels", "config", "details", "params"}
)
_SAMPLES: dict[str, pl.DataType] = dict.fromkeys(
    ("sample_id", "split", "label", "label_true", "content_hash", "group"), pl.String()
)


def next_number(con: duckdb.DuckDBPyConnection, table: str, column: str = "seq") -> int:
    """Return one more than the largest `column` of `table`; safe, because there is one writer."""
    ((number,),) = rows(con, f"SELECT coalesce(max({identifier(column)}), 0) + 1 FROM {identifier(table)}")
    return int(number)


def now() -> datetime:
    """Return the time in UTC, without a zone, as the catalog's columns hold it."""
    return datetime.now(UTC).replace(tzinfo=None)


def replace_row(
    con: duckdb.DuckDBPyConnection, table: str, keys: tuple[str, ...], record: Mapping[str, Any]
) -> bool:
    """Write one row in place of any other with the same keys; it becomes the newest of its table.

    Returns
    -------
    bool
        False where this very row was the newest already: then nothing is written.
    """
    columns = [name for (name,) in rows(con, "SELECT column_name FROM (DESCRIBE " + table + ")")]
    values = {
        name: value for name, value in record.items() if name in columns and name not in ("seq", "details")
    }
    rest = {name: value for name, value in record.items() if name not in columns} | dict(
        record.get("details") or {}
    )
    if "details" in columns:
        values["details"] = rest
    elif rest:
        raise BadInput(f"{table}: unknown column '{next(iter(rest))}'")
    stored = {name: _stored(name, value) for name, value in values.items()}
    if "seq" in columns:
        if _is_newest(con, table, {name: stored.get(name) for name in columns if name != "seq"}):
            return False
        stored["seq"] = next_number(con, table)
    con.execute(
        f"DELETE FROM {table} WHERE " + " AND ".join(f"{key} = ?" for key in keys),
        [values[key] for key in keys],
    )
    names = ", ".join(stored)
    marks = ", ".join("?" for _ in stored)
    try:
        con.execute(
            f"INSERT INTO {table} ({names}) VALUES ({marks})",
            list(stored.values()),
        )
    except duckdb.ConversionException as error:
        raise BadInput(f"{table}: {first_line(error)}") from error
    return True


def _is_newest(con: duckdb.DuckDBPyConnection, table: str, row: Mapping[str, Any]) -> bool:
    same = " AND ".join(f"{name} IS NOT DISTINCT FROM ?" for name in row)
    newest = f"seq = (SELECT max(seq) FROM {table})"
    try:
        return bool(rows(con, f"SELECT true FROM {table} WHERE {newest} AND {same}", tuple(row.values())))
    except duckdb.ConversionException:
        return False  # what does not fit its column is refused by the insertion


def _stored(name: str, value: Any) -> Any:
    """Return a value as its column holds it: JSON columns as canonical text, times in UTC without a zone."""
    if isinstance(value, str) and name.endswith("_at"):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, (dict, list, tuple)) or (name in _JSON_COLUMNS and value is not None):
        return canonical_json(value).decode()
    return value


def sample_rows(dataset_id: str, samples: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of table `samples` for a dataset state, numbered in the order of sample_id."""
    what = f"samples of dataset {dataset_id}"
    known = [name for name in samples.columns if name in _SAMPLES]
    extra = [name for name in samples.columns if name not in _SAMPLES and name != "row"]
    writable = [name for name in extra if not isinstance(samples.schema[name], (pl.Binary, pl.Object))]
    whole = conform(samples.select(known), _SAMPLES, what=what, required=["sample_id", "split"])
    attributes = pl.Series("attributes", [None] * samples.height, dtype=pl.String)
    if writable:
        attributes = samples.select(pl.struct(writable).struct.json_encode().alias("attributes"))[
            "attributes"
        ]
    distinct_ids(whole, what=what)
    return (
        whole.with_columns(attributes)
        .sort("sample_id")
        .with_row_index("sample_row")
        .select(
            pl.lit(dataset_id).alias("dataset_id"),
            pl.col("sample_row").cast(pl.Int32),
            *("sample_id", "split", "label", "label_true", "content_hash"),
            pl.col("group").alias("group_key"),
            "attributes",
        )
    )


def replace_samples(con: duckdb.DuckDBPyConnection, dataset_id: str, whole: pl.DataFrame) -> None:
    """Write the samples of a state; the ids under one dataset_id are in its fingerprint and never change."""
    con.register("incoming", whole)
    same = "FROM samples WHERE dataset_id = ?"
    before = rows(
        con,
        f"SELECT sample_row, sample_id {same} EXCEPT SELECT sample_row, sample_id FROM incoming",
        (dataset_id,),
    )
    ((count,),) = rows(con, f"SELECT count(*) {same}", (dataset_id,))
    if before or count not in (0, whole.height):
        raise BadInput(
            f"dataset {dataset_id} stands in the catalog with other sample ids: its fingerprint does not "
            "tell the two states apart, so one of them was not made by tracesift's own rule"
        )
    con.execute("DELETE FROM samples WHERE dataset_id = ?", [dataset_id])
    con.execute("INSERT INTO samples SELECT * FROM incoming ORDER BY sample_row")
    con.execute(
        "UPDATE samples SET label_true = r.label FROM reviews r "
        "WHERE samples.sample_id = r.sample_id AND samples.dataset_id = ?",
        [dataset_id],
    )
    for (key,) in rows(con, "SELECT run_key FROM score_runs WHERE dataset_id = ?", (dataset_id,)):
        con.execute(
            f"UPDATE wide.run_{key} SET split = i.split, label = i.label FROM incoming i "
            f"WHERE wide.run_{key}.sample_row = i.sample_row "
            f"AND (wide.run_{key}.split, wide.run_{key}.label) IS DISTINCT FROM (i.split, i.label)"
        )
    con.unregister("incoming")
