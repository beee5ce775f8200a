"""Threshold samples: how many, which, in a class of their own; margins against a loop; planted noise found."""

import numpy as np
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.jobs.contract import run_job
from tracesift.pipelines.jobs.threshold_aum import MarginMeans
from tracesift.pipelines.jobs.workbench import Workbench
from tracesift.scorers.contract import compute


def test_each_run_moves_its_own_samples_into_an_extra_class(recorded, signals_of, monkeypatch):
    dataset, workspace, run_id = recorded("moved")
    seen = []
    real = Workbench.fit

    def watched(bench, learner, rows, *, labels, **more):
        seen.append((labels.clone(), learner))
        return real(bench, learner, rows, labels=labels, **more)

    monkeypatch.setattr(Workbench, "fit", watched)
    run_job("threshold_aum", dataset, workspace, run_id, {"epochs": 2}, device="cpu")
    moved = signals_of(workspace, run_id)["threshold_sample"]
    rows = dataset.rows("train")
    assert moved.sum(axis=0).tolist() == [len(rows) // 3] * 2
    assert not (moved[:, 0] & moved[:, 1]).any()
    for run, (labels, learner) in enumerate(seen):
        expected = dataset.labels.copy()
        expected[rows[moved[:, run]]] = 3
        np.testing.assert_array_equal(labels.numpy(), expected)
        assert learner.module.head.out_features == 4
        assert learner.recipe.schedule == "constant"
    assert np.isfinite(signals_of(workspace, run_id)["threshold_margin"]).all()


def test_margins_are_means_over_presentations():
    rng = np.random.default_rng(0)
    means, kept = MarginMeans(6, torch.device("cpu")), {row: [] for row in range(6)}
    for size in (3, 1, 2, 4):  # a batch of one sample too
        rows = rng.permutation(5)[:size]
        logits, labels = rng.normal(size=(size, 4)).astype(np.float32), rng.integers(0, 4, size)
        means.update(*(torch.from_numpy(array) for array in (rows, logits, labels)))
        for row, z, y in zip(rows, logits.astype(np.float64), labels, strict=True):
            kept[row].append(z[y] - max(z[k] for k in range(4) if k != y))
    expected = [np.mean(kept[row]) if kept[row] else np.nan for row in range(6)]
    np.testing.assert_allclose(means.means().numpy(), expected, rtol=1e-6)


def test_planted_labels_fall_below_the_threshold(noisy_digits, signals_of, auroc):
    dataset, workspace, run_id, wrong = noisy_digits
    run_job("threshold_aum", dataset, workspace, run_id, {"epochs": 8}, device="cpu")
    score = compute("threshold_aum", signals_of(workspace, run_id))["threshold_aum"].to_numpy()
    assert auroc(-score, wrong) > 0.95
    below = score < 0
    assert wrong[below].mean() > 0.7
    assert below[wrong].mean() > 0.7


def test_too_few_samples_are_refused(recorded, monkeypatch):
    dataset, workspace, run_id = recorded("few")
    monkeypatch.setattr(type(dataset), "num_classes", 1000)
    with pytest.raises(BadInput, match="no threshold sample"):
        run_job("threshold_aum", dataset, workspace, run_id, device="cpu")
