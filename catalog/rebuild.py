"""The catalog made anew without some samples, as another file: DuckDB keeps deleted rows' bytes in the one it has.

The rows are taken out of a copy, and the copy is copied once more, so that the file that stays was never told of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from tracesift.catalog import views
from tracesift.catalog.connection import CATALOG_FILE, identifier, literal, records, rows
from tracesift.catalog.files import canonical_json, frame_digest
from tracesift.catalog.redaction import OF_OTHERS, Redaction
from tracesift.catalog.schema import BadInput

_ROWS = {
    "flag_values": ("flag_sets", "flag_key", ("sample_row",)),
    "member_rows": ("subset_records", "subset_key", ("sample_row",)),
    "edge_rows": ("edge_sets", "edge_key", ("sample_row", "partner_row")),
}
"""Tables that name samples by their row, the table that says of which state, and the key between them."""

_OWNED = {
    "flag_sets": ("run_id", "flag"), "edge_sets": ("run_id", "method", "params"), "score_runs": ("run_id",),
    "diagnostics": ("run_id", "name"),
}  # fmt: skip
"""Tables with one row per dataset and these columns: where two states become one, the newer row stays."""


@dataclass(frozen=True, kw_only=True)
class State:
    """One state of a dataset that loses samples.

    Attributes
    ----------
    dataset_id, new_id
        What it was called and what the remaining samples are called.
    fingerprint
        Of the remaining samples.
    """

    dataset_id: str
    new_id: str
    fingerprint: str


@dataclass(kw_only=True)
class Rebuilding:
    """What a rebuilt catalog says otherwise, beside lacking samples."""

    states: Sequence[State]
    redaction: Redaction
    purges: int = 1
    """How many purges there will have been."""
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """New run id -> what its rewritten recording changes of the details."""
    subsets: Mapping[tuple[str, int], Mapping[str, Any]] = field(default_factory=dict)
    """(name, version) -> the columns of subset_records that its rewritten manifest changes."""
    artifacts: Mapping[tuple[str, str], Mapping[str, Any] | None] = field(default_factory=dict)
    """(kind, name) -> changed columns, None for one that is dropped."""


def rebuild(
    workspace: Path, folder: Path, what: Rebuilding, *, at: Callable[[str], None] = lambda _: None
) -> dict[str, int]:
    """Write the catalog of `workspace` without the purged samples to `folder`; return rows removed by table.

    The caller holds the workspace's lock; the catalog itself is read, and not changed.
    """
    working, target = folder / ".tmp-working.duckdb", folder / CATALOG_FILE
    _copy(workspace / CATALOG_FILE, working)
    at("catalog copied")
    with duckdb.connect(str(working)) as con:
        con.execute("BEGIN")
        _register(con, what)
        removed = _remove(con, what)
        _rename(con, what)
        _redact(con, what.redaction)
        con.execute("UPDATE workspace SET purges = ?", [what.purges])
        for run_id, details in rows(con, "SELECT run_id, details FROM runs ORDER BY seq"):
            if run_id in what.runs:
                said = canonical_json(json.loads(details or "{}") | dict(what.runs[run_id])).decode()
                _update(con, "runs", {"run_id": run_id}, {"details": said})
        views.refresh(con)
        con.execute("COMMIT")
    at("catalog purged")
    _copy(working, target)
    for leftover in folder.glob(".tmp-working.duckdb*"):
        leftover.unlink()
    at("catalog rebuilt")
    return {name: count for name, count in removed.items() if count}


def settle(path: Path) -> None:
    """Bring a catalog's write-ahead log into its file, so that nothing is left beside it."""
    with duckdb.connect(str(path)) as con:
        con.execute("CHECKPOINT")


def _copy(source: Path, target: Path) -> None:
    with duckdb.connect(":memory:") as con:
        con.execute(f"ATTACH {literal(str(source))} AS old (READ_ONLY)")
        con.execute(f"ATTACH {literal(str(target))} AS new")
        con.execute("COPY FROM DATABASE old TO new")
        con.execute("CHECKPOINT new")
        con.execute("DETACH new")


def _register(con: duckdb.DuckDBPyConnection, what: Rebuilding) -> None:
    """Make temporary tables: the ids that go, the states, and where each remaining row will stand."""
    con.register(
        "given_ids", pl.DataFrame({"sample_id": pl.Series(sorted(what.redaction.ids), dtype=pl.String)})
    )
    con.execute("CREATE TEMP TABLE gone AS FROM given_ids")
    given = {
        name: pl.Series([getattr(state, name) for state in what.states], dtype=pl.String)
        for name in ("dataset_id", "new_id", "fingerprint")
    }
    con.register("given_states", pl.DataFrame(given))
    con.execute("CREATE TEMP TABLE states AS FROM given_states")
    con.execute(
        "CREATE TEMP TABLE placed AS SELECT dataset_id, sample_row AS old_row, "
        "(row_number() OVER (PARTITION BY dataset_id ORDER BY sample_row) - 1)::INTEGER AS new_row "
        "FROM samples WHERE dataset_id IN (SELECT dataset_id FROM states) AND sample_id NOT IN (FROM gone)"
    )


