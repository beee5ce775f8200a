"""A student that leaves its teacher on the forget set, and follows it on the retain set."""

import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearners.scrub import scrub


def distance(world, module, rows):
    """Return the mean KL(teacher | student) at temperature 1, in float64."""
    teacher, student = (world.logits(one, rows).double().softmax(1) for one in (world.trained.module, module))
    return (teacher * (teacher / student).log()).sum(1).mean().item()


def test_it_leaves_the_teacher_where_it_is_told_to(world):
    settings = {"lr": 0.005, "forget_batch": 32, "retain_batch": 64, "epochs": 3}
    module = scrub(world.trained, world.forget, world.retain, seed=0, max_epochs=2, **settings)
    assert distance(world, module, world.forget) > 10 * distance(world, module, world.retain)


def test_following_the_teacher_keeps_the_student_near(world):
    settings = {
        "lr": 0.005,
        "forget_batch": 32,
        "retain_batch": 64,
        "epochs": 3,
        "max_epochs": 1,
        "gamma": 0.0,
    }
    apart, near = (
        distance(
            world,
            scrub(world.trained, world.forget, world.retain, seed=0, alpha=alpha, **settings),
            world.retain,
        )
        for alpha in (1e-4, 1.0)
    )
    assert near < apart


def test_the_max_step_by_hand(world):
    """One step up, then one down with nothing to follow but weight decay and momentum: the sign of the first decides."""
    trained, forget, retain = world.trained, world.forget[:30], world.retain[:30]
    settings = {"epochs": 1, "max_epochs": 1, "lr": 0.01, "alpha": 0.0, "gamma": 0.0}
    got = scrub(trained, forget, retain, seed=0, **settings)
    student = trained.learner(30, 1).module.train()
    x = trained.inputs.batch(forget)
    with torch.no_grad():
        teacher = (trained.module(x) / 4).softmax(1)
    out = (student(x) / 4).log_softmax(1)
    (-16 * (teacher * (teacher.log() - out)).sum(1).mean()).backward()
    for (name, after), before in zip(got.named_parameters(), student.parameters(), strict=True):
        first = before.grad + 5e-4 * before
        middle = before - 0.01 * 1.9 * first  # Nesterov momentum 0.9 from rest
        second = 5e-4 * middle  # no gradient
        expected = middle - 0.01 * (second + 0.9 * (0.9 * first + second))
        torch.testing.assert_close(after.detach(), expected.detach(), rtol=2e-3, atol=2e-6, msg=name)


def test_epochs_that_cannot_be(world):
    with pytest.raises(BadInput, match="max_epochs=4 of epochs=3"):
        scrub(world.trained, world.forget, world.retain, seed=0, max_epochs=4)
