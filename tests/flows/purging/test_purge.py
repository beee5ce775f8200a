"""What is purged is found everywhere before, by a search that decodes every file, and nowhere after."""

import base64
import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from tracesift.catalog.manifest import verify_manifest
from tracesift.catalog.redaction import PURGED
from tracesift.catalog.schema import BadInput
from tracesift.flows.cli import run
from tracesift.flows.purging.purge import purge, requested
from tracesift.flows.recordings import newest_runs
from tracesift.flows.work import Work, existing
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.embedding.stored_embeddings import stored_embedding
from tracesift.pipelines.restricted import restricted
from tracesift.pipelines.signals import is_whole, list_runs, load_signals
from tracesift.scorers.contract import compute

FEW = ("--epochs", "3", "--folds", "2", "--threads", "1")


# --- the search


def places(workspace, texts=(), vectors=(), pictures=(), values=()):
    """Return the files in which any of these stands, decoded: texts, rows of arrays, pixels, single floats."""
    found = set()
    for path in sorted(workspace.rglob("*")):
        if path.is_file() and _in_file(path, texts, vectors, pictures, values):
            found.add(path.relative_to(workspace).as_posix())
    return found


def _in_file(path, texts, vectors, pictures, values):
    if path.suffix == ".duckdb":
        with duckdb.connect(str(path), read_only=True) as con:
            tables = con.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()
            frames = [con.sql(f'FROM "{schema}"."{name}"').pl() for schema, name in tables]
        return any(_in_frame(frame, texts, values) for frame in frames)
    if path.suffix == ".parquet":
        return _in_frame(pl.read_parquet(path), texts, values)
    if path.suffix == ".npz":
        with np.load(path) as stored:
            return any(_in_array(stored[name], texts, vectors, values) for name in stored.files)
    if path.suffix == ".npy":
        return _in_array(np.load(path), texts, vectors, values)
    if path.suffix == ".png":
        return any(_same_picture(path.read_bytes(), picture) for picture in pictures)
    if path.suffix == ".pt":
        return any(_in_array(one, texts, vectors, values) for one in _tensors(torch.load(path)))
    if path.suffix == ".key":
        return any(one.encode() in path.read_bytes() for one in texts)
    text = path.read_text(encoding="utf-8")
    shown = re.findall(r"data:image/[a-z]+;base64,([A-Za-z0-9+/=]+)", text)
    return any(one in text for one in texts) or any(
        _same_picture(base64.b64decode(one), picture) for one in shown for picture in pictures
    )


def _in_frame(frame, texts, values):
    for column in frame.get_columns():
        if column.dtype == pl.String and any(column.str.contains(one, literal=True).any() for one in texts):
            return True
        if column.dtype.is_float() and any((column == one).any() for one in values):
            return True
    return False


def _in_array(array, texts, vectors, values):
    if array.dtype.kind == "S":
        return any(one.encode() in array.tolist() for one in texts)
    if array.dtype.kind != "f":
        return False
    rows = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
    return any(
        len(one) == rows.shape[1] and (rows == np.asarray(one, rows.dtype)).all(axis=1).any()
        for one in vectors
    ) or any((array == np.asarray(one, array.dtype)).any() for one in values)


def _same_picture(png, picture):
    with Image.open(io.BytesIO(png)) as image:
        shown = np.asarray(image.convert("L"))
    return shown.shape == picture.shape and bool((shown == picture).all())


def _tensors(value):
    if isinstance(value, torch.Tensor):
        return [value.float().numpy()]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [one for each in inside for one in _tensors(each)]


# --- the workspaces


def _text_source(folder):
    rng = np.random.default_rng(3)
    words = (
        ["one", "two", "three", "four", "five", "six", "seven"],
        ["uno", "dos", "tres", "cuatro", "cinco", "seis", "siete"],
    )
    rows = [
        {
            "key": f"person-{row:04d}", "label": ("english", "spanish")[row % 2], "page": f"https://pages/{row:04d}",
            "text": f"zqx{row:04d}mark " + " ".join(rng.choice(words[row % 2 if row % 7 else 0], size=6)),
        }
        for row in range(90)
    ]  # fmt: skip
    pl.DataFrame(rows).write_csv(folder / "texts.csv")
    return "texts.csv", ("--id", "key", "--text", "text", "--label", "label")