def _tables(con: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    return [
        (schema, name)
        for schema, name in rows(
            con,
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database() "
            "AND NOT temporary ORDER BY ALL",
        )
    ]


def _columns(con: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    return dict(rows(con, f"SELECT column_name, column_type FROM (DESCRIBE {table})"))


def _remove(con: duckdb.DuckDBPyConnection, what: Rebuilding) -> dict[str, int]:
    """Delete the samples from every table and number the remaining rows of their states anew."""
    removed: dict[str, int] = {}
    owners = {row[0]: row[1] for row in rows(con, "SELECT run_key, dataset_id FROM score_runs")}
    touched = {state.dataset_id for state in what.states}
    for table, (owner, key, columns) in _ROWS.items():
        removed[table] = _renumber(con, table, owner, key, columns)
    for schema, name in _tables(con):
        table = f'{schema}."{name}"'
        named = _columns(con, table)
        if schema == "wide":
            owner_id = owners.get(int(name.removeprefix("run_")))
            if owner_id in touched:
                removed["scores"] = removed.get("scores", 0) + _renumber_wide(con, table, str(owner_id))
        elif name == "samples" or (name not in _ROWS and "sample_id" in named):
            removed[name] = _count(con, f"FROM {table} WHERE sample_id IN (FROM gone)")
            con.execute(f"DELETE FROM {table} WHERE sample_id IN (FROM gone)")
        elif name not in _ROWS and any(column.endswith("_row") for column in named):
            raise BadInput(
                f"the catalog's table {name} names samples by row, and purge does not know of whom"
            )
    con.execute(
        "UPDATE samples SET sample_row = p.new_row FROM placed p "
        "WHERE p.dataset_id = samples.dataset_id AND p.old_row = samples.sample_row"
    )
    return removed


def _count(con: duckdb.DuckDBPyConnection, what: str) -> int:
    return int(rows(con, f"SELECT count(*) {what}")[0][0])


def _renumber(
    con: duckdb.DuckDBPyConnection, table: str, owner: str, key: str, columns: Sequence[str]
) -> int:
    """Give the rows of a table their samples' new places, where their state loses any; return how many went."""
    before = _count(con, f"FROM {table}")
    joins = "".join(
        f" LEFT JOIN placed p{at} ON p{at}.dataset_id = o.dataset_id AND p{at}.old_row = t.{column}"
        for at, column in enumerate(columns)
    )
    stays = " AND ".join(f"p{at}.new_row IS NOT NULL" for at, _ in enumerate(columns))
    moved = ", ".join(f"coalesce(p{at}.new_row, t.{column}) AS {column}" for at, column in enumerate(columns))
    rank = ""
    if table == "edge_rows":  # the next strongest takes the place of a purged partner
        rank = "".join(
            f", CASE WHEN t.{own} IS NOT NULL THEN (row_number() OVER (PARTITION BY t.edge_key, t.{end}, "
            f"t.value > 0, t.{own} IS NULL ORDER BY t.{own}))::SMALLINT END AS {own}"
            for end, own in (("sample_row", "rank"), ("partner_row", "partner_rank"))
        )
    con.execute(
        f"CREATE OR REPLACE TABLE {table} AS SELECT t.* REPLACE ({moved}{rank}) FROM {table} t "
        f"LEFT JOIN {owner} o USING ({key}){joins} "
        f"WHERE o.dataset_id IS NULL OR o.dataset_id NOT IN (SELECT dataset_id FROM states) OR ({stays}) "
        "ORDER BY t.rowid"
    )
    return before - _count(con, f"FROM {table}")


def _renumber_wide(con: duckdb.DuckDBPyConnection, table: str, dataset_id: str) -> int:
    before = _count(con, f"FROM {table}")
    con.execute(
        f"CREATE OR REPLACE TABLE {table} AS SELECT w.* REPLACE (p.new_row AS sample_row) FROM {table} w "
        f"JOIN placed p ON p.old_row = w.sample_row AND p.dataset_id = {literal(dataset_id)} ORDER BY p.new_row"
    )
    return before - _count(con, f"FROM {table}")


def _rename(con: duckdb.DuckDBPyConnection, what: Rebuilding) -> None:
    """Call the states, subsets and artifacts by what they hold now."""
    for state in what.states:
        _merge(con, state, what.states)
    for schema, name in _tables(con):
        table = f'{schema}."{name}"'
        if "dataset_id" in _columns(con, table):
            con.execute(
                f"UPDATE {table} SET dataset_id = s.new_id FROM states s WHERE {table}.dataset_id = s.dataset_id"
            )
    for state in what.states:
        _describe(con, state)
    for (name, version), columns in what.subsets.items():
        _update(con, "subset_records", {"name": name, "version": version}, columns)
    for (kind, name), changed in what.artifacts.items():
        if changed is None:
            con.execute("DELETE FROM artifacts WHERE kind = ? AND name = ?", [kind, name])
        else:
            _update(con, "artifacts", {"kind": kind, "name": name}, changed)


def _merge(con: duckdb.DuckDBPyConnection, state: State, states: Sequence[State]) -> None:
    """Where the remaining samples are a state that is there already, keep the newer record and its samples."""
    called = {other.dataset_id: other.new_id for other in states}
    same = [
        (seq, dataset_id)
        for dataset_id, seq in rows(con, "SELECT dataset_id, seq FROM datasets")
        if called.get(dataset_id, dataset_id) == state.new_id
    ]
    for _, dataset_id in sorted(same)[:-1]:
        con.execute("DELETE FROM datasets WHERE dataset_id = ?", [dataset_id])
        con.execute("DELETE FROM samples WHERE dataset_id = ?", [dataset_id])
    ids = [dataset_id for _, dataset_id in same]
    for table, key in _OWNED.items():
        order = "run_key" if table == "score_runs" else "seq"
        kept: set[tuple[Any, ...]] = set()
        listed = (
            f"SELECT {', '.join(key)}, dataset_id FROM {table} WHERE list_contains(?, dataset_id) "
            f"ORDER BY {order} DESC"
        )
        for row in rows(con, listed, (ids,)):
            if row[:-1] in kept:
                where = " AND ".join(f"{one} IS NOT DISTINCT FROM ?" for one in (*key, "dataset_id"))
                _drop_owned(con, table, where, list(row))
            kept.add(row[:-1])


def _drop_owned(con: duckdb.DuckDBPyConnection, table: str, where: str, values: list[Any]) -> None:
    for child, (owner, key, _) in _ROWS.items():
        if owner == table:
            con.execute(
                f"DELETE FROM {child} WHERE {key} IN (SELECT {key} FROM {table} WHERE {where})", values
            )
    if table == "score_runs":
        for (run_key,) in rows(con, f"SELECT run_key FROM score_runs WHERE {where}", tuple(values)):
            con.execute(f"DROP TABLE IF EXISTS wide.run_{run_key}")
            con.execute("DELETE FROM score_columns WHERE run_key = ?", [run_key])
    con.execute(f"DELETE FROM {table} WHERE {where}", values)


def _describe(con: duckdb.DuckDBPyConnection, state: State) -> None:
    """Say in a state's record how many samples it has, how many were purged, and the digest of its rows."""
    found = records(con, "SELECT * FROM datasets WHERE dataset_id = ?", (state.new_id,))
    if not found:
        return
    whole = con.sql(
        "SELECT * FROM samples WHERE dataset_id = $id ORDER BY sample_row", params={"id": state.new_id}
    ).pl()
    details = json.loads(found[0]["details"] or "{}")
    lost = found[0]["num_samples"] - whole.height
    details["purged"] = details.get("purged", 0) + lost
    details["samples_digest"] = frame_digest(whole)
    _update(
        con, "datasets", {"dataset_id": state.new_id},
        {"num_samples": whole.height, "fingerprint": state.fingerprint, "details": canonical_json(details).decode()},
    )  # fmt: skip


def _update(
    con: duckdb.DuckDBPyConnection, table: str, key: Mapping[str, Any], columns: Mapping[str, Any]
) -> None:
    given = ", ".join(f"{identifier(name)} = ?" for name in columns)
    where = " AND ".join(f"{identifier(name)} = ?" for name in key)
    con.execute(f"UPDATE {table} SET {given} WHERE {where}", [*columns.values(), *key.values()])


def _redact(con: duckdb.DuckDBPyConnection, redaction: Redaction) -> None:
    """Take the ids, and names made of them, out of every text of every table."""
    for schema, name in _tables(con):
        table = f'{schema}."{name}"'
        for column, kind in _columns(con, table).items():
            if kind != "VARCHAR" or column in OF_OTHERS:
                continue
            values = con.sql(
                f'SELECT DISTINCT "{column}" AS value FROM {table} WHERE "{column}" IS NOT NULL'
            ).pl()["value"]
            changed = redaction.changes(values, sentence=(name, column) != ("samples", "attributes"))
            if not changed:
                continue
            told = {"old": list(changed), "new": list(changed.values())}
            con.register("incoming", pl.DataFrame(told, schema={"old": pl.String, "new": pl.String}))
            con.execute(f'UPDATE {table} SET "{column}" = i.new FROM incoming i WHERE "{column}" = i.old')
            con.unregister("incoming")
