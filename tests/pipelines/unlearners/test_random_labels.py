"""Random labels are wrong ones, each as likely, and only for the forget set."""

from dataclasses import replace

import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearners.random_labels import random_labels, relabelled


def test_labels_drawn(world):
    forget = world.forget
    many = torch.stack([relabelled(world.trained, forget, seed) for seed in range(300)])
    kept = torch.ones(len(world.trained.labels), dtype=torch.bool)
    kept[forget] = False
    assert (many[:, kept] == world.trained.labels[kept]).all()
    shift = (many[:, forget] - world.trained.labels[forget]) % 10
    shares = torch.bincount(shift.flatten(), minlength=10) / shift.numel()
    assert shares[0] == 0
    assert (shares[1:] - 1 / 9).abs().max() < 0.01
    assert (relabelled(world.trained, forget, 1) == many[1]).all()
    assert (many[0] != many[1]).any()


def test_the_labels_drawn_are_learned(world):
    module = random_labels(world.trained, world.forget, world.retain, seed=3, epochs=15, lr=0.05)
    drawn = relabelled(world.trained, world.forget, 3)
    assert world.loss(module, world.forget, drawn) < world.loss(module, world.forget) - 1


def test_a_single_class(world):
    with pytest.raises(BadInput, match="single class"):
        random_labels(replace(world.trained, num_classes=1), world.forget, world.retain, seed=0)
