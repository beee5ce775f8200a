"""TRAK's job: features against single samples and the whole projection, scores against the formula, and parts."""

import copy

import numpy as np
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines import gradients
from tracesift.pipelines.jobs import trak as module
from tracesift.pipelines.jobs.contract import run_job
from tracesift.pipelines.jobs.workbench import Workbench
from tracesift.pipelines.projection import ROWS, Projection
from tracesift.pipelines.signals import read_run
from tracesift.pipelines.train import TrainConfig, record
from tracesift.scorers.contract import compute
from tracesift.scorers.influence.edges.trak import trak as trak_edges


@pytest.fixture
def models(monkeypatch):
    """The trained networks of the job in float64, with their bench and the seed of each."""
    seen = []
    real = module._one_model

    def also(bench, *settings):
        made = real(bench, *settings)
        seen[-1] += (settings[-1],)
        return made

    residual = module._residual

    def kept(learner, bench):
        seen.append((copy.deepcopy(learner.module).double().eval(), bench))
        return residual(learner, bench)

    monkeypatch.setattr(module, "_one_model", also)
    monkeypatch.setattr(module, "_residual", kept)
    return seen


def log_odds_gradients(net, bench, rows, parameters):
    """One backward pass per sample, with f from the probability; float64 gradients (n, P) and p (n,)."""
    found, given = [], []
    for row in rows:
        p = net(bench.inputs.batch(row[None]).double()).softmax(1)[0, bench.labels[row]]
        given.append(p.item())
        f = torch.log(p / (1 - p))
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(f, parameters(net))]))
    return torch.stack(found).numpy(), np.array(given)


