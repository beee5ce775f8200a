"""The views whose columns depend on the data: scores, sample_scores, sample_flags, trajectories.

They are made anew in the transaction that changed what they show, so a plain DuckDB client that opens the
file sees them without any of our code. Names inside them are validated or quoted: a view takes no bound
parameters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from tracesift.catalog.connection import first_line, identifier, literal, records, rows
from tracesift.catalog.files import write_parquet
from tracesift.catalog.schema import FIELD_DTYPES, BadInput

_SQL_TYPES = {pl.Float32: "FLOAT", pl.Int32: "INTEGER", pl.Boolean: "BOOLEAN"}
WORKSPACE_VARIABLE = "tracesift_workspace"
"""DuckDB variable with which a plain client says where a moved or copied workspace is."""

_EMPTY_SCORES = (
    "SELECT NULL::VARCHAR AS dataset_id, NULL::VARCHAR AS run_id, NULL::VARCHAR AS scorer, "
    "NULL::INTEGER AS scorer_version, NULL::VARCHAR AS params, NULL::VARCHAR AS sample_id, "
    "NULL::DOUBLE AS value, NULL::DOUBLE AS spread WHERE false"
)


def refresh(con: duckdb.DuckDBPyConnection) -> None:
    """Make scores, sample_scores and sample_flags show what the tables now hold."""
    con.execute(f"CREATE OR REPLACE VIEW scores AS {_scores(con)}")
    con.execute(f"CREATE OR REPLACE VIEW sample_scores AS {_sample_scores(con)}")
    con.execute(f"CREATE OR REPLACE VIEW sample_flags AS {_sample_flags(con)}")


def _scores(con: duckdb.DuckDBPyConnection) -> str:
    """One SELECT of literals per score column: a filter on scorer or run leaves the other tables unread."""
    selects = []
    for column in records(
        con, "SELECT * FROM score_columns JOIN score_runs USING (run_key) ORDER BY run_key, column_name"
    ):
        name = column["column_name"]
        spread = f'"{name}.spread"' if column["has_spread"] else "NULL::DOUBLE"
        selects.append(
            f"SELECT {literal(column['dataset_id'])} AS dataset_id, {literal(column['run_id'])} AS run_id, "
            f"{literal(column['scorer'])} AS scorer, {column['scorer_version']}::INTEGER AS scorer_version, "
            f"{literal(column['params'])} AS params, "
            f"sample_id, {identifier(name)} AS value, {spread} AS spread "
            f"FROM wide.run_{column['run_key']} WHERE covered"
        )
    return " UNION ALL ".join(selects) or _EMPTY_SCORES


def newest_dataset(con: duckdb.DuckDBPyConnection) -> str | None:
    """Return the id of the dataset state written last."""
    found = rows(con, "SELECT dataset_id FROM datasets ORDER BY seq DESC LIMIT 1")
    return found[0][0] if found else None


def _related(con: duckdb.DuckDBPyConnection, dataset_id: str) -> list[str]:
    """Return the states that share samples with this one: scores of an unrelated dataset are none of its."""
    others = [
        row[0] for row in rows(con, "SELECT dataset_id FROM datasets WHERE dataset_id <> ?", (dataset_id,))
    ]
    sharing = (
        "SELECT 1 FROM samples a JOIN samples b USING (sample_id) "
        "WHERE a.dataset_id = ? AND b.dataset_id = ? LIMIT 1"
    )
    return [dataset_id] + [other for other in others if rows(con, sharing, (dataset_id, other))]


def newest_columns(con: duckdb.DuckDBPyConnection, dataset_id: str) -> list[dict[str, Any]]:
    """Return, per scorer with its default parameters, the column written last that covers this dataset.

    The last of each is taken here and not in SQL: inside a transaction that has deleted and inserted rows, DuckDB
    2.0.0 loses groups of ``QUALIFY row_number() OVER (...) = 1`` (optimizer top_n_window_elimination), and so
    would this view lose columns.
    """
    found = records(
        con,
        """
        SELECT c.*, r.dataset_id, r.run_id
        FROM score_columns c JOIN score_runs r USING (run_key)
        WHERE c.column_name = c.scorer AND list_contains(?, r.dataset_id)
        ORDER BY c.seq, c.run_key
        """,
        (_related(con, dataset_id),),
    )
    last = {column["scorer"]: column for column in found}
    return [last[scorer] for scorer in sorted(last)]


def _sample_scores(con: duckdb.DuckDBPyConnection) -> str:
    dataset_id = newest_dataset(con)
    if dataset_id is None:
        return "SELECT sample_id, split, label FROM samples WHERE false"
    columns = newest_columns(con, dataset_id)
    runs = {column["run_key"]: column["dataset_id"] for column in columns}
    if list(runs.values()) == [dataset_id]:  # one wide table holds it all: no join
        names = ", ".join(identifier(column["column_name"]) for column in columns)
        return f"SELECT sample_id, split, label, {names} FROM wide.run_{next(iter(runs))}"
    names = "".join(f", w{c['run_key']}.{identifier(c['column_name'])}" for c in columns)
    joins = "".join(
        f" LEFT JOIN wide.run_{key} w{key} ON w{key}.{by} = s.{by}"
        for key, owner in runs.items()
        for by in ["sample_row" if owner == dataset_id else "sample_id"]
    )
    where = f"WHERE s.dataset_id = {literal(dataset_id)}"
    return f"SELECT s.sample_id, s.split, s.label{names} FROM samples s{joins} {where}"


def newest_flags(con: duckdb.DuckDBPyConnection, dataset_id: str) -> list[dict[str, Any]]:
    """Return, for each flag, the set written last that covers this dataset; see `newest_columns`."""
    found = records(
        con,
        "SELECT * FROM flag_sets WHERE list_contains(?, dataset_id) ORDER BY seq",
        (_related(con, dataset_id),),
    )
    last = {flag["flag"]: flag for flag in found}
    return [last[flag] for flag in sorted(last)]


def _sample_flags(con: duckdb.DuckDBPyConnection) -> str:
    dataset_id = newest_dataset(con)
    if dataset_id is None:
        return "SELECT sample_id, split, label FROM samples WHERE false"
    flags = newest_flags(con, dataset_id)
    columns = "".join(f", f{flag['flag_key']}.flagged AS {identifier(flag['flag'])}" for flag in flags)
    joins = "".join(_flag_join(flag, same=flag["dataset_id"] == dataset_id) for flag in flags)
    where = f"WHERE s.dataset_id = {literal(dataset_id)}"
    return f"SELECT s.sample_id, s.split, s.label{columns} FROM samples s{joins} {where}"


def _flag_join(flag: dict[str, Any], *, same: bool) -> str:
    key = flag["flag_key"]
    if same:
        return (
            f" LEFT JOIN flag_values f{key} ON f{key}.flag_key = {key} AND f{key}.sample_row = s.sample_row"
        )
    return (
        " LEFT JOIN (SELECT o.sample_id, v.flagged "
        "FROM flag_values v JOIN samples o ON o.sample_row = v.sample_row "
        f"WHERE v.flag_key = {key} AND o.dataset_id = {literal(flag['dataset_id'])}) f{key} "
        f"ON f{key}.sample_id = s.sample_id"
    )


def trajectories(workspace: Path) -> str:
    """Return the SELECT behind `trajectories`, reading this workspace's epoch files by absolute path.

    A plain DuckDB client that opens a copy of the workspace elsewhere, or one that was moved and not written
    since, says where it is: ``SET VARIABLE tracesift_workspace = '/elsewhere'``.

    Every file may hold another choice of fields, so columns are matched by name and typed here; the typed
    zero-row file of `place_schema_file` gives the ones that no run has recorded.
    """
    fields = ", ".join(
        f"CAST({name} AS {_SQL_TYPES[type(kind)]}) AS {name}" for name, kind in FIELD_DTYPES.items()
    )
    written = "".join(f"[{letter}]" if letter in "*[" else letter for letter in str(workspace))
    folder = f"coalesce(getvariable('{WORKSPACE_VARIABLE}')::VARCHAR, {literal(written)})"
    return (
        f"SELECT run_id, epoch, mode, sample_id, {fields} "
        f"FROM read_parquet({folder} || '/signals/run=*/mode=*/epoch-*.parquet', "
        "union_by_name = true, hive_partitioning = false)"
    )


def no_trajectories() -> str:
    """Return a SELECT with the columns of `trajectories` and no rows, for a workspace without signals."""
    fields = ", ".join(f"NULL::{_SQL_TYPES[type(kind)]} AS {name}" for name, kind in FIELD_DTYPES.items())
    return (
        "SELECT NULL::VARCHAR AS run_id, NULL::INTEGER AS epoch, NULL::VARCHAR AS mode, "
        f"NULL::VARCHAR AS sample_id, {fields} WHERE false"
    )


def unreadable_trajectories(why: str) -> str:
    """Return a SELECT with the columns of `trajectories` that fails with `why` when it is run."""
    return no_trajectories().rsplit(" WHERE ", 1)[0] + f" WHERE CAST(error({literal(why)}) AS BOOLEAN)"


def schema_file(workspace: Path) -> Path:
    """Return the path of the zero-row file that keeps the glob of `trajectories` from matching nothing."""
    return workspace / "signals" / "run=_schema" / "mode=_schema" / "epoch-_schema.parquet"


def place(con: duckdb.DuckDBPyConnection, workspace: Path) -> None:
    """Make `trajectories` read this workspace, at the first opening and after the workspace has moved."""
    path = schema_file(workspace)
    if not path.exists():
        keys = {"run_id": pl.String(), "epoch": pl.Int32(), "mode": pl.String(), "sample_id": pl.String()}
        write_parquet(pl.DataFrame(schema=keys | FIELD_DTYPES), path)
    known = rows(con, "SELECT path FROM workspace")
    if known == [(str(workspace),)]:
        return
    if known:
        con.execute("UPDATE workspace SET path = ?", [str(workspace)])
    else:
        con.execute("INSERT INTO workspace (path) VALUES (?)", [str(workspace)])
    try:
        con.execute(f"CREATE OR REPLACE VIEW trajectories AS {trajectories(workspace)}")
    except duckdb.InvalidInputException as error:
        raise BadInput(
            f"a recorded epoch cannot be read: {first_line(error)}; put the file back, or delete the folder of its run "
            "and run `tracesift record` again"
        ) from error
    refresh(con)
