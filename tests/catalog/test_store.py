import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tracesift.catalog.connection import writing
from tracesift.catalog.creation import create
from tracesift.catalog.schema import FIELD_DTYPES, BadInput, WorkspaceBusy
from tracesift.catalog.store import Catalog

FIRST, GROWN, OTHER = "a" * 64, "b" * 64, "c" * 64


def record(fingerprint=FIRST, **more):
    return {"name": "pets", "source": "pets.csv", "fingerprint": fingerprint, "kind": "text"} | more


def samples(ids="abcd", splits=("train", "train", "train", "test"), labels=("cat", "dog", "cat", "dog")):
    return pl.DataFrame({"sample_id": list(ids), "split": list(splits), "label": list(labels)})


def meta(*names, **more):
    return [
        {"scorer": name, "version": 1, "params": {}, "inputs": ["margin"], "direction": "clean"} | more
        for name in names
    ]


def scored(**columns):
    return pl.DataFrame({"sample_id": list("abc")} | columns)


@pytest.fixture
def catalog(tmp_path):
    whole = Catalog(tmp_path / "work", wait=0.2)
    whole.put_dataset(record(), samples())
    return whole


def column(catalog, sql, *params):
    return catalog.query(sql, params).to_series().to_list()


# scores


def test_sample_scores_has_a_row_for_every_sample_and_null_where_a_run_did_not_look(catalog):
    catalog.put_run({"run_id": "r1", "dataset_id": FIRST[:16], "kind": "record"})
    catalog.put_scores("r1", FIRST[:16], scored(aum=[3.0, float("nan"), 1.0]), meta("aum"))
    expected = pl.DataFrame(
        {
            "sample_id": ["a", "b", "c", "d"],
            "split": ["train", "train", "train", "test"],
            "label": ["cat", "dog", "cat", "dog"],
            "aum": [3.0, None, 1.0, None],
        }
    )
    assert_frame_equal(catalog.query("FROM sample_scores ORDER BY sample_id"), expected)


def test_scores_is_long_and_tells_not_computed_from_not_covered(catalog):
    spreads = scored(aum=[0.1, 0.2, 0.3])
    frame = scored(aum=[3.0, float("nan"), 1.0], el2n=[1, 2, 3])
    catalog.put_scores("r1", FIRST[:16], frame.reverse(), meta("aum", "el2n"), spreads)
    found = catalog.query("SELECT * FROM scores ORDER BY scorer, sample_id")
    assert found.columns == [
        "dataset_id", "run_id", "scorer", "scorer_version", "params", "sample_id", "value", "spread",
    ]  # fmt: skip
    assert found["value"].to_list() == [3.0, None, 1.0, 1.0, 2.0, 3.0]  # 'd' was not scored: no row
    assert found["spread"].to_list() == [0.1, 0.2, 0.3, None, None, None]
    assert set(found["params"]) == {"{}"}


def test_a_nan_score_is_not_above_every_number(catalog):
    catalog.put_scores("r1", FIRST[:16], scored(aum=[3.0, float("nan"), 1.0]), meta("aum"))
    assert column(catalog, "SELECT sample_id FROM sample_scores WHERE aum > 2") == ["a"]


def test_sample_scores_takes_each_scorer_from_the_run_written_last(catalog):
    catalog.put_scores("r1", FIRST[:16], scored(aum=[1.0, 1, 1], el2n=[5.0, 6, 7]), meta("aum", "el2n"))
    catalog.put_scores("r2", FIRST[:16], scored(aum=[2.0, 2, 2]), meta("aum"))
    found = catalog.query("SELECT sample_id, aum, el2n FROM sample_scores ORDER BY sample_id")
    assert found["aum"].to_list() == [2, 2, 2, None]
    assert found["el2n"].to_list() == [5, 6, 7, None]
    assert column(catalog, "SELECT count(*) FROM scores") == [9]


def test_scoring_a_run_again_replaces_its_columns_and_keeps_its_others(catalog):
    spread = scored(aum=[0.5, 0.5, 0.5])
    catalog.put_scores(
        "r1", FIRST[:16], scored(aum=[1.0, 1, 1], el2n=[5.0, 6, 7]), meta("aum", "el2n"), spread
    )
    partial = pl.DataFrame({"sample_id": ["c", "d"], "el2n": [9.0, 8.0]})
    catalog.put_scores("r1", FIRST[:16], partial, meta("el2n"))
    found = catalog.query("SELECT aum, el2n FROM sample_scores ORDER BY sample_id")
    assert found.rows() == [(1, None), (1, None), (1, 9), (None, 8)]
    assert column(catalog, "SELECT DISTINCT spread FROM scores WHERE scorer = 'aum' AND spread > 0") == [0.5]


