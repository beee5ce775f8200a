"""DeepFool's job: exact on linear models, against a walk by hand, found borders planted, and what it refuses."""

import doctest

import numpy as np
import pytest
import torch
from torch import nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.jobs import deepfool as module
from tracesift.pipelines.jobs.contract import run_job
from tracesift.pipelines.jobs.deepfool import NotCrossedWarning, boundary_distance
from tracesift.pipelines.train import TrainConfig, record
from tracesift.scorers.contract import compute


def test_examples_run():
    assert doctest.testmod(module).failed == 0


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3)).eval()


def test_a_linear_model_is_exact_in_one_step():
    torch.manual_seed(1)
    linear = nn.Linear(6, 5).double().eval()
    x = torch.randn(40, 6, dtype=torch.float64)
    distance, crossed = boundary_distance(linear, x, iterations=1)
    weight, bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()
    for i, row in enumerate(x.numpy()):
        logits = weight @ row + bias
        first = logits.argmax()
        apart = [
            (logits[first] - logits[k]) / np.linalg.norm(weight[first] - weight[k])
            for k in range(5)
            if k != first
        ]
        assert float(distance[i]) == pytest.approx(min(apart), rel=1e-5)
    assert crossed.all()


def walk_of_one(net, x, iterations=50):
    """Algorithm 2 of the paper for one sample, with gradients by finite differences in float64."""

    def logits(at):
        with torch.no_grad():
            return net(torch.from_numpy(at)[None])[0].numpy()

    first, change, used = logits(x).argmax(), np.zeros_like(x), 0
    while logits(x + 1.02 * change).argmax() == first and used < iterations:
        at, used = x + 1.02 * change, used + 1
        slopes = np.stack([(logits(at + e) - logits(at - e)) / 2e-6 for e in 1e-6 * np.eye(len(x))], axis=1)
        best = None
        for k in range(3):
            if k != first:
                w, f = slopes[k] - slopes[first], logits(at)[k] - logits(at)[first]
                if best is None or abs(f) / np.linalg.norm(w) < best[0]:
                    best = abs(f) / np.linalg.norm(w), abs(f) / (w @ w) * w
        change = change + best[1]
    return np.linalg.norm(change), used


def test_against_a_walk_by_finite_differences(network):
    network = network.double()
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(25, 4)) * 2)
    distance, crossed = boundary_distance(network, x)
    expected, steps = zip(*(walk_of_one(network, row) for row in x.numpy()), strict=True)
    assert crossed.all()
    assert max(steps) > 2  # the borders are curved
    np.testing.assert_allclose(distance.numpy(), expected, rtol=1e-4)


def test_samples_do_not_depend_on_one_another(network):
    x = torch.randn(12, 4)
    whole, _ = boundary_distance(network, x)
    apart = torch.cat([boundary_distance(network, row[None])[0] for row in x])
    np.testing.assert_allclose(whole.numpy(), apart.numpy(), rtol=1e-4)


def test_what_has_not_crossed_keeps_its_partial_sum(network):
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(25, 4)) * 2).float()
    one, crossed = boundary_distance(network, x, iterations=1)
    whole, _ = boundary_distance(network, x)
    assert 0 < crossed.sum() < 25
    assert (one > 0).all()
    np.testing.assert_array_equal(one[crossed].numpy(), whole[crossed].numpy())
    assert not torch.equal(one[~crossed], whole[~crossed])


def test_no_other_class_and_no_slope_are_no_distance():
    x = torch.randn(5, 4)
    for net in (nn.Linear(4, 1), nn.Sequential(nn.Linear(4, 4), nn.Flatten())):
        if isinstance(net, nn.Sequential):
            nn.init.zeros_(net[0].weight)
        distance, crossed = boundary_distance(net.eval(), x)
        assert distance.isnan().all()
        assert not crossed.any()


def test_the_job_finds_the_samples_between_the_classes(signals_of, tmp_path, auroc):
    import polars as pl

    from tracesift.pipelines.dataset import open_dataset

    rng = np.random.default_rng(3)
    side = rng.uniform(0.05, 4, 400) * np.where(np.arange(400) % 2, 1, -1)
    table = pl.DataFrame(
        {
            "id": [f"s{i:03d}" for i in range(400)],
            "label": np.where(side > 0, "up", "down"),
            "a": side,
            "b": rng.normal(size=400),
        }
    )
    dataset = open_dataset(table, name="two sides")
    run_id = record(dataset, tmp_path, TrainConfig(seed=0, epochs=1, device="cpu", threads=1))
    made = run_job("deepfool", dataset, tmp_path, run_id, {"epochs": 20}, device="cpu")
    assert made == ("boundary_crossed", "boundary_distance")
    signals = signals_of(tmp_path, run_id)
    assert signals["boundary_crossed"].all()
    score = compute("deepfool", signals)["deepfool"].to_numpy()
    ids = dataset.samples["sample_id"].gather(dataset.rows("train")).to_list()
    near = np.abs(side)[[int(name[1:]) for name in ids]] < 0.5
    assert auroc(-score, near) > 0.95
    np.testing.assert_allclose(score, signals["boundary_distance"].astype(np.float64) ** 2)


def test_images_are_taken_and_the_unfinished_are_counted(squares, signals_of, tmp_path):
    run_id = record(squares, tmp_path, TrainConfig(seed=0, epochs=1, device="cpu", threads=1))
    with pytest.warns(NotCrossedWarning, match=r"\d+ of \d+ samples reached no other class in 1 steps"):
        run_job("deepfool", squares, tmp_path, run_id, {"epochs": 3, "iterations": 1}, device="cpu")
    signals = signals_of(tmp_path, run_id)
    assert not signals["boundary_crossed"].all()
    assert np.isfinite(signals["boundary_distance"]).all()


def test_what_it_refuses(recorded, sentences, tmp_path):
    dataset, workspace, run_id = recorded("deepfool refused")
    for settings in ({"epochs": 0}, {"iterations": 0}):
        with pytest.raises(BadInput, match="at least 1"):
            run_job("deepfool", dataset, workspace, run_id, settings, device="cpu")
    text = record(sentences, tmp_path, TrainConfig(seed=0, epochs=1, device="cpu", threads=1))
    with pytest.raises(BadInput, match="tokens are no numbers"):
        run_job("deepfool", sentences, tmp_path, text, device="cpu")
