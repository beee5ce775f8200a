"""Writing scores and flags: scores wide, one table per scored run; flags narrow, keyed by sample row.

A long table of (sample, scorer, value) is what users query and the slowest thing to write: on a million
samples the wide layout is many times faster and a quarter of the size. `views.py` gives the long form back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import polars as pl

from tracesift.catalog.connection import identifier, rows
from tracesift.catalog.files import canonical_json, digest
from tracesift.catalog.frames import conform, distinct_ids
from tracesift.catalog.schema import DIRECTIONS, BadInput
from tracesift.catalog.tables import next_number

_KEYS = ("sample_row", "sample_id", "split", "label", "covered")


def variant_column(scorer: str, params: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Return the column that holds `scorer` with `params`: its name, or ``name__digest`` off the defaults.

    Examples
    --------
    >>> variant_column("aum", {"window": 10}, {"window": 10})
    'aum'
    >>> variant_column("aum", {"window": 5}, {"window": 10})
    'aum__292131da'
    """
    changed = {
        name: value for name, value in params.items() if name not in defaults or defaults[name] != value
    }
    return f"{scorer}__{digest(changed, length=8)}" if changed else scorer


def samples_of(con: duckdb.DuckDBPyConnection, dataset_id: str) -> pl.DataFrame:
    """Return sample_row, sample_id, split, label of a dataset state in row order; BadInput where unknown."""
    frame: pl.DataFrame = con.sql(
        "SELECT sample_row, sample_id, split, label FROM samples WHERE dataset_id = $id ORDER BY sample_row",
        params={"id": dataset_id},
    ).pl()
    if frame.is_empty():
        raise BadInput(
            f"dataset {dataset_id} is not in this catalog: run `tracesift ingest` on its source first"
        )
    return frame


def with_rows(samples: pl.DataFrame, frame: pl.DataFrame, *, what: str) -> pl.DataFrame:
    """Return `frame` with sample_row in place of sample_id, sorted by it; BadInput for an unknown sample."""
    distinct_ids(frame, what=what)
    found = frame.join(samples.select("sample_id", "sample_row"), on="sample_id", how="left")
    unknown = found.filter(pl.col("sample_row").is_null())
    if unknown.height:
        raise BadInput(
            f"{what}: {unknown.height} samples are not in the dataset, "
            f"for example '{unknown['sample_id'][0]}'"
        )
    return found.drop("sample_id").sort("sample_row")


def put_scores(
    con: duckdb.DuckDBPyConnection,
    run_id: str,
    dataset_id: str,
    frame: pl.DataFrame,
    meta: Sequence[Mapping[str, Any]],
    spreads: pl.DataFrame | None,
) -> None:
    """Replace the given score columns of a run; its other columns stay. See `Catalog.put_scores`."""
    columns = [_column(entry) for entry in meta]
    _check_columns(run_id, frame, columns)
    names = [column["column_name"] for column in columns]
    stored = {column.pop("given"): column["column_name"] for column in columns}
    frame = frame.rename(stored)
    what = f"scores of run {run_id}"
    samples = samples_of(con, dataset_id)
    fresh = with_rows(samples, conform(frame, _floats(names), what=what, required=["sample_id"]), what=what)
    if spreads is not None:
        spreads = spreads.rename(stored, strict=False)
        scored = [name for name in spreads.columns if name != "sample_id"]
        own = conform(spreads, _floats(names), what=f"spreads of run {run_id}", required=["sample_id"])
        own = own.select("sample_id", *(pl.col(name).alias(f"{name}.spread") for name in scored))
        fresh = fresh.join(with_rows(samples, own, what=what), on="sample_row", how="left")
        for column in columns:
            column["has_spread"] = column["column_name"] in scored
    key, others = _run_key(con, run_id, dataset_id, names)
    _write_wide(con, key, samples, fresh.with_columns(covered=True), others=others)
    _write_columns(con, key, columns)


def _column(entry: Mapping[str, Any]) -> dict[str, Any]:
    params, defaults = dict(entry.get("params") or {}), entry.get("defaults")
    scorer = entry["scorer"]
    named = entry.get("column") or (scorer if defaults is None else variant_column(scorer, params, defaults))
    identifier(scorer)
    identifier(named)
    if named in _KEYS:
        raise BadInput(f"a scorer cannot be called '{named}': the score tables use that name themselves")
    if entry["direction"] not in DIRECTIONS:
        raise BadInput(f"{scorer}: unknown direction '{entry['direction']}', one of {', '.join(DIRECTIONS)}")
    return {
        "column_name": named,
        "given": named if entry.get("column") else scorer,
        "scorer": scorer,
        "scorer_version": int(entry["version"]),
        "params": canonical_json(params).decode(),
        "inputs": canonical_json(list(entry.get("inputs") or [])).decode(),
        "direction": entry["direction"],
        "has_spread": False,
        "made_from": made_from(entry),
    }


def made_from(meta: Mapping[str, Any]) -> str | None:
    """Return what scores or edges were made from as the catalog keeps it; None where nobody says."""
    return canonical_json(dict(meta["made_from"])).decode() if "made_from" in meta else None


