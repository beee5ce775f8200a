"""What a user can get wrong: exit code 2, one line that says what, where and what to do, and nothing written."""

import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from tracesift.catalog.schema import CATALOG_SCHEMA
from tracesift.catalog.store import Catalog
from tracesift.flows import work
from tracesift.flows.cli import run

FEW = ("--epochs", "3", "--folds", "2", "--threads", "1")


@pytest.fixture
def refused(capsys):
    """A function: run a command that must be refused, and return the one line it says."""

    def call(*words):
        capsys.readouterr()
        code = run([*map(str, words)])
        out, err = capsys.readouterr()
        assert code == 2, (words, out, err)
        assert out == ""
        assert err.startswith("tracesift: ")
        assert err.count("\n") == 1, err
        return err

    return call


@pytest.fixture
def succeeds(capsys):
    """A function: run a command that must work, and return what it printed on stdout and stderr."""

    def call(*words):
        capsys.readouterr()
        code = run([*map(str, words)])
        out, err = capsys.readouterr()
        assert code == 0, (words, out, err)
        return out, err

    return call


@pytest.fixture
def refused_last(capsys):
    """A function: run a command; None where it works, else the last line that it says."""

    def call(*words):
        capsys.readouterr()
        code = run([*map(str, words)])
        out, err = capsys.readouterr()
        if code == 0:
            return None
        assert code == 2, err
        assert out == ""
        assert "Traceback" not in err
        return err.splitlines()[-1]

    return call


# --- sources


def table(**changes):
    frame = pl.DataFrame(
        {"id": [f"s{row:03d}" for row in range(60)], "a": [row * 0.37 % 1 for row in range(60)]}
    )
    return frame.with_columns(label=pl.Series(["x", "y"] * 30)).with_columns(**changes)


def labels(fifth):
    return pl.Series([fifth if row == 5 else "xy"[row % 2] for row in range(60)])


def mixed_ids():
    ids = [1, "2", *range(3, 61)]
    return "\n".join(
        json.dumps({"id": id, "a": row % 7, "label": "xy"[row % 2]}) for row, id in enumerate(ids)
    )


def mixed_labels(fifth):
    rows = [
        {"id": f"s{row}", "a": row % 7, "label": fifth if row == 5 else "xy"[row % 2]} for row in range(60)
    ]
    return "\n".join(map(json.dumps, rows))


def ragged(line):
    lines = table().write_csv().splitlines()
    return "\n".join([*lines[:7], line, *lines[8:]])


