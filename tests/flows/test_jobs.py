"""Jobs on the command line: from the message of a scorer to its column, on the workspace that is there."""

import json
import re
from pathlib import Path

import duckdb

from tracesift.flows.cli import run
from tracesift.flows.commands.stages import answer
from tracesift.flows.job_list import described
from tracesift.flows.jobs import why_not_made
from tracesift.flows.options import Common
from tracesift.flows.work import Work
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.jobs.contract import find, names
from tracesift.pipelines.signals import list_runs


def columns(workspace):
    with duckdb.connect(str(workspace / "catalog.duckdb"), read_only=True) as con:
        return {row[0] for row in con.execute("DESCRIBE sample_scores").fetchall()}


def test_the_message_leads_to_the_score(place, capsys):
    assert run(["score", "ssft", "--workspace", "w"]) == 2
    assert "`tracesift record --job ssft --workspace w`" in capsys.readouterr().err
    assert "ssft" not in columns(place / "w")
    words = ["record", "--job", "ssft", "--epochs", "2", "--workspace", "w", "--json"]
    assert run(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ssft"] == ["first_split_correct", "second_split_correct"]
    assert len(said["runs"]) == 1
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out) == said
    assert run(["score", "--workspace", "w"]) == 0  # nobody has to name what is there
    capsys.readouterr()
    assert {"ssft", "fslt"} <= columns(place / "w")
    assert "grand" not in columns(place / "w")
    # the recording has 3 epochs, and what the job ran with is told apart from them
    assert run(["why", "s001", "--workspace", "w"]) == 0
    ran = "job ssft: model mlp, seed 0, 2 epochs (made first_split_correct, second_split_correct)"
    assert ran in capsys.readouterr().out
    question = "SELECT details->'arrays'->'first_split_correct'->'settings' AS ran FROM runs"
    assert run(["sql", question, "--json", "--workspace", "w"]) == 0
    assert [json.loads(row["ran"]) for row in json.loads(capsys.readouterr().out)] == [{"epochs": 2}]
    assert run(["report", "--workspace", "w"]) == 0
    assert ran in (place / "w" / "report.html").read_text()


def test_a_hint_names_no_job_that_does_not_suit(place, capsys, monkeypatch):
    assert run(["score", "bias_shift", "--workspace", "w"]) == 2
    assert "only images have a brightness to shift" in (error := capsys.readouterr().err)
    assert "--job" not in error
    every = Dataset.rows
    monkeypatch.setattr(
        Dataset, "rows", lambda one, split: every(one, split)[: None if split == "train" else 0]
    )
    assert run(["influence", "influence_subset", "--workspace", "w"]) == 2
    assert "run `tracesift record --job subset_training --workspace w`" in capsys.readouterr().err
    (recording,) = list_runs("w")
    assert (
        why_not_made(Work(Path("w")), "val_subset_correct", recording["run_id"])
        == "good has no validation samples"
    )


def test_a_comparison_says_where_the_trainings_compared_differ(place, capsys):
    """The usual model took three epochs in two folds."""
    words = ["record", "--job", "simple_networks", "--workspace", "w"]
    asked = ["score", "simple_network_detection", "--workspace", "w", "--json"]
    for given, told in (
        (
            ["--epochs", "1"],
            "; not trained alike: it took 1 epoch in 5 folds, the usual model 3 epochs in 2 folds",
        ),
        (["--epochs", "3", "--param", "folds=2"], ""),
    ):
        assert run([*words, *given]) == 0
        capsys.readouterr()
        assert run(asked) == 0
        reading = json.loads(capsys.readouterr().out)["simple_network_detection"]["reading"]
        assert "of the usual model's" in reading
        assert reading.partition("; not trained")[2] == told.partition("; not trained")[2]


def test_every_setting_of_every_job_is_described(capsys):
    listed = {one.name: one for one in described()}
    assert tuple(listed) == names()
    for name, one in listed.items():
        assert [each.name for each in one.settings] == list(find(name).defaults)
        assert all(each.meaning for each in one.settings), name
        assert one.read_by, name
    assert listed["vog"].data == ("images", "tables")
    assert listed["tracin"].read_by[-1] == "influence tracin_all"
    assert run(["jobs", "subset_training"]) == 0
    told = capsys.readouterr().out
    assert "sums are rounded otherwise" in " ".join(told.split())
    assert run(["jobs", "vogg"]) == 2
    assert "did you mean 'vog'" in capsys.readouterr().err


def test_a_scorer_whose_job_was_not_run_is_not_complained_of(place, capsys):
    assert run(["score", "--workspace", "w"]) == 0
    assert "--job" not in capsys.readouterr().err


def test_what_is_refused(place, capsys):
    for words, message in (
        (["--job", "sstf"], "did you mean 'ssft'"),
        (["--job", "grand", "--param", "runs=3"], "has no setting 'runs'"),
        (["--job", "grand", "--param", "initialisations=x"], "must be a whole number"),
        (["--job", "grand", "--seeds", "2"], "leave it out"),
        (["--param", "epochs=3"], "name it with --job"),
        (["--job", "ssft", "--job", "grand", "--param", "lr=1"], "ssft, grand: none has a setting 'lr'"),
        (
            ["--job", "ssft", "--job", "grand", "--param", "initialisations=2"],
            "such as grand.initialisations=2",
        ),
    ):
        assert run(["record", "--workspace", "w", *words]) == 2
        assert message in capsys.readouterr().err


