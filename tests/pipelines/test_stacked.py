"""Stacked models: layer for layer and step for step what each would be alone, and refused where they would not be."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.encoding.encode import Rows
from tracesift.pipelines.loop import Learner, fit, predict
from tracesift.pipelines.models.contract import find
from tracesift.pipelines.stacked import Stacked, fit_stack, predict_stack

CPU = torch.device("cpu")


def modules(name, count, shape=(6,), classes=3):
    model = find(name, "tabular")
    built = []
    for seed in range(count):
        torch.manual_seed(seed)
        built.append(model.build(shape, classes))
    return model, built


@pytest.mark.parametrize("name", ["linear", "mlp"])
@pytest.mark.parametrize("training", [True, False])
def test_each_model_of_a_stack_computes_what_it_does_alone(name, training):
    _, alone = modules(name, 4)
    stack = Stacked(alone).double().train(training)
    x = torch.randn(4, 9, 6, dtype=torch.float64)
    together = stack(x)
    for number, module in enumerate(alone):
        expected = module.double().train(training)(x[number])
        torch.testing.assert_close(together[number].T, expected, rtol=1e-12, atol=1e-12)
    if training and name == "mlp":  # the running statistics have moved alike
        torch.testing.assert_close(
            stack.layers[1].running_var, torch.cat([module.body[1].running_var for module in alone])
        )


@pytest.mark.parametrize("recipe", [{}, {"optimizer": "sgd", "momentum": 0.9, "lr": 0.05}])
@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_each_model_of_a_stack_learns_what_it_does_alone(name, recipe):
    """In float64, where rounding does not hide what would be wrong."""
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(70, 6, generator=chance, dtype=torch.float64)
    y = torch.randint(0, 3, (70,), generator=chance)
    model, built = modules(name, 3)
    recipe = model.with_recipe(batch_size=16, **recipe).recipe
    draws = torch.stack([torch.randperm(70, generator=chance)[:41].sort().values for _ in built])
    stack = Stacked(built).double()
    together = Learner(stack, recipe, steps=7, device=CPU, fused=True)  # the third epoch is cut short
    fit_stack(together, x, y, draws, seeds=[5, 6, 7])
    logits = torch.cat([part for _, part in predict_stack(together, x)], dim=2)
    for number, module in enumerate(built):
        alone = Learner(module.double(), recipe, steps=7, device=CPU)
        alone_inputs = Rows(x)
        for _ in fit(alone, alone_inputs, y, draws[number], seed=5 + number):
            pass
        expected = torch.cat([part for _, part in predict(alone, alone_inputs, torch.arange(70))])
        torch.testing.assert_close(logits[number].T, expected, rtol=1e-4, atol=1e-4)
        weights = stack.layers[0].weight[number]
        torch.testing.assert_close(weights, next(iter(module.parameters())), rtol=1e-6, atol=1e-8)


def test_models_of_a_stack_do_not_learn_from_each_other():
    _, (first, second, third) = modules("mlp", 3)
    x, y = torch.randn(3, 8, 6), torch.randint(0, 3, (3, 8))
    gradients = []
    for changed in (0.0, 5.0):
        stack = Stacked([first, second, third])
        moved = x.clone()
        moved[2] += changed * torch.randn(8, 6)
        F.cross_entropy(stack(moved), y, reduction="none").mean(1).sum().backward()
        gradients.append(stack.layers[0].weight.grad)
    torch.testing.assert_close(gradients[0][:2], gradients[1][:2], rtol=0, atol=0)
    assert not torch.equal(gradients[0][2], gradients[1][2])


def test_a_module_without_layers_or_with_others_is_refused():
    with pytest.raises(BadInput, match=r"no layers\(\)"):
        Stacked([nn.Linear(3, 2)])

    class Convolving(nn.Module):
        def layers(self):
            return [nn.Conv1d(1, 1, 3)]

    with pytest.raises(BadInput, match="Conv1d"):
        Stacked([Convolving()])
