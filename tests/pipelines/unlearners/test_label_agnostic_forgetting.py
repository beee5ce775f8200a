"""Features leave what an autoencoder knows of the forget set; labels are not looked at."""

import math
from dataclasses import replace

import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.models.contract import find
from tracesift.pipelines.unlearners import label_agnostic_forgetting as module
from tracesift.pipelines.unlearners.label_agnostic_forgetting import (
    Autoencoder,
    alignment,
    features,
    label_agnostic_forgetting,
    turned,
)

SETTINGS = {
    "epochs": 30,
    "extractor_lr": 2e-3,
    "alignment_lr": 8e-3,
    "temperature": 5.0,
    "vae_epochs": 2,
    "batch_size": 80,
}


def test_alignment_by_hand():
    kept, lost = torch.tensor([0.2, 0.4]), torch.tensor([1.0, 2.0])
    got = alignment(kept, lost, 2.0, torch.tensor([0.5, 1.5]), torch.tensor([1.0, 1.0]))
    expected = (0.5 * 0.2 + 1.5 * 0.4) / 2 - math.log(math.exp(0.5) + math.exp(1.0))
    assert got.item() == pytest.approx(expected, rel=1e-6)
    # lower where the retained stay and the forgotten turn away
    assert alignment(kept, lost + 0.1, 2.0, torch.ones(2), torch.ones(2)) < got + 0.1
    assert alignment(kept, lost, 2.0, torch.ones(2), torch.zeros(2)).isfinite()  # a batch without weight
    angle = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-2.0, 0.0]])
    assert turned(angle, torch.tensor([[3.0, 0.0]])).tolist() == pytest.approx([1.0, 0.0, 2.0])


def test_what_an_autoencoder_finds_strange():
    """It finds its own data less strange than others; with nothing to rebuild, the divergence is that of formula."""
    drawn = torch.Generator().manual_seed(0)
    own = torch.randn(300, 2, generator=drawn) @ torch.tensor([[1.0, 2.0, 0.0, 1.0], [0.0, 1.0, 1.0, -1.0]])
    others = 3 * torch.randn(300, 4, generator=drawn)
    torch.manual_seed(0)
    vae = Autoencoder(4, 2)
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-2)
    for _ in range(120):
        error, apart = vae(own, drawn)
        optimizer.zero_grad()
        (error + 0.025 * apart).mean().backward()
        optimizer.step()
    with torch.no_grad():
        near, far = (vae.strangeness(values, torch.Generator().manual_seed(1)) for values in (own, others))
        assert near.mean() + 0.3 < far.mean()
        assert 1 <= near.min() <= far.max() < math.e
        error, apart = vae(own, torch.Generator().manual_seed(1))
        mean, log_variance = vae.encoder(own).double().chunk(2, dim=1)
    own_normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    standard = torch.distributions.Normal(torch.zeros(2).double(), torch.ones(2).double())
    reference = torch.distributions.kl_divergence(own_normal, standard).sum(1)
    torch.testing.assert_close(apart.double(), reference, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(near, (error / (error + 1)).exp())


def test_labels_take_no_part_until_repair(world):
    trained, short = world.trained, {**SETTINGS, "epochs": 3, "vae_epochs": 1}
    shuffled = replace(trained, labels=trained.labels.flip(0))
    one, other = (
        label_agnostic_forgetting(given, world.forget, world.retain, seed=0, **short)
        for given in (trained, shuffled)
    )
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert torch.equal(one.head.weight, trained.module.head.weight)  # the extractor alone is moved
    repaired = label_agnostic_forgetting(
        trained, world.forget, world.retain, seed=0, repair_epochs=5, repair_lr=0.01, **short
    )
    assert torch.equal(repaired.body[0].weight, one.body[0].weight)
    assert world.loss(repaired, world.retain) < world.loss(one, world.retain)


def test_forgotten_features_turn_away_and_others_stay(world):
    got = label_agnostic_forgetting(world.trained, world.forget, world.retain, seed=0, **SETTINGS)
    away, kept = (
        turned(*(features(one, world.trained.inputs.batch(rows)) for one in (got, world.trained.module)))
        .mean()
        .item()
        for rows in (world.forget, world.retain)
    )
    assert away > 3 * kept
    assert kept < 0.1
    assert world.accuracy(got, world.forget) < 0.5 < world.accuracy(world.trained.module, world.forget)
    assert world.accuracy(got, world.test) > world.accuracy(world.trained.module, world.test) - 0.05


def test_features_are_those_of_the_model(world):
    x = world.trained.inputs.batch(world.forget[:5])
    assert torch.equal(features(world.trained.module, x), world.trained.module.features(x))


def test_what_is_refused(world):
    with pytest.raises(BadInput, match="all are above 0"):
        label_agnostic_forgetting(world.trained, world.forget, world.retain, seed=0, temperature=0.0)
    model = find("linear", "tabular")
    shallow = replace(world.trained, module=model.build((64,), 10), model=model)
    with pytest.raises(BadInput, match="no weights before its last layer"):
        label_agnostic_forgetting(shallow, world.forget, world.retain, seed=0)
    with pytest.raises(BadInput, match="no linear layer"):
        module.last_layer(torch.nn.ReLU())
