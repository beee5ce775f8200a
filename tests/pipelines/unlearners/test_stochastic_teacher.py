"""The student follows a network that knows nothing on the forget set, and the given one on the retain set."""

from copy import deepcopy

import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import settled
from tracesift.pipelines.unlearners.stochastic_teacher import stochastic_teacher


def moved(module, loss, lr):
    """Take a step of SGD with Nesterov momentum 0.9 from rest and weight decay 5e-4."""
    module.zero_grad()
    loss.backward()
    with torch.no_grad():
        for one in module.parameters():
            one -= lr * 1.9 * (one.grad + 5e-4 * one)


def test_both_steps_by_hand(world):
    """One batch of each set, as KL = sum p (log p - log q) with the teacher's p."""
    trained, forget, retain = world.trained, world.forget[:30], world.retain[:50]
    weights = torch.where(trained.labels < 5, 2.0, 0.5)
    got = stochastic_teacher(trained, forget, retain, seed=3, weights=weights, alpha=0.4, lr=0.01)
    with settled(3, 1):
        stranger = trained.model.build((64,), 10).eval()
    student = deepcopy(trained.module).eval()
    of_forget, of_retain = (weights[rows] / weights[rows].mean() for rows in (forget, retain))

    def apart(teacher, logits, x):
        with torch.no_grad():
            p = teacher(x).softmax(1)
        return (p * (p.log() - logits.log_softmax(1))).sum(1)

    x = trained.inputs.batch(forget)
    moved(student, (apart(stranger, student(x), x) * of_forget).mean(), 0.01)
    erased = stochastic_teacher(
        trained, forget, retain, seed=3, weights=weights, alpha=0.4, lr=0.01, epochs=0
    )
    for (name, after), expected in zip(erased.named_parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(after, expected, rtol=1e-3, atol=1e-6, msg=name)

    student.train()
    x = trained.inputs.batch(retain)
    logits = student(x)
    kept = torch.nn.functional.cross_entropy(logits, trained.labels[retain], reduction="none")
    moved(student, ((kept + 0.4 * apart(trained.module, logits, x)) * of_retain).mean(), 0.01)
    for (name, after), expected in zip(got.named_parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(after, expected, rtol=1e-3, atol=2e-6, msg=name)


def test_a_class_is_forgotten_and_the_others_are_kept(world):
    forget, retain, others = world.a_class(3)
    original = world.trained.module
    gone = stochastic_teacher(world.trained, forget, retain, seed=0, erase_epochs=3)
    assert world.accuracy(original, forget) > 0.95
    assert world.accuracy(gone, forget) < 0.3  # retraining: 0
    assert world.accuracy(gone, others) > world.accuracy(original, others) - 0.05


@pytest.mark.parametrize("settings", [{"alpha": -0.1}, {"erase_epochs": 0}])
def test_what_is_refused(world, settings):
    with pytest.raises(BadInput, match="0 or more, and at least 1"):
        stochastic_teacher(world.trained, world.forget, world.retain, seed=0, **settings)