def _check_columns(run_id: str, frame: pl.DataFrame, columns: list[dict[str, Any]]) -> None:
    if not columns:
        raise BadInput(f"scores of run {run_id}: there is no score column to write")
    described = {column["given"] for column in columns}
    for name in frame.columns:
        if name != "sample_id" and name not in described:
            raise BadInput(f"scores of run {run_id}: the column '{name}' has no entry in meta")
    for name in sorted(described):
        if name not in frame.columns:
            raise BadInput(
                f"scores of run {run_id}: meta describes '{name}', which is no column of the frame"
            )


def _floats(names: list[str]) -> dict[str, pl.DataType]:
    return {"sample_id": pl.String()} | dict.fromkeys(names, pl.Float64())


def _run_key(
    con: duckdb.DuckDBPyConnection, run_id: str, dataset_id: str, replaced: list[str]
) -> tuple[int, bool]:
    """Return the run's key, and whether its table holds columns that are not replaced."""
    sql = "SELECT run_key FROM score_runs WHERE run_id = ? AND dataset_id = ?"
    found = rows(con, sql, (run_id, dataset_id))
    if not found:
        key = next_number(con, "score_runs", "run_key")
        con.execute("INSERT INTO score_runs VALUES (?, ?, ?)", [key, dataset_id, run_id])
        return key, False
    key = int(found[0][0])
    present = {
        name for (name,) in rows(con, "SELECT column_name FROM score_columns WHERE run_key = ?", (key,))
    }
    return key, bool(present - set(replaced))


def _write_wide(
    con: duckdb.DuckDBPyConnection, key: int, samples: pl.DataFrame, fresh: pl.DataFrame, *, others: bool
) -> None:
    """Write columns over all samples, into the run's table where `others` stay in it, else as a new one.

    NaN becomes NULL, because NaN > 1 is true in SQL.
    """
    wide = samples.join(fresh, on="sample_row", how="left", maintain_order="left")
    wide = wide.with_columns(pl.col("covered").fill_null(value=False), pl.col(pl.Float64).fill_nan(None))
    values = sorted(name for name in wide.columns if name not in _KEYS)
    con.register("incoming", wide.select(*_KEYS, *values))
    if others:
        for name in values:
            con.execute(f'ALTER TABLE wide.run_{key} ADD COLUMN IF NOT EXISTS "{name}" DOUBLE')
        columns = ", ".join(f'"{name}" = i."{name}"' for name in values)
        con.execute(
            f"UPDATE wide.run_{key} AS w SET covered = w.covered OR i.covered, {columns} "
            "FROM incoming i WHERE w.sample_row = i.sample_row"
        )
    else:
        con.execute(f"CREATE OR REPLACE TABLE wide.run_{key} AS FROM incoming")
    con.unregister("incoming")


def _write_columns(con: duckdb.DuckDBPyConnection, key: int, columns: list[dict[str, Any]]) -> None:
    seq = next_number(con, "score_columns")
    con.register("incoming", pl.DataFrame([{"run_key": key, **column, "seq": seq} for column in columns]))
    con.execute(
        "DELETE FROM score_columns WHERE run_key = ? AND column_name IN (SELECT column_name FROM incoming)",
        [key],
    )
    con.execute("INSERT INTO score_columns BY NAME SELECT * FROM incoming")
    con.unregister("incoming")


FLAG_COLUMNS: dict[str, pl.DataType] = {
    "sample_id": pl.String(),
    "flagged": pl.Boolean(),
    "score": pl.Float64(),
    "threshold": pl.Float64(),
    "reason": pl.String(),
    "suggestion": pl.String(),
    "confidence": pl.Float64(),
    "suspicion": pl.Float64(),
}
"""What a flag frame holds; only sample_id and flagged must be there, and flagged may be null: cannot tell."""


def put_flags(
    con: duckdb.DuckDBPyConnection, run_id: str, dataset_id: str, flag: str, frame: pl.DataFrame
) -> None:
    """Replace one flag of a run. See `Catalog.put_flags`."""
    identifier(flag)
    what = f"flag {flag} of run {run_id}"
    if "flagged" not in frame.columns:
        raise BadInput(f"{what}: the column 'flagged' is missing; present are {', '.join(frame.columns)}")
    whole = conform(frame, FLAG_COLUMNS, what=what, required=["sample_id"])
    whole = whole.with_columns(pl.col(pl.Float64).fill_nan(None))
    values = with_rows(samples_of(con, dataset_id), whole, what=what)
    where, owner = "dataset_id = ? AND run_id = ? AND flag = ?", [dataset_id, run_id, flag]
    con.execute(
        f"DELETE FROM flag_values WHERE flag_key IN (SELECT flag_key FROM flag_sets WHERE {where})", owner
    )
    con.execute(f"DELETE FROM flag_sets WHERE {where}", owner)
    key = next_number(con, "flag_sets", "flag_key")
    con.execute("INSERT INTO flag_sets VALUES (?, ?, ?, ?, ?)", [key, *owner, next_number(con, "flag_sets")])
    con.register("incoming", values.with_columns(flag_key=pl.lit(key, dtype=pl.Int32)))
    con.execute("INSERT INTO flag_values BY NAME SELECT * FROM incoming")
    con.unregister("incoming")
