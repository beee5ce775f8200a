"""VoG's job: gradients by the input against finite differences, moments against the whole stack, planted labels."""

import numpy as np
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.jobs import vog as module
from tracesift.pipelines.jobs.contract import run_job
from tracesift.pipelines.signals import run_folder
from tracesift.pipelines.train import TrainConfig, record
from tracesift.scorers.contract import compute


def test_moments_are_those_of_the_whole_stack(recorded, signals_of, monkeypatch):
    dataset, workspace, run_id = recorded("moments")
    stack = []
    real = module.label_gradients

    def kept(learner, bench, rows):
        stack.append(real(learner, bench, rows))
        return stack[-1]

    monkeypatch.setattr(module, "label_gradients", kept)
    run_job("vog", dataset, workspace, run_id, {"epochs": 5, "first": 2, "last": 4}, device="cpu")
    assert len(stack) == 3
    expected = torch.stack(stack).double().var(dim=0, unbiased=False)
    made = signals_of(workspace, run_id)["input_gradient_variance"]
    assert made.shape == (len(dataset.rows("train")), 1, 5)
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-9)


def test_gradients_by_pixels_against_finite_differences(squares, tmp_path, signals_of, monkeypatch):
    run_id = record(squares, tmp_path, TrainConfig(seed=0, epochs=1, device="cpu", threads=1))
    checked = []
    real = module.label_gradients

    def compared(learner, bench, rows):
        got = real(learner, bench, rows)
        net, x = learner.module.double(), bench.inputs.batch(rows[:1]).double()
        label = bench.labels[rows[0]]
        with torch.no_grad():
            for h, w in ((0, 0), (3, 5), (7, 7)):
                up, down = x.clone(), x.clone()
                up[0, 0, h, w] += 1e-5
                down[0, 0, h, w] -= 1e-5
                slope = (net(up)[0, label] - net(down)[0, label]) / 2e-5
                checked.append((float(slope), float(got[0, h, w])))
        net.float()
        return got

    monkeypatch.setattr(module, "label_gradients", compared)
    run_job("vog", squares, tmp_path, run_id, {"epochs": 2}, device="cpu")
    assert checked
    np.testing.assert_allclose(*np.array(checked).T, rtol=1e-3, atol=1e-5)
    assert signals_of(tmp_path, run_id)["input_gradient_variance"].shape[1:] == (8, 8)


def test_wrong_labels_vary_least_at_first_and_not_least_at_last(noisy_digits, signals_of, auroc):
    # as the paper shows for easy and hard classes: the order turns around while the model trains
    dataset, workspace, run_id, wrong = noisy_digits
    found = []
    for settings in ({"first": 1, "last": 5}, {}):
        run_job("vog", dataset, workspace, run_id, {"epochs": 30, **settings}, device="cpu")
        found.append(auroc(compute("vog", signals_of(workspace, run_id))["vog"].to_numpy(), wrong))
    early, late = found
    assert early < 0.2
    assert late > 0.5
    assert not (run_folder(workspace, run_id) / "jobs").exists()


def test_what_it_refuses(recorded, sentences, tmp_path):
    dataset, workspace, run_id = recorded("vog refused")
    for settings in ({"first": 4}, {"last": 9}, {"first": 3, "last": 3}):
        with pytest.raises(BadInput, match="checkpoints 1 to 3"):
            run_job("vog", dataset, workspace, run_id, settings, device="cpu")
    text = record(sentences, tmp_path, TrainConfig(seed=0, epochs=1, device="cpu", threads=1))
    with pytest.raises(BadInput, match="no pixels"):
        run_job("vog", sentences, tmp_path, text, device="cpu")
