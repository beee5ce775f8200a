"""One step that learns the opposite of the forget set: exact on a quadratic, by hand elsewhere."""

from dataclasses import dataclass

import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.encoding.encode import Rows
from tracesift.pipelines.models.contract import find
from tracesift.pipelines.unlearners.contract import Trained
from tracesift.pipelines.unlearners.influence_approximation import influence_approximation, restricted


@dataclass(frozen=True, kw_only=True)
class Quadratic(Trained):
    """A constant fitted to points: L = |theta - z|^2 / 2, whose Hessian is the identity."""

    points: torch.Tensor

    def losses(self, logits, rows, weights):
        losses = 0.5 * (logits - self.points[rows]).square().sum(1)
        return losses if weights is None else losses * weights[rows]


def quadratic(points, theta):
    module = torch.nn.Linear(1, points.shape[1])
    with torch.no_grad():
        module.weight.zero_()
        module.bias.copy_(theta)
    module.weight.requires_grad_(False)
    return Quadratic(
        module=module,
        model=find("linear", "tabular"),
        inputs=Rows(torch.ones(len(points), 1)),
        labels=torch.zeros(len(points), dtype=torch.int64),
        num_classes=points.shape[1],
        device=torch.device("cpu"),
        points=points,
    )


@pytest.mark.parametrize("correction", [1.0, 0.0])
def test_the_plain_step_is_the_refit_of_a_quadratic(correction):
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    forget, retain = torch.arange(6), torch.arange(6, 40)
    trained = quadratic(points, points.mean(0))
    lr = 6 / 40 if correction else 6 / 34  # without correction the other side of the same gradient
    got = influence_approximation(
        trained, forget, retain, seed=0, optimizer="sgd", lr=lr, correction=correction
    )
    torch.testing.assert_close(got.bias.detach(), points[retain].mean(0), rtol=1e-5, atol=1e-6)
    assert (points[retain].mean(0) - points.mean(0)).abs().max() > 0.05


def test_weights_are_those_of_the_means():
    points = torch.randn(20, 2, generator=torch.Generator().manual_seed(1))
    weights = torch.rand(20, generator=torch.Generator().manual_seed(2))
    forget, retain = torch.arange(5), torch.arange(5, 20)
    got = influence_approximation(
        quadratic(points, torch.zeros(2)), forget, retain, seed=0, optimizer="sgd", lr=1.0, weights=weights
    )

    def mean(rows):
        return (weights[rows, None] * points[rows]).sum(0) / weights[rows].sum()

    torch.testing.assert_close(got.bias.detach(), mean(retain) - mean(forget), rtol=1e-5, atol=1e-6)


def test_the_step_of_adam_is_that_of_torch(world):
    """A fresh Adam of torch, gradients of both sets at once."""
    trained, forget, retain = world.trained, world.forget, world.retain
    got = influence_approximation(trained, forget, retain, seed=0, lr=0.002)
    module = trained.learner(1, 1).module.eval()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.002)
    for rows, sign in ((retain, 1), (forget, -1)):
        logits = module(trained.inputs.batch(rows))
        (sign * torch.nn.functional.cross_entropy(logits, trained.labels[rows])).backward()
    clear = [one.grad.abs() > 1e-6 for one in module.parameters()]
    optimizer.step()
    for after, expected, mask in zip(got.parameters(), module.parameters(), clear, strict=True):
        torch.testing.assert_close(after[mask], expected[mask], rtol=1e-4, atol=1e-6)


def test_one_step_halves_the_gap_to_retraining_but_does_not_close_it(world):
    gaps = [
        world.accuracy(
            influence_approximation(world.trained, world.forget, world.retain, seed=0, lr=lr), world.forget
        )
        for lr in (1e-3, 3e-3, 5e-3)
    ]
    assert gaps == sorted(gaps, reverse=True)
    assert world.accuracy(world.gold, world.forget) < gaps[2] < 0.5


def test_restriction_by_hand():
    """L = (w x)^2 has the gradient 2 w x^2, so what is added is alpha 2 |w| x^2, and its gradient alpha 2 x^2."""
    layer = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(3.0)
    loss = layer(torch.tensor([[2.0]])).square().sum()
    total = restricted(loss, layer, alpha=0.1)
    assert total.item() == pytest.approx(36 + 0.1 * 24)
    total.backward()
    assert layer.weight.grad.item() == pytest.approx(24 + 0.1 * 8)


@pytest.mark.parametrize("settings", [{"lr": 0.0}, {"correction": -1.0}])
def test_what_is_refused(world, settings):
    with pytest.raises(BadInput, match="lr is above 0"):
        influence_approximation(world.trained, world.forget, world.retain, seed=0, **settings)