def half_a_parquet(tmp_path):
    table().write_parquet(tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    return whole[: len(whole) // 2]


NOISE = np.random.default_rng(0).integers(0, 256, 4000, dtype=np.uint8).tobytes()

SOURCES = {
    "label-missing.csv": (
        table().drop("label"),
        ["cannot tell which column is the label", "'id', 'a'", "--label"],
    ),
    "label-null.parquet": (
        table(label=labels(None)),
        ["'label' is missing or NaN in 1 row ", "6", "drop these rows"],
    ),
    "label-nan.parquet": (
        table(label=pl.Series([float("nan") if row == 5 else float(row % 2) for row in range(60)])),
        ["'label' is missing or NaN in 1 row "],
    ),
    "label-nan.csv": (table(label=labels("NaN")), ["'label' is missing or NaN in 1 row "]),
    "label-nan.jsonl": (mixed_labels(float("nan")), ["'label' is missing or NaN in 1 row "]),
    "label-list.jsonl": (mixed_labels(["x", "y"]), ["'label'", "multi-label data are not supported"]),
    "label-objects.jsonl": (
        mixed_labels({"a": 1}).replace('"x"', '{"a": 2}').replace('"y"', '{"a": 3}'),
        ["'label' holds objects of several fields"],
    ),
    "label-mixed.jsonl": (mixed_labels({"a": 1}), ["'label' holds lists or objects beside other values"]),
    "label-all-null.parquet": (table(label=pl.lit(None, dtype=pl.String)), ["'label'"]),
    "one-class.csv": (table(label=pl.lit("x")), ["every label is 'x'", "at least two classes"]),
    "ids-double.csv": (
        table(id=pl.when(pl.col("id") == "s005").then(pl.lit("s004")).otherwise("id")),
        ["id column 'id' holds 1 id more than once", "'s004'", "content-hash"],
    ),
    "ids-mixed.jsonl": (mixed_ids(), ["id column 'id' mixes int and str", "write all ids as text"]),
    "zero-rows.csv": (table().head(0), ["no rows"]),
    "zero-rows.parquet": (table().head(0), ["no rows"]),
    "empty.csv": (b"", ["the file is empty"]),
    "ragged.csv": (
        ragged("s006,0.22,x,1,2"),
        ["line 8 has 5 fields where the header has 3", "mend the file"],
    ),
    "short.csv": (ragged("s006"), ["line 8 has 1 field where the header has 3"]),
    "noise.csv": (NOISE, ["line 1 is not utf-8", "--encoding"]),
    "noise.parquet": (NOISE, ["not a whole parquet file"]),
    "noise.npz": (NOISE, ["noise.npz"]),
    "truncated.parquet": (half_a_parquet, ["not a whole parquet file", "write or fetch it again"]),
    "too-few.csv": (table().head(1), ["too-few.csv"]),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("command", ["curate", "ingest"])
def test_a_source_that_cannot_be_used(name, command, tmp_path, monkeypatch, refused):
    content, says = SOURCES[name]
    monkeypatch.chdir(tmp_path)
    content = content(tmp_path) if callable(content) else content
    if isinstance(content, pl.DataFrame):
        content.write_parquet(name) if name.endswith("parquet") else content.write_csv(name)
    else:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    said = refused(command, name, "--workspace", "w")
    assert name in said
    for part in says:
        assert part in said
    assert not (tmp_path / "w").exists()


@pytest.fixture
def images(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name in "xy":
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 128, (8, 8), dtype=np.uint8) + (name == "y") * 90
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / name / f"{number}.png")
    (tmp_path / "images" / "x" / "3.png").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "images"


def test_an_unreadable_image_is_named_or_skipped(images, refused, succeeds):
    said = refused("curate", "images", "--workspace", "w")
    assert "x/3.png" in said
    assert "--on-error skip" in said
    assert "0x" not in said  # no address of an object in memory
    _, err = succeeds("ingest", "images", "--workspace", "w", "--on-error", "skip")
    assert "x/3.png" in err
    out, _ = succeeds("sql", "SELECT details FROM datasets", "--json", "--workspace", "w")
    assert json.loads(json.loads(out)[0]["details"])["skipped"] == ["x/3.png"]
    assert Catalog("w").query("SELECT count(*) FROM samples").item() == 23


# --- options

OPTIONS = {
    "--keep 1.5": "--keep 1.5: a share in (0, 1]",
    "--keep 0": "--keep 0",
    "--keep nan": "--keep nan",
    "--keep many": 'unable to convert "many" into float',
    "--max-drop 2": "--max-drop 2",
    "--epochs 0": "--epochs 0: at least 1",
    "--epochs -3": "--epochs -3",
    "--seeds 0": "--seeds 0",
    "--seed -1": "--seed -1: a whole number from 0",
    "--seed 99999999999999999999": "--seed 99999999999999999999",
    "--threads 0": "--threads 0: at least 1",
    "--folds 1": "--folds 1",
    "--folds 1000": "has 48 training samples",
    "--val 1.2": "--val 1.2",
    "--val -0.1": "--val -0.1",
    "--val 0.6 --test 0.5": "leave nothing to train on",
    "--val no-such.csv": "no-such.csv: no such file",
    "--test 0 --evaluate": "no test samples to evaluate on",
    "--plant-noise 1.5": "--plant-noise 1.5",
    "--plant-noise nan": "--plant-noise nan",
    "--selector cccs": "did you mean 'ccs'",
    "--selector top_k": "tracesift select top_k",
    "--model smal_cnn": "did you mean 'small_cnn'",
    "--model small_cnn": "takes image, not tabular",
    "--model no_such_module:build": "No module named 'no_such_module'",
    "--model users_model:no_such": "has no attribute 'no_such'",
    "--model users_model:number": "it is no function but int",
    "--model users_broken:build": "importing users_broken raised ValueError: boom",
    "--device tpu9": "device 'tpu9'",
    "--device cuda": "device 'cuda'",
    "--label nope": "no column 'nope'",
    "--id nope": "no column 'nope'",
    "--features a,nope": "no column 'nope'",
    "--group nope": "no column 'nope'",
    "--format xlsx": "unknown format 'xlsx'",
    "--encoding nope": "unknown encoding 'nope'",
    "--delimiter ;;": "one character",
    "--on-error ignore": "--on-error",
    "--opochs 3": "Did you mean --epochs",
    "--forget no-such.txt": "no-such.txt: no such file",
    "--forget empty.txt": "empty.txt holds no ids",
    "--forget unknown.txt": "good lacks 2 of 2 requested ids, first 'nope1'",
    "--forget noise.txt": "noise.txt is not text",
    "--config no-such.toml": "no-such.toml: no such file",
    "another": "Unused Tokens",
}


@pytest.fixture(scope="module")
def bench(made, tmp_path_factory):
    """A working directory where everything is refused: a curated workspace, and files as users have them."""
    folder = tmp_path_factory.mktemp("bench")
    shutil.copy(made / "good.csv", folder)
    shutil.copytree(made / "base", folder / "w")
    Catalog(folder / "w").check_writable()  # a catalog remembers where it lies
    (folder / "empty.txt").write_text("\n\n")
    (folder / "unknown.txt").write_text("nope1\nnope2\n")
    (folder / "noise.txt").write_bytes(NOISE)
    (folder / "users_model.py").write_text("number = 3\n")
    (folder / "users_broken.py").write_text("raise ValueError('boom')\n")
    return folder


@pytest.fixture(scope="module")
def before(bench, state):
    return state(bench / "w")


@pytest.fixture
def unchanged(bench, before, monkeypatch, state):
    """Work in `bench`, and find its workspace afterwards as it was."""
    monkeypatch.chdir(bench)
    monkeypatch.syspath_prepend(bench)
    yield bench
    assert state(bench / "w") == before


@pytest.mark.parametrize("words", OPTIONS)
def test_an_option_that_cannot_be(words, unchanged, refused):
    if words == "--device cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert OPTIONS[words] in refused("curate", "good.csv", "--workspace", "fresh", *words.split())
    assert not (unchanged / "fresh").exists()
    assert OPTIONS[words] in refused("curate", "good.csv", "--workspace", "w", *words.split())


def test_the_advice_on_unknown_ids_works_where_nothing_was_made(
    made, tmp_path, monkeypatch, refused, succeeds
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(made / "good.csv", tmp_path)
    (tmp_path / "unknown.txt").write_text("nope1\n")
    said = refused("curate", "good.csv", "--forget", "unknown.txt", *FEW)
    assert not (tmp_path / "tracesift-work").exists()
    ingest, query = said.split("`")[1:4:2]
    succeeds(*ingest.replace("SOURCE", "good.csv").split()[1:])
    out, _ = succeeds(*shlex.split(query)[1:])
    assert "s001" in out
    assert "ingest" not in refused("forget", "unknown.txt")  # there it stands already


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["curat", "good.csv"], 'Did you mean "curate"'),
        (["--nope"], "Unknown command"),
        (["curate"], "requires an argument"),
        (["curate", "no-such.csv"], "no-such.csv: no such file or folder"),
        (["curate", ""], "no such file or folder"),
        (["curate", "hf:"], "needs a name"),
        (["curate", "good.csv", "--workspace", "good.csv"], "good.csv is a file; name a folder"),
        (["curate", "good.csv", "--workspace", "good.csv/w"], "is a file; name another folder"),
        (["verify", "no-such"], "no manifest at no-such"),
        (["verify", "good.csv"], "good.csv is no JSON"),
    ],
)
def test_wrong_usage(words, says, made, tmp_path, monkeypatch, refused):
    shutil.copy(made / "good.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert says in refused(*words)
    assert [path.name for path in tmp_path.iterdir()] == ["good.csv"]


ANYTHING = (
    "record", "embed", "score", "report", "select ccs --keep 0.3", "evaluate", "forget ids.txt", "why s001",
    "review export", "review import good.csv", "gc --keep 1", "import good.csv", "import no-such.npz",
)  # fmt: skip


@pytest.mark.parametrize("words", [*ANYTHING, "sql SELECT"])
def test_a_workspace_that_is_none_is_not_made(words, made, tmp_path, monkeypatch, refused):
    shutil.copy(made / "good.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    refused(*words.split(), "--workspace", "w")
    assert not (tmp_path / "w").exists()


# --- commands on a workspace

COMMANDS = {
    "select ccs": "needs a size: --keep 0.3",
    "select ccs --keep 1.5": "--keep 1.5",
    "select ccs --keep 0.3 --count 3": "not both",
    "select ccs --count 0": "--count 0: at least 1",
    "select ccs --count 49": "49 samples were asked for and there are 48 training samples in good",
    "select ccs --keep 0.9 --where aum>0": "that fit --where aum>0",
    "select ccs --keep 0.3 --where aum>": "--where aum>: this query cannot be run",
    "select ccs --keep 0.3 --where nope>1": 'Referenced column "nope" not found',
    "select ccs --keep 0.3 --where aum<-1e9": "no training sample fits",
    "select ccs --keep 0.3 --where 1=0": "it reads no column of the samples",
    "select ccs --keep 0.3 --where 1=1);DROP_TABLE_samples;--": "cannot be run",
    "select ccs --keep 0.3 --name ../evil": "'../evil' cannot name a subset",
    "select ccs --keep 0.3 --name pruned-random": "belong to controls",
    "select ccs --keep 0.3 --seed -1": "--seed -1",
    "select ccs --keep 0.3 --param nope=1": "has no parameter 'nope'",
    "select ccs --keep 0.3 --param strata": "write key=value",
    "select ccs --keep 0.3 --param strata=NaN": "NaN is no finite number",
    "select ccs --keep 0.3 --param strata=[1,-Infinity]": "-Infinity is no finite number",
    "select ccs --keep 0.3 --param strata=many": "ccs: strata='many' must be a whole number",
    "select ccs --keep 0.3 --param score=nope": "no column 'nope'",
    "select cccs --keep 0.3": "did you mean 'ccs'",
    "select denoise --keep 0.3": "decides by itself",
    "select denoise --param max_drop=lots": "denoise: max_drop='lots' must be a number",
    "select top_k --keep 0.3": "say which score to use",
    "forget": "say what to forget in one way",
    "forget unknown.txt": "good lacks 2 of 2 requested ids, first 'nope1'",
    "forget empty.txt": "empty.txt holds no ids",
    "forget noise.txt": "noise.txt is not text",
    "forget w": "w is a folder",
    "forget no-such.txt": "no-such.txt: no such file",
    "forget unknown.txt --class x": "say what to forget in one way",
    "forget --class zebra": "no such class",
    "forget --class x --name ../evil": "cannot name a subset",
    "forget --group nope=1": "write COL=VALUE",
    "forget --where aum>": "--where aum>: this query cannot be run",
    "score auum": "there is no scorer 'auum'",
    "score aum --run nope": "; there are ",
    "score aum --param aum.nope=1": "has no setting 'nope'",
    "score --param nope.key=1": "no scorer 'nope'",
    "score aum --param fkl.k=2": "fkl, which is not scored",
    "score fkl --param fkl.k=two": "fkl: k='two' must be a whole number",
    "embed --run nope": "run nope does not exist",
    "record --model nope": "no model 'nope'",
    "record --folds 4000": "has 48 training samples",
    "record --threads 0": "--threads 0",
    "evaluate nope": "there is no subset 'nope'",
    "select random --keep 0.5 --name all": "`evaluate` calls all training samples so",
    "evaluate --steps 0": "--steps 0: at least 1",
    "evaluate --model nope": "no model 'nope'",
    "review import no-such.csv": "no-such.csv: no such file",
    "review import noise.txt": "noise.txt is no text; it must be a CSV",
    "review import empty.txt": "empty.txt is empty",
    "score label_agreement": "--param aggregation=mean",
    "select denoize": "(did you mean 'denoise'?); `tracesift selectors` lists them all",
    "select top_k --keep 0.3 --param score=learned": "'first_learned' or 'learned_for_good'?); the frame has 2",
    "select ccs --keep 0.3 --where auum>1": '`tracesift sql "DESCRIBE sample_scores" --workspace w` lists the scores',
    "review import w": "Is a directory",
    "review export --count 0": "--count 0: at least 1",
    "review export --out w": "w is a folder; name a file",
    "gc --keep 0": "--keep 0: at least 1",
    "goldfish prund --tokenizer t": "no subset 'prund' in w (did you mean 'pruned'?)",
    "goldfish ../evil --tokenizer t": "'../evil' cannot name a subset",
    "goldfish pruned --tokenizer t": "good is tabular",
    "goldfish pruned": "--tokenizer",
    "goldfish pruned --tokenizer t --k 0": "k and h are at least 1",
    "goldfish pruned --tokenizer t --h 0": "k and h are at least 1",
    "goldfish pruned --tokenizer t --rule other": "--rule",
    "goldfish pruned --tokenizer t --start 3": "only the static rule",
    "goldfish pruned --tokenizer t --rule static --seed 3": "draws nothing",
    "diff pruned nope": "nope: no manifest and no subset",
    "diff nope other": "run nope has no scores here",
    "import no-such.npz": "no-such.npz: no such file",
    "import noise.txt": "noise.txt",
    "curate no-such.csv": "no such file",
    "ingest no-such.csv": "no such file",
    "why nope": "no sample 'nope'",
    "why s0": "several samples begin with 's0'",
}


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_that_is_refused_changes_nothing(words, unchanged, refused):
    assert COMMANDS[words] in refused(*words.split(), "--workspace", "w")


def test_a_subset_and_a_run_cannot_be_compared(unchanged, refused):
    run_id = Catalog("w").query("SELECT run_id FROM runs LIMIT 1").item()
    for words in (("pruned", run_id), (run_id, "pruned")):
        said = refused("diff", *words, "--workspace", "w")
        assert f"{run_id} is a run and pruned a subset, and these cannot be compared" in said


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("DELETE FROM samples", "DELETE is refused, use SELECT"),
        ("SELECT 1; DROP TABLE samples", "give one SQL statement, not 2"),
        ("CREATE TABLE evil AS SELECT 1", "CREATE is refused"),
        ("COPY samples TO 'evil.csv'", "COPY is refused"),
        ("SELECT * FROM read_csv('/etc/passwd')", "cannot be run"),
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT nope FROM samples", 'column "nope" not found'),
        ("SELECT * FROM nope", "Table with name nope does not exist"),
        ("", "give one SQL statement"),
    ],
)
def test_sql_that_is_wrong_or_writes(query, says, unchanged, refused):
    assert says in refused("sql", query, "--workspace", "w")
    assert not (unchanged / "evil.csv").exists()


