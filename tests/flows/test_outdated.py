"""Scores and edges of before are named with the command that brings them up to date, and that command does."""

import json

import duckdb
import pytest

from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.flows.outdated import outdated

TRACIN = ["record", "--job", "tracin", "--param", "checkpoints=2"]


@pytest.fixture
def call(place):
    def command(*words):
        assert run([*words, "--workspace", "w"]) == 0

    return command


def lines(place):
    return [one.told for one in outdated(place / "w")]


def values(place):
    return Catalog(place / "w").query(
        "SELECT tracin FROM sample_scores WHERE split = 'train' ORDER BY sample_id"
    )


def test_another_training_of_a_job_makes_its_scores_and_edges_old(place, call, capsys):
    assert lines(place) == []
    call(*TRACIN, "--param", "pairs=true")
    call("score", "tracin", "tracin_self_influence")
    call("influence", "tracin", "--k", "2")
    assert "\ntracin: 2 checkpoints, as asked" in capsys.readouterr().err
    first = values(place)
    assert lines(place) == []
    capsys.readouterr()
    call(*TRACIN, "--epochs", "2")
    assert "job tracin: 2 checkpoints, as asked, where 5 are usual" in capsys.readouterr().err
    of_before = "they are of what job tracin had made before"
    assert lines(place) == [
        f"tracin, tracin_self_influence: {of_before}; `tracesift score tracin tracin_self_influence`",
        f"tracin (k=2): {of_before}; run `tracesift record --job tracin --param pairs=true`, then "
        "`tracesift influence tracin --k 2`",
    ]
    call("report")
    page = (place / "w/report.html").read_text()
    assert "Of before, on this page as well" in page
    assert "tracin_self_influence: they are of what" in page
    call("score", "tracin", "tracin_self_influence")
    assert "tracin, tracin_self_influence: 2 checkpoints, as asked" in capsys.readouterr().err
    assert not values(place).equals(first)
    assert len(lines(place)) == 1
    call(*TRACIN, "--param", "pairs=true")  # as before again: what was made then is not what stands there
    call("score", "tracin", "tracin_self_influence")
    assert values(place).equals(first)
    assert lines(place) == []
    call("report")
    assert "Of before, on this page as well" not in (place / "w/report.html").read_text()


def test_another_version_is_named_by_doctor(place, call, capsys):
    with duckdb.connect(str(place / "w/catalog.duckdb")) as con:
        con.execute("UPDATE score_columns SET scorer_version = 0 WHERE scorer IN ('aum', 'el2n')")
    capsys.readouterr()
    call("doctor", "--json")
    said = json.loads(capsys.readouterr().out)
    assert said["ok"]
    (row,) = [row for row in said["checks"] if row["state"] == "outdated"]
    assert row["name"] == "scores"
    assert row["found"] == (
        "aum, el2n: they are of version 0, and 1 is installed; `tracesift score aum el2n --workspace w`"
    )
    call("score", "aum", "el2n")
    assert lines(place) == []


def test_scores_of_another_recording_than_the_newest_are_old(place, call):
    (old,) = {run for (run,) in Catalog(place / "w").query("SELECT DISTINCT run_id FROM scores").rows()}
    call("record", "--epochs", "3", "--folds", "2", "--threads", "1", "--seed", "1")
    (line,) = lines(place)
    assert "they are of 1 of the 2 seeds that are recorded; `tracesift score aum " in line
    call("record", "--epochs", "2", "--folds", "0", "--threads", "1")
    found = lines(place)
    assert all(f"they are of run {old}, and the newest is " in line for line in found)
    assert any(
        "run `tracesift record --folds 3`, then `tracesift score confident_learning" in line for line in found
    )
    call("score")
    assert not any("`tracesift score aum" in line for line in lines(place))
    assert lines(place)  # what this recording cannot be scored for stays of before


def test_what_diagnostics_found_in_another_recording_is_old(place, call):
    call("score", "loss_mixture_rate", "label_noise_rate")
    (old,) = Catalog(place / "w").query("SELECT run_id FROM diagnostics WHERE name = 'label_noise_rate'")[
        "run_id"
    ]
    assert lines(place) == []
    call("record", "--epochs", "2", "--folds", "0", "--threads", "1")
    (new,) = Catalog(place / "w").query("SELECT run_id FROM runs ORDER BY seq DESC LIMIT 1")["run_id"]
    why = f"they are of run {old}, and the newest is {new}"
    (first, second) = [line for line in lines(place) if "_rate" in line]
    assert first.startswith("confident_joint_rate, label_noise_rate: ")
    assert first.endswith(
        f": {why}; run `tracesift record --folds 3`, then `tracesift score confident_joint_rate label_noise_rate`"
    )
    assert second.endswith(f": {why}; `tracesift score loss_change_concentration loss_mixture_rate`")
    call("score", "loss_change_concentration", "loss_mixture_rate")
    assert [line for line in lines(place) if "_rate" in line] == [first]
