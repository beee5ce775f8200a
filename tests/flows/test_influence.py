"""`tracesift influence`: what it keeps, that it makes nothing twice, and what it says where signals are missing."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.flows.commands.look import _edge
from tracesift.flows.recordings import newest_runs
from tracesift.flows.reporting.influence import influenced_by, partners_of
from tracesift.flows.work import existing
from tracesift.pipelines.signals import load_signals

JOB = ["--job", "subset_training", "--param", "models=12", "--param", "share=0.6"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    workspace = str(tmp_path_factory.mktemp("influence") / "work")
    assert run(["ingest", "digits", "--workspace", workspace]) == 0
    assert run(["record", "--model", "mlp", "--epochs", "3", "--folds", "0", "--workspace", workspace]) == 0
    return workspace


def told(capsys, *arguments, code=0, stream="out"):
    capsys.readouterr()
    assert run(list(arguments)) == code
    said = capsys.readouterr()
    return said.out if code == 0 and stream == "out" else said.err


def test_missing_signals_end_with_one_line_that_says_what_makes_them(recorded, capsys):
    said = told(capsys, "influence", "influence_subset", "--workspace", recorded, code=2)
    assert said.count("\n") == 1
    assert "run `tracesift record --job subset_training --workspace " in said
    assert "tracesift embed" in told(capsys, "influence", "last_layer", "--workspace", recorded, code=2)
    assert "embed" in told(capsys, "influence", "--workspace", recorded, code=2)
    assert "--val OTHER" in told(capsys, "influence", "--help")
    told(capsys, "influence", "--against", "val", "--workspace", recorded, code=2)
    assert "did you mean 'last_layer'" in told(
        capsys, "influence", "last_layr", "--workspace", recorded, code=2
    )
    for given, says in (
        (["last_layer", "tracin", "--param", "bias=false"], "method.key=value, such as last_layer.bias=false"),
        (["--param", "of=margin"], "method.key=value, such as influence_subset.of=margin"),
        (["tracin", "trak", "--param", "bias=false"], "none has a setting 'bias'; write method.key=value, such as tracin.k"),
        (["--param", "influence_subsets.of=margin"], "did you mean 'influence_subset'"),
        (["trak", "--param", "tracin.k=3"], "name tracin as well"),
    ):  # fmt: skip
        assert says in told(capsys, "influence", *given, "--workspace", recorded, code=2)
    said = told(
        capsys,
        "score",
        "knn_shapley",
        "memorization_subset",
        "--param",
        "k=3",
        "--workspace",
        recorded,
        code=2,
    )
    assert "write scorer.key=value, such as knn_shapley.k=3" in said
    assert "--k 0" in told(capsys, "influence", "--k", "0", "--workspace", recorded, code=2)


def test_it_runs_what_can_run_keeps_it_and_makes_nothing_twice(recorded, capsys, monkeypatch):
    assert run(["embed", "--workspace", recorded]) == 0
    found = json.loads(told(capsys, "influence", "--k", "3", "--json", "--workspace", recorded))
    assert set(found["edges"]) == {"last_layer"}
    assert "subset_training" in found["left_out"]["influence_subset"]
    assert run(["record", *JOB, "--workspace", recorded]) == 0
    found = json.loads(told(capsys, "influence", "--k", "3", "--json", "--workspace", recorded))
    assert set(found["left_out"]) == {"tracin", "tracin_all", "trak"}
    assert (
        run(
            [
                "record",
                "--job",
                "trak",
                "--param",
                "pairs=true",
                "--param",
                "models=1",
                "--workspace",
                recorded,
            ]
        )
        == 0
    )
    assert run(["record", "--job", "tracin", "--param", "pairs=true", "--workspace", recorded]) == 0
    found = json.loads(told(capsys, "influence", "--k", "3", "--json", "--workspace", recorded))
    assert set(found["left_out"]) == {"tracin_all"}
    assert found["edges"]["influence_subset"]["params"] == {"k": 3, "of": "correct"}
    catalog = Catalog(recorded)
    counts = dict(catalog.query("SELECT method, count(*) FROM influence_edges GROUP BY ALL").rows())
    assert counts == {name: one["edges"] for name, one in found["edges"].items()}
    most = catalog.query(
        "SELECT max(greatest(rank, partner_rank)), count(DISTINCT partner_split), min(partner_split) FROM influence_edges"
    ).row(0)
    assert most == (3, 1, "val")
    errors = catalog.query(
        "SELECT count(spread) FROM influence_edges GROUP BY method ORDER BY method"
    ).to_series()
    assert errors.to_list() == [counts["influence_subset"], 0, 0, 0]

    def never(*_words, **_more):
        raise AssertionError("it was made again")

    monkeypatch.setattr("tracesift.flows.influence.compute_edges", never)
    assert json.loads(told(capsys, "influence", "--k", "3", "--json", "--workspace", recorded)) == found
    some = catalog.query("SELECT sample_id FROM influence_edges ORDER BY ALL LIMIT 1").item()
    assert "Helps and harms most" in told(capsys, "why", some, "--workspace", recorded)


def test_other_settings_stand_beside(recorded, capsys):
    told(
        capsys,
        "influence",
        "influence_subset",
        "--param",
        "of=prob_label",
        "--k",
        "2",
        "--workspace",
        recorded,
    )
    catalog = Catalog(recorded)
    params = catalog.query("SELECT params FROM edge_sets WHERE method = 'influence_subset' ORDER BY ALL")
    assert params["params"].to_list() == ['{"k":2,"of":"prob_label"}', '{"k":3,"of":"correct"}']
    some = catalog.query(
        "SELECT sample_id FROM influence_edges WHERE method = 'influence_subset' ORDER BY ALL LIMIT 1"
    ).item()
    assert "influence_subset (k=2, of=prob_label)" in told(capsys, "why", some, "--workspace", recorded)
    shown = partners_of(catalog, [some])[some]
    assert {row["params"]["of"] for row in shown} == {"prob_label"}
    assert influenced_by(shown[0]) == "influence_subset (of=prob_label)"
    # The usual ones stand there already, and are what is shown once they are asked for again.
    told(capsys, "influence", "influence_subset", "--k", "3", "--workspace", recorded)
    said = told(capsys, "why", some, "--workspace", recorded)
    assert "influence_subset (k=3)" in said
    assert "of=prob_label" not in said
    shown = partners_of(catalog, [some])[some]
    assert {influenced_by(row) for row in shown} == {"influence_subset"}


def test_a_validation_sample_has_its_own_list_of_the_strongest(recorded, capsys):
    told(capsys, "influence", "influence_subset", "--k", "12", "--workspace", recorded)
    catalog = Catalog(recorded)
    of_method = "FROM influence_edges WHERE method = 'influence_subset'"
    run_id = catalog.query(f"SELECT DISTINCT run_id {of_method}").item()
    signals = load_signals(Path(recorded), run_id)
    there = signals.in_mode(signals.modes[0])
    seen = there["subset_trained"]
    estimated = seen.any(1) & ~seen.all(1)  # the others have none
    seen, ids = seen[estimated], np.array(signals.sample_ids)[estimated]
    beyond = 0
    for one in signals.val_sample_ids[:20]:
        right = there["val_subset_correct"][signals.val_sample_ids.index(one)]
        effect = (seen * right).sum(1) / seen.sum(1) - (~seen * right).sum(1) / (~seen).sum(1)
        for kind, sign in (("help", 1), ("harm", -1)):
            strength = np.round(sign * effect, 12)
            order = [i for i in np.lexsort((np.arange(len(ids)), -strength)) if strength[i] > 0][:12]
            found = catalog.query(
                f"SELECT sample_id, value, rank {of_method} AND partner_id = ? AND kind = ? AND partner_rank > 0 "
                "ORDER BY partner_rank",
                (one, kind),
            )
            np.testing.assert_allclose(found["value"], effect[order], atol=1e-6)
            beyond += found["rank"].null_count()
    assert beyond > 0  # training samples whose own twelve lie elsewhere
    most = catalog.query(
        f"SELECT partner_id, count(*) n {of_method} AND kind = 'help' AND partner_rank > 0 GROUP BY ALL ORDER BY ALL DESC"
    )
    said = told(capsys, "why", most["partner_id"][0], "--workspace", recorded)
    assert "\nHelped and harmed most by (above 0: helps)" in said
    assert "12 of influence_subset help" in said
    (command,) = {line for line in re.findall("`(tracesift sql .*)`", said) if "partner_id" in line}
    listed = told(capsys, *shlex.split(command)[1:])
    assert listed.count("influence_subset") == len(
        catalog.query(f"{of_method} AND partner_id = ? AND partner_rank > 0", (most["partner_id"][0],))
    )
    told(capsys, "influence", "influence_subset", "--k", "3", "--workspace", recorded)


def test_recordings_that_are_not_pooled_are_named(recorded, capsys):
    alone = told(capsys, "influence", "last_layer", "--workspace", recorded, stream="err")
    assert "pooled" not in alone
    run(["record", "--model", "mlp", "--epochs", "3", "--folds", "0", "--seed", "1", "--workspace", recorded])
    runs = newest_runs(existing(Path(recorded)))
    for one in runs:
        run(["embed", "--run", one, "--workspace", recorded])
    assert len(runs) == 2
    for read in (runs, runs[::-1]):
        chosen = [word for one in read for word in ("--run", one)]
        said = told(capsys, "influence", "last_layer", *chosen, "--workspace", recorded, stream="err")
        assert f"last_layer of run {read[0]}; others that have the signals are not pooled ({read[1]})" in said


def test_files_of_images_are_named():
    row = {
        "method": "trak", "kind": "harm", "value": -0.5, "spread": 0.1, "partner_id": "1f", "partner_split": "val",
        "partner_label": "cat", "partner_path": "cat/7.png", "params": {"k": 10},
    }  # fmt: skip
    assert _edge(row)["file"] == "cat/7.png"
    assert "file" not in _edge({**row, "partner_path": None})