def test_a_trial_of_samples_that_were_never_trained_on(unchanged, refused):
    test = Catalog("w").query("SELECT sample_id FROM samples WHERE split = 'test' LIMIT 1").item()
    (unchanged / "ids.txt").write_text(test)
    assert f"first '{test}' (test)" in refused("forget", "ids.txt", "--trial", "--workspace", "w")


# --- what has changed since


CHANGED = (
    "record",
    "score",
    "embed",
    "select ccs --keep 0.3",
    "forget --class x",
    "report",
    "evaluate",
    "review export",
)


def test_a_source_that_has_changed_or_gone(place, refused, succeeds, state):
    succeeds("ingest", "good.csv", "--workspace", "w")  # from here, and no longer from where it was made
    before = state(place / "w")
    lines = (place / "good.csv").read_text().splitlines(keepends=True)
    (place / "good.csv").write_text("".join(lines[:-3]))
    for words in CHANGED:
        said = refused(*words.split(), "--workspace", "w")
        assert "good.csv has changed since it was ingested into w" in said
        assert "tracesift ingest good.csv" in said
    (place / "good.csv").unlink()
    for words in CHANGED:
        assert "good.csv: no such file" in refused(*words.split(), "--workspace", "w")
    succeeds("why", "s001", "--workspace", "w")  # what is known needs no source
    succeeds("sql", "SELECT count(*) FROM sample_scores", "--workspace", "w")
    assert state(place / "w") == before


