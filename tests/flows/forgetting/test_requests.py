"""Deletion requests: what they resolve to, what they leave behind, and that nothing deleted ever comes back."""

import hashlib
import json
import re
import shlex
import shutil
import stat
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.conditions import checked_condition
from tracesift.catalog.manifest import MANIFEST_FILE
from tracesift.catalog.nearest_rows import unit_rows
from tracesift.catalog.schema import BadInput
from tracesift.catalog.store import Catalog
from tracesift.flows import evaluate, make_subset
from tracesift.flows.cli import run
from tracesift.flows.forgetting import deletion, requests
from tracesift.flows.forgetting.inbox import carry_out, waiting
from tracesift.flows.options import Choosing, CurateJob, Training
from tracesift.flows.purging import purge as purging
from tracesift.flows.record import record_seed
from tracesift.flows.selecting import candidates
from tracesift.flows.work import Work
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.embedding.embeddings import table_directions
from tracesift.pipelines.signals import load_signals, read_run
from tracesift.pipelines.subset import LeftOut, load_manifest
from tracesift.scorers.contract import names as scorers
from tracesift.selectors.contract import columns_needed, find, names
from tracesift.selectors.decisions.forget_ready import least_cosine

USED = ("keep", "relabel", "retain", "neighbor", "holdout")
EXACT = ("--param", "near_duplicate=null")
"""The features are random: near copies among them are none."""


def owned_table():
    """The small table, with who contributed what; s000 and s001 have exact copies of another owner."""
    rng = np.random.default_rng(0)
    label = np.arange(60) % 2
    values = (rng.normal(size=(60, 3)) + 2 * label[:, None] * [1, 1, 0]).round(6)
    values[58:60] = values[0:2]
    return pl.DataFrame(
        {
            "id": [f"s{row:03d}" for row in range(60)],
            **{name: values[:, place] for place, name in enumerate("abc")},
            "owner": ["zoe" if row >= 58 else f"o{row % 12}" for row in range(60)],
            "split": ["test" if row % 10 == 5 else "val" if row % 10 == 6 else "train" for row in range(60)],
            "label": [*map("xy".__getitem__, label)],
        }
    )


@pytest.fixture(scope="module")
def owned(tmp_path_factory):
    """A folder with owned.csv and `base`, its workspace; nobody writes here."""
    folder = tmp_path_factory.mktemp("owned")
    owned_table().write_csv(folder / "owned.csv")
    words = ["--workspace", str(folder / "base")]
    for step in (
        ["ingest", str(folder / "owned.csv"), "--features", "a,b,c"],
        ["record", "--epochs", "3", "--folds", "2", "--threads", "1"], ["embed", "--neighbors", "0"], ["score"],
        ["select", "denoise", "--name", "denoised"],
    ):  # fmt: skip
        assert run([*step, *words]) == 0
    return folder


@pytest.fixture
def here(owned, tmp_path, monkeypatch):
    """An own working directory with an own copy `w` of that workspace."""
    shutil.copytree(owned / "base", tmp_path / "w")
    Catalog(tmp_path / "w").check_writable()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def told(capsys):
    def call(*words):
        capsys.readouterr()
        code = run([*map(str, words), "--workspace", "w"])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def forget(told):
    def call(*words):
        code, out, err = told("forget", *words, *EXACT, "--json")
        assert code == 0, err
        return json.loads(out)

    return call


def roles(name="forget-ready", version=None):
    folder = Path(f"w/manifests/{name}") / (f"versions/{version:04d}" if version else "")
    return dict(pl.read_parquet(folder / "members.parquet").select("sample_id", "role").iter_rows())


def having(role, found):
    return sorted(name for name, one in found.items() if one == role)


def requested(sample_ids, name="ids.txt"):
    Path(name).write_text("\n".join(sample_ids))
    return name


def everything():
    """The bytes of every file of the workspace, and the rows of its catalog."""
    files = {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path("w").rglob("*"))
        if path.is_file() and path.name not in (".lock", "catalog.duckdb", "catalog.duckdb.wal")
    }
    catalog = Catalog("w")
    tables = catalog.query("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main' ORDER BY 1")
    rows = {
        name: catalog.query(f'SELECT * FROM "{name}" ORDER BY ALL').rows() for (name,) in tables.iter_rows()
    }
    return files, rows


# --- what is remembered