def test_other_params_of_a_scorer_stand_beside_its_defaults(catalog):
    plain = meta("aum", params={"window": 10}, defaults={"window": 10})
    varied = meta("aum", params={"window": 5}, defaults={"window": 10})
    catalog.put_scores("r1", FIRST[:16], scored(aum=[1.0, 2, 3]), plain)
    catalog.put_scores("r1", FIRST[:16], scored(aum=[7.0, 8, 9]), varied, scored(aum=[0.0, 0, 1]))
    assert column(catalog, "SELECT aum FROM sample_scores ORDER BY sample_id") == [1, 2, 3, None]
    found = catalog.query("SELECT params, value, spread FROM scores WHERE scorer = 'aum' ORDER BY value")
    assert found.rows()[0] == ('{"window":10}', 1.0, None)
    assert found.rows()[-1] == ('{"window":5}', 9.0, 1.0)


def test_a_grown_dataset_keeps_the_scores_of_its_old_samples(catalog):
    catalog.put_scores("r1", FIRST[:16], scored(aum=[1.0, 2, 3]), meta("aum"))
    catalog.put_flags("r1", FIRST[:16], "mislabeled", scored(flagged=[True, False, None]))
    grown = samples("aabcd"[1:] + "e", ("train",) * 5, ("cat",) * 5)
    catalog.put_dataset(record(GROWN), grown.sort("sample_id", descending=True))
    found = catalog.query("FROM sample_scores ORDER BY sample_id")
    assert found["aum"].to_list() == [1, 2, 3, None, None]
    assert found["split"].to_list() == ["train"] * 5
    assert column(catalog, "SELECT mislabeled FROM sample_flags ORDER BY sample_id") == [
        True,
        False,
        None,
        None,
        None,
    ]


def test_the_scores_of_an_unrelated_dataset_are_no_columns(catalog):
    catalog.put_scores("r1", FIRST[:16], scored(aum=[1.0, 2, 3]), meta("aum"))
    catalog.put_dataset(record(OTHER), samples("vwxy"))
    assert catalog.query("FROM sample_scores").columns == ["sample_id", "split", "label"]
    catalog.put_dataset(record(), samples())
    assert "aum" in catalog.query("FROM sample_scores").columns


def test_relabelled_samples_show_their_new_label_beside_old_scores(catalog):
    catalog.put_scores("r1", FIRST[:16], scored(aum=[1.0, 2, 3]), meta("aum"))
    catalog.put_dataset(record(), samples(labels=("dog", "dog", "cat", "dog")))
    assert column(catalog, "SELECT label FROM sample_scores ORDER BY sample_id") == [
        "dog",
        "dog",
        "cat",
        "dog",
    ]


@pytest.mark.parametrize(
    ("frame", "described", "words"),
    [
        (scored(aum=[1, 2, 3]), [], "no score column"),
        (scored(aum=[1, 2, 3], el2n=[1, 2, 3]), meta("aum"), "'el2n' has no entry in meta"),
        (scored(aum=[1, 2, 3]), meta("aum", "el2n"), "no column of the frame"),
        (scored(**{"Aum x": [1, 2, 3]}), meta("Aum x"), "cannot name"),
        (scored(covered=[1, 2, 3]), meta("covered"), "use that name themselves"),
        (scored(aum=[1, 2, 3]), meta("aum", direction="up"), "unknown direction"),
        (
            pl.DataFrame({"sample_id": ["a", "a"], "aum": [1, 2]}),
            meta("aum"),
            "more than once, for example 'a'",
        ),
        (
            pl.DataFrame({"sample_id": ["a", "z"], "aum": [1, 2]}),
            meta("aum"),
            "not in the dataset, for example 'z'",
        ),
        (pl.DataFrame({"sample_id": ["a"], "aum": ["high"]}), meta("aum"), "scores of run r1"),
    ],
)
def test_scores_that_do_not_fit_are_refused_and_nothing_is_written(catalog, frame, described, words):
    with pytest.raises(BadInput, match=words):
        catalog.put_scores("r1", FIRST[:16], frame, described)
    assert column(catalog, "SELECT count(*) FROM score_runs") == [0]


def test_scores_for_a_dataset_that_was_not_ingested_are_refused(catalog):
    with pytest.raises(BadInput, match="tracesift ingest"):
        catalog.put_scores("r1", "unknown", scored(aum=[1, 2, 3]), meta("aum"))


