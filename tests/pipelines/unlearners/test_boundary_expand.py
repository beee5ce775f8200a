"""A class that does not exist takes the forget set in, and is cut off."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.models.linear import Linear
from tracesift.pipelines.unlearners.boundary_expand import boundary_expand, widened


def test_one_output_more_and_the_others_as_they_were(world):
    module = deepcopy(world.trained.module)
    head = widened(module, 10, seed=0)
    x = world.trained.inputs.batch(world.test)
    with torch.no_grad():
        wide, narrow = module(x), world.trained.module(x)
    assert wide.shape == (len(world.test), 11)
    torch.testing.assert_close(wide[:, :10], narrow)
    assert head.bias[10] == 0
    rows = [widened(deepcopy(world.trained.module), 10, seed).weight[10:] for seed in range(40)]
    drawn = torch.cat(rows)
    assert abs(drawn.std().item() - (2 / (128 + 11)) ** 0.5) < 0.005
    assert abs(drawn.mean().item()) < 0.006


def test_the_first_step_by_hand(world):
    """One batch: all weights move by -lr times the gradient of -log p(shadow), and the shadow's own are gone."""
    trained, forget = world.trained, world.forget[:30]
    got = boundary_expand(trained, forget, world.retain, seed=4, epochs=1, lr=0.01)
    module = deepcopy(trained.module).eval()
    fresh = widened(deepcopy(trained.module), 10, 4).weight[10].detach()
    inner = module.features(trained.inputs.batch(forget))
    logits = module.head(inner)
    shadow = inner @ fresh
    (torch.logsumexp(torch.cat([logits, shadow[:, None]], 1), 1) - shadow).mean().backward()
    assert got.head.weight.shape == (10, 128)
    assert got.head.out_features == 10
    for (name, after), before in zip(got.named_parameters(), module.parameters(), strict=True):
        # Nesterov momentum 0.9 from rest: 1.9 times the gradient
        expected = before - 0.01 * 1.9 * before.grad
        torch.testing.assert_close(after.detach(), expected.detach(), rtol=1e-3, atol=1e-6, msg=name)
    for after, before in zip(got.buffers(), trained.module.buffers(), strict=True):
        assert torch.equal(after, before)


def test_a_class_is_forgotten_and_the_others_are_kept(world):
    forget, retain, others = world.a_class(1)
    original, gone = world.trained.module, boundary_expand(world.trained, forget, retain, seed=0)
    assert world.accuracy(original, forget) > 0.95
    assert world.accuracy(gone, forget) < 0.1  # retraining: 0
    assert world.accuracy(gone, others) > world.accuracy(original, others) - 0.05


def test_a_model_whose_logits_come_from_elsewhere(world):
    for module in (Linear((-1, 20), 10), torch.nn.Sequential(torch.nn.Linear(64, 7))):
        with pytest.raises(BadInput, match="no linear one with 10 outputs"):
            boundary_expand(replace(world.trained, module=module), world.forget, world.retain, seed=0)