def whole_matrix(dimension, seed, length):
    project = Projection(dimension, seed=seed)
    blocks = [project.signs(number).double() for number in range(-(-length // ROWS))]
    return (torch.cat(blocks)[:length] / dimension**0.5).numpy()


@pytest.mark.parametrize(("parameters", "damping"), [("all", 0.0), ("all", 2.0), ("last", 0.5)])
def test_against_the_formula(parameters, damping, recorded, signals_of, models, monkeypatch):
    monkeypatch.setattr(gradients, "GRADIENTS", 200_000)  # several batches
    dataset, workspace, run_id = recorded(f"trak {parameters} {damping}")
    settings = {"models": 2, "dimension": 8, "damping": damping, "parameters": parameters, "pairs": True}
    run_job("trak", dataset, workspace, run_id, settings, device="cpu")
    signals = signals_of(workspace, run_id)
    of = {"last": lambda net: list(net.head.parameters()), "all": lambda net: list(net.parameters())}[
        parameters
    ]
    products, own, residuals = [], [], []
    for net, bench, seed in models:
        g, p = log_odds_gradients(net, bench, bench.train, of)
        others, _ = log_odds_gradients(net, bench, torch.from_numpy(dataset.rows("val")), of)
        if parameters == "last":  # weights and bias of one class lie together there
            cut = g.shape[1] - dataset.num_classes
            order = np.arange(cut).reshape(dataset.num_classes, -1)
            order = np.hstack([order, np.arange(cut, g.shape[1])[:, None]]).ravel()
            g, others = g[:, order], others[:, order]
        matrix = whole_matrix(8, seed, g.shape[1])
        phi, theirs = g @ matrix, others @ matrix
        inverse = np.linalg.inv(phi.T @ phi + damping * np.eye(8))
        products.append(phi @ inverse @ theirs.T)
        own.append(np.einsum("nd,de,ne->n", phi, inverse, phi))
        residuals.append(1 - p)
    influence = np.mean(products, axis=0) * np.mean(residuals, axis=0)[:, None]
    scale = np.abs(influence).max()
    found = compute(["trak", "trak_self_influence"], signals)
    np.testing.assert_allclose(found["trak"].to_numpy(), influence.mean(1), rtol=1e-2, atol=1e-3 * scale)
    expected = np.mean(own, axis=0) * np.mean(residuals, axis=0)
    np.testing.assert_allclose(found["trak_self_influence"].to_numpy(), expected, rtol=1e-2, atol=1e-4)
    edges = trak_edges(
        signals["trak_feature"], signals["val_trak_feature"], signals["trak_residual"], k=influence.shape[1]
    )
    made = np.zeros_like(influence)
    for partners, values in ((edges.helped, edges.help), (edges.harmed, edges.harm)):
        i, at = np.nonzero(partners >= 0)
        made[i, partners[i, at]] = values[i, at]
    np.testing.assert_allclose(made, influence, rtol=1e-2, atol=1e-3 * scale)


def test_few_parameters_are_not_projected_and_empty_directions_left_out(recorded, signals_of, monkeypatch):
    dataset, workspace, run_id = recorded("trak whole")
    monkeypatch.setattr(Projection, "__call__", lambda *a: pytest.fail("projected"))
    # a linear layer of 5 columns and 3 classes: 18 parameters, of which the log odds see 12
    run_job("trak", dataset, workspace, run_id, {"models": 1, "dimension": 18}, model="linear", device="cpu")
    leverage = signals_of(workspace, run_id)["trak_self"]
    assert leverage.sum() == pytest.approx(12, rel=1e-3)
    assert ((leverage >= 0) & (leverage <= 1)).all()


def test_the_limit_of_small_damping():
    rng = np.random.default_rng(0)
    phi = torch.from_numpy(rng.normal(size=(50, 4)) @ rng.normal(size=(4, 9)))
    limit, small = (module.inverse_root(phi, damping) for damping in (0.0, 1e-7))
    assert limit.shape == (9, 4)
    np.testing.assert_allclose((phi @ limit).square().sum(1), (phi @ small).square().sum(1), rtol=1e-5)
    np.testing.assert_allclose(limit @ limit.T, np.linalg.pinv(phi.T @ phi), atol=1e-10)
    with pytest.raises(BadInput, match="explain itself"):
        module.inverse_root(torch.eye(5), 0.0)
    assert torch.allclose(
        module.inverse_root(torch.eye(5), 1.0).square().sum(1), torch.full((5,), 0.5).double()
    )


def test_the_usual_dimension():
    assert [module._usual(n) for n in (3, 120, 1455, 8191, 8192, 60_000)] == [1, 16, 256, 1024, 2048, 2048]


def test_wrong_labels_harm_and_stand_alone(noisy_digits, signals_of, auroc):
    dataset, workspace, run_id, wrong = noisy_digits
    run_job("trak", dataset, workspace, run_id, {"models": 1, "epochs": 5}, device="cpu")
    found = compute(["trak", "trak_self_influence"], signals_of(workspace, run_id))
    assert auroc(found["trak_self_influence"].to_numpy(), wrong) > 0.85
    assert auroc(-found["trak"].to_numpy(), wrong) > 0.7


def test_stopped_it_goes_on_with_the_next_model(recorded, signals_of, monkeypatch):
    settings = {"models": 3, "pairs": True}
    dataset, workspace, run_id = recorded("trak undisturbed")
    run_job("trak", dataset, workspace, run_id, settings, device="cpu")
    whole = signals_of(workspace, run_id)
    dataset, workspace, run_id = recorded("trak stopped")
    real, trained = Workbench.fit, []

    def interrupted(bench, *words, **more):
        trained.append(1)
        if len(trained) == 3:
            raise KeyboardInterrupt
        yield from real(bench, *words, **more)

    monkeypatch.setattr(Workbench, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_job("trak", dataset, workspace, run_id, settings, device="cpu")
    run_job("trak", dataset, workspace, run_id, settings, device="cpu")
    assert len(trained) == 4
    for name in ("trak_self", "trak_val", "trak_residual", "trak_feature", "val_trak_feature"):
        np.testing.assert_array_equal(signals_of(workspace, run_id)[name], whole[name])


def test_texts_by_the_last_layer(sentences, tmp_path, signals_of):
    run_id = record(sentences, tmp_path, TrainConfig(seed=0, epochs=1, device="cpu", threads=1))
    run_job("trak", sentences, tmp_path, run_id, {"models": 1}, device="cpu")
    assert (signals_of(tmp_path, run_id)["trak_self"] > 0).all()
    assert read_run(tmp_path, run_id)["arrays"]["trak_self"]["settings"]["parameters"] == "last"
    with pytest.raises(BadInput, match="images and tables"):
        run_job("trak", sentences, tmp_path, run_id, {"models": 1, "parameters": "all"}, device="cpu")


def test_what_it_refuses(recorded):
    dataset, workspace, run_id = recorded("trak refused")
    for settings, message in (
        ({"models": 0}, "models is 0"),
        ({"dimension": 0}, "dimension is 0"),
        ({"damping": -1.0}, "damping is -1"),
        ({"parameters": "some"}, "'last', 'all'"),
        ({"dimension": 512, "models": 1}, r"all of 123 training samples.*dimension= to 16"),
    ):
        with pytest.raises(BadInput, match=message):
            run_job("trak", dataset, workspace, run_id, settings, device="cpu")
