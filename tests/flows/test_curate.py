"""`curate` and the steps on a small table and a small text set: what they leave in the workspace and say."""

import json
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.flows.commands.curate import print_worklist
from tracesift.flows.commands.look import _tell_scores
from tracesift.flows.curate import curate
from tracesift.flows.ingest import ingest
from tracesift.flows.options import CurateJob, Reading, Training
from tracesift.flows.publish import suspects
from tracesift.flows.work import Work
from tracesift.pipelines.dataset import open_dataset

FEW = ("--epochs", "3", "--folds", "2", "--threads", "1")


def call(*words):
    return run([*map(str, words)])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 150)
    values = rng.normal(size=(150, 3)) + 4 * label[:, None]
    pl.DataFrame({"a": values[:, 0], "b": values[:, 1], "c": values[:, 2], "y": label}).write_csv(
        folder / "t.csv"
    )
    words = ("curate", folder / "t.csv", "--label", "y", "--workspace", folder / "w", "--plant-noise", "0.1")
    assert call(*words, *FEW) == 0
    return folder / "w"


def test_a_run_says_on_which_machine_it_was_made(workspace):
    rows = Catalog(workspace).query("SELECT device, threads, cpu_capability, wheels, code_version FROM runs")
    assert not any(rows.null_count().row(0))
    assert rows["device"].to_list() == ["cpu"]
    assert rows["threads"].to_list() == [1]
    assert "torch" in json.loads(rows["wheels"][0])


def test_other_settings_of_a_scorer_replace_nothing(workspace):
    usual = Catalog(workspace).query("SELECT sample_id, fkl FROM sample_scores ORDER BY 1")
    assert call("score", "fkl", "--param", "k=1", "--workspace", workspace) == 0
    assert call("score", "--workspace", workspace) == 0
    assert Catalog(workspace).query("SELECT sample_id, fkl FROM sample_scores ORDER BY 1").equals(usual)
    stored = Catalog(workspace).query(
        "SELECT params, avg(value) FROM scores WHERE scorer = 'fkl' GROUP BY 1 ORDER BY 1"
    )
    assert stored["params"].to_list() == ['{"k":1}', '{"k":3}']
    assert stored.item(0, 1) < stored.item(1, 1)


def test_features_that_know_the_labels_are_not_asked_about_them(workspace):
    """The recorded model was trained on the wrong labels too: to its own features they look right."""
    named = Catalog(workspace).query("SELECT DISTINCT name FROM diagnostics")["name"].to_list()
    assert "label_noise_rate" in named
    assert "noise_transition_hoc" not in named
    assert "simifeat_vote" not in Catalog(workspace).query("SELECT * FROM sample_scores").columns


def test_what_is_dropped_weighs_nothing(workspace):
    rows = Catalog(workspace).query(
        "SELECT DISTINCT s.name, m.weight FROM subset_members m JOIN subsets s USING (subset_id) WHERE role = 'drop'"
    )
    assert {"pruned", "pruned-random", "pruned-random-balanced"} <= set(rows["name"])
    assert rows["weight"].unique().to_list() == [0.0]


def test_why_tells_reasons_and_lineage_in_full(workspace, capsys):
    first = Catalog(workspace).query(
        "SELECT sample_id, reason FROM flags WHERE flag = 'label_noise' ORDER BY ALL"
    )
    sample_id, reason = first.row(0)
    capsys.readouterr()
    assert call("why", sample_id, "--workspace", workspace) == 0
    told = capsys.readouterr().out
    assert reason in told
    assert "model mlp, seed 0, on cpu" in told
    assert Catalog(workspace).newest_dataset()["fingerprint"] in told


def test_why_shows_no_gaps_of_a_sample_that_is_never_scored(workspace, capsys):
    sample_id = Catalog(workspace).query("SELECT min(sample_id) FROM samples WHERE split = 'val'").item()
    capsys.readouterr()
    assert call("why", sample_id, "--workspace", workspace) == 0
    told = capsys.readouterr().out
    assert "of training samples, and this one is in val." in told
    assert "–" not in told
    assert "Lineage" in told