def test_a_catalog_of_a_newer_schema(place, refused, state):
    with duckdb.connect("w/catalog.duckdb") as con:
        con.execute(
            f"UPDATE schema_migrations SET version = {CATALOG_SCHEMA + 7} WHERE version = {CATALOG_SCHEMA}"
        )
    before = state(place / "w")
    for words in ("sql SELECT", "why s001", "curate good.csv", "ingest good.csv", *CHANGED, "gc --keep 1"):
        said = refused(*words.split(), "--workspace", "w")
        assert f"schema version {CATALOG_SCHEMA + 7} and this tracesift knows {CATALOG_SCHEMA}" in said
        assert "upgrade" in said
    assert state(place / "w") == before


def test_a_catalog_that_is_none(place, refused):
    (place / "w" / "catalog.duckdb").write_bytes(NOISE)
    for words in ("sql SELECT", "curate good.csv", "select ccs --keep 0.3"):
        assert "catalog.duckdb cannot be read" in refused(*words.split(), "--workspace", "w")


@pytest.mark.parametrize(("share", "missing"), [("--val", "val"), ("--test", "test")])
def test_without_one_of_the_splits(share, missing, made, tmp_path, monkeypatch, refused, succeeds):
    shutil.copy(made / "good.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    succeeds("ingest", "good.csv", share, "0", "--workspace", "w")
    succeeds("record", *FEW, "--workspace", "w")
    succeeds("score", "--workspace", "w")
    scores = Catalog("w").query("SELECT * FROM sample_scores WHERE split = 'train'")
    assert scores["aum"].null_count() == 0
    if missing == "val":
        assert "cld" not in scores.columns  # it needs validation losses, and is never a silent zero
        assert "needs val_loss" in refused("score", "cld", "--workspace", "w")
    else:
        succeeds("select", "random", "--keep", "0.5", "--workspace", "w")
        assert "has no test samples to evaluate on" in refused("evaluate", "--workspace", "w")


# --- somebody else is there


@pytest.fixture
def impatient(monkeypatch):
    """Wait a moment only for what is held."""
    monkeypatch.setattr(work, "LOCK_WAIT", 0.1)
    monkeypatch.setitem(Catalog.__init__.__kwdefaults__, "wait", 0.1)


@pytest.fixture
def elsewhere():
    """A function: run code in another process until it says that it is there."""
    running = []

    def start(code):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
        )
        running.append(child)
        assert child.stdout.readline() == "there\n"
        return child

    yield start
    for child in running:
        child.kill()
        child.wait()
        child.stdout.close()


