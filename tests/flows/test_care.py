"""`verify`, `diff`, `gc`, `doctor` through the command line, on a workspace made from small recordings."""

import json
import shutil

import duckdb
import numpy as np
import polars as pl
import pytest

from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.pipelines.signals import list_runs

N, K = 120, 2


def call(*words):
    return run([*map(str, words)])


def answer(capsys, *words):
    """Run a command with --json and return exit code and document."""
    capsys.readouterr()
    code = call(*words, "--json")
    out = capsys.readouterr().out
    return code, json.loads(out) if out else None


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A table, and a workspace with two recordings of it (the second scored) and two subsets."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    ids = [f"s{at:03d}" for at in range(N)]
    label = rng.integers(0, K, N)
    pl.DataFrame({"id": ids, "x": rng.normal(size=N), "label": label, "split": "train"}).write_csv(
        folder / "pets.csv"
    )
    for name in ("old", "new"):
        logits = rng.normal(size=(3, N, K)).astype(np.float32)
        np.savez(folder / f"{name}.npz", ids=np.array(ids), labels=label, logits=logits)
        source = ["--source", folder / "pets.csv", "--val", "0", "--test", "0"] if name == "old" else []
        assert call("import", folder / f"{name}.npz", *source, "--workspace", folder / "w") == 0
        assert call("score", "aum", "el2n", "--workspace", folder / "w") == 2  # el2n means another mode
        assert call("score", "aum", "--workspace", folder / "w") == 0
    for name, keep in (("small", "0.25"), ("large", "0.5")):
        words = ["select", "top_k", "--param", "score=aum", "--keep", keep, "--name", name]
        assert call(*words, "--workspace", folder / "w") == 0
    return folder


@pytest.fixture
def home(made, tmp_path):
    """A copy of the workspace that a test may change."""
    shutil.copytree(made / "w", tmp_path / "w")
    for name in ("pets.csv", "new.npz"):
        shutil.copy(made / name, tmp_path / name)
    return tmp_path


def test_another_mode_stands_beside(home, capsys):
    words = ["score", "el2n", "--mode", "in_training", "--param", "aggregate=sum", "--param", "checkpoint=3"]
    assert call(*words, "--workspace", home / "w") == 0
    found = Catalog(home / "w").query("SELECT sample_id, params, value FROM scores WHERE scorer = 'el2n'")
    assert json.loads(found["params"][0]) == {"aggregate": "sum", "checkpoint": 3, "mode": "in_training"}
    with np.load(home / "new.npz") as file:
        logits, labels = file["logits"].astype(np.float64), file["labels"]
    raised = np.exp(logits - logits.max(axis=2, keepdims=True))
    error = raised / raised.sum(axis=2, keepdims=True) - np.eye(K)[labels]
    expected = np.linalg.norm(error, axis=2).sum(axis=0)
    np.testing.assert_allclose(found.sort("sample_id")["value"], expected, rtol=1e-5)
    capsys.readouterr()
    assert call("score", "--mode", "in_training", "--workspace", home / "w") == 2
    assert "name the scorers that are to read it" in capsys.readouterr().err


class TestVerify:
    def test_matches_with_the_data_it_names(self, made, capsys):
        code, said = answer(capsys, "verify", made / "w" / "manifests" / "small" / "manifest.json")
        assert code == 0
        assert said["matches"]
        assert any("pets.csv" in line for line in said["checked"])

    def test_matches_shuffled_data(self, home, capsys):
        frame = pl.read_csv(home / "pets.csv").sample(fraction=1, shuffle=True, seed=1)
        frame.write_csv(home / "shuffled.csv")
        assert call("verify", home / "w" / "manifests" / "small", home / "shuffled.csv") == 0
        assert call("verify", "small", home / "shuffled.csv", "--workspace", home / "w") == 0
        assert "shuffled.csv" in capsys.readouterr().out

    def test_changed_members_are_found(self, home, capsys):
        path = home / "w" / "manifests" / "small" / "members.parquet"
        members = pl.read_parquet(path)
        members.with_columns(
            role=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("keep")).otherwise("role")
        ).write_parquet(path)
        code, said = answer(capsys, "verify", path.parent)
        assert code == 1
        assert any("sha256" in line for line in said["differences"])

    def test_changed_data_are_found(self, home, capsys):
        frame = pl.read_csv(home / "pets.csv")
        frame.with_columns(
            label=pl.when(pl.col("id") == "s005").then(1 - pl.col("label")).otherwise("label")
        ).write_csv(home / "other.csv")
        code, said = answer(capsys, "verify", home / "w" / "manifests" / "small", home / "other.csv")
        assert code == 1
        assert any("relabelled: 1 of 120 members" in line for line in said["differences"])

    def test_without_its_data_only_the_manifest_is_checked(self, home, capsys):
        path = home / "w" / "manifests" / "small" / "manifest.json"
        record = json.loads(path.read_text())
        record["dataset"]["source"] = "/nowhere/pets.csv"  # an address, which the fingerprint leaves out
        path.write_text(json.dumps(record))
        assert call("verify", path) == 0
        assert "is not found from here" in capsys.readouterr().err

    def test_no_manifest(self, tmp_path, capsys):
        assert call("verify", tmp_path / "manifest.json") == 2
        assert "no manifest at" in capsys.readouterr().err