# flags


def test_flags_have_three_values_and_the_newest_run_wins(catalog):
    first = scored(flagged=[True, True, True], score=[0.9, 0.8, 0.7], threshold=[0.5] * 3, reason=["far"] * 3)
    catalog.put_flags("r1", FIRST[:16], "mislabeled", first)
    catalog.put_flags("r2", FIRST[:16], "mislabeled", scored(flagged=[True, False, None]))
    catalog.put_flags("r1", FIRST[:16], "outlier", pl.DataFrame({"sample_id": ["c"], "flagged": [True]}))
    found = catalog.query("FROM sample_flags ORDER BY sample_id")
    assert found.columns == ["sample_id", "split", "label", "mislabeled", "outlier"]
    answers = found.drop("split", "label").rows()
    assert answers == [("a", True, None), ("b", False, None), ("c", None, True), ("d", None, None)]
    reasons = catalog.query(
        "SELECT score, threshold, reason FROM flags WHERE run_id = 'r1' AND sample_id = 'a'"
    )
    assert reasons.rows() == [(0.9, 0.5, "far")]


def test_a_flag_may_suggest_a_label_with_its_confidence(catalog):
    frame = scored(
        flagged=[True, False, None], suggestion=["dog", None, None], confidence=[0.9, float("nan"), None]
    )
    catalog.put_flags("r1", FIRST[:16], "label_noise", frame)
    found = catalog.query("SELECT suggestion, confidence, suspicion FROM flags ORDER BY sample_id")
    assert found.rows() == [("dog", 0.9, None), (None, None, None), (None, None, None)]


def test_a_flag_without_its_column_is_refused(catalog):
    with pytest.raises(BadInput, match="'flagged' is missing"):
        catalog.put_flags("r1", FIRST[:16], "mislabeled", scored(flag=[True, True, True]))


# datasets, runs and the rest


def test_everything_put_twice_stands_once(catalog):
    def fill():
        catalog.put_dataset(record(notes=["a guess"], source_bytes=7), samples())
        catalog.put_run({"run_id": "r1", "dataset_id": FIRST[:16], "kind": "record", "config": {"epochs": 3}})
        catalog.put_scores("r1", FIRST[:16], scored(aum=[1.0, 2, 3]), meta("aum"))
        catalog.put_flags("r1", FIRST[:16], "odd", scored(flagged=[True, False, None]))
        catalog.put_diagnostic(FIRST[:16], "r1", "noise", {"rate": 0.1})
        rows = {"subset_id": ["s", "s"], "seed": [0, 1], "metric": "accuracy", "value": [0.5, 0.75]}
        catalog.put_evaluations(pl.DataFrame(rows))
        catalog.put_forget_request({"request_id": "q1", "dataset_id": FIRST[:16], "num_requested": 2})
        catalog.put_reviews(pl.DataFrame({"sample_id": ["b"], "label": ["cat"], "note": [None]}))
        catalog.finish_run("r1", seconds=3)

    fill()
    before = {name: catalog.query(f"SELECT * FROM {name} ORDER BY ALL") for name in TABLES}
    fill()
    after = {name: catalog.query(f"SELECT * FROM {name} ORDER BY ALL") for name in TABLES}
    for name in TABLES:
        changing = [
            c for c in before[name].columns if c == "seq" or (c.endswith("_at") and name != "datasets")
        ]
        assert_frame_equal(before[name].drop(changing), after[name].drop(changing))
    assert {name: frame.height for name, frame in after.items()}["evaluations"] == 2


TABLES = (
    "datasets", "samples", "runs", "scores", "flags", "diagnostics", "evaluations", "forget_requests",
    "reviews", "sample_scores", "sample_flags",
)  # fmt: skip


def test_a_run_keeps_what_no_column_holds_and_its_time_in_utc(catalog):
    catalog.put_run(
        {
            "run_id": "r1", "dataset_id": FIRST[:16], "kind": "record", "seed": 3, "threads": 2,
            "started_at": "2026-05-01T12:00:00+02:00", "config": {"lr": 0.1}, "mode": "in_training",
        }
    )  # fmt: skip
    catalog.finish_run("r1", status="done", seconds=1.5)
    run = catalog.run("r1")
    assert run["started_at"] == "2026-05-01T10:00:00Z"
    assert run["config"] == {"lr": 0.1}
    assert run["details"] == {"mode": "in_training", "seconds": 1.5}
    assert (run["status"], run["seed"], run["threads"]) == ("done", 3, 2)
    assert catalog.query("SELECT config->>'lr' AS lr FROM runs").item() == "0.1"
    assert catalog.run("r2") is None


