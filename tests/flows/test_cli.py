"""The command line as a program: exit codes, one JSON document, options from a file, dry runs and help."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.manifest import read_manifest
from tracesift.catalog.store import Catalog
from tracesift.flows import cli, score
from tracesift.flows.cli import COMMANDS, program, run
from tracesift.flows.config_file import _options
from tracesift.flows.options import Common
from tracesift.flows.progress import USUAL, named_workspace
from tracesift.pipelines.jobs.contract import names as jobs

FEW = ("--epochs", "3", "--folds", "2", "--threads", "1")
SCRIPT = str(Path(sys.executable).with_name("tracesift"))


@pytest.fixture
def told(capsys):
    """A function: run a command in this process, and return exit code, stdout and stderr."""

    def call(*words):
        capsys.readouterr()
        code = run([str(word) for word in words])
        return code, *capsys.readouterr()

    return call


# --- one JSON document

ONE_OF_EACH = {
    "doctor": [], "scorers": [], "selectors": [], "jobs": ["vog"],
    "ingest": ["good.csv"], "record": [*FEW], "embed": [], "influence": ["last_layer"], "score": [],
    "report": [],
    "curate": ["good.csv", *FEW], "import": ["own.npz"], "select": ["ccs", "--keep", "0.3"],
    "forget": ["ids.txt"], "requests": [], "evaluate": ["ccs", "--epochs", "1", "--threads", "1"],
    "review export": [], "review import": ["review.csv"], "sql": ["SELECT * FROM sample_scores LIMIT 3"],
    "advise": ["--keep", "0.5"],
    "protect": ["digits", "--method", "class_patches", "--share", "0.1", "--out", "protected"],
    "project": ["digits", "--out", "projected"],
    "export": ["w/manifests/pruned", "--to", "exported", "--format", "parquet"],
    "why": ["s001"], "verify": ["w/manifests/ccs"], "diff": ["pruned", "denoised"], "gc": ["--keep", "1"],
    "purge": ["ids.txt", "--dry-run"],
    "goldfish": ["half", "--tokenizer", "tokenizer", "--workspace", "texts"],
}  # fmt: skip


@pytest.fixture(scope="module")
def bench(made, songs, tmp_path_factory):
    """A working directory for all commands, one after the other: a table, a curated workspace, small files."""
    folder = tmp_path_factory.mktemp("bench")
    shutil.copy(made / "good.csv", folder)
    shutil.copytree(made / "base", folder / "w")
    shutil.copytree(songs, folder, dirs_exist_ok=True)
    table = pl.read_csv(folder / "good.csv")
    ids, labels = (np.array(table[name].to_list()) for name in ("id", "label"))
    np.savez(
        folder / "own.npz",
        sample_ids=ids,
        labels=labels,
        classes=np.array(["x", "y"]),
        logits=np.random.default_rng(0).normal(size=(2, len(ids), 2)).astype(np.float32),
    )
    trained = Catalog(folder / "w").query("SELECT sample_id FROM samples WHERE split = 'train' ORDER BY 1")
    (folder / "review.csv").write_text(f"sample_id,verified_label\n{trained['sample_id'][0]},x\n")
    (folder / "ids.txt").write_text("\n".join(trained["sample_id"][:2]))
    return folder


def test_every_command_is_tried_here():
    assert {name.split()[0] for name in ONE_OF_EACH} == COMMANDS.keys()


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_json_is_one_document_on_stdout(name, bench, monkeypatch, told):
    monkeypatch.chdir(bench)
    words = ONE_OF_EACH[name]
    where = () if "--workspace" in words else ("--workspace", "w")
    code, out, err = told(*name.split(), *words, *where, "--json")
    assert code == 0, err
    assert json.loads(out)  # refuses anything before or behind the one document
    assert "NaN" not in out
    for line in err.splitlines():
        assert not line.startswith(("{", "[", '"'))


def test_a_dry_run_is_one_document_too_and_writes_nothing(made, tmp_path, monkeypatch, told, state):
    shutil.copy(made / "good.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    code, out, _ = told("curate", "good.csv", "--workspace", "w", "--dry-run", "--evaluate", "--json", *FEW)
    assert code == 0
    assert {"steps", "minutes", "megabytes"} <= json.loads(out).keys()
    assert [path.name for path in tmp_path.iterdir()] == ["good.csv"]
    code, out, _ = told("curate", "good.csv", "--workspace", "w", "--dry-run", *FEW)
    assert "nothing was written" in out
    assert [path.name for path in tmp_path.iterdir()] == ["good.csv"]
    before = state(made / "base")
    assert told("curate", "good.csv", "--workspace", made / "base", "--dry-run", *FEW)[0] == 0
    code, out, _ = told("gc", "--keep", "1", "--dry-run", "--json", "--workspace", made / "base")
    assert json.loads(out)["dry_run"] is True
    assert state(made / "base") == before


# --- exit codes


def test_wrong_usage_and_bad_input_are_2(told):
    for words in (["sql"], ["curate", "--nope"], ["curate", "no-such.csv"], ["nope"]):
        code, out, err = told(*words)
        assert (code, out) == (2, "")
        assert err.startswith("tracesift: ")
        assert err.count("\n") == 1


def test_a_failure_of_ours_is_1_in_one_line_and_debug_shows_where(place, monkeypatch, told):
    def broken(*_):
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(score, "flag", broken)
    code, out, err = told("score", "--workspace", "w")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "tracesift failed: ZeroDivisionError: of ours (--debug shows where)"
    assert "Traceback" not in err
    with pytest.raises(ZeroDivisionError):
        run(["--debug", "score", "--workspace", "w"])


def test_a_manifest_that_does_not_match_is_1(place, told):
    members = Path("w/manifests/pruned/members.parquet")
    members.write_bytes(members.read_bytes()[:-1] + b"?")
    code, out, _ = told("verify", "w/manifests/pruned", "--json", "--workspace", "w")
    assert code == 1
    assert json.loads(out)["matches"] is False


def test_ctrl_c_is_130_and_leaves_the_workspace_whole(place, made, monkeypatch, told, state):
    kept = Catalog.put_flags

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Catalog, "put_flags", interrupted)
    words = ("curate", "good.csv", "--workspace", "fresh", *FEW)
    code, out, err = told(*words)
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "stopped; what was finished is kept, the same command goes on from there"
    assert not Path("fresh/.holder.json").exists()
    assert not [*Path("fresh").rglob(".tmp-*")]
    epochs = {path: path.stat().st_mtime_ns for path in Path("fresh/signals").rglob("epoch-0*.parquet")}
    assert epochs
    monkeypatch.setattr(Catalog, "put_flags", kept)
    assert told(*words)[0] == 0
    assert {
        path: path.stat().st_mtime_ns for path in epochs
    } == epochs  # it went on, and trained nothing again
    for name in ("pruned", "denoised", "forget-ready"):
        ours, theirs = (
            read_manifest(root / "manifests" / name / "manifest.json")
            for root in (Path("fresh"), made / "base")
        )
        assert ours.fingerprint == theirs.fingerprint


def test_ctrl_c_while_a_query_runs(place):
    """DuckDB hears of the signal itself."""
    query = "SELECT sum(range * range % 7) FROM range(1000000000000)"
    running = subprocess.Popen(
        [SCRIPT, "sql", query, "--workspace", "w"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    time.sleep(4)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert (running.returncode, out) == (130, ""), err
    assert err == "stopped; what was finished is kept, the same command goes on from there\n"


def test_ctrl_c_while_modules_are_imported_is_130_without_a_word(tmp_path):
    (tmp_path / "polars.py").write_text("raise KeyboardInterrupt")
    done = subprocess.run(
        [SCRIPT, "sql", "SELECT 1"], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_one_thing_is_said_in_the_singular(place, told):
    for count, said in ((1, "1 row in"), (2, "2 rows in")):
        query = f"SELECT sample_id FROM samples LIMIT {count}"
        assert said in told("sql", query, "--parquet", "rows.parquet", "--workspace", "w")[2]
    assert "dropped 0 recordings (" in told("gc", "--keep", "9", "--workspace", "w")[1]


def test_the_help_of_evaluate_says_what_becomes_of_one_seed(told):
    (line,) = [
        part
        for part in " ".join(told("evaluate", "--help")[1].split("│")).split("--")
        if part.startswith("seeds INT")
    ]
    assert "retrained with 3 also where fewer are asked for" in " ".join(line.split())


def test_a_reader_that_leaves_early_is_no_failure(place):
    command = f"{SCRIPT} sql 'FROM trajectories' --csv --workspace w | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("run_id,epoch,mode,sample_id")


# --- options from a file


@pytest.fixture
def config(place):
    """A function: write options.toml."""
    return Path("options.toml").write_text


def chosen(name):
    return read_manifest(f"w/manifests/{name}/manifest.json").selector


def test_the_command_line_beats_the_file(config, told):
    config('[select]\nkeep = 0.5\nname = "from-file"\nseed = 4\nparam = ["strata=7", "per_class=true"]\n')
    words = ("select", "ccs", "--workspace", "w", "--config", "options.toml")
    assert told(*words)[0] == 0
    assert (chosen("from-file").budget, chosen("from-file").seed) == (0.5, 4)
    assert chosen("from-file").params["strata"] == 7
    assert chosen("from-file").params["per_class"] is True
    assert told(*words, "--keep", "0.25", "--name", "other")[0] == 0
    assert (chosen("other").budget, chosen("other").seed) == (0.25, 4)
    assert told("--config=options.toml", *words[:-2], "--name", "third")[0] == 0  # wherever it stands
    assert chosen("third").budget == 0.5


def test_curate_reads_the_tables_of_its_steps(config, told, monkeypatch):
    config(
        '[ingest]\nlabel = "label"\nfeatures = ["a", "b"]\n[record]\nepochs = 2\nfolds = 0\nthreads = 1\n'
        '[select]\nkeep = 0.25\n[curate]\nmax_drop = 0.01\nworkspace = "other"\nforget = "ids.txt"\njson = true\n'
    )
    Path("ids.txt").write_text("s001")
    monkeypatch.setattr("tracesift.flows.curate.curate", lambda job: jobs.append(job) or {})
    jobs = []
    assert told("curate", "good.csv", "--config", "options.toml", "--epochs", "4") == (0, "{}\n", "")
    (job,) = jobs
    assert (job.training.epochs, job.training.folds, job.training.threads) == (4, 0, 1)
    assert (job.choosing.keep, job.choosing.max_drop) == (0.25, 0.01)
    read = job.source.options  # opened by then
    assert (read["label"], read["features"]) == ("label", ["a", "b"])
    assert (job.workspace, job.forget) == ("other", "ids.txt")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[select]\nkep = 0.3", "[select] has no option kep (did you mean 'keep'?)"),
        ("[curate]\nmax-dorp = 0.3", "[curate] has no option max-dorp (did you mean 'max-drop'?)"),
        ("[curat]\nkeep = 0.3", "[curat] is no command (did you mean 'curate'?)"),
        ("[review.export]\ncuont = 3", "[review.export] has no option cuont (did you mean 'count'?)"),
        ("keep = 0.3", "keep stands in no table"),
        ("select = 0.3", "select"),
        ('[select]\nkeep = "many"', "unable to convert"),
        ("[select]\nkeep = 1.5", "--keep 1.5"),
        ("[select]\nkeep = [0.3", "is not TOML"),
        ('[select]\nconfig = "more.toml"', "has no option config"),
    ],
)
def test_a_file_that_says_what_no_command_takes(text, says, config, told, state):
    before = state(Path("w"))
    config(text)
    size = [] if "keep =" in text else ["--keep", "0.3"]
    code, out, err = told("select", "ccs", *size, "--workspace", "w", "--config", "options.toml")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert says in err
    assert state(Path("w")) == before


def test_options_of_a_command_with_parts(config, told):
    config("[review.export]\ncount = 1\n[review.import]\n")
    assert told("review", "export", "--workspace", "w", "--config", "options.toml")[0] == 0
    assert len(pl.read_csv("w/review.csv")) <= 1


# --- help and version


def paths(app=None, before=()):
    """Every command and part of a command."""
    app = program() if app is None else app
    for name in app:
        if not name.startswith("-"):
            yield (*before, name), app[name]
            yield from paths(app[name], (*before, name))


def test_help_names_every_job(capsys):
    assert run(["record", "--help"]) == 0
    said = capsys.readouterr().out
    assert [name for name in jobs() if name not in said] == []


@pytest.mark.parametrize(
    ("words", "command"), [*paths()], ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_help_names_every_option(words, command, tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    for ask in ("--help", "-h"):
        code, out, err = told(*words, ask)
        assert (code, err) == (0, "")
        assert f"tracesift {' '.join(words)}" in out
        parts = [name for name in command if not name.startswith("-")]
        for option in () if parts else _options(command):
            assert f"--{option} " in out, option
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("words", [["--help"], ["-h"], []])
def test_the_overview_says_what_each_command_does(words, told):
    code, out, err = told(*words)
    assert (code, err) == (0, "")
    for name in COMMANDS:
        (line,) = [line for line in out.splitlines() if line.startswith(f"│ {name} ")]
        assert len(line.split()) > 5, line


def test_version(told):
    assert told("--version") == (0, f"{version('tracesift')}\n", "")


def test_the_script_calls_run(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tracesift", "--version"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 0


@pytest.mark.parametrize("words", [["--workspace", "w"], ["--workspace=w"], ["--config", "of.toml"]])
def test_commands_in_messages_name_the_workspace_that_was_given(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("of.toml").write_text('[ingest]\nworkspace = "w"\n[score]\nworkspace = "w"\n')
    assert run(["ingest", "digits", *words]) == 0
    capsys.readouterr()
    assert run(["score", *words]) == 2
    assert re.search(r"`tracesift record( [^`]*)? --workspace w`", capsys.readouterr().err)
    assert named_workspace.get() is None  # nothing is left for the next


def test_the_usual_workspace_goes_without_saying(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert str(Common().workspace) == USUAL
    assert run(["ingest", "digits"]) == 0
    capsys.readouterr()
    said = []
    for words in (["score", "aum"], ["score", "aum", "--workspace", USUAL]):
        assert run(words) == 2
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