READERS = ("sql SELECT", "why s001")
WRITERS = (
    "curate good.csv",
    "ingest good.csv",
    "record",
    "score",
    "select ccs --keep 0.3",
    "forget --class x",
    "gc --keep 1",
)


def test_a_notebook_that_reads_the_catalog(place, impatient, elsewhere, refused, succeeds, state):
    """Whoever writes is told at once, before anything is trained; reading and the report go on."""
    before = state(place / "w")
    notebook = elsewhere(
        """
        import duckdb, time
        con = duckdb.connect("w/catalog.duckdb", read_only=True)
        print("there", flush=True)
        time.sleep(600)
        """
    )
    for words in WRITERS:
        said = refused(*words.split(), "--workspace", "w")
        assert f"process {notebook.pid} (" in said
        assert "duckdb.connect" in said  # its command line
        assert "close it there or wait" in said
    succeeds("sql", "SELECT 1", "--workspace", "w")
    succeeds("why", "s001", "--workspace", "w")
    assert state(place / "w") == before


def test_another_writer_of_the_catalog(place, impatient, elsewhere, refused, succeeds):
    writer = elsewhere(
        """
        import duckdb, time
        con = duckdb.connect("w/catalog.duckdb")
        print("there", flush=True)
        time.sleep(600)
        """
    )
    for words in (*READERS, *WRITERS, "report"):
        assert f"process {writer.pid} (" in refused(*words.split(), "--workspace", "w")
    assert "--snapshot" in refused("sql", "SELECT 1", "--workspace", "w")
    succeeds("sql", "SELECT count(*) FROM samples", "--snapshot", "--workspace", "w")


