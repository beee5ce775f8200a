"""The estimate of the Bayes error and its gradient against brute force, and that the ascent ascends."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.protection import bayes_error_noise as module
from tracesift.pipelines.protection.bayes_error_noise import bayes_error, bayes_error_noise


def by_loops(features, labels, classes, sigma):
    """Leave-one-out posteriors, one sample and one neighbour at a time."""
    errors = []
    for i in range(len(features)):
        votes = [0.0] * classes
        for j in range(len(features)):
            if i != j:
                votes[labels[j]] += float(np.exp(-((features[i] - features[j]) ** 2).sum() / (2 * sigma**2)))
        errors.append(1 - max(votes) / sum(votes))
    return float(np.mean(errors))


@pytest.mark.parametrize("queries", [1024, 7])
def test_estimate_and_gradient(queries, monkeypatch):
    monkeypatch.setattr(module, "_QUERIES", queries)
    rng = np.random.default_rng(0)
    features, labels = rng.normal(0, 0.4, (30, 3)), rng.integers(0, 3, 30)
    found, gradient = bayes_error(torch.from_numpy(features), torch.from_numpy(labels), 3, 0.3)
    assert found == pytest.approx(by_loops(features, labels, 3, 0.3), abs=1e-12)
    for row, column in ((0, 0), (12, 2), (29, 1)):
        up, down = features.copy(), features.copy()
        up[row, column] += 1e-6
        down[row, column] -= 1e-6
        slope = (by_loops(up, labels, 3, 0.3) - by_loops(down, labels, 3, 0.3)) / 2e-6
        assert float(gradient[row, column]) == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_far_neighbours_still_give_a_posterior():
    """Kernels that vanish in float32 divide nothing by nothing in the example code."""
    features = torch.tensor([[0.0], [50.0], [50.5], [120.0]])
    found, gradient = bayes_error(features, torch.tensor([0, 1, 1, 0]), 2, 0.3)
    assert found == 0
    assert torch.isfinite(gradient).all()


def test_the_estimate_rises_far_more_than_by_random_signs():
    held = load_digits()
    pixels, labels = np.round(held.images[:300, None] * 255 / 16).astype(np.uint8), held.target[:300]
    heard = []
    made = bayes_error_noise(
        pixels, labels, seed=0, rounds=2, eps=16, step=3.2, progress=lambda *told: heard.append(told[2])
    )
    assert len(made.report["bayes_error"]) == 2
    assert any("surrogate's own estimate of the Bayes error" in words for words in heard)
    for before, after in made.report["bayes_error"]:
        assert (before, after) == (round(before, 6), round(after, 6))
        assert after > before + 0.02

    net = surrogate_on(pixels, labels)
    flat = np.random.default_rng(0).choice([-16, 16], pixels.shape)
    random = np.clip(pixels.astype(int) + flat, 0, 255).astype(np.uint8)
    one = bayes_error_noise(pixels, labels, seed=0, rounds=1, eps=16, step=3.2)
    assert estimate(net, one.inputs, labels) > estimate(net, random, labels) + 0.02


def surrogate_on(pixels, labels):
    """The first network of the generator: it sees clean images."""
    torch.manual_seed(0)
    net = module.surrogate.build(
        module.surrogate.surrogate_model("small_cnn"), (1, 8, 8), 10, torch.device("cpu")
    )
    module._train(net, pixels, torch.from_numpy(labels), 5, 128, 0)
    return net.eval()


def estimate(net, pixels, labels):
    features = module._features(net, torch.from_numpy(pixels).float() / 255, 256)
    return bayes_error(module._scaled(features), torch.from_numpy(labels), 10, 0.3)[0]


def own_net(shape, classes):
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 9), torch.nn.Tanh(), torch.nn.Linear(9, classes)
    )


def without_layers(shape, classes):
    return torch.nn.Sequential(torch.nn.Conv2d(shape[0], classes, shape[1:]), torch.nn.Flatten())


def test_a_network_of_the_users_own(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_nets", SimpleNamespace(net=own_net, bare=without_layers))
    rng = np.random.default_rng(0)
    grey, labels = rng.integers(9, 240, (40, 1, 8, 8), dtype=np.uint8), np.arange(40) % 2
    made = bayes_error_noise(grey, labels, seed=0, rounds=1, model="my_nets:net")
    assert (made.inputs != grey).any((1, 2, 3)).all()
    with pytest.raises(BadInput, match="no linear layer"):
        bayes_error_noise(grey, labels, seed=0, rounds=1, model="my_nets:bare")


def test_refusals():
    grey, labels = np.full((4, 1, 8, 8), 99, dtype=np.uint8), np.array([0, 1, 0, 1])
    for given in ({"step": 9}, {"sigma": 0}, {"batch_size": 1}, {"rounds": 0}, {"steps": 0}, {"epochs": 0}):
        ((name, value),) = given.items()
        with pytest.raises(
            BadInput, match=f"^{name}={value}: [^=]*(eps=8)?$"
        ):  # the value at fault, and no other
            bayes_error_noise(grey, labels, seed=0, **given)
    with pytest.raises(BadInput, match="at least two"):
        bayes_error_noise(grey[:1], labels[:1], seed=0, num_classes=2)