def test_a_request_keeps_keyed_hashes_and_no_ids(here, forget):
    answer = forget(requested(["s000", "s002"]))
    assert having("forget", roles()) == ["s000", "s002", "s058"]  # the exact copy is pulled in
    request = answer["request"]
    assert {name: request[name] for name in ("num_requested", "num_found", "num_exact", "num_near")} == {
        "num_requested": 2, "num_found": 3, "num_exact": 1, "num_near": 0,
    }  # fmt: skip
    assert (request["status"], request["kind"], request["source"], request["version"]) == (
        "done",
        "ids",
        "ids.txt",
        1,
    )
    key = Path("w/forget.key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_bytes()) == 32
    catalog = Catalog("w")
    rows = catalog.query("SELECT * FROM forgotten")
    assert sorted(rows["how"]) == ["copy", "requested", "requested"]
    content = dict(catalog.query("SELECT sample_id, content_hash FROM samples").iter_rows())
    linkable = {"s000", content["s000"]}
    for text in list(linkable):
        for size in (8, 16, 32, 64):
            linkable.add(hashlib.blake2b(text.encode(), digest_size=size).hexdigest())
        linkable.add(hashlib.sha256(text.encode()).hexdigest())
    kept = repr(rows.rows()) + repr(catalog.query("SELECT * FROM forget_requests").rows())
    assert not [text for text in linkable if text in kept]
    own = hashlib.blake2b(b"s000", key=key.read_bytes(), digest_size=16, person=b"id").hexdigest()
    assert own in rows["id_key"]  # what only the key can tell


def test_the_same_request_again_changes_nothing(here, forget):
    first = forget(requested(["s000", "s002"]))
    before = everything()
    assert forget(requested(["s002", "s000", "s000"])) == first
    assert everything() == before


def test_without_append_a_request_stands_alone_and_with_it_it_joins(here, forget, told):
    forget(requested(["s000"]))
    code, _, err = told("forget", requested(["s003"]), *EXACT)
    parted = "forget-ready: the version before forgot {} samples by request{}; they stay deleted, and this version forgets {}"
    assert (code, parted.format(2, " r1", 2) in err) == (0, True)
    assert having("forget", roles()) == ["s003"]
    assert having("drop", roles()) == ["s000", "s058"]
    reasons = dict(
        pl.read_parquet("w/manifests/forget-ready/members.parquet").select("sample_id", "reason").iter_rows()
    )
    assert reasons["s058"] == "forgotten by request r1"
    answer = forget(requested(["s004"]), "--append")
    assert answer["version"] == 3
    assert having("forget", roles()) == ["s000", "s003", "s004", "s058"]
    assert having("drop", roles()) == []
    assert having("forget", roles(version=2)) == ["s003"]
    assert answer["request"]["num_found"] == 1  # what the others asked for counts there
    err = told("forget", requested(["s000", "s006"]), *EXACT)[2]
    assert parted.format(4, "s r1, r2, r3", 2) in err  # s058 is pulled in again
    assert "the version before" not in told("forget", requested(["s007"]), *EXACT, "--append")[2]


def test_a_trial_is_no_deletion_and_neither_is_the_corrective_set(here, forget, told):
    forget(requested(["s000"]), "--trial", "--name", "tried")
    assert having("forget", roles("tried")) == ["s000", "s058"]
    code, _, err = told("select", "random", "--count", "5", "--name", "tried")
    assert (code, err) == (
        2,
        "tracesift: --name tried: a subset of this name forgets, and would be replaced; choose another\n",
    )
    assert told("select", "forget_ready", "--name", "corrective")[0] == 0
    catalog = Catalog("w")
    assert catalog.query("SELECT count(*) FROM forget_requests").item() == 0
    assert catalog.query("SELECT count(*) FROM forgotten").item() == 0
    assert not Path("w/forget.key").exists()


def test_unless_told_otherwise_rows_of_a_table_are_near_only_where_they_hardly_differ(here, told):
    near = owned_table().filter(pl.col("id") == "s000").with_columns(pl.col("a") + 1e-3, id=pl.lit("near"))
    pl.concat([owned_table(), near]).write_csv("grown.csv")
    assert told("ingest", "grown.csv", "--features", "a,b,c")[0] == 0
    code, _, err = told("forget", requested(["s000"]), "--trial", "--name", "tried")
    assert code == 0, err
    assert having("forget", roles("tried")) == ["near", "s000", "s058"]
    said = json.loads(Path("w/manifests/tried/manifest.json").read_text())["selector"]["params"]
    assert said["near_duplicate"] == "dense"


def test_who_is_asked_for_once_more_pulls_in_the_same_copies_once_more(here, told):
    near = owned_table().filter(pl.col("id") == "s000").with_columns(pl.col("a") + 1e-3, id=pl.lit("near"))
    pl.concat([owned_table(), near]).write_csv("grown.csv")
    assert told("ingest", "grown.csv", "--features", "a,b,c")[0] == 0
    folder, answers = Path("w/manifests/forget-ready"), []
    for words in (["--append"], []):
        assert told("forget", requested(["s000"]), *words)[0] == 0
        members = pl.read_parquet(folder / "members.parquet")
        answers.append((members.rows(), pl.read_parquet(folder / "forget.parquet").rows()))
    assert having("forget", roles()) == ["near", "s000", "s058"]
    assert answers[1] == answers[0]
    rows = Catalog("w").query("SELECT num_found, num_exact, num_near FROM forget_requests").rows()
    assert rows == [(3, 1, 1), (3, 1, 1)]


def test_a_key_that_is_gone_is_noticed_and_unlinked_on_demand(here, forget, told):
    forget(requested(["s000"]))
    Path("w/forget.key").unlink()
    code, _, err = told("select", "random", "--count", "5")
    assert (code, err.count("\n")) == (2, 1)
    assert "restore it from a backup" in err
    assert told("requests", "--unlink")[0] == 0
    assert told("select", "random", "--count", "5")[0] == 0
    (row,) = json.loads(told("requests", "--json")[1])
    assert row["status"] == "unlinked"
    assert "request_key" not in row


# --- nothing deleted comes back


@pytest.fixture
def gone(here, forget):
    """s000, s001 and their copies, deleted."""
    forget(requested(["s000", "s001"]))
    return {"s000", "s001", "s058", "s059"}


def stays_away(name, gone):
    members = pl.read_parquet(f"w/manifests/{name}/members.parquet").filter(
        pl.col("sample_id").is_in(list(gone))
    )
    return (
        set(members["sample_id"]) == gone
        and set(members["role"]) == {"drop"}
        and set(members["weight"]) == {0.0}
        and set(members["reason"]) == {"forgotten by request r1"}
    )


@pytest.fixture(scope="module")
def deleted(owned, tmp_path_factory):
    """A workspace in which s000, s001 and their copies are deleted, with every score that a selector reads."""
    folder = tmp_path_factory.mktemp("deleted")
    shutil.copytree(owned / "base", folder / "w")
    (folder / "ids.txt").write_text("s000\ns001")
    assert run(["forget", str(folder / "ids.txt"), *EXACT, "--workspace", str(folder / "w")]) == 0
    catalog, wanted = (
        Catalog(folder / "w"),
        {column for name in names() for column in columns_needed(name, {})},
    )
    there, rng = catalog.query("SELECT * FROM sample_scores WHERE split = 'train'"), np.random.default_rng(0)
    frame, dataset = there.select("sample_id"), catalog.newest_dataset()
    missing = {
        name for name in wanted & set(scorers()) if name not in there.columns or there[name].is_null().any()
    }
    frame = frame.with_columns(pl.Series(name, rng.random(len(frame))) for name in sorted(missing))
    meta = [
        {"scorer": name, "version": 1, "params": {}, "inputs": [], "direction": "keep"}
        for name in sorted(missing)
    ]
    catalog.put_scores("given", dataset["dataset_id"], frame, meta)
    return folder


OF_A_REQUEST = ("forget_ready", "mu_coreset")
"""They divide, or thin out, what a request forgets."""


@pytest.mark.parametrize("selector", [name for name in names() if name not in OF_A_REQUEST])
def test_no_selector_takes_what_was_deleted(selector, deleted, told, monkeypatch):
    monkeypatch.chdir(deleted)
    if selector != "random":  # the controls are the same for all
        monkeypatch.setattr(make_subset, "controls", lambda *_, **__: [])
    words = ["--count", "6"] if find(selector).budget else []
    if any(column.startswith("<") for column in find(selector).needs):
        words += ["--param", "score=aum"]
    words += {
        "class_forget_set": ["--param", "label=x"],
        "group_forget_set": ["--param", "column=owner", "--param", "value=o3"],
    }.get(selector, [])
    code, _, err = told("select", selector, *words, "--name", selector)
    assert code == 0, err
    for name in (selector, *(["random-random", "random-random-balanced"] if selector == "random" else [])):
        assert stays_away(name, {"s000", "s001", "s058", "s059"}), name


def test_a_subset_made_before_gives_nothing_back(gone, told):
    assert set(roles("denoised")) >= gone
    assert told("select", "random", "--count", "20", "--from", "denoised", "--name", "again")[0] == 0
    assert stays_away("again", gone)
    code, out, _ = told("verify", "w/manifests/denoised")
    assert code == 0
    assert "make it anew" in out


def test_why_says_first_that_a_sample_was_deleted_by_whom_and_when(gone, told):
    day = Catalog("w").forget_requests()[0]["created_at"][:10]
    for sample_id, how in (("s000", "requested"), ("s058", "a copy of what was requested")):
        first, second, *_ = told("why", sample_id)[1].splitlines()
        assert first == f"deleted by request r1 on {day} ({how}); subsets that use it were made before"
        assert second.startswith(sample_id)
    (one,) = json.loads(told("why", "s000", "--json")[1])["deleted"]
    assert (one["request_id"], one["how"], one["subset"]) == ("r1", "requested", "forget-ready")
    assert told("why", "s003")[1].startswith("s003")
    Path("w/forget.key").unlink()
    assert told("why", "s003")[1].startswith("whether it was deleted cannot be told")


def test_a_manifest_made_before_hands_out_nothing_that_was_deleted_since(gone, told, owned):
    source = owned / "owned.csv"
    code, _, err = told("export", "w/manifests/denoised", "--to", "out", "--format", "parquet")
    assert (code, err) == (0, "denoised: without 4 samples that were asked to be forgotten\n")
    written = pl.concat(pl.read_parquet(path, columns=["sample_id"]) for path in Path("out/data").iterdir())
    assert set(written["sample_id"]) == set(roles("denoised")) - gone
    given = pl.read_parquet("out/manifest/members.parquet")
    assert set(given["sample_id"]) == set(written["sample_id"])
    code, out, _ = told("verify", "out/manifest", "--json")
    assert (code, json.loads(out)["purged"]) == (0, 4)
    with pytest.warns(LeftOut, match="^denoised: without 4 samples that were asked to be forgotten$"):
        kept = load_manifest("w/manifests/denoised").apply(source, role=["keep", "relabel", "drop"])
    assert not gone & set(kept["sample_id"])
    shutil.copytree("w/manifests/denoised", "elsewhere")  # where nothing is known of requests
    assert gone <= set(
        load_manifest("elsewhere").apply(source, role=["keep", "relabel", "drop"])["sample_id"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeftOut)
        to_unlearn = load_manifest("w/manifests/forget-ready").apply(source, role="forget")
    assert set(to_unlearn["sample_id"]) == gone
    Path("w/forget.key").unlink()
    code, _, err = told("export", "w/manifests/denoised", "--to", "again", "--format", "parquet")
    assert (code, err.count("\n")) == (2, 1)
    assert "forget.key is gone" in err


def test_what_was_deleted_is_known_again_when_it_is_ingested_again_grown_or_under_another_id(
    gone, told, here
):
    table = owned_table()
    copy = table.filter(pl.col("id") == "s000").with_columns(id=pl.lit("other"), owner=pl.lit("new"))
    held = table.filter(pl.col("id") == "s001").with_columns(id=pl.lit("held"), split=pl.lit("test"))
    pl.concat([table, copy, held]).write_csv("grown.csv")
    assert told("ingest", "grown.csv", "--features", "a,b,c")[0] == 0
    work = Work(Path("w"))
    assert set(work.forgotten["sample_id"]) == gone | {"other", "held"}
    assert told("select", "random", "--count", "20", "--name", "grown")[0] == 0
    assert stays_away("grown", gone | {"other"})
    assert told("forget", requested(["s002"], "next.txt"), *EXACT)[0] == 0
    found = roles()
    assert "held" not in found  # the holdout of a test split would be a use of it
    assert having("drop", found) == sorted(gone | {"other"})


def test_nothing_is_trained_or_tested_on_what_was_deleted(gone, told, monkeypatch):
    work, seen = Work(Path("w")), []
    ids = work.dataset.samples["sample_id"]
    monkeypatch.setattr(
        evaluate, "retrain", lambda data, rows, **_: seen.append((data, rows)) or {"accuracy": 1.0}
    )
    training = Training(epochs=1, threads=1, folds=2)
    for cell in evaluate.cells(work, training, ["denoised"]):
        evaluate.evaluate_cell(work, training, cell)
    assert (
        len(seen) >= 3
    )  # everything; a subset made before the request that now holds the same is not trained again
    for data, rows in seen:
        assert not gone & set(ids.gather(rows))
        assert not gone & set(ids.gather(data.rows("test")))
    old = work.catalog.newest_run()["run_id"]
    assert gone <= set(load_signals("w", old).sample_ids)
    code, _, err = told("record", "--job", "late_stopping")
    assert code == 2
    assert "recorded before deletion request r1" in err
    new = record_seed(work, training, 0)
    assert new != old
    assert read_run("w", new)["dataset"]["withheld_by"] == ["r1"]
    assert not gone & set(load_signals("w", new).sample_ids)
    assert told("record", "--epochs", "1", "--folds", "2", "--threads", "1")[0] == 0
    folds = dict(np.load(f"w/signals/run={new}/probs_oos.npz"))
    assert all(len(values) == len(work.trainable.rows("train")) for values in folds.values())
    assert told("score", "aum", "cartography_confidence")[0] == 0  # rows of the recording, not of the dataset
    assert told("score", "--run", old)[0] == 0
    judged = set(work.catalog.query("SELECT sample_id FROM flags WHERE run_id = ?", (old,))["sample_id"])
    assert judged == set(load_signals("w", old).sample_ids) - gone


def test_a_withheld_row_is_in_no_split():
    digits = open_dataset("digits")
    first = digits.samples["sample_id"][int(digits.rows("train")[0])]
    left = digits.without([first], ["r1"])
    assert len(left.rows("train")) == len(digits.rows("train")) - 1
    assert left.fingerprint == digits.fingerprint
    assert digits.without([], ["r1"]).withheld_by == ()


def test_curate_with_a_request_run_again_trains_nothing_and_without_it_trains_without(here, owned, told):
    words = [
        "curate",
        owned / "owned.csv",
        "--features",
        "a,b,c",
        "--epochs",
        "3",
        "--folds",
        "2",
        "--threads",
        "1",
    ]
    assert told(*words, "--forget", requested(["s000"]))[0] == 0
    first = Catalog("w").query("SELECT run_id FROM runs ORDER BY 1").rows()
    assert len(first) == 1  # the recording of before, which is to be unlearned from
    assert {"s000", "s058"} <= set(having("forget", roles()))
    for name in ("pruned", "denoised", "pruned-random"):
        assert not {"s000", "s058"} & {one for role in USED for one in having(role, roles(name))}
    manifests = {str(path): path.read_bytes() for path in sorted(Path("w/manifests").rglob("*.[jp]*"))}
    assert told(*words, "--forget", "ids.txt")[0] == 0
    assert Catalog("w").query("SELECT run_id FROM runs ORDER BY 1").rows() == first
    assert {
        str(path): path.read_bytes() for path in sorted(Path("w/manifests").rglob("*.[jp]*"))
    } == manifests
    assert told(*words)[0] == 0
    (new,) = set(Catalog("w").query("SELECT run_id FROM runs").rows()) - set(first)
    assert not {"s000", "s058"} & set(load_signals("w", new[0]).sample_ids)
    assert "s000" in having("forget", roles())  # the request still stands at the top
    assert told("purge", "--all")[0] == 0
    owned_table().filter(~pl.col("id").is_in(["s000", "s058"])).write_csv(
        "owned.csv"
    )  # as the source should be
    words[1] = "owned.csv"
    code, _, err = told(*words, "--forget", requested(["s000", "nobody"]), "--dry-run")
    assert (code, "lacks 1 of 2 requested ids (1 of the others deleted before)" in err) == (2, True)
    code, _, err = told(*words, "--forget", requested(["s000"]))
    assert code == 0, err
    assert len(Catalog("w").forget_requests()) == 1


def test_curating_another_state_of_the_data_leaves_the_answer_of_a_request_in_its_place(
    gone, told, monkeypatch
):
    owned_table().with_columns(id=pl.col("id").str.replace("s", "t")).write_csv("renamed.csv")
    assert told("ingest", "renamed.csv", "--features", "a,b,c")[0] == 0
    work, before = Work(Path("w")), everything()[0]
    assert len(work.forgotten) == len(gone)  # by their content
    for name in ("pruned", "denoised", "_keep_stability"):
        monkeypatch.setattr(make_subset, name, lambda *_, **__: [])
    job = CurateJob(source="renamed.csv", choosing=Choosing(selector="random"))
    make_subset.make_subsets(work, job)
    assert {path: one for path, one in everything()[0].items() if "manifests" in path} == {
        path: one for path, one in before.items() if "manifests" in path
    }


# --- what is asked for


def test_an_owner_is_all_of_an_owner_and_nobody_else(here, forget):
    table = owned_table()
    answer = forget("--owner", "o3", "--trial", "--name", "tried")
    own = table.filter((pl.col("owner") == "o3") & (pl.col("split") == "train"))["id"].to_list()
    assert having("forget", roles("tried")) == own
    assert answer["request"] is None
    forget("--owner", "o5")
    held = table.filter((pl.col("owner") == "o5") & (pl.col("split") != "train"))["id"].to_list()
    assert held
    work = Work(Path("w"))
    assert set(held) <= set(work.forgotten.filter(pl.col("how") == "untrained")["sample_id"])
    assert not set(held) & set(work.dataset.samples["sample_id"].gather(work.trainable.rows("test")))
    (row,) = work.catalog.forget_requests()
    assert "o5" not in repr(row)


def test_copies_of_what_an_owner_has_outside_train_are_forgotten_and_none_of_it_is_used(here, told):
    table = owned_table().with_columns(
        owner=pl.when(pl.col("id") == "s006").then(pl.lit("o5")).otherwise("owner")
    )
    held = {name: table.filter(pl.col("id") == name) for name in ("s005", "s006")}  # in test, in val

    def copied(of, name, split, by):
        return held[of].with_columns(pl.col("a", "b", "c") + by, id=pl.lit(name), split=pl.lit(split), owner=pl.lit("new"))  # fmt: skip

    copies = [
        copied("s005", "exact", "train", 0), copied("s006", "near", "train", 1e-4),
        copied("s005", "exact-test", "test", 0), copied("s006", "near-test", "test", 1e-4),
    ]  # fmt: skip
    pl.concat([table, *copies]).write_csv("grown.csv")
    assert told("ingest", "grown.csv", "--features", "a,b,c")[0] == 0
    near = ("--param", "near_duplicate=0.99999")
    code, _, err = told("forget", "--owner", "o5", *near)
    assert code == 0, err
    members = pl.read_parquet("w/manifests/forget-ready/members.parquet")
    reasons = dict(members.filter(role="forget").select("sample_id", "reason").iter_rows())
    assert reasons["exact"].startswith("exact copy of 's005', which is requested")
    assert reasons["near"].startswith("near copy of 's006', which is requested: cosine 1.0000")
    assert not {*held, "exact-test", "near-test"} & set(members["sample_id"])
    assert json.loads(Path("w/manifests/forget-ready/overlap.json").read_text())["exact_across"] == 0
    assert json.loads(told("verify", "w/manifests/forget-ready", "--json")[1])["forgotten"]["used_until"] == 0
    (row,) = json.loads(told("requests", "--json")[1])
    assert (row["num_requested"], row["num_untrained"], row["num_exact"], row["num_near"]) == (4, 4, 1, 1)
    # each of the two in test has the very content of what goes
    assert "4 records outside train deleted as well, 2 of them as exact copies" in err
    assert told("select", "random", "--count", "20", "--name", "later")[0] == 0
    assert {"exact", "near"} <= set(having("drop", roles("later")))
    assert told("forget", requested(["s000"]), "--append", *near)[0] == 0
    joined = roles()
    assert {"exact", "near", "s000"} <= set(having("forget", joined))
    assert not {*held, "exact-test", "near-test"} & set(joined)


@pytest.mark.parametrize("named", [(), ("--embedding", "later")])
def test_near_copies_of_what_was_deleted_before_are_no_holdout(named, here, told):
    table = owned_table()

    def copied(of, name):
        return table.filter(pl.col("id") == of).with_columns(
            pl.col("a", "b", "c") + 1e-4, id=pl.lit(name), split=pl.lit("test"), owner=pl.lit("new")
        )

    pl.concat([table, copied("s000", "near-trained"), copied("s005", "near-held")]).write_csv("grown.csv")
    assert told("ingest", "grown.csv", "--features", "a,b,c")[0] == 0
    near, copies = ("--param", "near_duplicate=0.99999"), {"near-trained", "near-held"}
    assert told("forget", "--owner", "o5", *near)[0] == 0  # s005 is a test record of theirs
    if named:  # made without it, so its copy cannot be seen there
        assert told("embed", "--neighbors", "0", "--source", "content", "--name", "later")[0] == 0
        copies = {"near-trained"}
    assert told("forget", requested(["s000"]), *near)[0] == 0
    code, _, err = told("forget", requested(["s003"], "next.txt"), *near, *named)
    assert code == 0, err
    found = roles()
    assert not {*copies, "s005"} & set(found)
    assert set(having("holdout", found)) >= {"s015", "s025"}
    assert set(having("drop", found)) >= {"s000", "s058"}


def test_ids_a_group_and_a_condition_reach_records_of_all_splits_as_an_owner_does(here, forget, told):
    forget("--group", "owner=o5", "--trial", "--name", "tried")
    assert roles("tried")["s005"] == "holdout"
    Path("table.csv").write_text(
        "request_id,sample_id,group,where\na,,owner=o5,\nb,,,\"attributes->>'owner' = 'o6'\"\nc,s015,,\nc,s003,,\nd,s025,,\n"
    )
    code, out, err = told("forget", "table.csv", *EXACT, "--append", "--json")
    assert code == 0, err
    rows = json.loads(out)["requests"]
    assert [(row["num_requested"], row["num_untrained"]) for row in rows] == [(4, 1), (4, 1), (1, 1), (0, 1)]
    assert "request c: 1 record outside train deleted as well" in err
    asked = {*owners("o5"), *owners("o6"), "s015", "s003", "s025"}
    assert set(Work(Path("w")).forgotten["sample_id"]) == asked
    outside = {"s005", "s006", "s015", "s025"}
    assert set(having("forget", roles())) == asked - outside
    assert not outside & set(roles())
    assert told("purge", "--all")[0] == 0
    assert not asked & set(Catalog("w").query("SELECT sample_id FROM samples")["sample_id"])


def test_a_class_leaves_its_records_outside_train_and_says_what_deletes_them(here, told):
    code, _, err = told("forget", "--class", "x", *EXACT)
    assert code == 0, err
    assert "6 records of class 'x' outside train stay" in err
    command = shlex.split(re.search("`tracesift (.*)`", err)[1])
    assert command[-2:] == ["--workspace", "w"]
    before = having("forget", roles())
    code, _, err = told(*command[:-2], *EXACT)
    assert code == 0, err
    assert having("forget", roles()) == before
    known = set(owned_table().filter(pl.col("label") == "x")["id"])
    assert set(Work(Path("w")).forgotten["sample_id"]) == known


def test_a_table_of_requests_is_worked_off_in_its_order(here, forget, told):
    Path("table.csv").write_text(
        "request_id,sample_id,owner,where,requested_by\nb,s002,,,legal\na,,o3,,\nb,s004,,,\nc,,,\"attributes->>'owner' = 'o7'\",\n"
    )
    answer = forget("table.csv")
    rows = answer["requests"]
    assert [row["request_id"] for row in rows] == ["b", "a", "c"]
    assert [row["version"] for row in rows] == [1, 2, 3]
    assert rows[0]["source"] == "table.csv, rows 2 to 4, asked by legal"
    assert having("forget", roles(version=1)) == ["s002", "s004"]
    owner = owned_table().filter((pl.col("owner") == "o7") & (pl.col("split") == "train"))["id"].to_list()
    assert having("forget", roles()) == owner
    before = everything()
    assert forget("table.csv") == answer
    assert everything() == before
    code, out, _ = told("requests")
    assert code == 0
    assert "table.csv" in out


@pytest.mark.parametrize(
    "condition",
    [
        "1) OR (1=1", "aum > 0; DROP TABLE samples", "SELECT 1", "aum > 0, 1", "/*", "", "aum > 0) --",
        "(SELECT count(*) FROM read_csv('x.csv')) > 0", "1 IN (SELECT a FROM 'x.csv')",
        "(SELECT content FROM read_text('w/forget.key')) = ''", "getenv('HOME') = ''",
        "EXISTS (FROM glob('*'))",
    ],
)  # fmt: skip
def test_a_condition_is_one_condition_over_the_catalog(condition):
    with pytest.raises(BadInput, match="cannot be run"):
        checked_condition(condition)


@pytest.mark.parametrize(
    ("condition", "what"),
    [
        ("random() < 0.05", "random()"), ("uuid() < '8'", "uuid()"), ("now() > '2026-01-01'", "now()"),
        ("aum > 0 AND current_date > '2026-01-01'", "current_date"), ("age(born) > INTERVAL 1 YEAR", "age()"),
        ("sample_id IN (SELECT sample_id FROM sample_scores USING SAMPLE 5 ROWS)", "a sample drawn at random"),
    ],
)  # fmt: skip
def test_a_condition_means_the_same_whenever_it_is_asked(condition, what):
    with pytest.raises(BadInput, match=rf"^--where .*: {re.escape(what)} is something else each time"):
        checked_condition(condition)


def test_a_condition_may_ask_the_catalog_and_end_in_a_comment(here):
    work = Work(Path("w"))
    wanted = "label = 'x' AND aum <= (SELECT median(aum) FROM sample_scores) -- the hard ones"
    found = candidates.fitting(work, wanted)
    assert found == sorted(found)
    assert 0 < len(found) < 30


REFUSED = {
    "unknown ids": (["unknown.txt"], "owned lacks 25 of 26 requested ids, first 'n00', 'n01'"),
    "a long list": (["unknown.txt"], "'n19', … (25)"),
    "not in train": (["held.txt", "--trial"], "train lacks 1 of 1 requested ids, first 's005' (test)"),
    "all outside train": (["--where", "aum IS NULL"], "12 of 12 records outside train would be deleted"),
    "half": (["--where", "sample_id < 's050'"], "more than half"),
    "a class": (["x.txt", "--yes"], "nothing of class 'x' would be left"),
    "a name": (
        ["--class", "x", "--name", "denoised"],
        "--name denoised: a subset of this name is there to train on",
    ),
    "a name to come": (
        ["--class", "x", "--name", "pruned"],
        "--name pruned: a subset of this name is there to train",
    ),
    "a predicate": (["--where", "1) OR (1=1"], "one condition"),
    "a constant": (["--where", "5", "--yes"], "--where 5: it is no condition, but a value"),
    "a score": (["--where", "aum", "--yes"], "--where aum: it is no condition, but a value"),
    "no column": (["--where", "1 = 1", "--yes"], "--where 1 = 1: it reads no column of the samples"),
    "others' columns": (
        ["--where", "EXISTS (SELECT * FROM sample_scores s WHERE s.label = 'x')", "--yes"],
        "it reads no column of the samples",
    ),
    "an attribute": (
        ["--where", "owner = 'o1'"],
        "'owner' is an attribute of the source; write attributes->>'owner'",
    ),
    "an empty table": (["empty.csv"], "empty.csv is empty"),
    "a table of nothing": (["head.csv"], "holds no requests"),
    "latin-1": (["latin.csv"], "latin.csv is not text in UTF-8; save it as that"),
    "a column": (["column.csv"], "unknown column 'sampel_id' (did you mean 'sample_id'?)"),
    "two ways": (["two.csv"], "two.csv, row 2: sample_id and owner are given"),
    "an owner's column without one": (["lone.csv"], "lone.csv, row 2: owner_column says where owners stand"),
    "an unknown owner's column": (
        ["at.csv"],
        "at.csv, row 2: owner: no column 'ownr' where owners could stand",
    ),
    "no value of a group": (["--group", "owner"], "--group owner: which value? say --group COL=VALUE"),
    "an entity": (
        ["--class", "x", "--entity", "nocol"],
        "--entity nocol: no such column; there are owner, label\n",
    ),
    "one bad of two": (["late.csv"], "late.csv, row 3: owner nobody"),
    "one of two takes too much": (["much.csv"], "tracesift: much.csv, row 3: 42 of 48 training samples"),
    "an owner": (["--owner", "nobody"], "no record has this value in column 'owner'"),
    "an owner's column": (["--owner", "o1", "--owner-column", "ownr"], "did you mean 'owner'?"),
    "a group's column": (
        ["--owner", "o1", "--param", "group=ownr"],
        "--param group=ownr: no such column (did you mean 'owner'?); there are owner, label",
    ),
    "two ways at once": (["--owner", "o1", "--class", "x"], "in one way"),
    "a trial that joins": (["--class", "x", "--trial", "--append"], "nothing to join"),
}


@pytest.fixture(scope="module")
def untouched(owned, tmp_path_factory):
    """A workspace that every refusal leaves as it is."""
    folder = tmp_path_factory.mktemp("untouched")
    shutil.copytree(owned / "base", folder / "w")
    Catalog(folder / "w").check_writable()
    return folder


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_said_in_one_line_and_changes_nothing(case, untouched, told, monkeypatch):
    monkeypatch.chdir(untouched)
    requested([*(f"n{at:02d}" for at in range(25)), "s000"], "unknown.txt")
    requested(["s005"], "held.txt")
    table = owned_table()
    requested(table.filter((pl.col("label") == "x") & (pl.col("split") == "train"))["id"].to_list(), "x.txt")
    for name, text in {
        "empty.csv": "", "head.csv": "sample_id\n", "column.csv": "sampel_id,owner\ns000,\n",
        "lone.csv": "sample_id,owner_column\ns000,owner\n", "at.csv": "owner,owner_column\no1,ownr\n",
        "two.csv": "sample_id,owner\ns000,o1\n", "late.csv": "request_id,sample_id,owner\na,s000,\nb,,nobody\n",
        "much.csv": "request_id,where\na,sample_id = 's000'\nb,sample_id < 's050'\n",
    }.items():  # fmt: skip
        Path(name).write_text(text)
    Path("latin.csv").write_bytes("owner\nJos\u00e9\n".encode("latin-1"))
    words, said = REFUSED[case]
    before = everything()
    code, out, err = told("forget", *words, *EXACT)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert said in err
    assert everything() == before


def test_only_what_a_request_adds_counts_as_much(here, forget, told):
    forget("--where", "sample_id < 's025'")
    forget("--where", "sample_id >= 's025' AND sample_id < 's050'", "--append")  # more than half, together
    assert len(having("forget", roles())) > 24
    forget(
        "--where", "sample_id < 's052' AND split = 'train'", "--append"
    )  # names them once more, and adds two
    code, _, err = told(
        "forget", "--where", "sample_id < 's052' AND split = 'train'", "--name", "anew", *EXACT
    )
    assert code == 2
    assert "of 48 training samples would be forgotten, copies included: more than half" in err


def test_what_takes_much_is_done_when_it_is_meant(here, forget):
    forget("--where", "sample_id < 's050'", "--yes")
    table = owned_table().filter((pl.col("label") == "x") & (pl.col("split") == "train"))
    requested(table["id"].to_list(), "x.txt")
    forget("x.txt", "--yes", "--allow-empty-class", "--append")
    assert set(table["id"]) <= set(having("forget", roles()))


# --- verify


def test_verify_finds_a_deleted_sample_in_a_manifest_made_afterwards(gone, told, monkeypatch, tmp_path):
    monkeypatch.setattr(Work, "forgotten", property(lambda work: work.catalog.recognised(pl.DataFrame({"sample_id": []}, schema={"sample_id": pl.String}))))  # fmt: skip
    assert told("select", "random", "--count", "44", "--name", "leaky")[0] == 0
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    kept = having("keep", roles("leaky"))
    back = sorted(gone & set(kept))
    assert back
    code, out, _ = told("verify", "w/manifests/leaky", "--json")
    known = json.loads(out)
    assert code == 1
    assert [one["sample_id"] for one in known["forgotten"]["stand"]] == back
    assert f"'{back[0]}' (row " in known["differences"][0]
    assert "forgotten by request r1" in known["differences"][0]
    shutil.copytree("w/manifests/leaky", "elsewhere")
    assert told("verify", "elsewhere")[0] == 1  # --workspace w says where the requests are
    assert run(["verify", f"elsewhere/{MANIFEST_FILE}", "--workspace", "nowhere"]) == 0
    assert told("verify", "w/manifests/forget-ready")[0] == 0


# --- a folder of requests


def work_off(work, inbox, how, **settings):
    return [carry_out(work, path, how, moved=True, **settings) for path in waiting(inbox)]


def test_a_folder_is_worked_off_file_by_file(here, monkeypatch):
    inbox = here / "inbox"
    inbox.mkdir()
    (inbox / "1.txt").write_text("s002\n")
    (inbox / "2.csv").write_text("owner\nnobody\n")
    (inbox / "3.csv").write_text("request_id,sample_id\nlegal-7,s004\n")
    work, how = Work(here / "w"), deletion.Handling(append=True, params={"near_duplicate": None})
    told = work_off(work, inbox, how)
    assert [one["status"] for one in told] == ["done", "refused", "done"]
    assert sorted(path.name for path in inbox.iterdir()) == ["done", "refused"]
    assert sorted(path.name for path in (inbox / "done").iterdir()) == [
        "1.txt",
        "1.txt.json",
        "3.csv",
        "3.csv.json",
    ]
    assert "no record has this value" in json.loads((inbox / "refused/2.csv.json").read_text())["reason"]
    answer = (inbox / "done/3.csv.json").read_bytes()
    assert having("forget", roles()) == ["s002", "s004"]
    before = everything()
    shutil.move(inbox / "done/3.csv", inbox / "3.csv")  # killed before it was moved
    work_off(work, inbox, how)
    assert (inbox / "done/3.csv.json").read_bytes() == answer
    assert everything() == before
    shutil.copy(inbox / "done/3.csv", inbox / "3.csv")
    (inbox / "4.txt").write_text("s002\n")
    (inbox / "5.txt").write_text("s006\n")
    told = work_off(work, inbox, how)
    (on,) = work.catalog.query(
        "SELECT strftime(created_at, '%Y-%m-%d') FROM forget_requests WHERE request_id = 'r1'"
    ).row(0)
    assert [one.get("unchanged", "").partition(" on ")[0] for one in told] == [
        "asked for before, as legal-7", "asked for before, as r1", "",
    ]  # fmt: skip
    assert json.loads((inbox / "done/4.txt.json").read_text())["unchanged"] == (
        f"asked for before, as r1 on {on}: nothing more is forgotten"
    )


def test_an_inbox_is_told_where_owners_stand_and_to_purge(here, monkeypatch):
    monkeypatch.setattr(requests, "OWNER_COLUMNS", ("writer",))
    inbox = here / "inbox"
    inbox.mkdir()
    (inbox / "1.csv").write_text("owner\no3\n")
    (inbox / "2.csv").write_text("owner,owner_column\no5,owner\n")
    work, how = Work(here / "w"), deletion.Handling(append=True, params={"near_duplicate": None})
    told = work_off(work, inbox, how)
    assert [one["status"] for one in told] == ["refused", "done"]
    assert "1.csv, row 2: owner: say where owners stand" in told[0]["reason"]
    shutil.move(inbox / "refused/1.csv", inbox / "1.csv")
    (one,) = work_off(work, inbox, how, owner_column="owner", purge=True)
    assert (one["status"], one["purged"][0]["request"]) == ("done", "r2")
    assert (
        json.loads((inbox / "done/1.csv.json").read_text())["purged"][0]["purged"]
        == one["purged"][0]["purged"]
    )
    left = set(work.catalog.query("SELECT sample_id FROM samples")["sample_id"])
    by = owned_table()
    assert not left & set(by.filter(pl.col("owner") == "o3")["id"])
    assert left >= set(by.filter(pl.col("owner") == "o5")["id"])  # forgotten by a request that purged nothing


def test_a_request_that_was_stopped_halfway_is_done_again_with_the_same_result(
    here, forget, told, monkeypatch
):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(deletion, "forget_controls", stopped)
        assert told("forget", requested(["s000"]), *EXACT)[0] == 130
    assert Catalog("w").query("SELECT status FROM forget_requests").item() == "begun"
    assert "s000" in set(Work(Path("w")).forgotten["sample_id"])  # it counts from then on
    members = Path("w/manifests/forget-ready/members.parquet").read_bytes()
    answer = forget(requested(["s000"]))
    assert (answer["version"], answer["request"]["status"]) == (1, "done")
    assert Path("w/manifests/forget-ready/members.parquet").read_bytes() == members
    assert len(Catalog("w").forget_requests()) == 1
    assert having("forget", roles("forget-ready-random"))
    assert not {"s000", "s058"} & set(having("retain", roles("forget-ready-random")))


# --- and removed


def test_what_is_purged_does_not_come_back_from_the_source(owned, here, forget, told):
    answer = forget(requested(["s000", "s002"]), "--purge")
    (purged,) = answer["purged"]
    assert (purged["request"], purged["purged"]) == ("r1", 3)
    catalog = Catalog("w")
    told_of = {row["subset_id"] for row in (answer, *answer["controls"], *answer["requests"])}
    assert told_of <= set(
        catalog.query("SELECT subset_id FROM subsets")["subset_id"]
    )  # as the purge left them
    gone = {"s000", "s002", "s058"}
    assert not gone & set(catalog.query("SELECT sample_id FROM samples")["sample_id"])
    assert catalog.forget_requests()[0]["num_found"] == 3
    assert len(catalog.query("SELECT * FROM forgotten")) == 3
    code, _, err = told("ingest", owned / "owned.csv", "--features", "a,b,c")
    assert code == 0
    assert "3 samples of owned were purged" in err
    assert not gone & set(catalog.query("SELECT sample_id FROM samples")["sample_id"])
    assert told("select", "random", "--count", "20", "--name", "later")[0] == 0
    assert not gone & set(roles("later"))
    assert told("verify", "w/manifests/later", owned / "owned.csv")[0] == 0
    before = Path("w/purges.json").read_text()
    renamed = owned_table().with_columns(id=pl.col("id").str.replace("s", "t"))
    renamed.write_csv("renamed.csv")  # the same content under other ids
    assert told("ingest", "renamed.csv", "--features", "a,b,c", "--id", "id")[0] == 0
    now = set(catalog.query("SELECT sample_id FROM samples WHERE starts_with(sample_id, 't')")["sample_id"])
    assert len(now) == 57
    assert not {"t000", "t002", "t058"} & now
    assert json.loads(before)["key"]
    assert told("requests", "--unlink")[0] == 0  # then no key and no hash is left, of the purge neither
    after = json.loads(Path("w/purges.json").read_text())
    assert after["key"] is None
    assert [[entry[name] for name in ("samples", "ids", "contents")] for entry in after["purges"]] == [
        [3, [], []]
    ]
    assert not Path("w/forget.key").exists()


def test_content_that_was_purged_for_all_requests_does_not_come_back_under_another_id(here, forget, told):
    forget(requested(["s000", "s002"]))
    assert told("purge", "--all")[0] == 0
    renamed = owned_table().with_columns(id="again-" + pl.col("id")).sample(fraction=1, shuffle=True, seed=1)
    renamed.write_csv("renamed.csv")
    for _ in range(2):
        code, _, err = told("ingest", "renamed.csv", "--features", "a,b,c", "--id", "id")
        assert code == 0
        assert "3 samples of renamed were purged from w and left out" in err
    now = set(Catalog("w").query("SELECT sample_id FROM samples")["sample_id"])
    assert not {f"again-s{row:03d}" for row in (0, 2, 58)} & now
    assert "again-s001" in now
    # who reads the source finds them there, and asks for them
    code, _, err = told("forget", requested(["again-s000", "again-s001", "again-s058"], "more.txt"), *EXACT)
    assert code == 0, err
    assert "2 of what it names were deleted before" in err
    assert having("forget", roles()) == ["again-s001", "again-s059"]
    # another sample that has one of these ids later is no purged one
    renamed.with_columns(
        id=pl.col("id").replace({"again-s000": "again-s003", "again-s003": "again-s000"})
    ).write_csv("renamed.csv")
    code, _, err = told("ingest", "renamed.csv", "--features", "a,b,c", "--id", "id")
    assert code == 0
    assert "3 samples of renamed were purged from w and left out" in err
    work = Work(Path("w"))
    now = set(work.dataset.samples["sample_id"])
    assert ("again-s000" in now, "again-s003" in now) == (True, False)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("forget.key", "cut off"),
        ("purges.json", "gone"),
        ("purges.json", "cut off"),
        ("purges.json", "of before"),
    ],
)
def test_what_recognises_the_purged_is_missed_by_doctor_and_before_they_return(
    name, damage, owned, here, forget, told
):
    def checked():
        code, out, _ = told("doctor", "--json")
        return code, {row["name"]: row for row in json.loads(out)["checks"]}

    assert not {"forget.key", "purges.json"} & checked()[1].keys()
    path = Path("w") / name
    forget(requested(["s003"]), "--purge")
    earlier = path.read_bytes()
    forget(requested(["s000", "s002"]), "--purge")
    code, rows = checked()
    assert (code, rows[name]["state"]) == (0, "ok")
    whole = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(whole[:20] if damage == "cut off" else earlier)
    code, rows = checked()
    assert (code, rows[name]["state"]) == (1, "problem")
    assert "restore it from a backup" in rows[name]["found"]
    before = Catalog("w").query("SELECT count(*) FROM samples").item()
    if name == "purges.json":
        again = ["ingest", owned / "owned.csv", "--features", "a,b,c"]
        for words in (again, ["forget", requested(["s004"]), "--purge"], ["purge", "--request", "r1"]):
            code, _, err = told(*words)
            assert (code, err.count("\n"), "`tracesift requests --unlink" in err) == (2, 1, True), err
        assert Catalog("w").query("SELECT count(*) FROM samples").item() == before
        path.write_bytes(whole)
        assert told(*again)[0] == 0
        assert Catalog("w").query("SELECT count(*) FROM samples").item() == before
        path.unlink()
    assert told("requests", "--unlink")[0] == 0  # nobody is to be recognised
    code, rows = checked()
    assert (code, "forget.key" in rows) == (0, False)
    assert told("ingest", owned / "owned.csv", "--features", "a,b,c")[0] == 0


