"""Predicted logits of the retrained model: exact where it must be, near where it can be, and learned as told."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.encoding.encode import Rows
from tracesift.pipelines.encoding.text import Ngrams
from tracesift.pipelines.models.contract import Bags, find
from tracesift.pipelines.unlearners.contract import Trained
from tracesift.pipelines.unlearners.datamodel_matching import (
    _PlainBag,
    datamodel_matching,
    estimated,
    softmax_curvature,
    softmax_gradient,
)

CPU = torch.device("cpu")


def linear(x, labels, weight):
    module = nn.Linear(x.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        module.weight.copy_(weight)
    return Trained(
        module=module, model=find("linear", "tabular"), inputs=Rows(x.float()), labels=labels,
        num_classes=weight.shape[0], device=CPU,
    )  # fmt: skip


def points(size, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 4, generator=drawn, dtype=torch.float64)
    labels = (x @ torch.randn(4, 3, generator=drawn, dtype=torch.float64)).argmax(1)
    return x, labels


def test_ridge_regression_without_the_forget_set_is_predicted_exactly():
    x, labels = points(60)
    y = nn.functional.one_hot(labels, 3).double()
    forget, retain, ridge = torch.arange(9), torch.arange(9, 60), 0.05

    def fitted(rows):
        return torch.linalg.solve(x[rows].T @ x[rows] / 60 + ridge * torch.eye(4), x[rows].T @ y[rows] / 60).T

    before, after = fitted(torch.arange(60)), fitted(retain)
    effects = estimated(
        linear(x, labels, before), forget, retain, torch.arange(60), None, "all", ridge, 50,
        gradient=lambda logits, given: logits - nn.functional.one_hot(given, 3),
        curvature=lambda _, change: change,
    )  # fmt: skip
    expected = x @ (before - after).T
    torch.testing.assert_close(effects.double(), expected, rtol=2e-3, atol=2e-5)
    assert expected.abs().max() > 0.05


def test_logistic_regression_against_the_newton_step_and_the_refit():
    """The step in float64 with the whole matrix; and a refit, which a step from the optimum comes near to."""
    x, labels = points(80, seed=3)
    weights = torch.rand(80, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5
    forget, retain, ridge = torch.arange(8), torch.arange(8, 80), 0.02

    def objective(w, rows):
        losses = nn.functional.cross_entropy(x[rows] @ w.view(3, 4).T, labels[rows], reduction="none")
        return (weights[rows] * losses).sum() / 80 + ridge / 2 * w.square().sum()

    curved = torch.func.jacrev(torch.func.jacrev(objective))

    def fitted(rows):
        w = torch.zeros(12, dtype=torch.float64)
        for _ in range(30):
            slope = torch.func.grad(objective)(w, rows)
            w = w - torch.linalg.solve(curved(w, rows), slope)
        return w

    everything = torch.arange(80)
    before = fitted(everything)
    step = -torch.linalg.solve(curved(before, retain), torch.func.grad(objective)(before, retain))
    trained = linear(x, labels, before.view(3, 4))
    got = estimated(trained, forget, retain, everything, weights.float(), "all", ridge, 60).double()
    torch.testing.assert_close(got, -x @ step.view(3, 4).T, rtol=5e-3, atol=1e-4)
    change = x @ (before - fitted(retain)).view(3, 4).T
    assert (got - change).abs().max() < 0.3 * change.abs().max()
    assert (got * change).sum() > 0.9 * got.norm() * change.norm()


def test_derivatives_of_the_loss_by_the_logits():
    logits, labels = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1])

    def loss(z):
        return nn.functional.cross_entropy(z, labels, reduction="sum")

    change = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(softmax_gradient(logits, labels), torch.func.grad(loss)(logits))
    curved = torch.func.jacrev(torch.func.jacrev(loss))(logits)
    torch.testing.assert_close(softmax_curvature(logits, change), torch.einsum("ikjl,jl->ik", curved, change))


def test_it_is_nearer_to_the_retrained_logits(world):
    """Of 80 wrong labels learned by heart nearly all are predicted to go, and few of the others."""
    shown = torch.cat([world.forget, world.retain[:240]])
    effects = estimated(world.trained, world.forget, world.retain, shown, None, "all", 0.01, 12)
    labels, before = world.trained.labels, world.logits(world.trained.module, shown)
    gold, predicted = world.logits(world.gold, shown), before - effects[shown]
    right = predicted.argmax(1) == labels[shown]
    assert right[:80].double().mean() < 0.2
    assert right[80:].double().mean() > 0.95

    def apart(one):
        return (one - one.mean(1, keepdim=True) - gold + gold.mean(1, keepdim=True))[:80].square().mean()

    assert apart(predicted) < 0.8 * apart(before)
    last = estimated(world.trained, world.forget, world.retain, shown, None, "last", 0.01, 12)
    shallow = (before - last[shown]).argmax(1) == labels[shown]
    assert shallow[:80].double().mean() > 0.5  # what lower layers know by heart stays
    assert not effects[world.test].any()


def test_oracles_are_matched(world):
    settings = {"epochs": 25, "lr": 4e-3, "batch_size": 80}
    got = datamodel_matching(
        world.trained, world.forget, world.retain, seed=0, oracles=[world.gold], **settings
    )
    for rows in (world.forget, world.test):
        gold = world.logits(world.gold, rows)
        before, after = (
            (world.logits(one, rows) - gold).square().mean() for one in (world.trained.module, got)
        )
        assert after < before / 4
    assert world.accuracy(got, world.forget) < 0.05
    assert world.accuracy(got, world.test) > world.accuracy(world.trained.module, world.test)


def test_given_effects_are_learned_and_no_others(world):
    effects = torch.zeros(1797, 10)
    effects[:, 0] = 3.0
    settings = {"epochs": 15, "lr": 4e-3, "batch_size": 80}
    got = datamodel_matching(world.trained, world.forget, world.retain, seed=0, effects=effects, **settings)
    change = (world.logits(got, world.retain) - world.logits(world.trained.module, world.retain)).mean(0)
    assert change[0] < -2
    assert change[1:].abs().max() < 0.7


def test_a_bag_that_can_be_differentiated_twice():
    texts = Ngrams.encode(["one two", "", "two three four"], torch.arange(3).numpy())
    bags: Bags = texts.batch(torch.tensor([2, 1, 0]))
    bag = nn.EmbeddingBag(texts.input_shape[1], 3, mode="sum")
    expected = bag(bags.indices, bags.offsets, per_sample_weights=bags.weights)
    got = _PlainBag(bag)(bags.indices, bags.offsets, per_sample_weights=bags.weights)
    torch.testing.assert_close(got, expected)


def test_what_is_refused(world):
    def run(**settings):
        return datamodel_matching(world.trained, world.forget, world.retain, seed=0, **settings)

    for settings in ({"damping": 0.0}, {"iterations": 0}):
        with pytest.raises(BadInput, match="damping is above 0"):
            run(**settings)
    with pytest.raises(BadInput, match="parameters='first' must be 'all' or 'last'"):
        run(parameters="first")
    with pytest.raises(BadInput, match="give effects or oracles"):
        run(effects=torch.zeros(1797, 10), oracles=[world.gold])
    with pytest.raises(BadInput, match="1797 rows and 10 logits"):
        run(effects=torch.zeros(1797, 3))
    with pytest.raises(BadInput, match="finite"):
        run(effects=torch.full((1797, 10), torch.nan))


class Averaged(nn.Module):
    """A mean of vectors, whose derivative in torch has none itself."""

    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(2, 8, mode="mean")
        self.last = nn.Linear(8, 10)

    def forward(self, x):
        return self.last(self.bag((x > 0).long()))


def test_a_module_that_cannot_be_differentiated_twice(world):
    trained = replace(world.trained, module=Averaged())
    with pytest.raises(BadInput, match="parameters='last'"):
        datamodel_matching(trained, world.forget, world.retain, seed=0)
    datamodel_matching(trained, world.forget, world.retain, seed=0, parameters="last", epochs=1, iterations=2)
