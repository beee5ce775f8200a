"""Descent on the retain set and ascent on the forget set in one step."""

import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearners.gradient_ascent import gradient_ascent


def test_the_first_step_by_hand(world):
    """One batch of each set: the weights move by -lr grad of beta L_r - (1 - beta) L_f, plus weight decay."""
    trained, forget, retain = world.trained, world.forget[:20], world.retain[:40]
    got = gradient_ascent(trained, forget, retain, seed=0, beta=0.7, epochs=1, lr=0.05)
    reference = trained.learner(40, 1).module.train()
    losses = [
        torch.nn.functional.cross_entropy(reference(trained.inputs.batch(rows)), trained.labels[rows])
        for rows in (retain, forget)
    ]
    (0.7 * losses[0] - 0.3 * losses[1]).backward()
    for (name, after), before in zip(got.named_parameters(), reference.parameters(), strict=True):
        # Nesterov momentum 0.9 from rest: 1.9 times the gradient
        expected = before - 0.05 * 1.9 * (before.grad + 5e-4 * before)
        torch.testing.assert_close(after.detach(), expected.detach(), rtol=1e-3, atol=1e-6, msg=name)


def test_more_ascent_forgets_more(world):
    losses = [
        world.loss(
            gradient_ascent(world.trained, world.forget, world.retain, seed=0, beta=beta, epochs=2),
            world.forget,
        )
        for beta in (1.0, 0.9, 0.8)
    ]
    assert losses == sorted(losses)
    assert losses[2] > losses[0] + 0.5


@pytest.mark.parametrize("beta", [0.0, 1.2])
def test_a_share_that_is_none(world, beta):
    with pytest.raises(BadInput, match="beta is the share"):
        gradient_ascent(world.trained, world.forget, world.retain, seed=0, beta=beta)
