"""Nearest wrong labels are found by a step away from the right ones, and learned by the forget set alone."""

from dataclasses import replace

import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.loop import Learner
from tracesift.pipelines.models.contract import Bags, find
from tracesift.pipelines.models.hashed_ngrams import HashedNgrams
from tracesift.pipelines.unlearners.boundary_shrink import boundary_shrink, nearest_wrong, stepped


def learner_of(module):
    return Learner(module, find("mlp", "tabular").recipe, steps=1, device=torch.device("cpu"))


def linear(world):
    """Return the same data under a linear model, in which the gradient by the input is (p - onehot) W."""
    module = torch.nn.Linear(64, 10)
    with torch.no_grad():
        module.weight.copy_(torch.linspace(-1, 1, 640).view(10, 64).sin())
        module.bias.copy_(torch.linspace(0, 1, 10))
    return replace(world.trained, module=module)


def reference(trained, rows, step):
    """Return the logits one step away, in float64."""
    weight, bias = (one.detach().double() for one in trained.module.parameters())
    x = trained.inputs.batch(rows).double()
    error = (x @ weight.T + bias).softmax(1) - torch.nn.functional.one_hot(trained.labels[rows], 10)
    return (x + step * (error @ weight).sign()) @ weight.T + bias


@pytest.mark.parametrize("step", [0.02, 0.5])
def test_labels_by_the_closed_form(world, step):
    trained, forget = linear(world), world.forget
    got = nearest_wrong(trained, trained.learner(80, 1), forget, step)
    kept = torch.ones(len(got), dtype=torch.bool)
    kept[forget] = False
    own = torch.nn.functional.one_hot(trained.labels[forget], 10).bool()
    expected = reference(trained, forget, step).masked_fill(own, -torch.inf).argmax(1)
    assert torch.equal(got[forget], expected)
    assert torch.equal(got[kept], trained.labels[kept])
    assert (got[forget] != trained.labels[forget]).all()
    back = reference(trained, forget, -step).masked_fill(own, -torch.inf).argmax(1)
    assert (back != expected).any()


def test_a_step_by_hand():
    """Logits x0, x1, -x0 - x1 at (1, 0.2) with label 0: the loss rises towards (-1, +1)."""
    module = torch.nn.Linear(2, 3)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
        module.bias.zero_()
    logits = stepped(learner_of(module), torch.tensor([[1.0, 0.2]]), torch.tensor([0]), 0.5)
    torch.testing.assert_close(logits, torch.tensor([[0.5, 0.7, -1.2]]))


def test_texts_step_at_their_vectors():
    """Each text's vector moves by step times its root mean square, along the sign of (p - onehot) W."""
    torch.manual_seed(0)
    module = HashedNgrams(50, 4)
    bags = Bags(torch.tensor([3, 7, 9, 11, 3]), torch.tensor([0, 2]), torch.tensor([0.5, 0.5, 1.0, 2.0, 0.1]))
    labels = torch.tensor([2, 0])
    vectors = module.features(bags).detach().double()
    weight, bias = module.head.weight.detach().double(), module.head.bias.detach().double()
    error = (vectors @ weight.T + bias).softmax(1) - torch.nn.functional.one_hot(labels, 4)
    size = vectors.square().mean(1, keepdim=True).sqrt()
    expected = (vectors + 0.3 * size * (error @ weight).sign()) @ weight.T + bias
    before = [one.detach().clone() for one in module.parameters()]
    got = stepped(learner_of(module), bags, labels, 0.3)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(one, old) for one, old in zip(module.parameters(), before, strict=True))
    torch.testing.assert_close(
        module(bags), torch.nn.functional.linear(module.features(bags), *module.head.parameters())
    )


class Tokens(torch.nn.Module):
    """Mean of the tokens' vectors over those that are there, and a linear head."""

    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(30, 8)
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x):
        mask = x["attention_mask"][..., None]
        return self.head((self.words(x["input_ids"]) * mask).sum(1) / mask.sum(1))


def test_what_a_text_is_batched_with_does_not_count():
    torch.manual_seed(0)
    module, labels = Tokens(), torch.tensor([1, 2])
    ids, mask = torch.tensor([[4, 5, 0, 0], [6, 7, 8, 9]]), torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    both = stepped(learner_of(module), {"input_ids": ids, "attention_mask": mask}, labels, 0.5)
    alone = stepped(
        learner_of(module), {"input_ids": ids[:1, :2], "attention_mask": mask[:1, :2]}, labels[:1], 0.5
    )
    torch.testing.assert_close(both[:1], alone)
    plain = module({"input_ids": ids, "attention_mask": mask})
    loss = torch.nn.functional.cross_entropy
    assert (loss(both, labels, reduction="none") > loss(plain, labels, reduction="none") + 0.01).all()


def test_the_first_step_by_hand(world):
    """One batch: the weights move by -lr times the gradient under the wrong labels, and nothing else pulls."""
    trained, forget = world.trained, world.forget[:30]
    got = boundary_shrink(trained, forget, world.retain, seed=0, step=0.2, epochs=1, lr=0.01)
    learner = trained.learner(30, 1)
    labels = nearest_wrong(trained, learner, forget, 0.2)
    module = learner.module.eval()
    torch.nn.functional.cross_entropy(module(trained.inputs.batch(forget)), labels[forget]).backward()
    for (name, after), before in zip(got.named_parameters(), module.parameters(), strict=True):
        # Nesterov momentum 0.9 from rest: 1.9 times the gradient
        expected = before - 0.01 * 1.9 * before.grad
        torch.testing.assert_close(after.detach(), expected.detach(), rtol=1e-3, atol=1e-6, msg=name)
    for after, before in zip(got.buffers(), trained.module.buffers(), strict=True):
        assert torch.equal(after, before)


def test_a_class_is_forgotten_and_the_others_are_kept(world):
    forget, retain, others = world.a_class(7)
    original, gone = world.trained.module, boundary_shrink(world.trained, forget, retain, seed=0)
    assert world.accuracy(original, forget) > 0.95
    assert world.accuracy(gone, forget) < 0.1  # retraining: 0
    assert world.accuracy(gone, others) > world.accuracy(original, others) - 0.05


def test_what_is_refused(world):
    with pytest.raises(BadInput, match="above 0, not 0"):
        boundary_shrink(world.trained, world.forget, world.retain, seed=0, step=0)
    with pytest.raises(BadInput, match="single class"):
        boundary_shrink(replace(world.trained, num_classes=1), world.forget, world.retain, seed=0)
    with pytest.raises(BadInput, match="no embedding layer"):
        stepped(world.trained.learner(1, 1), {"input_ids": torch.zeros(1, 1)}, torch.tensor([0]), 0.5)
