"""TracIn's job: every product against gradients of single samples, its sign against a step, and pairs."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tracesift.catalog.schema import BadInput
from tracesift.pipelines import gradients
from tracesift.pipelines.jobs import contract
from tracesift.pipelines.jobs import tracin as module
from tracesift.pipelines.jobs.contract import run_job
from tracesift.pipelines.loop import Learner
from tracesift.pipelines.signals import read_run, run_folder
from tracesift.pipelines.train import TrainConfig, record
from tracesift.scorers.contract import compute
from tracesift.scorers.influence.edges.tracin import tracin as tracin_edges
from tracesift.scorers.influence.product_edges import product_edges


def rows_of_gradients(net, bench, rows, parameters):
    """One backward pass per sample, float64 (n, P)."""
    found = []
    for row in rows:
        loss = F.cross_entropy(net(bench.inputs.batch(row[None]).double()), bench.labels[row][None])
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters(net))]))
    return torch.stack(found).numpy()


@pytest.fixture
def checkpoints(monkeypatch):
    """What the job measures at: copies of the network in float64, and the rates."""
    seen = []
    for name in ("_by_last_layer", "_by_all_parameters"):
        real = getattr(module, name)

        def also(learner, bench, rate, project, real=real):
            seen.append((copy.deepcopy(learner.module).double().eval(), bench, rate))
            return real(learner, bench, rate, project)

        monkeypatch.setattr(module, name, also)
    return seen


def whole(checkpoints, parameters):
    """Self-influences (N, C) and the matrix of all pairs (N, M), by the definition."""
    alone, pairs = [], 0.0
    for net, bench, rate in checkpoints:
        train = rows_of_gradients(net, bench, bench.train, parameters)
        val = rows_of_gradients(net, bench, torch.from_numpy(bench.dataset.rows("val")), parameters)
        alone.append(rate * (train**2).sum(axis=1))
        pairs = pairs + rate * train @ val.T
    return np.stack(alone, axis=1), pairs


@pytest.mark.parametrize("parameters", ["last", "all"])
def test_against_single_samples(parameters, recorded, signals_of, checkpoints, monkeypatch):
    monkeypatch.setattr(gradients, "GRADIENTS", 2_000_000)  # several batches
    dataset, workspace, run_id = recorded(f"tracin {parameters}")
    settings = {"checkpoints": 2, "parameters": parameters, "pairs": True, "dimension": 4096}
    run_job("tracin", dataset, workspace, run_id, settings, device="cpu")
    signals = signals_of(workspace, run_id)
    of = {"last": lambda net: list(net.head.parameters()), "all": lambda net: list(net.parameters())}
    alone, pairs = whole(checkpoints, of[parameters])
    np.testing.assert_allclose(signals["tracin_self"], alone, rtol=2e-3, atol=1e-6)
    found = compute(["tracin", "tracin_self_influence"], signals)
    np.testing.assert_allclose(found["tracin_self_influence"].to_numpy(), alone.sum(1), rtol=2e-3, atol=1e-6)
    scale = np.abs(pairs).max()
    np.testing.assert_allclose(found["tracin"].to_numpy(), pairs.mean(1), rtol=2e-3, atol=1e-4 * scale)
    if parameters == "last":
        names = ("tracin_error", "tracin_hidden", "val_tracin_error", "val_tracin_hidden")
        edges = tracin_edges(*(signals[name] for name in names), k=pairs.shape[1])
    else:
        edges = product_edges(signals["tracin_gradient"], signals["val_tracin_gradient"], k=pairs.shape[1])
    made = np.zeros_like(pairs)
    for partners, values in ((edges.helped, edges.help), (edges.harmed, edges.harm)):
        i, at = np.nonzero(partners >= 0)
        made[i, partners[i, at]] = values[i, at]
    if parameters == "last":
        np.testing.assert_allclose(made, pairs, rtol=2e-3, atol=1e-4 * scale)
    else:  # through 4,096 random dimensions
        assert np.corrcoef(made.ravel(), pairs.ravel())[0, 1] > 0.95
        assert (made * pairs).sum() / (pairs**2).sum() == pytest.approx(1, abs=0.1)  # and on the same scale


def test_gradients_that_are_short_enough_are_not_projected(recorded, signals_of, checkpoints):
    dataset, workspace, run_id = recorded("tracin exact")
    settings = {"checkpoints": 2, "parameters": "all", "pairs": True, "dimension": 700}
    run_job("tracin", dataset, workspace, run_id, settings, model="linear", device="cpu")
    signals = signals_of(workspace, run_id)
    _, pairs = whole(checkpoints, lambda net: list(net.parameters()))
    parameters = sum(weights.numel() for weights in checkpoints[0][0].parameters())
    assert signals["tracin_gradient"].shape[-1] == parameters <= 700
    made = np.einsum("nep,mep->nm", signals["tracin_gradient"], signals["val_tracin_gradient"])
    np.testing.assert_allclose(made, pairs, rtol=2e-3, atol=1e-4 * np.abs(pairs).max())


def test_checkpoints_are_spread_over_the_training_and_rates_are_means(recorded, checkpoints):
    dataset, workspace, run_id = recorded("tracin spread")
    made = run_job("tracin", dataset, workspace, run_id, {"epochs": 7, "checkpoints": 3}, device="cpu")
    assert made == ("tracin_self", "tracin_val")
    _, bench, _ = checkpoints[0]
    learner = Learner(torch.nn.Linear(1, 1), bench.model.recipe, steps=7 * 8, device=torch.device("cpu"))
    rates = np.array([learner.rate(step) for step in range(56)])
    expected = [rates[:16].mean(), rates[16:40].mean(), rates[40:].mean()]  # after epochs 2, 5, 7, of 8 steps
    np.testing.assert_allclose([rate for _, _, rate in checkpoints], expected, rtol=1e-12)
    del checkpoints[:]
    run_job("tracin", dataset, workspace, run_id, device="cpu")  # three epochs: three checkpoints
    assert len(checkpoints) == 3


def test_signals_of_another_training_go_and_those_of_the_same_stay(recorded, monkeypatch):
    dataset, workspace, run_id = recorded("tracin again")

    def kept():
        return {*read_run(workspace, run_id, verify=True)["arrays"]}

    alone = {"tracin_self", "tracin_val"}
    pairs = run_job("tracin", dataset, workspace, run_id, {"pairs": True}, device="cpu")
    run_job("tracin", dataset, workspace, run_id, device="cpu")
    assert kept() == {*pairs} > alone
    with monkeypatch.context() as killed:
        killed.setattr(contract, "add_array", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_job("tracin", dataset, workspace, run_id, {"epochs": 1}, device="cpu")
    assert kept() == set()
    monkeypatch.setattr(module, "_train", lambda *_: pytest.fail("trained again"))  # what was made is there
    run_job("tracin", dataset, workspace, run_id, {"epochs": 1}, device="cpu")
    assert kept() == alone
    assert not (run_folder(workspace, run_id) / "tracin_error.npz").exists()


def test_a_step_on_what_is_high_lowers_the_validation_loss(recorded, signals_of, checkpoints):
    dataset, workspace, run_id = recorded("tracin sign")
    settings = {"epochs": 1, "parameters": "all"}
    run_job("tracin", dataset, workspace, run_id, settings, device="cpu")
    score = compute("tracin", signals_of(workspace, run_id))["tracin"].to_numpy()
    net, bench, rate = checkpoints[0]
    val = torch.from_numpy(dataset.rows("val"))

    def loss(net, rows):
        return F.cross_entropy(net(bench.inputs.batch(rows).double()), bench.labels[rows])

    before, step = loss(net, val).item(), 1e-6
    for at in (*np.argsort(score)[:3], *np.argsort(score)[-3:]):
        moved = copy.deepcopy(net)
        loss(moved, bench.train[at][None]).backward()
        with torch.no_grad():
            for p in moved.parameters():
                p -= step * p.grad
        gained = (before - loss(moved, val).item()) / step
        assert gained == pytest.approx(score[at] / rate, rel=0.01)


def test_wrong_labels_pull_at_themselves_and_harm_the_others(noisy_digits, signals_of, auroc):
    dataset, workspace, run_id, wrong = noisy_digits
    run_job("tracin", dataset, workspace, run_id, {"epochs": 10}, device="cpu")
    found = compute(["tracin", "tracin_self_influence"], signals_of(workspace, run_id))
    assert auroc(found["tracin_self_influence"].to_numpy(), wrong) > 0.9
    assert auroc(-found["tracin"].to_numpy(), wrong) > 0.7


def test_texts_by_the_last_layer(sentences, tmp_path, signals_of):
    run_id = record(sentences, tmp_path, TrainConfig(seed=0, epochs=1, device="cpu", threads=1))
    run_job("tracin", sentences, tmp_path, run_id, device="cpu")
    assert (signals_of(tmp_path, run_id)["tracin_self"] > 0).all()
    with pytest.raises(BadInput, match="images and tables"):
        run_job("tracin", sentences, tmp_path, run_id, {"parameters": "all"}, device="cpu")


def test_what_it_refuses(recorded):
    dataset, workspace, run_id = recorded("tracin refused")
    for settings, message in (
        ({"checkpoints": 4}, "4 checkpoints of 3 epochs"),
        ({"checkpoints": 0}, "checkpoints is 0"),
        ({"dimension": 0}, "dimension is 0"),
        ({"parameters": "some"}, "'last' or 'all'"),
    ):
        with pytest.raises(BadInput, match=message):
            run_job("tracin", dataset, workspace, run_id, settings, device="cpu")