def _image_source(folder):
    rng = np.random.default_rng(4)
    label = np.arange(80) % 2
    x = rng.integers(0, 90, size=(80, 8, 8)).astype(np.uint8)
    x[:, :, :4] += (120 * np.where(np.arange(80) % 9 == 0, 1 - label, label))[:, None, None].astype(np.uint8)
    np.savez(folder / "pictures.npz", x=x, y=label)
    return "pictures.npz", ()


def _table_source(folder):
    rng = np.random.default_rng(5)
    label = np.arange(80) % 2
    values = rng.normal(size=(80, 2)) + 1.2 * label[:, None]
    frame = pl.DataFrame({"no": np.arange(80) + 100, "a": values[:, 0], "b": values[:, 1], "label": label})
    frame.with_columns(pl.col("label").replace_strict({0: "no", 1: "yes"})).write_csv(folder / "table.csv")
    return "table.csv", ("--id", "no", "--label", "label")


SOURCES = {"text": _text_source, "image": _image_source, "table": _table_source}


def _go(*words):
    assert run(list(words)) == 0, words


@pytest.fixture(scope="module", params=SOURCES)
def curated(request, tmp_path_factory):
    """A folder with a workspace in which everything was run, and the ids that a request forgets."""
    folder = tmp_path_factory.mktemp(request.param)
    with contextlib.chdir(folder):
        source, options = SOURCES[request.param](folder)
        _go("curate", source, "--workspace", "w", "--max-drop", "0.2", *FEW, *options)
        _go("embed", "--source", "content", "--workspace", "w")
        _go("influence", "--workspace", "w")
        _go("review", "export", "--workspace", "w")
        listed = pl.read_csv("w/review.csv", infer_schema=False)["sample_id"].to_list()
        others = Work(Path("w")).catalog.query(
            "SELECT sample_id FROM samples WHERE split = 'train' ORDER BY ALL"
        )
        wanted = [*listed[:1], *[one for one in others["sample_id"] if one not in listed[:1]][:2]]
        Path("wanted.txt").write_text("\n".join(wanted))
        _go("forget", "wanted.txt", "--workspace", "w", "--param", "near_duplicate=null")
        _go("select", "semdedup", "--workspace", "w", "--param", "eps=0.05")
    return request.param, folder, wanted


@pytest.fixture
def forgotten(curated, tmp_path, monkeypatch):
    kind, folder, wanted = curated
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    source = next(file.name for file in (*folder.glob("*.csv"), *folder.glob("*.npz")))
    _go("ingest", source, "--workspace", "w", *_options(kind))  # the catalog remembers where the source lies
    return kind, Path("w"), wanted


def _traces(work, kind, sample_id):
    """Return what is to be found of one sample: its name, words, pixels, vectors and numbers."""
    dataset = work.dataset
    row = int(dataset.samples["sample_id"].search_sorted(sample_id))
    at = int((dataset.samples["sample_id"].gather(dataset.rows("train")) < sample_id).sum())
    (run_record,) = list_runs(work.path)
    signals = load_signals(work.path, run_record["run_id"]).in_mode("epoch_end")
    stored = stored_embedding(work.path, "content", dataset)
    traces = {
        "ids": {"texts": [sample_id]},
        "vectors": {"vectors": [signals["embedding"][at], stored.vectors("train")[at]]},
        "probabilities": {"vectors": [signals[name][at] for name in ("probs_last", "probs_oos")]},
        "losses": {"values": signals["loss"][:, at]},
        "scores": {"values": work.catalog.query(
            "SELECT aum FROM sample_scores WHERE sample_id = ?", (sample_id,)
        )["aum"]},
    }  # fmt: skip
    if kind == "text":
        number = int(sample_id.removeprefix("person-"))
        traces["words"] = {"texts": [f"zqx{number:04d}mark", f"https://pages/{number:04d}"]}
    if kind == "image":
        traces["pixels"] = {"pictures": [dataset.inputs[row][..., 0]]}
    if kind != "table":
        traces["hash"] = {"texts": [dataset.samples["content_hash"][row]]}
    else:
        traces["ids"] = {"texts": [f"'{sample_id}'"]}
    return traces


def _others(work):
    query = "SELECT * FROM {} ORDER BY ALL"
    return {name: work.catalog.query(query.format(name)) for name in ("sample_scores", "sample_flags")}


# --- what must hold