def test_another_command_in_the_workspace(place, impatient, elsewhere, refused, succeeds):
    other = elsewhere(
        """
        import time
        from pathlib import Path
        from tracesift.flows.work import Work
        with Work(Path("w")).locked():
            print("there", flush=True)
            time.sleep(600)
        """
    )
    for words in (*WRITERS, "report"):
        said = refused(*words.split(), "--workspace", "w")
        assert f"w is in use by process {other.pid} (" in said
        assert "tracesift.flows.work" in said
    succeeds("why", "s001", "--workspace", "w")
    other.kill()
    other.wait()
    succeeds("select", "random", "--keep", "0.3", "--workspace", "w")  # a killed holder holds nothing


# --- files of the user's own, written where others lie


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("w/catalog.duckdb", "where the workspace keeps its own files"),
        ("w/manifests/pruned/members.parquet", "where the workspace keeps its own files"),
        ("w/signals/new.csv", "where the workspace keeps its own files"),
        ("./w/../w/report.html", "where the workspace keeps its own files"),
        ("good.csv", "belongs to the data"),
        pytest.param(
            "/proc/x/y.csv", "/proc/x/y.csv: cannot be written (",
            marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody can write"),
        ),
    ],
)  # fmt: skip
def test_nothing_is_written_over_the_workspace_or_the_data(place, refused, target, says):
    del place
    for words in (("sql", "SELECT 1 AS a", "--parquet"), ("review", "export", "--out")):
        assert says in refused(*words, target, "--workspace", "w")


def test_new_files_and_earlier_ones_are_written(place, succeeds):
    for target in ("w/mine.parquet", "out/mine.parquet"):
        for _ in range(2):
            succeeds("sql", "SELECT 1 AS a", "--parquet", target, "--workspace", "w")
        assert pl.read_parquet(place / target).rows() == [(1,)]


# --- recordings that were changed


def test_an_altered_recording_is_not_scored_and_is_made_again_aloud(place, refused, succeeds):
    epoch = next((place / "w/signals").glob("run=*/mode=in_training/epoch-0001.parquet"))
    whole = epoch.read_bytes()
    frame = pl.read_parquet(epoch)
    frame.with_columns(correct=~pl.col("correct")).write_parquet(epoch)
    said = refused("score", "historical_variance", "--workspace", "w")
    assert f"{epoch.name} has changed since it was recorded" in said
    _, err = succeeds("curate", "good.csv", "--workspace", "w", *FEW)
    assert "has changed since it was recorded; seed 0 is recorded again" in " ".join(err.split())
    assert epoch.read_bytes() == whole
    succeeds("score", "historical_variance", "--workspace", "w")


# --- disks


