"""The logits of the forget set are drawn to the origin, those of the retain set are not."""

from dataclasses import replace

import torch

from tracesift.pipelines.unlearners.one_point_contraction import one_point_contraction


def test_the_first_step_by_hand(world):
    """One batch of each set: the weights move by -lr grad of L_r + the mean norm, plus weight decay."""
    trained, forget, retain = world.trained, world.forget[:20], world.retain[:40]
    weights = torch.where(trained.labels < 5, 2.0, 0.5)
    got = one_point_contraction(trained, forget, retain, seed=0, weights=weights, epochs=1, lr=0.01)
    reference = trained.learner(40, 1).module.train()
    of_forget, of_retain = (weights[rows] / weights[rows].mean() for rows in (forget, retain))
    kept = torch.nn.functional.cross_entropy(
        reference(trained.inputs.batch(retain)), trained.labels[retain], reduction="none"
    )
    norms = reference(trained.inputs.batch(forget)).square().sum(1).sqrt()
    ((kept * of_retain).mean() + (norms * of_forget).mean()).backward()
    for (name, after), before in zip(got.named_parameters(), reference.parameters(), strict=True):
        # Nesterov momentum 0.9 from rest: 1.9 times the gradient
        expected = before - 0.01 * 1.9 * (before.grad + 5e-4 * before)
        torch.testing.assert_close(after.detach(), expected.detach(), rtol=1e-3, atol=1e-6, msg=name)


def test_a_class_is_at_the_origin_and_the_others_are_not(world):
    forget, retain, others = world.a_class(3)
    original = world.trained.module
    gone = one_point_contraction(world.trained, forget, retain, seed=0, epochs=5, lr=0.03)
    before, after, kept = (
        world.logits(module, rows).norm(dim=1).median()
        for module, rows in ((original, forget), (gone, forget), (gone, retain))
    )
    assert after < before / 5
    assert after < kept / 2
    assert world.accuracy(original, forget) > 0.95
    assert world.accuracy(gone, forget) < 0.5  # retraining: 0
    assert world.accuracy(gone, others) > world.accuracy(original, others) - 0.05


def test_logits_that_are_zero_already(world):
    """The norm has no gradient at the origin; there nothing pulls, and nothing breaks."""
    module = torch.nn.Linear(64, 10)
    torch.nn.init.zeros_(module.weight)
    torch.nn.init.zeros_(module.bias)
    trained = replace(world.trained, module=module)
    got = one_point_contraction(trained, world.forget, world.retain[:100], seed=0, epochs=1)
    assert all(one.isfinite().all() for one in got.parameters())