def test_everything_of_a_sample_is_found_before_and_nothing_after(forgotten):
    kind, path, wanted = forgotten
    work = existing(path)
    first = _traces(work, kind, wanted[0])
    every = [_traces(work, kind, one) for one in wanted]
    before = {name: places(path, **what) for name, what in first.items()}
    run_id = list_runs(path)[0]["run_id"]
    if kind != "table":  # an id that is a number of three digits is looked for by column, below
        assert {
            "catalog.duckdb",
            "report.html",
            "review.csv",
            "manifests/forget-ready/members.parquet",
        } <= before["ids"]
        assert f"signals/run={run_id}/labels.npz" in before["ids"]
    assert f"signals/run={run_id}/embedding.npz" in before["vectors"]
    assert any(name.startswith("embeddings/content/train-") for name in before["vectors"])
    assert len(before["probabilities"]) >= 2
    assert sum("/mode=epoch_end/" in name for name in before["losses"]) == 3
    assert "catalog.duckdb" in before["scores"]
    if kind == "text":
        assert {"report.html", "review.csv", "catalog.duckdb"} <= before["words"]
    if kind == "image":
        assert "report.html" in before["pixels"]
        assert any(name.startswith("review-images/") for name in before["pixels"])
    old = _others(work)
    old_names = {run_id, work.dataset.dataset_id, work.dataset.fingerprint}
    raw = [one.encode() for one in wanted if kind != "table"]
    written = (path / "catalog.duckdb").read_bytes()
    inode = (path / "catalog.duckdb").stat().st_ino
    assert all(one in written for one in raw)

    assert run(["purge", "wanted.txt", "--workspace", str(path)]) == 0

    for traces in every:
        for name, what in traces.items():
            assert not places(path, **what), name
    assert (path / "report.html").exists()
    assert not places(path, texts=sorted(old_names)), "a fingerprint is a sum over the samples"
    written = (path / "catalog.duckdb").read_bytes()
    assert not any(one in written for one in raw)
    assert (path / "catalog.duckdb").stat().st_ino != inode
    assert not (path / "catalog.duckdb.wal").exists()
    for name, frame in _others(existing(path)).items():
        stays = old[name].filter(~pl.col("sample_id").is_in(wanted))
        assert frame.equals(stays.select(frame.columns)), name
    if kind == "table":
        _not_in_any_id_column(path, wanted)


def _not_in_any_id_column(path, wanted):
    with duckdb.connect(str(path / "catalog.duckdb"), read_only=True) as con:
        columns = con.execute(
            "SELECT schema_name, table_name, column_name FROM duckdb_columns() WHERE column_name = 'sample_id' "
            "AND NOT internal AND table_name NOT IN (SELECT view_name FROM duckdb_views())"
        ).fetchall()
        for schema, table, column in columns:
            there = {one for (one,) in con.execute(f'SELECT {column} FROM "{schema}"."{table}"').fetchall()}
            assert not there & set(wanted), table
    for file in path.rglob("*.parquet"):
        assert not set(pl.read_parquet(file, columns=["sample_id"])["sample_id"]) & set(wanted), file


