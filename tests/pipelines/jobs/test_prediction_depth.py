"""Prediction depth: votes against scikit-learn's neighbours, layers as the network has them, planted labels."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.jobs import prediction_depth as module
from tracesift.pipelines.jobs.contract import run_job
from tracesift.pipelines.jobs.prediction_depth import vote
from tracesift.pipelines.train import TrainConfig, record
from tracesift.scorers.contract import compute


@pytest.mark.parametrize("queries", [7, 1024])
def test_votes_are_those_of_the_neighbours(monkeypatch, queries):
    monkeypatch.setattr(module, "QUERIES", queries)
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(120, 5)).astype(np.float32) + 100, rng.integers(0, 4, 120)
    around = NearestNeighbors(n_neighbors=10).fit(vectors)
    _, index = around.kneighbors()  # without a query: the sample itself is left out
    expected = [np.bincount(labels[row], minlength=4).argmax() for row in index]
    got = vote(torch.from_numpy(vectors), torch.from_numpy(labels), 10, 4)
    assert (got.numpy() == expected).mean() > 0.98  # ties of votes are broken alike, distances nearly


def test_a_twin_votes_and_the_sample_itself_does_not():
    line = torch.tensor([[0.0], [0.0], [5.0], [6.0]])
    assert vote(line, torch.tensor([0, 1, 1, 1]), 1, 2).tolist() == [1, 0, 1, 1]


def test_equal_distances_go_to_the_first():
    cross = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    assert vote(cross, torch.tensor([3, 2, 1, 0]), 1, 4)[0] == 2


def test_layers_are_the_network_s(squares, recorded, tmp_path, signals_of):
    run_id = record(squares, tmp_path, TrainConfig(seed=0, epochs=1, device="cpu", threads=1))
    run_job("prediction_depth", squares, tmp_path, run_id, {"neighbours": 5}, device="cpu")
    # the input, three convolutions, the hidden layer, the logits
    assert signals_of(tmp_path, run_id)["layer_votes"].shape == (len(squares.rows("train")), 6)
    dataset, workspace, blobs_run = recorded("depth")
    run_job("prediction_depth", dataset, workspace, blobs_run, {"neighbours": 5}, device="cpu")
    assert signals_of(workspace, blobs_run)["layer_votes"].shape[1] == 4


def test_wide_maps_are_averaged():
    small, wide = torch.randn(2, 4, 8, 8), torch.randn(2, 8, 64, 64)
    assert torch.equal(module._flat(small), small.flatten(1))
    assert module._flat(wide).shape == (2, 8 * 22 * 22)


def test_wrong_labels_are_settled_late(noisy_digits, signals_of, auroc):
    # the network comes to say what it was told, the neighbours at the first layers what is true
    dataset, workspace, run_id, wrong = noisy_digits
    run_job("prediction_depth", dataset, workspace, run_id, {"epochs": 30}, device="cpu", model="mlp")
    signals = signals_of(workspace, run_id)
    score = compute("prediction_depth", signals)["prediction_depth"].to_numpy()
    learned = signals["final_pred"] == signals["labels"]
    assert (learned & wrong).sum() > 30
    assert auroc(score, learned & wrong) > 0.9


def test_what_it_refuses(recorded, monkeypatch):
    dataset, workspace, run_id = recorded("depth refused")
    with pytest.raises(BadInput, match="have no 500 neighbours"):
        run_job("prediction_depth", dataset, workspace, run_id, {"neighbours": 500}, device="cpu")
    monkeypatch.setattr(module, "ACTIVATIONS", (nn.Mish,))
    with pytest.raises(BadInput, match="as functions"):
        run_job("prediction_depth", dataset, workspace, run_id, {"neighbours": 5}, device="cpu")