def test_a_twin_that_was_not_purged_stays_when_the_source_is_read_again(owned, here, forget, told):
    forget(requested(["s000"]))
    code, _, err = told("purge", requested(["s000"], "one.txt"))
    assert code == 0
    assert "1 remaining sample with exactly the same content" in err
    before = Catalog("w").newest_dataset()["dataset_id"]
    assert told("ingest", owned / "owned.csv", "--features", "a,b,c")[0] == 0
    assert Catalog("w").newest_dataset()["dataset_id"] == before
    assert "s058" in set(Catalog("w").query("SELECT sample_id FROM samples")["sample_id"])


def test_whole_owners_are_found_where_a_missing_one_made_floats_of_them(tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    owner = [None if row == 7 else float(row % 20) for row in range(60)]
    code = [f"{row % 20:02d}" for row in range(60)]
    pl.DataFrame(
        {"id": [f"s{row:02d}" for row in range(60)], "x": [float(row) for row in range(60)], "owner": owner, "code": code,
         "label": [row % 2 for row in range(60)]}
    ).write_parquet("t.parquet")  # fmt: skip
    assert told("ingest", "t.parquet", "--metadata", "owner,code")[0] == 0
    assert told("forget", "--owner", "3", *EXACT)[0] == 0
    asked = {"s03", "s23", "s43"}
    assert set(Work(Path("w")).forgotten["sample_id"]) == asked
    code, _, err = told("forget", "--group", "code=5", *EXACT)  # text is what it says
    assert (code, "no record has this value" in err) == (2, True)


def test_a_table_of_which_every_column_is_a_feature_has_no_owners(tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    rows = [f"s{row:02d},{row % 7},o{row % 3},{'ab'[row % 2]}" for row in range(60)]
    Path("t.csv").write_text("\n".join(["id,x,owner,label", *rows]) + "\n")
    assert told("ingest", "t.csv")[0] == 0
    code, _, err = told("forget", "--owner", "o1")
    assert (code, "no column that is neither a feature nor" in err, "--metadata OWNER" in err) == (
        2,
        True,
        True,
    )


def test_an_owners_test_records_are_purged_as_well(here, told, forget):
    answer = forget("--owner", "o5")
    assert answer["request"]["kind"] == "owner"
    owned_by = set(owned_table().filter(pl.col("owner") == "o5")["id"])
    assert told("purge", "--request", "r1")[0] == 0
    assert not owned_by & set(Catalog("w").query("SELECT sample_id FROM samples")["sample_id"])
    assert told("purge", "--request", "r9")[0] == 2


@pytest.mark.parametrize("way", ["ids", "owner", "table"])
def test_a_command_that_was_killed_behind_its_purge_finishes_it_when_run_again(
    way, here, told, forget, monkeypatch
):
    Path("w/report.html").write_text("<p>it is made again</p>")
    Path("table.csv").write_text("request_id,sample_id,owner\na,s003,\nb,,o3\nb,s002,\n")  # s003 is o3's
    words = {
        "ids": [requested(["s000", "s002"], "ids.csv")],
        "owner": ["--owner", "o5"],
        "table": ["table.csv"],
    }[way]

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(purging, "_report_again", stopped)
        assert (
            told("forget", *words, *EXACT, "--purge")[0] == 130
        )  # of a table, behind the first of two purges
    made = []
    monkeypatch.setattr(purging, "_report_again", lambda *_: made.append(1) or "made again")
    left = set(Catalog("w").query("SELECT sample_id FROM samples")["sample_id"])
    if way == "ids":
        code, _, err = told("forget", requested(["s002", "s000", "s0001"], "more.txt"), *EXACT, "--purge")
        assert (
            code,
            "lacks 1 of 3 requested ids (2 of the others deleted before), first 's0001'" in err,
        ) == (2, True)
    answer = forget(*words, "--purge")
    first, *rest = answer["purged"]
    already = {"ids": 3, "owner": len(owners("o5")), "table": 1}[way]
    assert (first["purged"], first["already"], first["report"]) == (0, already, "made again")
    assert [one["purged"] for one in rest] == (
        [len(left & {*owners("o3"), "s002"})] if way == "table" else []
    )
    assert made
    assert len(Catalog("w").forget_requests()) == len(answer["requests"])
    before = everything()
    again = forget(*words, "--purge")
    assert [one["request_id"] for one in again["requests"]] == [
        one["request_id"] for one in answer["requests"]
    ]
    assert everything() == before
    if way == "ids":
        assert told("forget", *words, *EXACT, "--trial")[0] == 2
        assert told("requests", "--unlink")[0] == 0
        assert told("forget", *words, *EXACT, "--purge")[0] == 2  # nobody is known again


def test_what_was_purged_before_is_told_and_the_rest_of_a_list_or_table_carried_out(
    owned, here, told, forget
):
    Path("all.csv").write_text("request_id;owner;class\na;o3;\nb;o5;\n")
    assert told("forget", "all.csv", *EXACT, "--purge")[0] == 0
    gone = {*owners("o3"), *owners("o5")}

    def known():
        return set(Catalog("w").query("SELECT sample_id FROM samples")["sample_id"])

    assert not gone & known()
    # a list
    mixed = requested([owners("o3")[0], "s000", owners("o5")[1]], "mixed.txt")
    code, _, err = told("forget", mixed, *EXACT, "--append")
    assert code == 0, err
    assert "request r3: 2 of what it names were deleted before, and no longer in the data" in err
    assert having("forget", roles()) == ["s000", "s058"]
    standing = everything()
    assert forget(mixed, "--append")["request"]["request_id"] == "r3"
    assert everything() == standing
    # a table, with and without names of its own; of owners nothing is known but that they were asked for
    for number, text in enumerate(("request_id,owner\nc,o3\nd,o7\n", "owner\no3\no8\n")):
        Path("next.csv").write_text(text)
        code, out, err = told("forget", "next.csv", *EXACT, "--append", "--json")
        assert code == 0, err
        answers = json.loads(out)["requests"]
        assert [one["num_gone"] for one in answers] == [[1, 0], [1]][number]
        trained = {one for one in owners(("o7", "o8")[number]) if int(one[1:]) % 10 not in (5, 6)}
        assert trained <= set(having("forget", roles()))
    assert [one["request_id"] for one in json.loads(told("requests", "--json")[1])] == [
        "a",
        "b",
        "r3",
        "c",
        "d",
        "r6",
    ]
    row = json.loads(told("requests", "--json")[1])[3]
    assert (row["status"], row["num_found"], row["num_untrained"], row["version"]) == ("done", 0, 0, None)
    # all of it, in other words, on data that grew
    pl.concat([owned_table(), owned_table()[:1].with_columns(id=pl.lit("new"), a=pl.lit(9.0))]).write_csv(
        "grown.csv"
    )
    assert told("ingest", "grown.csv", "--features", "a,b,c")[0] == 0
    assert not gone & known()
    code, out, err = told("forget", requested(sorted(gone)[:2], "two.txt"), *EXACT, "--append")
    assert (code, out) == (0, "")
    assert "all that it names was deleted before, and no longer in the data; nothing is left to do" in err
    assert told("forget", "all.csv", *EXACT)[0] == 0  # under names that are known
    # what nobody asked for is unknown as before
    Path("next.csv").write_text("owner\no3\nnobody\n")
    code, _, err = told("forget", "next.csv", *EXACT)
    assert (code, "next.csv, row 3: owner nobody: no record has this value" in err) == (2, True)
    assert told("forget", mixed, *EXACT, "--trial", "--name", "tried")[0] == 0
    assert having("forget", roles("tried")) == ["s000", "s058"]
    assert told("forget", "two.txt", *EXACT, "--trial")[0] == 2
    assert told("requests", "--unlink")[0] == 0
    code, _, err = told("forget", "all.csv", *EXACT)
    assert (code, "owner o3: no record has this value" in err) == (2, True)


def owners(name):
    return owned_table().filter(pl.col("owner") == name)["id"].to_list()


def test_an_owner_with_nothing_in_train_is_deleted_without_a_subset(here, told, forget):
    table = owned_table().with_columns(
        owner=pl.when(pl.col("id").is_in(["s005", "s006"])).then(pl.lit("eve")).otherwise("owner")
    )
    table.write_csv("owned.csv")
    assert told("ingest", "owned.csv", "--features", "a,b,c")[0] == 0
    before = everything()
    code, _, err = told("forget", "--owner", "eve", *EXACT, "--trial")
    assert (code, err.count("\n")) == (2, 1)
    assert "none of 2 samples is in train, and no copy of them" in err
    assert everything() == before
    code, out, err = told("forget", "--owner", "eve", *EXACT)
    assert (code, out) == (0, "")
    assert (
        "request r1: none of 2 samples is in train, and no copy of them, so there is nothing to unlearn"
        in err
    )
    assert not Path("w/manifests/forget-ready").exists()
    (row,) = json.loads(told("requests", "--json")[1])
    assert [row[name] for name in ("num_requested", "num_untrained", "num_found", "version", "status")] == [
        0, 2, 0, None, "done",
    ]  # fmt: skip
    standing = everything()
    assert forget("--owner", "eve")["request"]["request_id"] == "r1"
    assert everything() == standing
    work = Work(Path("w"))
    assert set(work.forgotten["sample_id"]) == {"s005", "s006"}
    assert not {"s005", "s006"} & set(work.dataset.samples["sample_id"].gather(work.trainable.rows("test")))
    answer = forget(requested(["s000"]), "--append")
    assert answer["request"]["request_id"] == "r2"
    assert not {"s005", "s006"} & set(roles())
    assert having("holdout", roles())
    Path("inbox").mkdir()
    Path("inbox/1.csv").write_text("owner\neve\n")
    (one,) = work_off(work, Path("inbox"), deletion.Handling(params={"near_duplicate": None}), purge=True)
    assert one["purged"][0]["purged"] == 2
    assert not {"s005", "s006"} & set(work.catalog.query("SELECT sample_id FROM samples")["sample_id"])


# --- what is known of each forgotten sample


def test_facts_of_each_forgotten_sample_lie_beside_the_manifest(here, forget, told):
    forget("--owner", "o3", "--entity", "owner")
    folder = Path("w/manifests/forget-ready")
    facts = pl.read_parquet(folder / "forget.parquet")
    assert facts["sample_id"].to_list() == having("forget", roles())
    assert set(facts["how"]) == {"requested"}
    scores = Catalog("w").query("SELECT sample_id, last_loss FROM sample_scores WHERE split = 'train'")
    own = facts.join(scores, on="sample_id", maintain_order="left")
    weights = np.exp(-own["last_loss"].to_numpy())
    assert facts["loreun_weight"].to_numpy() == pytest.approx(weights / weights.mean())
    by_loss = own.sort("last_loss")
    assert by_loss["hard_by_last_loss"].to_list() == sorted(by_loss["hard_by_last_loss"], reverse=True)
    assert (
        by_loss["stratum_last_loss"].to_list()[0] == "high"
    )  # the smallest loss: still known after forgetting
    easier = (scores["last_loss"] > own["last_loss"][0]).sum() + 0.5
    assert facts["hard_by_last_loss"][0] == pytest.approx(easier / len(scores))
    plan = pl.read_parquet(folder / "batches.parquet")
    members = roles()
    assert plan.filter(pl.col("role") == "forget")["sample_id"].sort().to_list() == having("forget", members)
    assert plan["module"].unique().to_list() == [0]
    near = plan.filter(pl.col("role").str.starts_with("neighbor"))["sample_id"]
    assert len(near)
    assert {members[name] for name in near} == {"neighbor"}
    assert {members[name] for name in plan.filter(pl.col("role") == "general")["sample_id"]} <= {
        "retain", "neighbor",
    }  # fmt: skip
    before = everything()
    forget("--owner", "o3", "--entity", "owner")
    assert everything() == before
    code, _, err = told("forget", "--owner", "o4", "--entity", "ownr")
    assert code == 2
    assert "did you mean 'owner'" in err


def test_nothing_is_trained_on_the_one_class_that_is_left(here, forget, told):
    forget("--class", "x")
    before = everything()
    code, _, err = told("record", "--epochs", "3", "--folds", "0", "--threads", "1")
    assert code == 2
    assert "after deletion request r1 every training label of owned is 'y'" in err
    assert everything() == before


def test_what_stays_near_the_forgotten_is_measured(here, forget):
    forget(requested(["s000", "s003"]))
    said = json.loads(Path("w/manifests/forget-ready/overlap.json").read_text())
    members = roles()
    gone = having("forget", members)
    assert said["counts"]["forget"] == len(gone)
    dataset = Work(Path("w")).dataset
    places = dataset.samples.with_row_index().filter(pl.col("split") != "val")
    points = table_directions(dataset, rows=places["index"].to_numpy())
    trained, ids = (places["split"] == "train").to_numpy(), places["sample_id"].to_list()
    least = least_cosine(places, unit_rows(points), trained, "dense", 0)
    kept = [ids.index(name) for name, role in members.items() if role in ("retain", "neighbor")]
    away = 1 - points[[ids.index(name) for name in gone]] @ points[kept].T
    times = np.sqrt(np.maximum(away, 0) / (1 - least[kept])).min(axis=1)
    assert said["nearest_retained"]["max"] == pytest.approx(times.max(), rel=1e-3)
    assert said["share_within"]["2"] == pytest.approx(np.mean(times <= 2))
    assert said["cannot_be_forgotten"] == (times <= 1).sum()
    assert (said["share_above"], "distance" in said["measured"]) == (None, True)
    assert not any(name in json.dumps(said) for name in members)
    assert said == json.loads(Path("w/manifests/forget-ready/versions/0001/overlap.json").read_text())


def test_a_copy_says_who_pulled_it_in(here, forget):
    forget(requested(["s000"]))
    facts = pl.read_parquet("w/manifests/forget-ready/forget.parquet")
    assert facts.select("sample_id", "how", "pulled_by", "similarity").rows() == [
        ("s000", "requested", None, None),
        ("s058", "exact", "s000", 1.0),
    ]
    assert not Path("w/manifests/forget-ready/batches.parquet").exists()


def test_a_joined_version_says_as_before_how_each_sample_came_in(here, forget, told):
    Path("table.csv").write_text("request_id,sample_id\na,s000\nb,s002\n")
    forget("table.csv", "--append")  # the second joins what is not written yet
    forget(requested(["s059"]))  # stands alone
    forget(requested(["s003"]), "--append")
    folder = Path("w/manifests/forget-ready")

    def came_in():
        facts = pl.read_parquet(folder / "forget.parquet").select("sample_id", "how", "pulled_by")
        reasons = pl.read_parquet(folder / "members.parquet").select("sample_id", "reason")
        return facts.join(reasons, on="sample_id", maintain_order="left").rows()

    by_a, by_3 = "forgotten by request a", "forgotten by request r3"
    whose = "exact copy of '{}', which is forgotten"
    assert came_in() == [
        ("s000", "requested", None, by_a),
        ("s001", "exact", "s059", f"{by_3}: {whose.format('s059')}"),
        ("s002", "requested", None, "forgotten by request b"),
        ("s003", "requested", None, "requested to be forgotten"),
        ("s058", "exact", "s000", f"{by_a}: {whose.format('s000')}"),
        ("s059", "requested", None, by_3),
    ]
    assert told("purge", requested(["s000"]))[0] == 0
    forget(requested(["s004"]), "--append")
    assert came_in()[-2] == (
        "s058",
        "exact",
        None,
        f"{by_a}: exact copy of a purged sample, which is forgotten",
    )


def test_retained_samples_are_weighed_by_a_column_that_no_model_reads(here, forget):
    trained = owned_table().filter(pl.col("split") == "train")
    own = trained.filter((pl.col("owner") == "o2") & (pl.col("label") == "x"))["id"].to_list()
    forget(requested(own[:1]), "--param", "group=owner")
    members = pl.read_parquet("w/manifests/forget-ready/members.parquet")
    weights = dict(members.select("sample_id", "weight").iter_rows())
    assert {weights[name] for name in own[1:]} == {len(own) / (len(own) - 1)}
    others = trained.filter(pl.col("owner") != "o2")["id"]
    assert {weights[name] for name in others} == {1.0}
