"""The catalog's schema over time: named functions in order, each recorded in the transaction that ran it.

`schema.sql` is always the schema of today. A fresh catalog is made from it, with all migrations recorded as
applied; an older one is brought forward by the functions it lacks, and then has the same tables.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import duckdb

from tracesift.catalog.connection import rows
from tracesift.catalog.schema import CATALOG_SCHEMA, BadInput


def create_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Version 1: everything of schema.sql but what the later functions add."""
    raise AssertionError("a catalog without version 1 is made from schema.sql")


def add_reviews(con: duckdb.DuckDBPyConnection) -> None:
    """Version 2: a person's verified labels, and the per-dataset numbers that are no score."""
    con.execute(
        "CREATE TABLE diagnostics "
        "(dataset_id VARCHAR, run_id VARCHAR, name VARCHAR, value VARCHAR, seq BIGINT)"
    )
    con.execute(
        "CREATE TABLE reviews (sample_id VARCHAR, label VARCHAR, note VARCHAR, reviewed_at TIMESTAMP)"
    )


def add_artifacts(con: duckdb.DuckDBPyConnection) -> None:
    """Version 3: what the workspace keeps beside recordings and manifests, such as embeddings."""
    con.execute(
        "CREATE TABLE artifacts (kind VARCHAR, name VARCHAR, dataset_id VARCHAR, run_id VARCHAR, path VARCHAR, "
        "digest VARCHAR, config VARCHAR, details VARCHAR, created_at TIMESTAMP, seq BIGINT)"
    )


def add_edges(con: duckdb.DuckDBPyConnection) -> None:
    """Version 4: whom each training sample helps and harms, by method."""
    con.execute(
        "CREATE TABLE edge_sets (edge_key INTEGER, dataset_id VARCHAR, run_id VARCHAR, method VARCHAR, "
        "method_version INTEGER, params VARCHAR, seq BIGINT)"
    )
    con.execute(
        "CREATE TABLE edge_rows "
        "(edge_key INTEGER, sample_row INTEGER, partner_row INTEGER, value FLOAT, spread FLOAT, rank SMALLINT)"
    )
    con.execute(
        "CREATE VIEW influence_edges AS "
        "SELECT e.dataset_id, e.run_id, e.method, e.method_version, e.params, s.sample_id, "
        "CASE WHEN r.value > 0 THEN 'help' ELSE 'harm' END AS kind, r.rank, p.sample_id AS partner_id, "
        "p.split AS partner_split, r.value, r.spread, e.seq "
        "FROM edge_rows r JOIN edge_sets e USING (edge_key) "
        "JOIN samples s ON s.dataset_id = e.dataset_id AND s.sample_row = r.sample_row "
        "JOIN samples p ON p.dataset_id = e.dataset_id AND p.sample_row = r.partner_row"
    )


def add_forgotten(con: duckdb.DuckDBPyConnection) -> None:
    """Version 5: what a deletion request came to, and keyed hashes by which a deleted sample is known again."""
    for column in (
        "request_key VARCHAR", "kind VARCHAR", "num_exact BIGINT", "num_near BIGINT", "num_retained BIGINT",
        "num_holdout BIGINT", "subset_id VARCHAR", "version INTEGER", "after_seq BIGINT", "tool_version VARCHAR",
        "status VARCHAR", "seq BIGINT",
    ):  # fmt: skip
        con.execute(f"ALTER TABLE forget_requests ADD COLUMN {column}")
    con.execute(
        "CREATE TABLE forgotten (request_id VARCHAR, subset VARCHAR, id_key VARCHAR, content_key VARCHAR, "
        "key_name VARCHAR, how VARCHAR, seq BIGINT)"
    )


def show_newest_edges(con: duckdb.DuckDBPyConnection) -> None:
    """Version 6: `influence_edges` holds the newest set of each method, `all_influence_edges` every set."""
    con.execute("DROP VIEW influence_edges")
    con.execute(
        "CREATE VIEW all_influence_edges AS "
        "SELECT e.dataset_id, e.run_id, e.method, e.method_version, e.params, s.sample_id, "
        "CASE WHEN r.value > 0 THEN 'help' ELSE 'harm' END AS kind, r.rank, p.sample_id AS partner_id, "
        "p.split AS partner_split, r.value, r.spread, e.seq "
        "FROM edge_rows r JOIN edge_sets e USING (edge_key) "
        "JOIN samples s ON s.dataset_id = e.dataset_id AND s.sample_row = r.sample_row "
        "JOIN samples p ON p.dataset_id = e.dataset_id AND p.sample_row = r.partner_row"
    )
    con.execute(
        "CREATE VIEW influence_edges AS SELECT * FROM all_influence_edges "
        "WHERE seq IN (SELECT max(seq) FROM edge_sets GROUP BY method)"
    )