def test_why_still_shows_which_scores_a_training_sample_lacks(capsys):
    row = {
        "scorer": "first_learned", "value": None, "spread": None, "rank": None, "of": 3, "ties": None,
        "direction": "hard", "params": {}, "run_id": "r",
    }  # fmt: skip
    _tell_scores([row, {**row, "scorer": "aum", "value": 1.5, "rank": 1, "ties": 0}], "train")
    assert capsys.readouterr().out.splitlines()[-2].split() == ["first_learned", "–", "–", "–", "hard", "r"]
    _tell_scores([row, row], "train")
    assert "none of the 2 scores" in capsys.readouterr().out


def test_the_closing_worklist_shows_what_it_lists(tmp_path, capsys):
    words = {"a": "warm sun sand sea", "b": "snow ice frost cold"}
    rng = np.random.default_rng(0)
    rows = [
        (f"{number} " + " ".join(rng.choice(words[label].split(), 3)), label)
        for number in range(100)
        for label in "ab"
    ]
    rows[0] = (rows[0][0], "b")
    pl.DataFrame(rows, schema=["text", "label"], orient="row").write_parquet(tmp_path / "t.parquet")
    words = ("curate", tmp_path / "t.parquet", "--workspace", tmp_path / "w", *FEW)
    assert call(*words, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    listed = summary["worklist"]
    assert listed
    assert {row["content"] for row in listed} <= {text for text, _ in rows}
    print_worklist(summary)
    assert listed[0]["content"] in capsys.readouterr().out
    assert call("report", "--no-content", "--json", "--workspace", tmp_path / "w") == 0
    assert {row["content"] for row in json.loads(capsys.readouterr().out)["worklist"]} == {None}


def test_as_many_samples_are_worth_a_look_as_are_flagged(workspace):
    flags = pl.DataFrame(
        {"flag": "label_noise", "sample_id": [f"s{number:03d}" for number in range(900)], "reason": "r",
         "flagged": [True] * 150 + [None] * 750, "suggestion": "b", "confidence": 0.9, "suspicion": 0.9}
    )  # fmt: skip
    scores = flags.select("sample_id", label=pl.lit("a"))
    listed, worth_a_look = suspects(Work(workspace), scores, flags)
    assert listed["status"].to_list().count("worth a look") == 150
    assert worth_a_look == 750
    few = flags.with_columns(flagged=pl.lit(None, dtype=pl.Boolean))
    listed, worth_a_look = suspects(Work(workspace), scores, few)
    assert listed["status"].to_list() == ["worth a look"] * 100
    assert worth_a_look == 900
    assert len(suspects(Work(workspace), scores, few, least=300)[0]) == 300


def test_the_closing_worklist_says_why_and_how_many_there_are(capsys):
    row = {"rank": 1, "sample_id": "s1", "label": "a", "suggestion": "b", "confidence": 0.7999, "confidence_from": "flag",
           "status": "worth a look", "flag": "label_noise", "reason": "r", "content": None}  # fmt: skip
    ranked = {**row, "rank": 2, "sample_id": "s2", "confidence_from": "rank"}
    print_worklist({"worklist": [row, ranked], "worth_a_look": 1_045})
    told = capsys.readouterr().out
    assert "Nothing is flagged. 1,045 samples are worth a look: something speaks against their label" in told
    assert "and the first 2 are listed" in told
    assert "s1  a → b  worth a look, label wrong: 79 %\n" in told
    assert "s2  a → b  worth a look\n" in told
    print_worklist({"worklist": [{**row, "status": "flagged"}, ranked], "worth_a_look": 30})
    assert "1 flagged sample, the most certain first, then 1 of 30 that are worth" in capsys.readouterr().out
    print_worklist({"worklist": [row], "worth_a_look": 1})
    assert "are listed" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    words = {"a": "warm sun sand sea", "b": "snow ice frost cold"}
    rows = [
        {"id": f"t{at:03d}", "text": f"{at} " + " ".join(rng.choice(words["ab"[at % 2]].split(), 3)), "label": "ab"[at % 2]}
        for at in range(100)
    ]  # fmt: skip
    rows[0]["label"] = "b"
    return rows


FORMS = {
    "pandas": lambda rows: pytest.importorskip("pandas").DataFrame(rows),
    "datasets": datasets.Dataset.from_list,
    "opened": lambda rows: open_dataset(pl.DataFrame(rows), name="mine", id="id"),
}


@pytest.fixture(scope="module")
def from_python(texts, tmp_path_factory):
    """A workspace that `curate` made of a frame."""
    job = CurateJob(
        source=pl.DataFrame(texts), workspace=str(tmp_path_factory.mktemp("python") / "w"),
        reading=Reading(id="id"), training=Training(epochs=2, folds=2, threads=1),
    )  # fmt: skip
    return job, curate(job)


@pytest.mark.parametrize("form", FORMS)
def test_curate_takes_the_data_themselves(form, texts, from_python, tmp_path):
    job, usual = from_python
    reading = Reading() if form == "opened" else job.reading
    made = curate(replace(job, source=FORMS[form](texts), reading=reading, workspace=str(tmp_path / "w")))
    assert made["dataset"]["fingerprint"] == usual["dataset"]["fingerprint"]
    assert made["flags"] == usual["flags"]
    assert [row["sample_id"] for row in made["worklist"]] == [row["sample_id"] for row in usual["worklist"]]
    assert {row["content"] for row in made["worklist"]} <= {row["text"] for row in texts}


def test_an_opened_dataset_is_not_read_in_another_way(texts):
    job = CurateJob(source=open_dataset(pl.DataFrame(texts)), reading=Reading(label="label"))
    with pytest.raises(BadInput, match="is open already"):
        curate(job)


def test_a_report_of_data_handed_over_does_not_lose_its_content(from_python, texts, capsys):
    job, summary = from_python
    report, shown = Path(summary["report"]), summary["worklist"][0]["content"]
    assert shown in report.read_text()
    before = report.read_bytes()
    assert call("report", "--workspace", job.workspace) == 2
    said = capsys.readouterr().err
    assert "handed over in Python" in said
    assert "--no-content" in said
    assert report.read_bytes() == before
    assert call("report", "--no-content", "--workspace", job.workspace) == 0
    assert shown not in report.read_text()
    assert curate(job)["runs"] == summary["runs"]  # from Python it comes back, and nothing is trained
    assert shown in report.read_text()


def test_data_handed_over_in_python_can_be_selected_and_forgotten_from_the_command_line(tmp_path, capsys):
    frame = pl.DataFrame({"id": [f"s{at}" for at in range(60)], "x": np.arange(60.0), "y": ["a", "b"] * 30})
    work = Work(tmp_path / "w")
    with work.locked():
        ingest(work, open_dataset(frame, id="id", label="y", test=0, val=0))
    assert call("select", "random", "--count", "10", "--workspace", work.path) == 0
    assert "known here by ids and labels, without content" in capsys.readouterr().err
    (tmp_path / "ids.txt").write_text("s1\ns2\n")
    assert call("forget", tmp_path / "ids.txt", "--workspace", work.path) == 0
    roles = Catalog(work.path).query(
        "SELECT sample_id, role FROM subset_members m JOIN subsets s USING (subset_id) "
        "WHERE s.name = 'forget-ready' ORDER BY role, sample_id"
    )
    assert roles.filter(pl.col("role") == "forget")["sample_id"].to_list() == ["s1", "s2"]
    assert roles["role"].to_list() == ["forget"] * 2 + ["retain"] * 58


def test_one_scorer_alone_leaves_the_flag_of_another_open(tmp_path):
    """On images the verdict on the whole set is there before anybody has scored residual_shortcut."""
    assert call("ingest", "digits", "--workspace", tmp_path) == 0
    assert call("record", "--workspace", tmp_path, "--epochs", "2", "--threads", "1") == 0
    assert call("score", "aum", "--workspace", tmp_path) == 0
    reasons = Catalog(tmp_path).query("SELECT DISTINCT reason FROM flags WHERE flag = 'unlearnable'")[
        "reason"
    ]
    assert reasons.to_list() == [
        "cannot tell: residual_shortcut was not scored; run `tracesift score residual_shortcut`"
    ]
