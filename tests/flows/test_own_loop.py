"""A recording from the user's own loop is scored like any other, by the command line."""

import json

import numpy as np
import pytest
import torch

from tracesift.flows.cli import run
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.recorder import Recorder


@pytest.mark.parametrize("mode", ["in_training", "epoch_end"])
def test_score_finds_what_an_own_loop_recorded(tmp_path, capsys, mode):
    workspace = ["--workspace", str(tmp_path / "work")]
    assert run(["ingest", "digits", *workspace]) == 0
    dataset = open_dataset("digits")
    rows = torch.from_numpy(dataset.rows("train"))
    labels = torch.tensor(dataset.labels)[rows]
    recorder = Recorder(tmp_path / "work", dataset, mode=mode, config={"model": "mine"})
    drawn = torch.randn(4, len(rows), 10, generator=torch.Generator().manual_seed(0))
    for logits in drawn:
        recorder.update(rows, logits, labels)
        recorder.end_epoch()
    run_id = recorder.finalize()
    capsys.readouterr()
    assert run(["score", *workspace, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == run_id
    column = "mean_loss" if mode == "in_training" else "el2n"
    query = f"SELECT {column} FROM sample_scores WHERE split = 'train' ORDER BY sample_id"
    assert run(["sql", query, *workspace, "--json"]) == 0
    found = [row[column] for row in json.loads(capsys.readouterr().out)]
    everyone = torch.arange(len(rows))
    if mode == "in_training":
        expected = -torch.log_softmax(drawn.double(), 2)[:, everyone, labels].numpy().mean(0)
    else:
        error = drawn[0].double().softmax(1)
        error[everyone, labels] -= 1
        expected = error.norm(dim=1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("keep", ["trajectories", "scores"])
def test_several_seeds_of_an_own_loop_are_combined(tmp_path, capsys, keep):
    workspace = ["--workspace", str(tmp_path / "work")]
    assert run(["ingest", "digits", *workspace]) == 0
    dataset = open_dataset("digits")
    rows = torch.from_numpy(dataset.rows("train"))
    labels = torch.tensor(dataset.labels)[rows]
    drawn = torch.randn(2, 3, len(rows), 10, generator=torch.Generator().manual_seed(0))
    for seed in range(2):
        recorder = Recorder(tmp_path / "work", dataset, keep=keep, config={"model": "mine", "seed": seed})
        for logits in drawn[seed]:
            recorder.update(rows, logits, labels)
            recorder.end_epoch()
        recorder.finalize()
    assert run(["score", "cartography_correctness", "forgetting_events", *workspace]) == 0
    query = "SELECT cartography_correctness AS n FROM sample_scores WHERE split = 'train' ORDER BY sample_id"
    capsys.readouterr()
    assert run(["sql", query, *workspace, "--json"]) == 0
    found = [row["n"] for row in json.loads(capsys.readouterr().out)]
    np.testing.assert_array_equal(found, (drawn.argmax(3) == labels).sum(1).double().mean(0))