def remember_what_was_read(con: duckdb.DuckDBPyConnection) -> None:
    """Version 7: what scores and edges were made from, so that a later training of the same job is noticed."""
    for table in ("score_columns", "edge_sets"):
        con.execute(f"ALTER TABLE {table} ADD COLUMN made_from VARCHAR")


def add_origins(con: duckdb.DuckDBPyConnection) -> None:
    """Version 8: edges are also the strongest of their partner, who has a rank of its own for them."""
    con.execute("DROP VIEW influence_edges")
    con.execute("DROP VIEW all_influence_edges")
    con.execute("ALTER TABLE edge_rows ADD COLUMN partner_rank SMALLINT")
    con.execute(
        "CREATE VIEW all_influence_edges AS "
        "SELECT e.dataset_id, e.run_id, e.method, e.method_version, e.params, s.sample_id, "
        "CASE WHEN r.value > 0 THEN 'help' ELSE 'harm' END AS kind, r.rank, p.sample_id AS partner_id, "
        "p.split AS partner_split, r.partner_rank, r.value, r.spread, e.seq "
        "FROM edge_rows r JOIN edge_sets e USING (edge_key) "
        "JOIN samples s ON s.dataset_id = e.dataset_id AND s.sample_row = r.sample_row "
        "JOIN samples p ON p.dataset_id = e.dataset_id AND p.sample_row = r.partner_row"
    )
    con.execute(
        "CREATE VIEW influence_edges AS SELECT * FROM all_influence_edges "
        "WHERE seq IN (SELECT max(seq) FROM edge_sets GROUP BY method)"
    )


def remember_words(con: duckdb.DuckDBPyConnection) -> None:
    """Version 9: whom a deletion request names is known again when nothing of it is left; purges are counted."""
    con.execute("ALTER TABLE forget_requests ADD COLUMN word_keys VARCHAR")
    con.execute("ALTER TABLE workspace ADD COLUMN purges INTEGER")


MIGRATIONS: tuple[Callable[[duckdb.DuckDBPyConnection], None], ...] = (
    create_tables,
    add_reviews,
    add_artifacts,
    add_edges,
    add_forgotten,
    show_newest_edges,
    remember_what_was_read,
    add_origins,
    remember_words,
)
"""In order; the position, counted from 1, is the schema version that the function leads to."""

if len(MIGRATIONS) != CATALOG_SCHEMA:
    raise AssertionError("schema.CATALOG_SCHEMA must be the number of migrations")


def applied(con: duckdb.DuckDBPyConnection) -> int:
    """Return the schema version of an open catalog, 0 for an empty file.

    Raises
    ------
    BadInput
        The catalog was written by a newer tracesift.
    """
    known = rows(
        con,
        "SELECT count(*) FROM duckdb_tables() "
        "WHERE database_name = current_database() AND table_name = 'schema_migrations'",
    )
    if known == [(0,)]:
        return 0
    ((found,),) = rows(con, "SELECT max(version) FROM schema_migrations")
    if found > CATALOG_SCHEMA:
        raise BadInput(
            f"the catalog has schema version {found} and this tracesift knows {CATALOG_SCHEMA}: "
            "upgrade tracesift, or use another workspace"
        )
    return int(found)


def migrate(con: duckdb.DuckDBPyConnection) -> int:
    """Bring an open, writable catalog to today's schema; returns how many versions it moved."""
    found = applied(con)
    if found == 0:
        con.execute(Path(__file__).with_name("schema.sql").read_text(encoding="utf-8"))
    now = datetime.now(UTC).replace(tzinfo=None)
    for number, function in enumerate(MIGRATIONS[found:], start=found + 1):
        if found > 0:
            function(con)
        con.execute(
            "INSERT INTO schema_migrations VALUES (?, ?, ?, ?)",
            [number, function.__name__, now, version("tracesift")],
        )
    return len(MIGRATIONS) - found
