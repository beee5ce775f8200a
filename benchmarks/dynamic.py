"""Pruning while training: the share of steps saved, and test accuracy against the same training on everything.

A cell is a method and a seed: the small CNN on 10,000 Fashion-MNIST images, 10 epochs, the learning rate a function of
the epoch alone, so that every method goes through the whole schedule. Each method has a control beside it, which
shows in every epoch as many samples as the method did with that seed, drawn at random, all with weight 1: what a
method is ahead of its control, its choice is worth.

    python benchmarks/dynamic.py --data FOLDER
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import BatchSampler

from tracesift.catalog.files import write_json
from tracesift.pipelines.dataset import Dataset, open_dataset
from tracesift.pipelines.determinism import generator, settled
from tracesift.pipelines.dynamic.infobatch import InfoBatch
from tracesift.pipelines.dynamic.sampler import PruningSampler
from tracesift.pipelines.dynamic.seta import SeTa
from tracesift.pipelines.encoding.encode import Encoded, encode
from tracesift.pipelines.loop import Learner
from tracesift.pipelines.models.contract import find
from tracesift.pipelines.retrain import measure

RESULTS = Path(__file__).parent / "results" / "dynamic"
IMAGES = 10_000
EPOCHS = 10
SEEDS = 5
METHODS: dict[str, Callable[[int], PruningSampler]] = {
    "infobatch": lambda seed: InfoBatch(IMAGES, epochs=EPOCHS, seed=seed),
    "seta": lambda seed: SeTa(IMAGES, epochs=EPOCHS, seed=seed),
    "seta-cifar": lambda seed: SeTa(
        IMAGES, epochs=EPOCHS, prune_ratio=0.1, groups=5, window_scale=0.9, seed=seed
    ),
}
"""Each with its published defaults; SeTa also as its script for CIFAR sets it."""


class AsMany(PruningSampler):
    """As many samples in each epoch as a list says, drawn at random."""

    def __init__(self, shown: list[int], seed: int) -> None:
        super().__init__(
            IMAGES, epochs=len(shown), delta=1, seed=seed, drop_last=False, settings={"shown": shown}
        )
        self.counts = shown

    def weights(self, losses: np.ndarray, shuffled: np.ndarray) -> np.ndarray:
        """Return 1 for this epoch's count of samples."""
        weights = np.zeros(len(losses))
        weights[shuffled[: self.counts[self.epoch]]] = 1.0
        return weights


def main() -> None:
    """Compute the cells that have no file yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    dataset = open_dataset(given.data / "fashion_mnist")
    rows = torch.from_numpy(dataset.rows("train"))
    rows = rows[torch.randperm(len(rows), generator=generator(0))[:IMAGES].sort().values]
    inputs = encode(dataset, find("small_cnn", "image"), fit=rows.numpy())
    for seed in range(SEEDS):
        train_once = partial(train, dataset, inputs, rows)
        cell("full", AsMany([IMAGES] * EPOCHS, seed), train_once)
        for name, method in METHODS.items():
            found = cell(name, method(seed), train_once)
            cell(f"{name} control", AsMany(found["shown"], seed), train_once)


def cell(
    name: str, sampler: PruningSampler, compute: Callable[[PruningSampler], dict[str, Any]]
) -> dict[str, Any]:
    """Return a cell, computed if it has no file."""
    seed = sampler.settings["seed"]
    path = RESULTS / f"{name.replace(' ', '-')}_seed{seed}.json"
    if not path.exists():
        write_json(path, {"method": name, "seed": seed, **compute(sampler)})
        print(path.stem, flush=True)
    return json.loads(path.read_text())


def train(dataset: Dataset, inputs: Encoded, rows: torch.Tensor, sampler: PruningSampler) -> dict[str, Any]:
    """Train once with the sampler and test after the last step."""
    model = find("small_cnn", dataset.kind)
    seed = sampler.settings["seed"]
    labels = torch.tensor(dataset.labels, dtype=torch.int64)
    shown, steps = [], 0
    with settled(seed, 1):
        span = 1_000_000  # parts of the schedule in an epoch, whatever the number of its batches
        learner = Learner(
            model.build(inputs.input_shape, dataset.num_classes),
            model.recipe,
            steps=EPOCHS * span,
            device=torch.device("cpu"),
        )
        for epoch in range(EPOCHS):
            learner.module.train()
            batches = [torch.tensor(batch) for batch in BatchSampler(sampler, model.recipe.batch_size, False)]
            for number, places in enumerate(batches):
                learner.step = epoch * span + number * span // len(batches)
                batch = rows[places]
                losses = F.cross_entropy(learner(inputs.batch(batch)), labels[batch], reduction="none")
                learner.descend(sampler.update(places, losses))
            shown.append(sum(map(len, batches)))
            steps += len(batches)
        measured = measure(learner, inputs, labels, dataset.rows("test"))
    return {
        "dataset": "fashion_mnist", "samples": len(rows), "epochs": EPOCHS, "shown": shown, "steps": steps,
        "accuracy": round(measured["accuracy"], 4), "loss": round(measured["loss"], 4),
    }  # fmt: skip


if __name__ == "__main__":
    main()
