from pathlib import Path

import duckdb
import pytest

from tracesift.catalog.migrations import MIGRATIONS
from tracesift.catalog.schema import CATALOG_SCHEMA, BadInput
from tracesift.catalog.store import Catalog

DESCRIBE = """
    SELECT table_schema, table_name, column_name, ordinal_position, data_type FROM information_schema.columns
    WHERE table_catalog = current_database() ORDER BY ALL
"""


def old_catalog(workspace, version=1):
    workspace.mkdir()
    with duckdb.connect(str(workspace / "catalog.duckdb")) as con:
        con.execute(Path(__file__).with_name(f"schema_{version}.sql").read_text())
    return Catalog(workspace)


def a_run(catalog):
    catalog.put_run({"run_id": "r", "dataset_id": "old", "kind": "record"})


@pytest.mark.parametrize("version", [1, 3, 4])
def test_an_old_catalog_becomes_what_a_fresh_one_is(tmp_path, version):
    old, fresh = old_catalog(tmp_path / "old", version), Catalog(tmp_path / "fresh")
    a_run(old)
    a_run(fresh)
    assert old.query(DESCRIBE).equals(fresh.query(DESCRIBE))
    names = "SELECT version, name FROM schema_migrations ORDER BY version"
    assert old.query(names).equals(fresh.query(names))
    assert old.query(names)["name"].to_list() == [function.__name__ for function in MIGRATIONS]
    assert old.query("SELECT sample_id, label FROM sample_scores").rows() == [("a", "cat")]


def test_reading_an_old_catalog_brings_it_forward_first(tmp_path):
    old = old_catalog(tmp_path / "old")
    assert old.query("SELECT count(*) FROM reviews").item() == 0
    assert old.query("SELECT max(version) FROM schema_migrations").item() == CATALOG_SCHEMA


def test_an_old_view_of_edges_comes_to_show_the_newest_alone(tmp_path):
    old = old_catalog(tmp_path / "old", 4)
    with duckdb.connect(str(old.path)) as con:
        for key in (1, 2):
            con.execute("INSERT INTO edge_sets VALUES (?, 'old', 'r', 'trak', 1, '{}', ?)", [key, key])
            con.execute("INSERT INTO edge_rows VALUES (?, 0, 0, 0.5, NULL, 1)", [key])
    assert old.query("SELECT seq FROM influence_edges").rows() == [(2,)]
    assert old.query("SELECT seq FROM all_influence_edges ORDER BY seq").rows() == [(1,), (2,)]


def test_migrations_run_once(tmp_path):
    catalog = old_catalog(tmp_path / "old")
    a_run(catalog)
    a_run(catalog)
    assert catalog.query("SELECT count(*) FROM schema_migrations").item() == len(MIGRATIONS)


def test_a_migration_that_fails_leaves_the_old_catalog(tmp_path):
    catalog = old_catalog(tmp_path / "old")
    with duckdb.connect(str(catalog.path)) as con:
        con.execute("CREATE TABLE reviews (mine VARCHAR)")
    with pytest.raises(duckdb.CatalogException):
        a_run(catalog)
    with duckdb.connect(str(catalog.path)) as con:
        assert con.sql("SELECT max(version) FROM schema_migrations").fetchall() == [(1,)]
        assert con.sql(
            "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'diagnostics'"
        ).fetchall() == [(0,)]


def test_a_catalog_of_a_newer_tracesift_is_refused_to_readers_and_writers(tmp_path):
    catalog = Catalog(tmp_path)
    a_run(catalog)
    with duckdb.connect(str(catalog.path)) as con:
        con.execute(
            "INSERT INTO schema_migrations VALUES (?, 'of_tomorrow', now()::TIMESTAMP, '9')",
            [CATALOG_SCHEMA + 1],
        )
    with pytest.raises(BadInput, match="upgrade tracesift"):
        catalog.query("SELECT 1")
    with pytest.raises(BadInput, match="upgrade tracesift"):
        a_run(catalog)


def test_schema_sql_can_be_run_alone(tmp_path):
    text = (Path(__file__).parents[2] / "catalog" / "schema.sql").read_text()
    with duckdb.connect() as con:
        con.execute(text)
        found = con.sql("SELECT table_name FROM information_schema.tables").pl()["table_name"]
    assert {"datasets", "samples", "runs", "flags", "subsets", "subset_members", "evaluations"} <= set(found)