def test_newest_goes_by_the_order_of_writing(catalog):
    for run_id, kind in [("r1", "record"), ("r2", "score"), ("r3", "record")]:
        catalog.put_run(
            {"run_id": run_id, "dataset_id": FIRST[:16], "kind": kind, "started_at": "2026-01-01"}
        )
    assert catalog.newest_run()["run_id"] == "r3"
    assert catalog.newest_run(kind="score")["run_id"] == "r2"
    assert catalog.newest_run(kind="embed") is None
    assert catalog.newest_run(dataset_id=GROWN[:16]) is None
    catalog.put_dataset(record(GROWN), samples("efgh"))
    assert catalog.newest_dataset()["fingerprint"] == GROWN
    catalog.put_dataset(record(), samples())
    assert catalog.newest_dataset()["fingerprint"] == FIRST


def test_samples_keep_the_other_columns_of_the_source(catalog):
    wider = samples().with_columns(
        label_true=pl.lit("cat"),
        group=pl.lit("g"),
        city=pl.Series(["Oslo", None, "Ulm", "Bonn"]),
        age=pl.Series([1, 2, 3, 4]),
        raw=pl.lit(b"x"),
    )
    catalog.put_dataset(record(GROWN), wider)
    assert column(catalog, "SELECT sample_id FROM samples WHERE attributes->>'city' = 'Ulm'") == ["c"]
    assert column(catalog, "SELECT DISTINCT group_key FROM samples WHERE dataset_id = ?", GROWN[:16]) == ["g"]


def test_other_samples_under_a_known_dataset_id_are_refused(catalog):
    with pytest.raises(BadInput, match="other sample ids"):
        catalog.put_dataset(record(), samples("abce"))
    with pytest.raises(BadInput, match="other sample ids"):
        catalog.put_dataset(record(), samples().head(3))


def test_a_verified_label_is_the_true_one_in_every_state(catalog):
    catalog.put_reviews(pl.DataFrame({"sample_id": ["b"], "label": ["cat"]}))
    catalog.put_dataset(record(GROWN), samples())
    assert column(catalog, "SELECT label_true FROM samples WHERE sample_id = 'b'") == ["cat", "cat"]
    assert column(catalog, "SELECT count(label_true) FROM samples") == [2]


def test_wrong_rows_name_the_column(catalog):
    with pytest.raises(BadInput, match="fingerprint"):
        catalog.put_dataset({"name": "x", "source": "y"}, samples())
    with pytest.raises(BadInput, match="'split' is missing"):
        catalog.put_dataset(record(OTHER), samples().drop("split"))
    with pytest.raises(BadInput, match="'split' is empty in 1 of 4"):
        catalog.put_dataset(record(OTHER), samples(splits=("train", None, "val", "test")))
    with pytest.raises(BadInput, match="run_id"):
        catalog.put_run({"kind": "record", "dataset_id": "d"})
    with pytest.raises(BadInput, match="r9 is not in the catalog"):
        catalog.finish_run("r9")
    with pytest.raises(BadInput, match=r"unknown column 'metrics' \(did you mean 'metric'"):
        catalog.put_evaluations(
            pl.DataFrame({"subset_id": ["s"], "seed": [1], "metric": ["a"], "metrics": ["a"], "value": [1.0]})
        )
    with pytest.raises(BadInput, match="runs: "):
        catalog.put_run({"run_id": "r", "kind": "record", "dataset_id": "d", "seed": "three"})