def test_settings_are_looked_at_also_where_the_models_are_there(place, capsys):
    words = ["record", "--job", "subset_training", "--workspace", "w", "--epochs", "1", "--param"]
    assert run([*words, "models=4"]) == 0
    told = capsys.readouterr().err
    reads = "`tracesift score --workspace w` and `tracesift influence --workspace w` read what it made"
    assert f"{reads}\n" in told
    for wrong, message in (
        ("models=1", "models is 1, it must be at least 2"),
        ("standard_error=-1", "it must be at least 0"),
    ):
        assert run([*words, wrong]) == 2
        assert message in capsys.readouterr().err
    assert run([*words, "models=3"]) == 0
    told = capsys.readouterr().err
    assert "4 models are there already and stay; scores read all of them, not 3" in told
    assert reads not in told
    assert run([*words, "models=4"]) == 0
    assert "are there already" not in capsys.readouterr().err
    assert run([*words, "models=5"]) == 0
    assert f"{reads}; what stands in the catalog is of what it had made before" in capsys.readouterr().err


def test_the_models_of_all_seeds_speak_together_and_each_seed_of_where_it_stopped(place, capsys):
    again = ["--epochs", "3", "--folds", "2", "--threads", "1"]
    assert run(["record", *again, "--seed", "1", "--workspace", "w"]) == 0
    words = ["record", "--job", "subset_training", "--epochs", "1", "--param", "models=8", "--workspace", "w"]
    capsys.readouterr()
    assert run([*words, "--param", "standard_error=0.9"]) == 0
    told = capsys.readouterr().err
    assert told.count("with 8 models: no more than the 0.9 asked for") == 2
    assert "job subset_training, seed 1: standard error 0." in told
    assert told.count("what they trained on") == 1
    assert "job subset_training: 2 seeds together: 16 models, right about" in told
    assert run([*words, "--param", "standard_error=0.1"]) == 0
    told = capsys.readouterr().err
    more = re.findall(
        r"more than the 0.1 asked for: about (\d+) in all would reach it \(--param models=\1\)", told
    )
    assert len(more) == 2
    assert all(50 < int(number) < 200 for number in more)
    assert run(["score", "memorization_subset", "memorization_subset_error", "--workspace", "w"]) == 0
    capsys.readouterr()
    assert run(["score", "subset_fit", "--json", "--workspace", "w"]) == 0
    found = json.loads(capsys.readouterr().out)["subset_fit"]
    assert (found["seeds"], found["models"]) == (2, 16)
    assert run(["report", "--workspace", "w"]) == 0
    page = (place / "w/report.html").read_text()
    assert "2 seeds together: 16 models, right about" in page
    assert "The models of one seed" not in page
    assert (
        '<code>memorization_subset_error</code> <span class="muted">high: the estimate is less sure<' in page
    )
    assert run(["why", "s001", "--workspace", "w"]) == 0
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "memorization_subset_error" in one]
    assert "uncertain" in line


def test_all_jobs_are_checked_before_the_first_is_trained(place, capsys):
    """A job that can run is named first; nothing of it is trained, and every refusal is said."""
    words = [
        "record",
        "--job",
        "ssft",
        "--job",
        "late_stopping",
        "--job",
        "bias_shift",
        "--job",
        "grand",
        "--epochs",
        "4",
    ]
    words += [
        "--param",
        "late_stopping.rounds=1",
        "--param",
        "grand.initialisations=few",
        "--param",
        "vog.first=1",
    ]
    before = sorted((place / "w" / "signals").rglob("*"))
    assert run([*words, "--workspace", "w"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    for message in (
        "settings were given for vog, which is not run",
        "must be a whole number",
        "job 'late_stopping': epochs is 4, it must be at least 11, and rounds is 1, it must be at least 3",
        "job 'bias_shift' takes images, and good holds tables: only images",
    ):
        assert error.count(message) == 1
    assert sorted((place / "w" / "signals").rglob("*")) == before


def test_an_answer_keeps_the_names_of_jobs(capsys):
    answer({"run_id": "a1", "prediction_depth": ["final_pred"]}, Common(), as_named=["prediction_depth"])
    assert capsys.readouterr().out == "run id: a1\nprediction_depth: final_pred\n"


def test_a_diagnostic_is_told_at_a_glance_and_kept_whole(place, capsys, monkeypatch):
    strong = {"mean3_core8": {"gap": 1.25, "strong_classes": list(range(100))}, "impulse": {"gap": None}}
    found = {"verdict": "poisoned", "views": strong, "lone_pixels": [], "folds": 3}
    monkeypatch.setattr("tracesift.flows.score.find_out", lambda *_: found)
    assert run(["score", "residual_verdict", "--workspace", "w"]) == 0
    told = "residual_verdict: verdict poisoned; folds 3; not shown: views, which --json prints\n"
    assert capsys.readouterr().out == told
    assert run(["score", "residual_verdict", "aum", "--workspace", "w"]) == 0
    assert told in capsys.readouterr().out
    assert run(["score", "residual_verdict", "--workspace", "w", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"residual_verdict": found}


def test_the_list_says_which_job(capsys):
    assert run(["scorers", "--json"]) == 0
    jobs = {one["name"]: one["jobs"] for one in json.loads(capsys.readouterr().out)}
    assert jobs["fslt"] == ["ssft"]
    assert jobs["aum"] == []
