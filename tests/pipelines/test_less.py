"""LESS on a tiny language model: against the formula in full, the planted task, and the model left as it was."""

import copy

import numpy as np
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines import less as module
from tracesift.pipelines.less import adapter, less_cosine
from tracesift.pipelines.projection import Projection
from tracesift.scorers.contract import compute

transformers = pytest.importorskip("transformers")

SMALL = {"share": 0.5, "epochs": 2, "lr": 5e-3, "batch_size": 8, "rank": 2, "alpha": 8.0}


@pytest.fixture(scope="session")
def auroc():
    """Area under the curve for finding `positive` by a high score."""

    def area(score, positive):
        wins = score[positive][:, None] - score[~positive][None, :]
        return float(((wins > 0) + 0.5 * (wins == 0)).mean())

    return area


@pytest.fixture
def model():
    config = transformers.LlamaConfig(
        vocab_size=24, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    made = transformers.LlamaForCausalLM(config).eval()
    made.lm_head.weight.requires_grad_(False)  # a user's own choice, to be found again
    return made


def texts(count, step, seed):
    """Counting upwards by `step` from a random place, 10 tokens."""
    rng = np.random.default_rng(seed)
    rows = [(rng.integers(0, 24) + step * np.arange(10)) % 24 for _ in range(count)]
    return [{"input_ids": torch.tensor(row), "labels": torch.tensor(row)} for row in rows]


def by_hand(model, train, targets, settings, dimension):
    """Adam's direction and all cosines, one sample after the other, at the moments that the warm-up gives."""
    seen = []
    real = module._warm_up

    def also(net, parameters, *rest):
        for rate, moments in real(net, parameters, *rest):

            def gradient(sample):
                loss = net(**{name: values[None] for name, values in sample.items()}).loss
                return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]).double()

            size = sum(p.numel() for p in parameters)
            matrix = np.eye(size)
            if size > dimension:
                matrix = Projection(dimension, seed=0).signs(0)[:size].double().numpy() / dimension**0.5
            m, v = (part.double() for part in moments)
            directions = [
                (0.9 * m + 0.1 * g) / torch.sqrt(0.999 * v + 0.001 * g**2 + 1e-8)
                for g in map(gradient, train)
            ]
            ours = torch.stack(directions).numpy() @ matrix
            ours /= np.linalg.norm(ours, axis=1, keepdims=True)
            theirs = []
            for examples in targets.values():
                rows = torch.stack([gradient(example) for example in examples]).numpy() @ matrix
                theirs.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(axis=0))
            seen.append((rate, ours @ np.array(theirs).T))
            yield rate, moments

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_warm_up", also)
        found = less_cosine(model, train, targets, **settings, dimension=dimension)
    total = sum(rate for rate, _ in seen)
    return found, np.stack([rate / total * cosines for rate, cosines in seen], axis=1)


@pytest.mark.parametrize("dimension", [8192, 64])
def test_against_the_formula(model, dimension, monkeypatch):
    monkeypatch.setattr(module, "GRADIENTS", 3000)  # several batches
    train, targets = texts(12, 1, 0), {"one": texts(3, 1, 1), "two": texts(2, 5, 2)}
    found, expected = by_hand(model, train, targets, SMALL, dimension)
    assert found.shape == (12, 2, 2)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_the_planted_task_is_found(model, auroc):
    steps = np.repeat([1, 5], 30)
    train = [text for at, step in enumerate(steps) for text in texts(1, step, at)]
    for target in (1, 5):
        cosine = less_cosine(model, train, {"task": texts(6, target, 99)}, **SMALL)
        score = compute("less", {"less_cosine": cosine})["less"].to_numpy()
        assert auroc(score, steps == target) > 0.8


def test_the_model_is_as_it_was_and_twice_gives_the_same(model):
    train, targets = texts(6, 1, 0), {"task": texts(2, 5, 1)}
    before, needed = copy.deepcopy(model.state_dict()), [p.requires_grad for p in model.parameters()]
    first = less_cosine(model, train, targets, **SMALL)
    for name, values in model.state_dict().items():
        assert torch.equal(values, before[name]), name
    assert list(model.state_dict()) == list(before)
    assert [p.requires_grad for p in model.parameters()] == needed
    assert not model.training
    np.testing.assert_array_equal(less_cosine(model, train, targets, **SMALL), first)
    assert not np.array_equal(less_cosine(model, train, targets, **SMALL, seed=1), first)


def test_the_adapter_starts_as_nothing_and_is_taken_away_after_an_error(model):
    sample = {name: values[None] for name, values in texts(1, 1, 0)[0].items()}
    plain = model(**sample).loss.item()

    def broken_off():
        with adapter(model, module.MODULES, rank=2, scale=4.0) as parameters:
            assert len(parameters) == 2 * 8
            assert {id(p) for p in model.parameters() if p.requires_grad} == {id(p) for p in parameters}
            assert model(**sample).loss.item() == pytest.approx(plain, rel=1e-6)
            with torch.no_grad():
                for up in parameters[1::2]:
                    up += 1
            assert model(**sample).loss.item() != pytest.approx(plain, rel=1e-4)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken_off()
    assert model(**sample).loss.item() == pytest.approx(plain, rel=1e-6)


def test_the_rates_rise_and_fall(model):
    with adapter(model, module.MODULES, rank=1, scale=1.0) as parameters:
        found = [rate for rate, _ in module._warm_up(model, parameters, texts(8, 1, 0), 1.0, 2, 1.0, 4, 0)]
    # four steps, one of which rises: 1, then (4 - s) / 3 of the rest
    np.testing.assert_allclose(found, [(1 + 1) / 2, (2 / 3 + 1 / 3) / 2])


def test_samples_without_labels(model):
    train, targets = texts(6, 1, 0), {"task": texts(2, 5, 1)}
    silent = [{**train[0], "labels": torch.full((10,), -100)}]
    drawn = np.random.default_rng(0).permutation(7)[:4]
    at = next(at for at in range(7) if at not in drawn)
    cosine = less_cosine(model, train[:at] + silent + train[at:], targets, **SMALL)
    assert np.isnan(cosine).all(axis=(1, 2)).tolist() == [i == at for i in range(7)]
    with pytest.raises(BadInput, match=r"training sample \d is nan"):
        less_cosine(model, silent * 4, targets, **SMALL)
    with pytest.raises(BadInput, match="target 'task' has no finite loss"):
        less_cosine(model, train, {"task": silent}, **SMALL)


def test_refused(model):
    train, targets = texts(3, 1, 0), {"task": texts(1, 1, 1)}
    for given, more, message in (
        ([], {}, "training samples"),
        (train, {"share": 0.0}, "share is 0"),
        (train, {"epochs": 0}, "epochs is 0"),
        (train, {"modules": ("c_attn",)}, "no linear layer called c_attn"),
    ):
        with pytest.raises(BadInput, match=message):
            less_cosine(model, given, targets, **{**SMALL, **more})
    for empty in ({}, {"task": []}):
        with pytest.raises(BadInput, match="example of each target"):
            less_cosine(model, train, empty, **SMALL)
