"""Digits with wrong labels among them, a network that has learned them by heart, and one that never saw them."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tracesift.pipelines.determinism import settled
from tracesift.pipelines.encoding.encode import Rows
from tracesift.pipelines.loop import fit
from tracesift.pipelines.models.contract import find
from tracesift.pipelines.unlearners.contract import Trained
from tracesift.pipelines.unlearners.retrain import retrain


@dataclass
class World:
    trained: Trained
    forget: torch.Tensor
    retain: torch.Tensor
    test: torch.Tensor
    gold: torch.nn.Module

    def loss(self, module, rows, labels=None):
        logits = self.logits(module, rows)
        return torch.nn.functional.cross_entropy(
            logits, (self.trained.labels if labels is None else labels)[rows]
        ).item()

    def accuracy(self, module, rows):
        return (self.logits(module, rows).argmax(1) == self.trained.labels[rows]).double().mean().item()

    def a_class(self, label):
        """Return (forget, retain, test of the others) for all of a class, wrong labels and all."""
        labels, rows = self.trained.labels, torch.cat([self.forget, self.retain]).sort().values
        return rows[labels[rows] == label], rows[labels[rows] != label], self.test[labels[self.test] != label]

    def logits(self, module, rows):
        with torch.inference_mode():
            return module(self.trained.inputs.batch(rows))


@pytest.fixture(scope="session")
def world():
    """900 to train on, 80 of them wrongly labelled: a memorised forget set, whose labels retraining does not give."""
    pixels, digits = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(pixels))
    train, test = np.sort(order[:900]), np.sort(order[900:])
    forget = np.sort(rng.choice(train, 80, replace=False))
    labels = digits.copy()
    labels[forget] = (labels[forget] + rng.integers(1, 10, 80)) % 10
    model = find("mlp", "tabular").with_recipe(epochs=18, batch_size=64, lr=8e-3, weight_decay=0.0)
    inputs = Rows(torch.tensor(pixels / 16 - 0.3, dtype=torch.float32))
    given = torch.tensor(labels)
    with settled(0, 1):
        module = model.build((64,), 10)
    device = torch.device("cpu")
    trained = Trained(module=module, model=model, inputs=inputs, labels=given, num_classes=10, device=device)
    learner = trained.learner(900, 18, module=module)
    for _ in fit(learner, inputs, given, torch.from_numpy(train), seed=0):
        pass
    module.eval()
    sets = [torch.from_numpy(rows) for rows in (forget, np.setdiff1d(train, forget), test)]
    return World(trained, *sets, gold=retrain(trained, sets[0], sets[1], seed=1))
