"""Negative preference optimisation: its gradient by hand, and a tiny language model that forgets a few sentences."""

import copy

import numpy as np
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearners.npo import TrainedOnTexts, npo, preference

transformers = pytest.importorskip("transformers")


def test_the_loss_and_its_limit():
    ratio = torch.tensor([-3.0, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
    for beta in (1e-4, 0.1, 1.0, 5.0):
        loss = preference(ratio, beta)
        expected = [2 / beta * np.log1p(np.exp(beta * r)) for r in (-3.0, 0.0, 2.0)]
        np.testing.assert_allclose(loss.detach().numpy(), expected, rtol=1e-12)
        (slope,) = torch.autograd.grad(loss.sum(), ratio)
        # 2 pi^beta / (pi^beta + ref^beta): 1 where nothing is forgotten, ascent for small beta
        weight = 2 / (1 + np.exp(-beta * ratio.detach().numpy()))
        np.testing.assert_allclose(slope.numpy(), weight, rtol=1e-12)
        if beta == 1e-4:
            np.testing.assert_allclose(slope.numpy(), 1.0, atol=2e-4)
    assert slope[0] < 1e-5 < slope[1]  # at beta 5, what is gone is let go


def test_the_first_step_of_a_classifier_by_hand(world):
    """One batch of each set, of the forget set by the published weights: 2 pi^beta / (pi^beta + pi_ref^beta)."""
    trained, forget, retain = world.trained, world.forget[:20], world.retain[:20]
    for beta in (0.1, 2.0):
        got = npo(trained, forget, retain, seed=0, beta=beta, epochs=1, lr=0.02, retain_weight=0.5)
        learner = trained.learner(20, 1)
        reference, original = learner.module.train(), trained.module
        x, y = trained.inputs.batch(forget), trained.labels[forget]
        with torch.no_grad():
            before = -torch.nn.functional.cross_entropy(original(x), y, reduction="none")
        now = -torch.nn.functional.cross_entropy(reference(x), y, reduction="none")
        weight = 2 / (1 + (-beta * (now.detach() - before)).exp())
        kept = torch.nn.functional.cross_entropy(
            reference(trained.inputs.batch(retain)), trained.labels[retain]
        )
        ((weight * now).mean() + 0.5 * kept).backward()
        for (name, after), start in zip(got.named_parameters(), reference.parameters(), strict=True):
            expected = start - 0.02 * 1.9 * (start.grad + 5e-4 * start)  # Nesterov momentum 0.9 from rest
            torch.testing.assert_close(after.detach(), expected.detach(), rtol=1e-3, atol=2e-6, msg=name)


def test_what_is_gone_is_let_go(world):
    """With a large beta the ascent ends by itself, with a small one it goes on."""
    losses = [
        world.loss(npo(world.trained, world.forget, world.retain, seed=0, beta=beta, lr=0.03), world.forget)
        for beta in (0.05, 1.0, 4.0)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 2 * losses[2] > 2


def sentences(count, step, seed):
    """Counting upwards by `step` from a random place, of 8 to 11 tokens."""
    rng = np.random.default_rng(seed)
    rows = [(rng.integers(0, 24) + step * np.arange(rng.integers(8, 12))) % 24 for _ in range(count)]
    return [{"input_ids": torch.tensor(row), "labels": torch.tensor(row)} for row in rows]


def language_model():
    config = transformers.LlamaConfig(
        vocab_size=24, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=16,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config)


def learned(samples, rows, epochs=16):
    texts = TrainedOnTexts(module=language_model(), samples=samples, device=torch.device("cpu"))
    optimizer = torch.optim.AdamW(texts.module.parameters(), lr=8e-3, weight_decay=0.0)
    for epoch in range(epochs):
        for batch in rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(epoch))].split(
            16
        ):
            found, tokens = texts.likelihoods(texts.module, batch)
            optimizer.zero_grad()
            (-found.sum() / tokens.sum()).backward()
            optimizer.step()
    texts.module.eval()
    return texts


@pytest.fixture(scope="module")
def story():
    """Counting by one, which is kept, and by seven, which is to be forgotten; a model of both, and one of the first."""
    samples = sentences(48, 1, 0) + sentences(12, 7, 1)
    retain, forget = torch.arange(48), torch.arange(48, 60)
    return learned(samples, torch.arange(60)), forget, retain, learned(samples, retain).module


def nats(texts, module, rows):
    """Return the mean negative log-likelihood of a token, the logarithm of the perplexity."""
    with torch.no_grad():
        found, tokens = texts.likelihoods(module, rows)
    return (-found.sum() / tokens.sum()).item()


def test_likelihoods_of_padded_texts_are_those_of_each_alone(story):
    texts, *_ = story
    rows = torch.tensor([3, 50, 17])
    with torch.no_grad():
        found, tokens = texts.likelihoods(texts.module, rows)
        for row, value, count in zip(rows.tolist(), found, tokens, strict=True):
            sample = texts.samples[row]
            loss = texts.module(input_ids=sample["input_ids"][None], labels=sample["labels"][None]).loss
            assert count == len(sample["labels"]) - 1
            assert value.item() == pytest.approx(-loss.item() * count.item(), rel=1e-4)


def test_a_language_model_forgets_what_it_is_told_to(story):
    texts, forget, retain, gold = story
    before = copy.deepcopy(texts.module.state_dict())
    got = npo(texts, forget, retain, seed=0, lr=2e-3, epochs=10, batch_size=6)
    assert all(torch.equal(value, before[name]) for name, value in texts.module.state_dict().items())
    assert not got.training
    original, unlearned, retrained = (nats(texts, one, forget) for one in (texts.module, got, gold))
    assert original < 1 < retrained
    assert abs(unlearned - retrained) < abs(original - retrained) / 2
    assert unlearned > original + 1
    assert nats(texts, got, retain) < nats(texts, texts.module, retain) + 0.25
    again = npo(texts, forget.flip(0), retain, seed=0, lr=2e-3, epochs=10, batch_size=6)
    assert all(torch.equal(a, b) for a, b in zip(got.parameters(), again.parameters(), strict=True))


def test_texts_without_weight_are_not_forgotten(story):
    texts, forget, retain, _ = story
    weights = torch.ones(60)
    weights[forget[6:]] = 0.0
    got = npo(texts, forget, retain, seed=0, lr=1e-3, epochs=6, batch_size=6, beta=0.5, weights=weights)
    same = npo(texts, forget, retain, seed=0, lr=1e-3, epochs=6, batch_size=6, beta=0.5, weights=weights * 4)
    assert nats(texts, got, forget[:6]) > nats(texts, got, forget[6:])
    assert all(torch.equal(a, b) for a, b in zip(got.parameters(), same.parameters(), strict=True))


def test_only_what_asks_for_a_gradient_is_trained(story):
    texts, forget, retain, _ = story
    module = copy.deepcopy(texts.module).requires_grad_(False)
    module.lm_head.weight.requires_grad_(True)
    given = TrainedOnTexts(module=module, samples=texts.samples, device=texts.device)
    got = npo(given, forget, retain, seed=0, lr=1e-3, epochs=1)
    moved = {
        name
        for (name, after), before in zip(got.named_parameters(), module.parameters(), strict=True)
        if not torch.equal(after, before)
    }
    assert moved == {"lm_head.weight"}


def test_what_is_refused(world, story):
    texts, forget, retain, _ = story
    for settings in ({"beta": 0.0}, {"retain_weight": -1.0}, {"epochs": 0}):
        with pytest.raises(BadInput, match="beta is above 0"):
            npo(world.trained, world.forget, world.retain, seed=0, **settings)
    silent = [*texts.samples[:59], {**texts.samples[59], "labels": torch.full((9,), -100)}]
    with pytest.raises(BadInput, match="text 59 has no token"):
        npo(TrainedOnTexts(module=texts.module, samples=silent, device=texts.device), forget, retain, seed=0)
