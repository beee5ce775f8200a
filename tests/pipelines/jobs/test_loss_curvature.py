"""Loss curvature's job: against the Hessian of a softmax regression in closed form, and wrong labels."""

import numpy as np
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.jobs import loss_curvature as module
from tracesift.pipelines.jobs.contract import run_job
from tracesift.pipelines.train import TrainConfig, record
from tracesift.scorers.contract import compute


def test_against_the_hessian_of_a_softmax_regression():
    rng = np.random.default_rng(0)
    weights, x, labels = rng.normal(size=(3, 6)), rng.normal(size=(20, 6)), rng.integers(0, 3, 20)
    net = torch.nn.Linear(6, 3, bias=False).double()
    net.weight.data = torch.from_numpy(weights)
    monkey = net.forward
    net.forward = lambda given: Wide(monkey(given))
    found = module.curvature(net, torch.from_numpy(x), torch.from_numpy(labels), step=1e-5)
    logits = x @ weights.T
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slope = (p - np.eye(3)[labels]) @ weights
    z = np.sign(slope) / np.linalg.norm(np.sign(slope), axis=1, keepdims=True)
    hessians = np.einsum("ka,nk,kb->nab", weights, p, weights) - np.einsum(
        "na,nb->nab", p @ weights, p @ weights
    )
    expected = 1e-5 * np.linalg.norm(np.einsum("nab,nb->na", hessians, z), axis=1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3)


class Wide(torch.Tensor):
    """Logits that stay in float64, so that a tiny step can be judged."""

    @staticmethod
    def __new__(cls, values):
        return values.as_subclass(cls)

    def float(self):
        return self.as_subclass(torch.Tensor)


def test_each_sample_takes_a_step_of_the_same_length(squares, tmp_path, signals_of, monkeypatch):
    run_id = record(squares, tmp_path, TrainConfig(seed=0, epochs=1, device="cpu", threads=1))
    seen = []
    real = module.curvature

    def watched(net, x, labels, *, step):
        inputs = []
        handle = net.register_forward_pre_hook(lambda _, given: inputs.append(given[0].detach().clone()))
        found = real(net, x, labels, step=step)
        handle.remove()
        seen.append((inputs[1] - inputs[0]).flatten(1).norm(dim=1))
        return found

    monkeypatch.setattr(module, "curvature", watched)
    made = run_job("loss_curvature", squares, tmp_path, run_id, {"epochs": 2, "step": 0.5}, device="cpu")
    assert made == ("input_curvature",)
    assert len(seen) == 2
    np.testing.assert_allclose(torch.cat(seen).numpy(), 0.5, rtol=1e-3)
    assert signals_of(tmp_path, run_id)["input_curvature"].shape == (len(squares.rows("train")), 2)


def test_a_flat_loss_has_none():
    net = torch.nn.Linear(3, 2)
    torch.nn.init.zeros_(net.weight)
    assert module.curvature(net, torch.randn(4, 3), torch.tensor([0, 1, 0, 1])).tolist() == [0.0] * 4


def test_wrong_labels_bend_the_loss(noisy_digits, signals_of, auroc):
    dataset, workspace, run_id, wrong = noisy_digits
    run_job("loss_curvature", dataset, workspace, run_id, {"epochs": 10}, device="cpu")
    score = compute("loss_curvature", signals_of(workspace, run_id))["loss_curvature"].to_numpy()
    assert auroc(score, wrong) > 0.75


def test_what_it_refuses(recorded, sentences, tmp_path):
    dataset, workspace, run_id = recorded("curvature refused")
    for settings, message in (({"epochs": 0}, "epochs is 0"), ({"step": 0.0}, "step is 0.0")):
        with pytest.raises(BadInput, match=message):
            run_job("loss_curvature", dataset, workspace, run_id, settings, device="cpu")
    text = record(sentences, tmp_path, TrainConfig(seed=0, epochs=1, device="cpu", threads=1))
    with pytest.raises(BadInput, match="images and tables"):
        run_job("loss_curvature", sentences, tmp_path, text, device="cpu")
