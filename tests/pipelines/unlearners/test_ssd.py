"""Dampening of weights that matter for the forget set alone.

It is shown a class to forget. The wrong labels of the shared stage it does not forget without harm: a network that has
learned them by heart has next to no gradient elsewhere, so nearly every weight counts as theirs.
"""

from dataclasses import replace

import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearners.ssd import importances, ssd


def linear(world):
    """Return the same data under a linear model, whose gradients are known: (p - onehot) x^T."""
    module = torch.nn.Linear(64, 10)
    with torch.no_grad():
        module.weight.copy_(torch.linspace(-1, 1, 640).view(10, 64).sin())
        module.bias.zero_()
    return replace(world.trained, module=module)


def squares(trained, rows, factor=None):
    """Return the mean squared gradients of weight and bias, sample by sample, in float64."""
    x = trained.inputs.batch(rows).double()
    logits = x @ trained.module.weight.double().T + trained.module.bias.double()
    error = logits.softmax(1) - torch.nn.functional.one_hot(trained.labels[rows], 10)
    if factor is not None:
        error = error * factor[rows][:, None]
    return (error[:, :, None] * x[:, None]).square().mean(0).detach(), error.square().mean(0).detach()


def test_importances_by_the_closed_form(world):
    trained, rows = linear(world), world.forget[:30]
    got = importances(trained, trained.learner(30, 1), rows, None, 1)
    for ours, reference in zip(got, squares(trained, rows), strict=True):
        torch.testing.assert_close(ours.double(), reference, rtol=1e-4, atol=1e-9)
    whole = importances(trained, trained.learner(30, 1), rows, None, 30)
    assert (whole[0].sum() < got[0].sum() / 2).item()  # the square of a mean is another quantity


def test_dampening_by_the_formula(world):
    trained, forget, retain = linear(world), world.forget[:30], world.retain[:200]
    weights = torch.where(trained.labels < 5, 2.0, 0.5)
    got = ssd(trained, forget, retain, seed=0, weights=weights, alpha=2.0, lambda_=0.8)
    factor = torch.zeros(len(weights), dtype=torch.float64)
    for rows in (forget, retain):
        factor[rows] = weights[rows].double() / weights[rows].double().mean()
    special = squares(trained, forget, factor)
    general = squares(trained, torch.cat([forget, retain]), factor)
    changed = 0
    for after, before, one, all_ in zip(
        got.parameters(), trained.module.parameters(), special, general, strict=True
    ):
        expected = torch.where(one > 2 * all_, before.double() * (0.8 * all_ / one), before.double())
        torch.testing.assert_close(after.double(), expected, rtol=1e-4, atol=1e-9)
        changed += int((after != before).sum())
    assert 20 < changed < 630


def test_a_class_is_forgotten_and_the_others_are_kept(world):
    labels, original = world.trained.labels, world.trained.module
    rows = torch.cat([world.forget, world.retain])
    forget, retain = rows[labels[rows] == 3], rows[labels[rows] != 3]
    others = world.test[labels[world.test] != 3]
    gone = ssd(world.trained, forget, retain, seed=0, alpha=4.0)
    assert world.accuracy(original, forget) > 0.95
    assert world.accuracy(gone, forget) < 0.5  # retraining: 0
    assert world.accuracy(gone, others) > world.accuracy(original, others) - 0.03
    careful = ssd(world.trained, forget, retain, seed=0, alpha=8.0, batch_size=1)
    assert world.loss(careful, forget) < world.loss(gone, forget)


def test_a_threshold_that_nothing_can_pass(world):
    """The forget set is a quarter of all: I_D is at least a quarter of I_f."""
    trained, forget, retain = linear(world), world.forget[:20], world.retain[:60]
    with pytest.raises(BadInput, match=r"at most 4 times I_D"):
        ssd(trained, forget, retain, seed=0, alpha=4.0)
    general, special = (
        importances(trained, trained.learner(1, 1), rows, None, 1)
        for rows in (torch.cat([forget, retain]), forget)
    )
    assert all((one <= 4.001 * every).all() for one, every in zip(special, general, strict=True))


@pytest.mark.parametrize("settings", [{"alpha": 0.0}, {"lambda_": -1.0}, {"batch_size": 0}])
def test_what_is_refused(world, settings):
    with pytest.raises(BadInput, match="all are above 0"):
        ssd(world.trained, world.forget, world.retain, seed=0, **settings)