# queries


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM samples",
        "CREATE TABLE mine (a INT)",
        "CREATE TABLE memory.mine (a INT)",
        "COPY samples TO 'signals/out.csv'",
        "SELECT 1; DROP TABLE samples",
        "ATTACH 'other.duckdb'",
        "SET enable_external_access = true",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT nothing FROM samples",
        "SELEC 1",
        "",
    ],
)
def test_a_query_can_only_read_the_catalog(catalog, sql):
    with pytest.raises(BadInput):
        catalog.query(sql)
    assert column(catalog, "SELECT count(*) FROM samples") == [4]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_reads_what_its_parent_has_read_before(catalog):
    assert column(catalog, "SELECT count(*) FROM samples") == [4]
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # DuckDB's threads are not there in the child
        with catalog._read() as con:
            plain = con.execute("SELECT count(*) FROM samples").fetchall()
        os._exit(0 if plain == [(4,)] and column(catalog, "SELECT count(*) FROM samples") == [4] else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_query_that_failed_leaves_the_next_one_alone(catalog, tmp_path):
    for _ in range(2):
        with pytest.raises(BadInput):
            catalog.query("SELECT nothing FROM samples")
        assert column(catalog, "SELECT count(*) FROM samples") == [4]
    with catalog._write() as con:  # and the file is held by nobody
        con.execute("SELECT 1")
    other = Catalog(tmp_path / "other")
    other.put_dataset(record(), samples().head(1))
    counts = [column(one, "SELECT count(*) FROM samples") for one in (catalog, other, catalog)]
    assert counts == [[4], [1], [4]]


def test_a_query_takes_bound_values_by_position_and_by_name(catalog):
    assert column(catalog, "SELECT sample_id FROM samples WHERE label = ? AND split = ?", "dog", "test") == [
        "d"
    ]
    assert catalog.query("SELECT $x AS x", {"x": "o'clock"}).item() == "o'clock"
    assert column(catalog, "SELECT count(*) FROM samples WHERE label = ?", "' OR 1=1 --") == [0]


def test_a_wrong_column_is_answered_with_its_candidates(catalog):
    with pytest.raises(BadInput, match=r"Candidate bindings.*label"):
        catalog.query("SELECT lable FROM samples")


def test_pivot_describe_and_summarize_are_queries_too(catalog):
    assert catalog.query("PIVOT samples ON split USING count(*) GROUP BY label").height == 2
    assert "sample_id" in column(catalog, "DESCRIBE samples")
    assert catalog.query("SUMMARIZE samples").height == 9


def test_a_missing_catalog_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"no catalog at .*catalog\.duckdb"):
        Catalog(tmp_path).query("SELECT 1")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_catalog_is_named(tmp_path):
    (tmp_path / "catalog.duckdb").write_text("not a database" * 1000)
    with pytest.raises(BadInput, match=r"catalog\.duckdb"):
        Catalog(tmp_path).query("SELECT 1")
    with pytest.raises(BadInput, match=r"catalog\.duckdb"):
        Catalog(tmp_path).put_dataset(record(), samples())
    with pytest.raises(WorkspaceBusy, match="not a valid DuckDB"):
        Catalog(tmp_path, wait=0.1).query("SELECT 1", snapshot=True)


def test_a_workspace_that_is_a_file_is_named(tmp_path):
    (tmp_path / "work").write_text("")
    with pytest.raises(BadInput, match="work"):
        Catalog(tmp_path / "work").put_dataset(record(), samples())


# trajectories


def epoch_file(workspace, run_id, epoch, columns, mode="in_training"):
    path = workspace / "signals" / f"run={run_id}" / f"mode={mode}" / f"epoch-{epoch:04d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = {"run_id": run_id, "epoch": pl.Series([epoch], dtype=pl.Int32), "mode": mode, "sample_id": ["a"]}
    pl.DataFrame(keys | {n: pl.Series([v], dtype=FIELD_DTYPES[n]) for n, v in columns.items()}).write_parquet(
        path
    )


def test_trajectories_is_empty_at_first_and_takes_runs_with_different_fields(catalog):
    empty = catalog.query("FROM trajectories")
    assert empty.height == 0
    assert empty.columns == ["run_id", "epoch", "mode", "sample_id", *FIELD_DTYPES]
    epoch_file(catalog.workspace, "r1", 0, {"loss": 0.5, "correct": True})
    epoch_file(
        catalog.workspace, "r2", 1, {"margin": -1.0, "seen": True, "presentations": 2}, mode="epoch_end"
    )
    found = catalog.query("SELECT run_id, epoch, mode, loss, margin FROM trajectories ORDER BY run_id")
    assert found.rows() == [("r1", 0, "in_training", 0.5, None), ("r2", 1, "epoch_end", None, -1.0)]
    assert dict(catalog.query("FROM trajectories").schema) == dict(empty.schema)


def test_a_damaged_epoch_stops_nobody_but_who_asks_for_it(catalog, tmp_path):
    epoch_file(catalog.workspace, "r1", 0, {"loss": 0.5})
    damaged = tmp_path / "moved"
    catalog.workspace.rename(damaged)
    file = next((damaged / "signals" / "run=r1").rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:40])
    moved = Catalog(damaged)
    assert column(moved, "SELECT count(*) FROM samples") == [4]
    with pytest.raises(BadInput, match=r"cannot be run: .*epoch-0000\.parquet"):
        moved.query("SELECT loss FROM trajectories")
    with pytest.raises(BadInput, match=r"recorded epoch cannot be read: .*epoch-0000\.parquet.*record"):
        moved.check_writable()