def test_what_is_left_works_with_the_samples_in_the_source_and_without(forgotten, capsys):
    kind, path, wanted = forgotten
    earlier = existing(path)
    full = earlier.dataset.fingerprint
    samples = len(earlier.dataset)
    assert run(["purge", "--all", "--workspace", str(path)]) == 0
    work = existing(path)
    known = work.catalog.newest_dataset()
    assert known["num_samples"] == len(work.dataset) == samples - len(wanted)
    assert known["details"]["purged"] == len(wanted)
    rows = work.catalog.query("SELECT sample_row FROM samples ORDER BY sample_row")["sample_row"]
    assert rows.to_list() == list(range(len(work.dataset)))
    (record,) = list_runs(path)
    assert record["purged"] == len(wanted)
    told = work.catalog.run(record["run_id"])["details"]
    assert (told["dataset"], told["purged"]) == (record["dataset"], len(wanted))
    assert is_whole(path, record["run_id"])
    again = compute(["aum"], load_signals(path, record["run_id"]))["aum"]
    stored = work.catalog.query("SELECT aum FROM sample_scores WHERE split = 'train' ORDER BY sample_id")[
        "aum"
    ]
    assert (again == stored).all()
    stored_embedding(path, "content", work.dataset).verify()
    for manifest in path.glob("manifests/**/manifest.json"):
        assert verify_manifest(manifest) == []
    assert run(["verify", str(path / "manifests/forget-ready")]) == 0
    assert json.loads((path / "manifests/pruned/manifest.json").read_text())["purged"] == len(wanted)
    other = work.dataset.samples["sample_id"][0]
    for words in (
        ["why", other], ["why", wanted[0]], ["select", "top_k", "--keep", "0.2", "--param", "score=aum"],
        ["score"], ["sql", "FROM subset_members"],
    ):  # fmt: skip
        assert run([*words, "--workspace", str(path)]) == (2 if words[-1] == wanted[0] else 0), words
    capsys.readouterr()
    for name in ("forget-ready", "top-k"):
        assert run(["verify", name, "--workspace", str(path)]) == 0
        told = capsys.readouterr().out
        assert "no sample forgotten before it was made stands in it" in told
        assert "none of its samples is one of those that 1 request in" in told
    # A subset that is made now goes with the source that holds them yet, as one that was made before.
    file = Path(known["source"])
    where = ["--to", str(path.parent / "out"), "--format", "parquet", "--workspace", str(path)]
    assert run(["export", "top-k", str(file), *where]) == 0
    handed = [pl.read_parquet(one)["sample_id"] for one in (path.parent / "out/data").glob("*.parquet")]
    assert handed
    assert not set(pl.concat(handed)) & set(wanted)
    # A source without them, opened as the user would, is the very state that the purge has left.
    assert work.dataset.fingerprint != full
    if file.suffix == ".csv":
        column = pl.read_csv(file, infer_schema=False).columns[0]
        rest = pl.read_csv(file, infer_schema=False).filter(~pl.col(column).is_in(wanted))
        rest.write_csv(file)
    else:
        with np.load(file) as whole:
            names = open_dataset(str(file))
            at = names.positions[names.samples["sample_id"].is_in(wanted).to_numpy()]
            kept = {name: np.delete(whole[name], at, axis=0) for name in whole.files}
        np.savez(file, **kept)
    assert existing(path).dataset.fingerprint == known["fingerprint"]
    assert run(["ingest", str(file), "--workspace", str(path), *_options(kind)]) == 0
    assert existing(path).catalog.newest_dataset()["dataset_id"] == known["dataset_id"]
    assert run(["verify", str(path / "manifests/forget-ready"), str(file)]) == 0


def _options(kind):
    return {
        "text": ("--id", "key", "--text", "text", "--label", "label"),
        "table": ("--id", "no", "--label", "label"),
    }.get(kind, ())


