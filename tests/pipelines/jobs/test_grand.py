"""GraNd's job: the closed form and the gradient by all parameters against autograd, sample by sample."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tracesift.catalog.schema import BadInput
from tracesift.pipelines import gradients
from tracesift.pipelines.jobs import grand as module
from tracesift.pipelines.jobs.contract import run_job
from tracesift.pipelines.train import TrainConfig, record
from tracesift.scorers.contract import compute


def by_autograd(learner, bench, parameters):
    """One backward pass per sample."""
    learner.module.eval()
    norms = []
    for row in bench.train:
        loss = F.cross_entropy(learner.module(bench.inputs.batch(row[None])), bench.labels[row][None])
        gradients = torch.autograd.grad(loss, parameters)
        norms.append(float(sum(g.double().square().sum() for g in gradients).sqrt()))
    return np.array(norms)


def test_both_norms_against_autograd(recorded, signals_of, monkeypatch):
    dataset, workspace, run_id = recorded("grand")
    expected = {"last": [], "all": []}
    real = module.gradient_norms

    def also(learner, bench):
        head = list(learner.module.head.parameters())
        expected["last"].append(by_autograd(learner, bench, head))
        expected["all"].append(by_autograd(learner, bench, list(learner.module.parameters())))
        return real(learner, bench)

    monkeypatch.setattr(module, "gradient_norms", also)
    monkeypatch.setattr(gradients, "GRADIENTS", 200_000)  # several batches
    settings = {"epochs": 1, "initialisations": 2, "parameters": "all"}
    run_job("grand", dataset, workspace, run_id, settings, device="cpu")
    signals = signals_of(workspace, run_id)
    assert signals["early_gradient_norm"].shape == (len(dataset.rows("train")), 2)
    for parameters in ("last", "all"):
        score = compute("grand", signals, params={"grand": {"parameters": parameters}})["grand"]
        np.testing.assert_allclose(
            score.to_numpy(), np.mean(expected[parameters], axis=0), rtol=2e-4, atol=1e-6
        )
    assert not np.allclose(*expected["all"])  # two initialisations


def test_it_is_measured_early_in_the_recording_s_schedule(recorded, signals_of, monkeypatch):
    dataset, workspace, run_id = recorded("early")
    seen = []
    monkeypatch.setattr(module, "features", lambda m, inputs, rows: np.ones((len(rows), 2), dtype=np.float32))
    real = module.predict
    monkeypatch.setattr(
        module, "predict", lambda learner, *a: seen.append((learner.step, learner.steps)) or real(learner, *a)
    )
    made = run_job("grand", dataset, workspace, run_id, {"initialisations": 3}, device="cpu")
    assert made == ("early_error_norm", "early_feature_norm")
    assert seen == [(8, 24)] * 3  # the first of three epochs of 120 samples in batches of 16
    run_job("grand", dataset, workspace, run_id, {"epochs": 0, "initialisations": 1}, device="cpu")
    assert seen[-1][0] == 0
    assert signals_of(workspace, run_id)["early_error_norm"].shape[1] == 1


def test_wrong_labels_pull_hardest(noisy_digits, signals_of, auroc):
    dataset, workspace, run_id, wrong = noisy_digits
    run_job("grand", dataset, workspace, run_id, {"epochs": 2, "initialisations": 3}, device="cpu")
    score = compute("grand", signals_of(workspace, run_id))["grand"].to_numpy()
    assert auroc(score, wrong) > 0.9


def test_what_it_refuses(recorded, sentences, tmp_path):
    dataset, workspace, run_id = recorded("grand refused")
    for settings, message in (
        ({"initialisations": 0}, "initialisations is 0"),
        ({"epochs": -1}, "epochs is -1"),
        ({"parameters": "some"}, "'last' or 'all'"),
    ):
        with pytest.raises(BadInput, match=message):
            run_job("grand", dataset, workspace, run_id, settings, device="cpu")
    text = record(sentences, tmp_path, TrainConfig(seed=0, epochs=1, device="cpu", threads=1))
    with pytest.raises(BadInput, match="images and tables"):
        run_job("grand", sentences, tmp_path, text, {"parameters": "all"}, device="cpu")