@pytest.fixture
def small_disk(tmp_path):
    """A function: a file system of its own, of so many KiB; again, to give it another size."""
    disk = tmp_path / "disk"
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    disk.mkdir()

    def mount(*options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(disk)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this machine lets nobody mount a file system: {done.stderr.strip()}")

    mounted = []

    def give(kib, mode="rw"):
        mount(*(["remount"] if mounted else []), f"size={kib}k", mode)
        mounted.append(disk)
        return disk

    yield give
    if mounted:
        subprocess.run(["umount", str(disk)], check=True)


def manifests(workspace):
    return {
        path.parent.name: (
            json.loads(path.read_text())["fingerprint"],
            (path.parent / "members.parquet").read_bytes(),
        )
        for path in sorted((workspace / "manifests").glob("*/manifest.json"))
    }


def test_a_disk_that_fills_up(made, monkeypatch, small_disk, refused_last):
    """Wherever space ends, the file is named; once there is more, the same command ends as if nothing had been."""
    monkeypatch.chdir(made)
    disk = small_disk(300)
    words = ("curate", "good.csv", "--workspace", disk / "w", *FEW)
    named = set()
    for size in itertools.count(300, 750):
        small_disk(size)
        said = refused_last(*words)
        if said is None:
            break
        assert "No space left on device" in said
        assert "free" in said
        named |= {
            part for part in ("catalog.duckdb", "/signals/", "/manifests/", "report.html") if part in said
        }
    assert named >= {"catalog.duckdb", "/signals/"}
    assert manifests(disk / "w") == manifests(made / "base")
    assert not [*(disk / "w").rglob(".tmp-*")]


def test_a_disk_that_may_not_be_written(made, monkeypatch, small_disk, refused, succeeds):
    monkeypatch.chdir(made)
    disk = small_disk(30_000)
    shutil.copytree("base", disk / "w")
    small_disk(30_000, "ro")
    for words in (*WRITERS, "report"):
        assert "Read-only file system" in refused(*words.split(), "--workspace", disk / "w")
    assert "Read-only file system" in refused("curate", "good.csv", "--workspace", disk / "new", *FEW)
    out, _ = succeeds("sql", "SELECT count(*) AS n FROM trajectories", "--json", "--workspace", disk / "w")
    assert json.loads(out) == [{"n": 48 * 2 * 3}]
    succeeds("why", "s001", "--workspace", disk / "w")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; the read-only disk stands for this")
def test_a_folder_that_may_not_be_written(place, refused):
    (place / "w").chmod(0o555)
    try:
        for words in WRITERS:
            assert "Permission denied" in refused(*words.split(), "--workspace", "w")
    finally:
        (place / "w").chmod(0o755)


# --- models of the user's own

MODELS = '''
"""Models that lose their way."""
import torch
from torch import nn

RECIPE_LR = 1e-3


class Odd(nn.Module):
    """Linear, but what it says of samples with a large first feature is not finite."""

    def __init__(self, inputs, classes, broken):
        super().__init__()
        self.inner, self.broken = nn.Linear(inputs, classes), broken

    def forward(self, x):
        logits = self.inner(x.flatten(1).float())
        return torch.where((x.flatten(1)[:, 0] > 0.9)[:, None], torch.full_like(logits, self.broken), logits)


def some_nan(shape, classes):
    return Odd(shape[0], classes, float("nan"))


def some_inf(shape, classes):
    return Odd(shape[0], classes, float("inf"))


def all_nan(shape, classes):
    model = Odd(shape[0], classes, float("nan"))
    model.inner.weight.data.fill_(float("nan"))
    return model


def wrong_width(shape, classes):
    return nn.Linear(shape[0], classes + 2)


def wrong_input(shape, classes):
    return nn.Linear(shape[0] + 5, classes)


def no_module(shape, classes):
    return 3


def raises(shape, classes):
    raise ValueError("no idea")
'''


@pytest.fixture
def models(made, tmp_path, monkeypatch):
    shutil.copy(made / "good.csv", tmp_path)
    (tmp_path / "odd_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("odd_models", None)


def test_losses_that_are_not_finite_are_recorded_and_reported(models, succeeds):
    words = ("--model", "odd_models:some_nan", "--selector", "ccs")
    _, err = succeeds("curate", "good.csv", "--workspace", "w", *words, *FEW)
    told = [line for line in err.splitlines() if "NaN or infinite logits" in line]
    assert len(told) == 1
    catalog = Catalog("w")
    broken = catalog.query(
        "SELECT sample_id FROM trajectories WHERE mode = 'epoch_end' AND epoch = 0 AND isnan(loss) ORDER BY 1"
    )["sample_id"]
    assert 0 < len(broken) < 48
    assert f"{len(broken)} of 48 training samples" in told[0]
    assert f"first {broken[0]}" in told[0]
    scores = catalog.query("SELECT * FROM sample_scores WHERE split = 'train'")
    of_broken = scores.filter(pl.col("sample_id").is_in(broken.implode()))
    for column in ("aum", "mean_loss", "el2n", "cartography_confidence"):
        assert of_broken[column].null_count() == len(broken)  # NULL, never zero
        assert scores[column].null_count() == len(broken)  # and nobody else
    flags = catalog.query("SELECT sample_id, label_noise FROM sample_flags")
    assert flags.filter(pl.col("sample_id").is_in(broken.implode()))["label_noise"].null_count() == len(
        broken
    )
    kept = catalog.query(
        "SELECT m.sample_id FROM subset_members m JOIN subsets USING (subset_id) WHERE name = 'pruned' AND role = 'keep'"
    )["sample_id"]
    assert set(broken) <= set(kept)
    assert f"no aum_prob_sum for {len(broken)} of 48 training samples (first " in err


def test_infinite_logits_are_none_either(models, succeeds):
    succeeds("ingest", "good.csv", "--workspace", "w")
    _, err = succeeds("record", "--workspace", "w", "--model", "odd_models:some_inf", *FEW)
    broken = Catalog("w").query("SELECT DISTINCT sample_id FROM trajectories WHERE isnan(margin)")
    assert 0 < broken.height < 48
    assert f"{broken.height} of 48 training samples gave NaN or infinite logits" in err


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("all_nan", "gave NaN or infinite logits for every training sample in every epoch"),
        ("wrong_width", "its last layer must have 2 outputs"),
        ("wrong_input", "cannot read a batch of 2 samples: RuntimeError"),
        ("no_module", "it returns int; return a torch.nn.Module"),
        ("raises", "raises((3,), 2) raised ValueError: no idea"),
    ],
)
def test_a_model_that_cannot_be_used(name, says, models, refused_last, succeeds):
    succeeds("ingest", "good.csv", "--workspace", "w")
    assert says in refused_last("record", "--workspace", "w", "--model", f"odd_models:{name}", *FEW)