def test_a_second_purge_changes_nothing_and_a_dry_one_neither(forgotten, capsys, state):
    kind, path, _ = forgotten
    if kind != "text":
        pytest.skip("the same for all kinds")
    before = state(path)
    assert run(["purge", "wanted.txt", "--dry-run", "--workspace", str(path)]) == 0
    assert "would purge 3 samples" in capsys.readouterr().out
    assert state(path) == before
    assert run(["purge", "wanted.txt", "--workspace", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["purged"] == told["removed"]["catalog samples"] == 3
    assert told["report"] == "made again"
    assert told["sources"] == [str(Path("texts.csv").absolute())]
    after = state(path)
    assert run(["purge", "wanted.txt", "--workspace", str(path)]) == 0
    assert "3 were purged before" in capsys.readouterr().out
    assert state(path) == after
    Path("unknown.txt").write_text("person-0001\nnobody-at-all\n")
    work = existing(path)
    with work.locked(), pytest.raises(BadInput, match="w lacks 1 of 1 ids, first 'nobody-at-all'"):
        purge(work, ["nobody-at-all"])
    assert run(["purge", "unknown.txt", "--workspace", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert state(path) == after


def test_a_recording_made_after_a_purge_is_not_scored_together_with_one_before(forgotten):
    """The one before has seen who is gone; another seed of it must not be averaged with the new one."""
    kind, path, _ = forgotten
    if kind != "table":
        pytest.skip("the same for all kinds")
    _go("purge", "--all", "--workspace", str(path))
    before = newest_runs(existing(path))
    _go("record", "--workspace", str(path), *FEW)
    after = newest_runs(existing(path))
    assert (len(before), len(after)) == (1, 1)
    assert before != after


def test_only_what_a_request_forgets_is_purged(forgotten, capsys):
    kind, path, wanted = forgotten
    if kind != "image":
        pytest.skip("its flagged samples stand under the very name that the request took")
    work = existing(path)
    corrective = work.catalog.query(
        "SELECT sample_id FROM subset_members JOIN subsets USING (subset_id) WHERE role = 'forget' AND version = 1"
    )["sample_id"]
    assert set(corrective) - set(wanted)
    assert set(requested(work)) == set(wanted)
    request = work.catalog.query("SELECT request_id FROM forget_requests").item()
    assert set(requested(work, request)) == set(wanted)
    Path("flagged.txt").write_text("\n".join(set(corrective) - set(wanted)))
    assert run(["purge", "flagged.txt", "--workspace", str(path)]) == 2
    assert "no deletion request holds" in capsys.readouterr().err
    assert run(["purge", "--request", "nothing", "--workspace", str(path)]) == 2
    assert f"there are: {request}" in capsys.readouterr().err


def test_others_that_name_a_purged_sample_name_it_no_more(forgotten):
    kind, path, wanted = forgotten
    if kind != "text":
        pytest.skip("the same for all kinds")
    work = existing(path)
    reasons = work.catalog.query("SELECT sample_id, reason FROM subset_members WHERE reason LIKE '%''%'")
    named = reasons.filter(~pl.col("sample_id").is_in(wanted) & pl.col("reason").str.contains_any(wanted))
    assert named.height  # neighbours of the forgotten say of whom
    (path / "report.html").unlink()
    (path / "notes.txt").write_text(f"somebody wrote {wanted[1]} down")
    with work.locked():
        told = purge(work, wanted)
    assert told["left"] == ["w/notes.txt"]
    after = existing(path).catalog.query("SELECT reason FROM subset_members")["reason"].drop_nulls()
    assert not after.str.contains_any(wanted).any()
    assert after.str.contains(PURGED, literal=True).any()


def test_a_state_that_becomes_one_that_is_there_already_is_one_with_it(forgotten):
    kind, path, wanted = forgotten
    if kind != "text":
        pytest.skip("the same for all kinds")
    frame = pl.read_csv("texts.csv", infer_schema=False).filter(~pl.col("key").is_in(wanted))
    frame.write_csv("texts.csv")  # the user deletes first, and takes the new state in
    _go("ingest", "texts.csv", "--workspace", str(path), *_options("text"))
    new = existing(path).dataset.dataset_id
    (path / "report.html").unlink()
    with existing(path).locked():
        purge(existing(path), wanted)
    states = existing(path).catalog.query("SELECT dataset_id, num_samples FROM datasets").rows()
    assert states == [(new, 87)]
    scored = existing(path).catalog.query("SELECT * FROM sample_scores")
    assert scored.height == 87
    assert scored["aum"].drop_nulls().len()


def test_a_restricted_dataset_is_that_of_a_source_without_the_others(tmp_path):
    source, _ = _text_source(tmp_path)
    frame = pl.read_csv(tmp_path / source)
    whole = open_dataset(frame, id="key", text="text", label="label")
    gone = whole.samples["sample_id"].is_in(["person-0007", "person-0020"])
    part = restricted(whole, (~gone).to_numpy())
    less = open_dataset(
        frame.filter(~pl.col("key").is_in(["person-0007", "person-0020"])),
        id="key",
        text="text",
        label="label",
    )
    assert part.fingerprint == less.fingerprint != whole.fingerprint
    assert part.samples.equals(less.samples)
    assert part.inputs == less.inputs
    with pytest.raises(BadInput, match="none of its 90 samples"):
        restricted(whole, np.zeros(90, bool))


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from tracesift.catalog.files import sha256
from tracesift.flows.purging.purge import purge
from tracesift.flows.work import existing
import tracesift.flows.publish

wanted = Path("wanted.txt").read_text().split()

def child(path, act):
    pid = os.fork()
    if pid == 0:
        try:
            act(existing(path))
            os._exit(0)
        except BaseException:
            import traceback; traceback.print_exc()
            os._exit(1)
    return os.waitpid(pid, 0)[1]

def purged(work, at=lambda _: None):
    with work.locked():
        purge(work, wanted, at=at)

def steps(work):
    seen = []
    purged(work, seen.append)
    Path("steps.txt").write_text("\\n".join(seen))

shutil.copytree("w", "plain")
assert child(Path("plain"), steps) == 0
seen = Path("steps.txt").read_text().split("\\n")
first = {}
# Nothing is swapped before the journal, and what is not staged yet is alike to who runs it again.
alike = ("planned", "recordings", "embeddings", "manifests", "files", "catalog copied", "catalog purged")
for number, step in enumerate(seen):
    if step in alike:
        continue
    first.setdefault(step.split(" ")[0] if step.startswith(("put", "remove")) else step, number)
last = max(number for number, step in enumerate(seen) if step.startswith("put"))
for number in sorted({*first.values(), last}):
    path = Path(f"killed-{number}")
    shutil.copytree("w", path)
    left = [number]
    def stop(_):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
    assert child(path, lambda work: purged(work, stop)) == signal.SIGKILL, seen[number]
    assert child(path, purged) == 0, seen[number]
    def files(folder):
        # The hash of the key of this purge stands in one of them.
        return {p.relative_to(folder).as_posix(): sha256(p) for p in folder.rglob("*")
                if p.is_file() and p.name not in ("purges.json", "catalog.duckdb")}
    assert files(path) == files(Path("plain")), seen[number]
    assert not (path / ".swap.json").exists() and not (path / ".tmp-swap").exists()
    print(seen[number])
"""


def test_killed_at_any_step_and_run_again_it_finishes(made, tmp_path, monkeypatch, state):
    shutil.copytree(made / "base", tmp_path / "w")
    shutil.copy(made / "good.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w" / "report.html").unlink()  # drawing it again is what takes long
    (tmp_path / "wanted.txt").write_text("s001\ns006\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KILLED], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = done.stdout.split("\n")
    assert {"catalog rebuilt", "staged", "journal", "cleared", "swapped"} <= set(told)
    assert sum(one.startswith("put") for one in told) == 2
    assert sum(one.startswith("remove") for one in told) == 1
    _, plain = state(tmp_path / "plain")
    for one in tmp_path.glob("killed-*"):
        _, rows = state(one)
        assert {name: row for name, row in rows.items() if name != "workspace"} == {
            name: row for name, row in plain.items() if name != "workspace"
        }
        assert not places(one, texts=["'s001'", "'s006'"])
        _not_in_any_id_column(one, ["s001", "s006"])


def test_ctrl_c_leaves_the_workspace_as_it_was(made, tmp_path, monkeypatch, state):
    shutil.copytree(made / "base", tmp_path / "w")
    shutil.copy(made / "good.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    work = existing(Path("w"))
    work.catalog.check_writable()
    before = state(Path("w"))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever ran here before may have taken it

    def stop(step):
        if step == "catalog rebuilt":
            signal.raise_signal(signal.SIGINT)

    with work.locked(), pytest.raises(KeyboardInterrupt):
        purge(work, ["s001"], at=stop)
    assert state(Path("w")) == before
    with work.locked(), pytest.raises(BadInput, match="all 60 samples"):
        purge(work, [f"s{number:03d}" for number in range(60)])
    assert state(Path("w")) == before


def _stop_when_swapped(step):
    if step == "swapped":
        raise KeyboardInterrupt


def test_stopped_before_its_report_the_same_command_makes_it(place, capsys):
    train = existing(Path("w")).dataset.samples.filter(pl.col("split") == "train")["sample_id"][:2].to_list()
    Path("wanted.txt").write_text("\n".join(train))
    _go("forget", "wanted.txt", "--workspace", "w", "--param", "near_duplicate=null")
    assert run(["purge", "--request", "r9", "--workspace", "w"]) == 2
    work = existing(Path("w"))
    with work.locked(), pytest.raises(KeyboardInterrupt):
        purge(work, requested(work, "r1"), request="r1", at=_stop_when_swapped)
    assert not Path("w/report.html").exists()
    capsys.readouterr()
    _go("purge", "--request", "r1", "--workspace", "w", "--json")
    answer = json.loads(capsys.readouterr().out)
    assert (answer["purged"], answer["already"], answer["report"]) == (0, 2, "made again")
    assert Path("w/report.html").exists()
    assert not places(Path("w"), texts=train)
    (Path("w") / "report.html").unlink()  # a person's own doing: it is not made again
    for words in (["--all"], ["--request", "r1"], ["wanted.txt"]):
        assert run(["purge", *words, "--workspace", "w"]) == 0
        assert "2 were purged before" in capsys.readouterr().out
    assert not Path("w/report.html").exists()


def test_a_purge_after_one_that_was_stopped_makes_the_report_of_both(place):
    work = existing(Path("w"))
    with work.locked():
        with pytest.raises(KeyboardInterrupt):
            purge(work, ["s001"], at=_stop_when_swapped)
        assert not Path("w/report.html").exists()
        assert purge(work, ["s006"])["report"] == "made again"
    assert Path("w/report.html").exists()
