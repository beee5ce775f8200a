"""Only salient weights move, and the salient ones are those that the forget set pulls at most."""

import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearners.salun import salient, salun


def test_the_others_keep_every_bit(world):
    trained = world.trained
    masks = salient(trained, trained.learner(80, 1), world.forget, None, 0.3)
    module = salun(trained, world.forget, world.retain, seed=0, share=0.3, epochs=1, lr=0.05)
    total = sum(mask.numel() for mask in masks)
    assert sum(int(mask.sum()) for mask in masks) == round(0.3 * total)
    moved = 0
    for mask, after, before in zip(masks, module.parameters(), trained.module.parameters(), strict=True):
        assert torch.equal(after[~mask], before[~mask])
        moved += int((after[mask] != before[mask]).sum())
    assert moved > 0.2 * total


def test_salience_against_the_whole_set_at_once(world):
    trained = world.trained
    masks = salient(trained, trained.learner(80, 1), world.forget, None, 0.5)
    reference = trained.learner(80, 1).module.eval()
    logits = reference(trained.inputs.batch(world.forget))
    torch.nn.functional.cross_entropy(logits, trained.labels[world.forget]).backward()
    pulls = [one.grad.abs() for one in reference.parameters()]
    chosen = torch.cat([pull[mask] for pull, mask in zip(pulls, masks, strict=True)])
    left = torch.cat([pull[~mask] for pull, mask in zip(pulls, masks, strict=True)])
    assert chosen.min() >= left.max() - 1e-7
    assert chosen.mean() > 3 * left.mean()


def test_all_weights_are_random_labels(world):
    from tracesift.pipelines.unlearners.random_labels import random_labels

    settings = {"seed": 1, "epochs": 1}
    one = salun(world.trained, world.forget, world.retain, share=1.0, **settings)
    other = random_labels(world.trained, world.forget, world.retain, **settings)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_that_is_none(world, share):
    with pytest.raises(BadInput, match="share is that of the weights"):
        salun(world.trained, world.forget, world.retain, seed=0, share=share)