# --- odd but possible


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """All oddities at once: float ids, labels "01", 1 and true, gaps, a class of one sample."""
    folder = tmp_path_factory.mktemp("odd")
    rng = np.random.default_rng(0)
    rows = []
    for row in range(80):
        values = rng.normal(size=2) + row % 3
        rows.append(
            {
                "id": float(row + 1),
                "a": float(values[0]),
                "b": None if row % 10 == 0 else float(values[1]),
                "word": ["p", "q", None][row % 3],
                "when": f"2024-01-{row % 28 + 1:02d}",
                "site": f"site {row % 4}",
                "label": "once" if row == 79 else ["01", 1, True][row % 3],
            }
        )
    (folder / "odd.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["curate", folder / "odd.jsonl", "--features", "a,b,word,when", "--workspace", folder / "w", *FEW]
    assert run([*map(str, words)]) == 0
    return folder / "w"


def test_odd_data_are_scored_with_gaps_where_nothing_can_be_said(odd):
    catalog = Catalog(odd)
    counted = catalog.query("SELECT label, split, count(*) FROM samples GROUP BY ALL").rows()
    assert {label for label, _, _ in counted} == {"01", "1", "true", "once"}
    assert ("once", "train", 1) in counted  # and so in no other split
    scores = catalog.query("SELECT * FROM sample_scores WHERE split = 'train'")
    lonely = scores.filter(pl.col("label") == "once")
    assert lonely["sample_id"].to_list() == ["80"]  # 80.0 is "80"
    assert lonely["cld"].to_list() == [None]  # no validation sample of its class: not zero
    assert scores.filter(pl.col("label") != "once")["cld"].null_count() == 0
    assert scores["aum"].null_count() == 0
    flags = catalog.query("SELECT sample_id, label_noise FROM sample_flags WHERE label = 'once'")
    assert flags["label_noise"].to_list() == [None]


@pytest.mark.parametrize(
    "words",
    [
        "record --epochs 4 --folds 2 --threads 1", "score", "embed", "select ccs --keep 0.3",
        "select cld_per_class --keep 0.3 --param nulls=keep", "select random_balanced --keep 0.5", "select denoise",
        "select top_k --count 3 --param score=aum", "forget --class once --name once --trial", "forget --class 01 --name zero",
        "forget --group site=site_1 --name site --allow-empty-class", "why 80", "why 1", "report", "review export",
        "diff pruned denoised", "gc --keep 1", "evaluate pruned --epochs 1",
    ],
)  # fmt: skip
def test_every_command_on_odd_data(words, odd, succeeds):
    succeeds(
        *(word.replace("_1", " 1") if "site=" in word else word for word in words.split()), "--workspace", odd
    )


def test_odd_data_are_refused_where_a_score_has_gaps(odd, refused):
    said = refused("select", "cld_per_class", "--keep", "0.3", "--workspace", odd)
    assert "1 of " in said
    assert "nulls='keep'" in said


# --- what cannot be told


def story(name, rows=300):
    """A table whose labels nothing can be said of."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(rows, 4))
    if name == "all random":
        label = rng.integers(0, 3, rows)
    elif name == "two of each class":
        label = np.arange(rows) // 2
        values = np.repeat(rng.normal(size=(rows // 2, 4)) * 3, 2, axis=0) + values * 0.1
    else:
        label = np.where(np.arange(rows) < rows * 0.99, 0, 1)
    frame = pl.DataFrame(values, schema=["a", "b", "c", "d"], orient="row")
    ids = pl.Series([f"s{row:04d}" for row in range(rows)])
    return frame.with_columns(id=ids, label=pl.Series([f"class {index}" for index in label]))


@pytest.mark.parametrize(
    ("name", "rows"), [("all random", 300), ("two of each class", 40), ("one class of 99 %", 300)]
)
def test_labels_that_nothing_can_be_said_of_are_not_flagged(name, rows, tmp_path, succeeds):
    story(name, rows).write_parquet(tmp_path / "t.parquet")
    out, _ = succeeds("curate", tmp_path / "t.parquet", "--workspace", tmp_path / "w", *FEW)
    catalog = Catalog(tmp_path / "w")
    answers = catalog.query("SELECT label_noise FROM sample_flags WHERE split = 'train'")["label_noise"]
    assert not answers.any()
    assert answers.null_count() >= 0.9 * len(answers)
    kept = catalog.query(
        "SELECT role, count(*) FROM subset_members JOIN subsets USING (subset_id) WHERE name = 'denoised' GROUP BY ALL"
    )
    assert kept.rows() == [("keep", len(answers))]
    said = f"0 yes, {answers.count()} no, {answers.null_count()} cannot tell"
    if not answers.count():
        said = f"cannot tell of any of {answers.null_count()} samples"
    assert "Nothing is flagged" in out
    assert f"label_noise: {said}" in out