class TestDiff:
    def test_subsets_by_name(self, made, capsys):
        code, said = answer(capsys, "diff", "small", "large", "--workspace", made / "w")
        assert code == 0
        assert said["roles"] == {"drop -> keep": N // 4}
        assert not said["same"]
        assert all(row["role"] == ["drop", "keep"] for row in said["changed"])

    def test_the_same(self, made, capsys):
        path = made / "w" / "manifests" / "small" / "manifest.json"
        assert call("diff", path, path) == 0
        assert "the same content" in capsys.readouterr().out

    def test_runs(self, made, capsys):
        runs = Catalog(made / "w").query("SELECT run_id FROM runs ORDER BY seq")["run_id"].to_list()
        code, said = answer(capsys, "diff", *runs, "--workspace", made / "w")
        assert code == 0
        (row,) = said["scorers"]
        assert (row["scorer"], row["samples"]) == ("aum", N)
        aum = [
            Catalog(made / "w").query(
                "SELECT value FROM scores WHERE run_id = ? ORDER BY sample_id", (name,)
            )["value"]
            for name in runs
        ]
        assert row["mean_change"] == pytest.approx((aum[1] - aum[0]).mean())

    def test_neither(self, made, capsys):
        assert call("diff", "small", "nothing", "--workspace", made / "w") == 2
        assert "nothing: no manifest" in capsys.readouterr().err


class TestGc:
    def test_dry_run_leaves_everything(self, home, capsys):
        before = len(list_runs(home / "w"))
        code, said = answer(capsys, "gc", "--keep", "1", "--dry-run", "--workspace", home / "w")
        assert code == 0
        assert len(said["dropped"]) == 1
        assert said["bytes"] > 1000
        assert len(list_runs(home / "w")) == before == 2

    def test_drops_the_older_and_manifests_still_verify(self, home, capsys):
        runs = Catalog(home / "w").query("SELECT run_id FROM runs ORDER BY seq")["run_id"].to_list()
        finished = dict(Catalog(home / "w").query("SELECT run_id, finished_at FROM runs").iter_rows())
        code, said = answer(capsys, "gc", "--keep", "1", "--workspace", home / "w")
        assert (code, said["dropped"], said["kept"]) == (0, runs[:1], runs[1:])
        assert [run["run_id"] for run in list_runs(home / "w")] == runs[1:]
        assert not (home / "w" / "signals" / f"run={runs[0]}").exists()
        catalog = Catalog(home / "w")
        status = dict(catalog.query("SELECT run_id, status FROM runs").iter_rows())
        assert status == {runs[0]: "collected", runs[1]: "done"}
        assert dict(catalog.query("SELECT run_id, finished_at FROM runs").iter_rows()) == finished
        assert catalog.query("SELECT count(*) FROM scores WHERE run_id = ?", (runs[0],)).item() == N
        assert catalog.query("SELECT count(DISTINCT run_id) FROM trajectories").item() == 1
        for name in ("small", "large"):
            assert call("verify", home / "w" / "manifests" / name, home / "pets.csv") == 0
        assert call("score", "aum", "--workspace", home / "w") == 0

    def test_again_drops_nothing(self, home, capsys):
        call("gc", "--keep", "1", "--workspace", home / "w")
        _, said = answer(capsys, "gc", "--keep", "1", "--workspace", home / "w")
        assert (said["dropped"], said["bytes"], len(said["kept"])) == ([], 0, 1)

    def test_an_unfinished_run_is_left_alone(self, home, capsys):
        folder = home / "w" / "signals" / "run=0123"
        folder.mkdir()
        (folder / "checkpoint.pt").write_bytes(b"x")
        _, said = answer(capsys, "gc", "--keep", "1", "--workspace", home / "w")
        assert said["unfinished"] == ["0123"]
        assert (folder / "checkpoint.pt").exists()

    def test_nothing_to_keep_is_refused(self, home, capsys):
        assert call("gc", "--keep", "0", "--workspace", home / "w") == 2
        assert "--keep 0: at least 1" in capsys.readouterr().err


class TestDoctor:
    def test_lists_what_is_there(self, tmp_path, capsys):
        code, said = answer(capsys, "doctor", "--workspace", tmp_path / "w")
        assert code == 0
        assert said["ok"]
        rows = {row["name"]: row for row in said["checks"]}
        assert {
            "python",
            "torch",
            "faiss",
            "prefect",
            "duckdb",
            "polars",
            "cpu",
            "gpu",
            "disk",
        } <= rows.keys()
        assert not (tmp_path / "w").exists()

    def test_names_what_is_missing_for_what(self, monkeypatch, capsys):
        from tracesift.flows import care

        monkeypatch.setitem(care.REQUIRED, "no-such-wheel", "flying")
        assert call("doctor") == 1
        line = next(line for line in capsys.readouterr().out.splitlines() if "no-such-wheel" in line)
        assert line.startswith("missing")
        assert "flying" in line

    def test_two_faiss_are_a_problem(self, monkeypatch):
        from tracesift.flows import care

        monkeypatch.setattr(care, "NEIGHBOURS", ("polars", "numpy"))
        (row,) = [row for row in care.examine(care.Path("absent")) if row["name"] == "faiss"]
        assert row["state"] == "problem"
        assert "uninstall all but one" in row["found"]

    def test_a_changed_byte_is_found_wherever_it_is(self, home, capsys):
        def states():
            code, said = answer(capsys, "doctor", "--workspace", home / "w")
            assert code == 0
            rows = {row["name"]: row for row in said["checks"]}
            return rows["catalog"], rows.get("recordings")

        assert [row["state"] for row in states()] == ["ok", "ok"]
        epoch = next((home / "w/signals").glob("run=*/mode=*/epoch-0000.parquet"))
        catalog = home / "w/catalog.duckdb"
        for path, column in ((epoch, 1), (catalog, 0)):
            whole = path.read_bytes()
            changed = bytearray(whole)
            # in the catalog one in every block behind its headers, because which of them are in use is DuckDB's affair
            for place in range(20_000, len(whole), 200_000) if column == 0 else (len(whole) // 2,):
                changed[place] ^= 1
            path.write_bytes(changed)
            row = states()[column]
            path.write_bytes(whole)
            assert row["state"] == "problem"
            assert str(path) in row["found"]
        assert [row["state"] for row in states()] == ["ok", "ok"]

    def test_a_copied_workspace_says_how_to_read_it(self, home, capsys):
        def place():
            code, said = answer(capsys, "doctor", "--workspace", home / "w")
            assert code == 0
            return next(row for row in said["checks"] if row["name"] == "workspace")

        row = place()
        assert row["state"] == "problem"
        statement = row["found"][row["found"].index("SET VARIABLE") :]
        shutil.rmtree(home / "w" / "signals" / f"run={list_runs(home / 'w')[0]['run_id']}")
        with duckdb.connect(str(home / "w" / "catalog.duckdb"), read_only=True) as con:
            both = con.sql("SELECT count(DISTINCT run_id) FROM trajectories").fetchall()
            assert both == [(2,)]  # the original's files
            con.execute(statement)
            assert con.sql("SELECT count(DISTINCT run_id) FROM trajectories").fetchall() == [(1,)]
        Catalog(home / "w").check_writable()  # as every command does that writes
        assert place()["state"] == "ok"
        with duckdb.connect(str(home / "w" / "catalog.duckdb"), read_only=True) as con:
            assert con.sql("SELECT count(DISTINCT run_id) FROM trajectories").fetchall() == [(1,)]
