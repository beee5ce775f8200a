"""One layer moves, along one gradient, as far as it must: which layer, which direction, how far."""

from dataclasses import replace

import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.encoding.encode import Rows
from tracesift.pipelines.models.linear import Linear
from tracesift.pipelines.unlearners.single_layer_single_gradient import (
    accuracy,
    front,
    gradients,
    single_layer_single_gradient,
)


def test_the_front_by_hand():
    """Importance and alignment: a (1, 0.6), b (2, 0), c (0.5, 0), d (3, 1), e (0.4, 0.8); f has no gradient."""
    sizes = {"a": 5.0, "b": 1.0, "c": 4.0, "d": 1.0, "e": 5.0, "f": 1.0}
    module = torch.nn.ModuleDict({name: torch.nn.Linear(2, 1, bias=False) for name in sizes})
    with torch.no_grad():
        for name, size in sizes.items():
            module[name].weight.copy_(torch.tensor([[0.0, size]]))
    forget = {
        "a": (3.0, 4.0),
        "b": (0.0, 2.0),
        "c": (2.0, 0.0),
        "d": (0.0, -3.0),
        "e": (2.0, 0.0),
        "f": (0.0, 0.0),
    }
    retain = {
        "a": (1.0, 0.0),
        "b": (5.0, 0.0),
        "c": (0.0, 1.0),
        "d": (0.0, 7.0),
        "e": (4.0, 3.0),
        "f": (1.0, 0.0),
    }
    tensors = [
        {f"{name}.weight": torch.tensor([pair], dtype=torch.float64) for name, pair in given.items()}
        for given in (forget, retain)
    ]
    # b surpasses a and e; c is no better than b in alignment, so b does not surpass it; opposed is aligned, too: d
    assert front(module, *tensors) == ["b.weight", "c.weight", "d.weight"]


def test_gradients_by_the_closed_form(world):
    """Of a linear layer: (p - onehot) x^T, its mean, over more than one batch; the bias is no matrix."""
    module = torch.nn.Linear(64, 10)
    trained = replace(world.trained, module=module)
    factor = torch.where(trained.labels < 5, 2.0, 0.5)
    got = gradients(trained, trained.learner(1, 1), world.retain, factor)
    x = trained.inputs.batch(world.retain).double()
    logits = x @ module.weight.double().T + module.bias.double()
    error = logits.softmax(1) - torch.nn.functional.one_hot(trained.labels[world.retain], 10)
    expected = ((error * factor[world.retain, None]).T @ x / len(x)).detach()
    assert list(got) == ["weight"]
    torch.testing.assert_close(got["weight"], expected, rtol=1e-4, atol=1e-7)


def test_one_layer_moves_up_the_gradient_and_no_further_than_it_must(world):
    trained = world.trained
    forget, retain, others = world.a_class(3)
    gone = single_layer_single_gradient(trained, forget, retain, seed=0)
    old, new = dict(trained.module.named_parameters()), dict(gone.named_parameters())
    changed = [name for name in old if not torch.equal(old[name], new[name])]
    learner = trained.learner(1, 1)
    up, down = (gradients(trained, learner, rows, None) for rows in (forget, retain))
    assert len(changed) == 1
    assert changed[0] in front(trained.module, up, down)
    assert all(torch.equal(a, b) for a, b in zip(gone.buffers(), trained.module.buffers(), strict=True))
    move = (new[changed[0]] - old[changed[0]]).detach().double()
    assert torch.cosine_similarity(move.flatten(), up[changed[0]].flatten(), dim=0) > 0.9999
    assert world.accuracy(trained.module, forget) > 0.95
    assert world.accuracy(gone, forget) == 0  # as retraining
    assert world.accuracy(gone, others) > world.accuracy(trained.module, others) - 0.03
    weight = learner.module.get_parameter(changed[0])
    with torch.no_grad():
        weight.copy_(old[changed[0]] + 0.9 * move)
    assert accuracy(trained, learner, forget, None) > 0


def test_the_layer_that_keeps_most(world):
    """Every layer of the front, taken alone by freezing the others, keeps no more than the one chosen."""
    trained = world.trained
    forget, retain, _ = world.a_class(5)
    gone = single_layer_single_gradient(trained, forget, retain, seed=0)
    up, down = (gradients(trained, trained.learner(1, 1), rows, None) for rows in (forget, retain))
    names, kept = front(trained.module, up, down), []
    assert len(names) > 1
    for name in names:
        module = trained.learner(1, 1).module
        for other, parameter in module.named_parameters():
            parameter.requires_grad_(other == name)
        alone = single_layer_single_gradient(replace(trained, module=module), forget, retain, seed=0)
        kept.append(world.accuracy(alone, retain))
    assert world.accuracy(gone, retain) == max(kept)
    assert min(kept) < max(kept)


def test_a_higher_target_is_a_shorter_step(world):
    forget, retain, _ = world.a_class(3)
    near, far = (
        single_layer_single_gradient(world.trained, forget, retain, seed=0, target=target)
        for target in (0.5, 0.0)
    )
    assert 0.3 < world.accuracy(near, forget) <= 0.5
    assert world.loss(near, forget) < world.loss(far, forget)


def test_a_target_that_no_step_reaches(world):
    """Two labels for one and the same input: one of them is always right."""
    module = torch.nn.Linear(2, 2)
    trained = replace(
        world.trained,
        module=module,
        inputs=Rows(torch.tensor([[1.0, 2.0], [1.0, 2.0], [-1.0, 0.5]])),
        labels=torch.tensor([0, 1, 0]),
        num_classes=2,
    )
    with pytest.raises(BadInput, match=r"to 0; the lowest was 0\.5; take a higher target"):
        single_layer_single_gradient(trained, [0, 1], [2], seed=0)


def test_what_is_refused(world):
    forget, retain, _ = world.a_class(3)
    for settings in ({"target": 1.0}, {"target": -0.1}, {"tries": 0}):
        with pytest.raises(BadInput, match="an accuracy in"):
            single_layer_single_gradient(world.trained, forget, retain, seed=0, **settings)
    text = replace(world.trained, module=Linear((-1, 20), 10))
    with pytest.raises(BadInput, match="no weight matrix besides embeddings"):
        single_layer_single_gradient(text, forget, retain, seed=0)