def test_a_catalog_that_is_none_says_how_to_get_one_back(tmp_path):
    (tmp_path / "catalog.duckdb").write_bytes(b"no database" * 100)
    with pytest.raises(BadInput, match="damaged: move it away") as told:
        Catalog(tmp_path, wait=0.2).query("SELECT 1")
    assert "free space" not in str(told.value)


def test_a_changed_byte_is_found_by_its_checksum(catalog):
    whole = catalog.path.read_bytes()
    for place in (20, 5000):
        catalog.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(
            BadInput, match=r"Corrupt database file.*it is damaged: move it away, then put back"
        ):
            Catalog(catalog.workspace, wait=0.2).query("SELECT * FROM samples")
    catalog.path.write_bytes(whole)
    assert catalog.query("SELECT * FROM samples").height == 4


def test_validation_files_are_no_trajectories(catalog):
    epoch_file(catalog.workspace, "r1/validation", 0, {"loss": 0.5})
    assert catalog.query("FROM trajectories").height == 0


def test_a_plain_client_in_another_directory_reads_everything(catalog, tmp_path):
    epoch_file(catalog.workspace, "r1", 0, {"loss": 0.5})
    catalog.put_scores("r1", FIRST[:16], scored(aum=[1.0, 2, 3]), meta("aum"))
    script = (
        "import duckdb, sys; con = duckdb.connect(sys.argv[1], read_only=True);"
        "print(con.sql('SELECT loss FROM trajectories').fetchall(), con.sql('SELECT sum(aum) FROM sample_scores').fetchall(),"
        "con.sql('SELECT count(*) FROM scores').fetchall())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(catalog.path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[(0.5,)] [(6.0,)] [(3,)]"


def test_a_moved_workspace_is_read_at_once_and_mended_by_the_next_write(catalog, tmp_path):
    epoch_file(catalog.workspace, "r1", 0, {"loss": 0.5})
    moved = Catalog(tmp_path / "elsewhere", wait=0.2)
    catalog.workspace.rename(moved.workspace)
    assert moved.query("SELECT loss FROM trajectories").item() == 0.5
    moved.put_run({"run_id": "r1", "dataset_id": FIRST[:16], "kind": "record"})
    with duckdb.connect(str(moved.path), read_only=True) as con:
        assert con.sql("SELECT loss FROM trajectories").fetchall() == [(0.5,)]


def test_a_plain_client_says_where_a_copied_workspace_is(catalog, tmp_path):
    copy, other = tmp_path / "co'py", tmp_path / "other"
    epoch_file(catalog.workspace, "r1", 0, {"loss": 0.5})
    shutil.copytree(catalog.workspace, copy)
    epoch_file(copy, "r2", 0, {"loss": 0.25})
    catalog.workspace.rename(other)  # the copy's catalog names a folder that has gone
    with duckdb.connect(str(copy / "catalog.duckdb"), read_only=True) as con:
        with pytest.raises(duckdb.IOException, match="No files found"):
            con.sql("SELECT loss FROM trajectories").fetchall()
        for place, losses in ((copy, [(0.25,), (0.5,)]), (other, [(0.5,)])):
            con.execute("SET VARIABLE tracesift_workspace = ?", [str(place)])
            assert con.sql("SELECT loss FROM trajectories ORDER BY 1").fetchall() == losses


def test_an_emptied_signals_folder_leaves_trajectories_empty(catalog):
    shutil.rmtree(catalog.workspace / "signals")
    assert catalog.query("FROM trajectories").height == 0
    catalog.put_run({"run_id": "r1", "dataset_id": FIRST[:16], "kind": "record"})
    with duckdb.connect(str(catalog.path), read_only=True) as con:
        assert con.sql("SELECT count(*) FROM trajectories").fetchall() == [(0,)]


@pytest.mark.parametrize("name", ["it's [here]*", "ünïcode dir"])
def test_a_workspace_with_an_awkward_name_works(tmp_path, name):
    awkward = Catalog(tmp_path / name)
    awkward.put_dataset(record(name="o'pets", source="it's.csv"), samples(labels=("o'cat", 'd"og', "é", "d")))
    awkward.put_scores("r'1", FIRST[:16], scored(aum=[1.0, 2, 3]), meta("aum", params={"note": "it's"}))
    epoch_file(awkward.workspace, "r1", 0, {"loss": 0.5})
    assert awkward.query("SELECT loss FROM trajectories").item() == 0.5
    assert awkward.query("SELECT DISTINCT run_id FROM scores").item() == "r'1"


def test_a_workspace_that_duckdb_cannot_name_is_refused(tmp_path):
    with pytest.raises(BadInput, match="'\\?' in its name"):
        Catalog(tmp_path / "q?uery")


def test_diagnostics_and_scores_can_be_asked_for(catalog, tmp_path):
    catalog.put_diagnostic(FIRST[:16], "r1", "noise", {"rate": 0.1})
    catalog.put_diagnostic(FIRST[:16], "r2", "noise", {"rate": 0.2})
    assert catalog.diagnostic(FIRST[:16], "noise") == {"rate": 0.2}
    assert catalog.diagnostic(FIRST[:16], "other") is None
    catalog.put_scores("r1", FIRST[:16], scored(aum=[1.0, 2, 3], el2n=[1, 2, 3]), meta("aum", "el2n"))
    usual = ({}, {})
    assert catalog.has_scores("r1", {"aum": usual, "el2n": usual})
    assert not catalog.has_scores("r1", {"aum": usual, "cld": usual})
    assert not catalog.has_scores("r1", {"aum": ({"window": 3}, {})})
    assert not catalog.has_scores("r2", {"aum": usual})
    assert not Catalog(tmp_path / "nothing").has_scores("r1", {"aum": usual})
    catalog.put_scores(
        "r1", FIRST[:16], scored(aum=[1.0, 2, 3]), [meta("aum")[0] | {"made_from": {"loss": "a"}}]
    )
    assert catalog.has_scores("r1", {"aum": ({}, {"loss": "a"})})
    assert not catalog.has_scores("r1", {"aum": ({}, {"loss": "b"})})


# locks and kills

HOLD = """
import duckdb, sys, time
con = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "reader")
print("open", flush=True)
time.sleep(float(sys.argv[3]))
con.close()
"""


@pytest.fixture
def holder(catalog):
    started = []

    def hold(kind, seconds):
        command = [sys.executable, "-c", HOLD, str(catalog.path), kind, str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "open\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_catalog_held_elsewhere_is_waited_for_and_then_named(catalog, holder):
    process = holder("reader", 60)
    with pytest.raises(WorkspaceBusy, match=rf"process {process.pid} \(.*python.*reader.*waited 0.2 s"):
        catalog.put_dataset(record(), samples())
    assert catalog.query("SELECT count(*) FROM samples").item() == 4  # readers do not exclude each other


def test_a_writer_elsewhere_excludes_readers_by_name_too(catalog, holder):
    process = holder("writer", 60)
    with pytest.raises(WorkspaceBusy, match=str(process.pid)):
        catalog.query("SELECT 1")


def test_a_catalog_that_is_let_go_in_time_is_written(catalog, holder):
    holder("writer", 0.5)
    patient = Catalog(catalog.workspace, wait=20)
    patient.put_run({"run_id": "r1", "dataset_id": FIRST[:16], "kind": "record"})
    assert patient.newest_run()["run_id"] == "r1"


def test_a_read_only_connection_in_this_process_does_not_block_reading_and_is_named_by_writing(catalog):
    with duckdb.connect(str(catalog.path), read_only=True):
        assert catalog.query("SELECT count(*) FROM samples").item() == 4
        with pytest.raises(WorkspaceBusy, match="another connection of this process"):
            catalog.put_dataset(record(), samples())


def test_reading_and_writing_from_threads_take_turns(catalog):
    patient = Catalog(catalog.workspace, wait=60)
    failures = []

    def work(number):
        try:
            for _ in range(3):
                patient.put_run({"run_id": f"r{number}", "dataset_id": FIRST[:16], "kind": "record"})
                patient.query("SELECT count(*) FROM runs")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert patient.query("SELECT count(*) FROM runs").item() == 4


def test_a_step_of_another_thread_is_waited_for_with_the_same_bound(catalog):
    with writing(catalog.path, wait=1), pytest.raises(WorkspaceBusy, match="another thread"):
        catalog.query("SELECT 1")


KILLED = """
import os, signal, sys
import duckdb
con = duckdb.connect(sys.argv[1])
con.execute("PRAGMA disable_checkpoint_on_shutdown")
con.execute("INSERT INTO forget_requests (request_id) VALUES ('committed')")
con.execute("BEGIN")
con.execute("INSERT INTO forget_requests (request_id) VALUES ('not committed')")
con.execute("DELETE FROM samples")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_what_it_committed_and_nothing_else(catalog):
    done = subprocess.run([sys.executable, "-c", KILLED, str(catalog.path)])
    assert done.returncode == -9
    assert Path(str(catalog.path) + ".wal").exists()
    assert column(catalog, "SELECT request_id FROM forget_requests") == ["committed"]
    catalog.put_run({"run_id": "r1", "dataset_id": FIRST[:16], "kind": "record"})
    assert column(catalog, "SELECT request_id FROM forget_requests") == ["committed"]
    assert column(catalog, "SELECT count(*) FROM samples") == [4]


FIRST_WRITE = """
import os, signal, sys
import tracesift.catalog.views as views
from tracesift.catalog.store import Catalog
views.place = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Catalog(sys.argv[1]).put_run({"run_id": "r", "dataset_id": "d", "kind": "record"})
"""


def test_a_catalog_whose_very_first_writer_was_killed_can_be_written(tmp_path):
    done = subprocess.run([sys.executable, "-c", FIRST_WRITE, str(tmp_path)])
    assert done.returncode == -9
    with pytest.raises(BadInput, match="no catalog at"):
        Catalog(tmp_path).query("SELECT 1")
    Catalog(tmp_path).put_dataset(record(), samples())
    assert Catalog(tmp_path).newest_dataset()["name"] == "pets"


def test_the_file_of_another_first_writer_is_kept(catalog):
    stale = catalog.workspace / ".tmp-0.duckdb"
    stale.touch()
    os.utime(stale, (0, 0))
    create(catalog.path, catalog.workspace, wait=1)
    assert catalog.newest_dataset()["name"] == "pets"
    assert list(catalog.workspace.glob(".tmp-*")) == []


FULL = """
import resource, signal, sys
import numpy as np, polars as pl
from tracesift.catalog.schema import BadInput
from tracesift.catalog.store import Catalog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = 3_000_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
ids = [f"{i:032x}" for i in np.random.default_rng(0).permutation(200_000)]
frame = pl.DataFrame({"sample_id": ids, "split": "train", "label": ids, "content_hash": ids[::-1]})
try:
    Catalog(sys.argv[1]).put_dataset({"name": "big", "source": "big", "fingerprint": "f" * 64}, frame)
except BadInput as error:
    print(error)
"""


def test_a_full_disk_is_an_error_with_the_path_and_the_catalog_stays_whole(catalog):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(catalog.workspace)], capture_output=True, text=True, check=True
    )
    assert str(catalog.path) in done.stdout
    assert "free space" in done.stdout
    assert catalog.newest_dataset()["fingerprint"] == FIRST
    assert column(catalog, "SELECT count(*) FROM samples") == [4]


def test_a_snapshot_can_stay_open_while_the_workspace_is_written(catalog, tmp_path):
    copy = catalog.snapshot(tmp_path / "copy.duckdb")
    catalog.snapshot(copy)  # replaced, not appended to
    with duckdb.connect(str(copy), read_only=True) as con:
        catalog.put_run({"run_id": "r1", "dataset_id": FIRST[:16], "kind": "record"})
        assert con.sql("SELECT count(*) FROM sample_scores").fetchall() == [(4,)]
        assert con.sql("SELECT count(*) FROM trajectories").fetchall() == [(0,)]
        assert con.sql("SELECT count(*) FROM runs").fetchall() == [(0,)]
    with pytest.raises(BadInput, match="cannot replace the catalog itself"):
        catalog.snapshot(catalog.path)


def test_a_query_of_a_snapshot_does_not_wait_for_a_writer(catalog, holder):
    epoch_file(catalog.workspace, "r1", 0, {"loss": 0.5})
    holder("writer", 60)
    assert catalog.query("SELECT count(*) FROM samples", snapshot=True).item() == 4
    assert catalog.query("SELECT loss FROM trajectories", snapshot=True).item() == 0.5
    with pytest.raises(BadInput, match="no catalog"):
        Catalog(catalog.workspace / "nothing").query("SELECT 1", snapshot=True)


def test_a_snapshot_holds_what_a_killed_writer_committed(catalog):
    subprocess.run([sys.executable, "-c", KILLED, str(catalog.path)])
    found = catalog.query("SELECT request_id FROM forget_requests", snapshot=True)
    assert found.to_series().to_list() == ["committed"]
    assert Path(str(catalog.path) + ".wal").exists()
