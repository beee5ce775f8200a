"""Many small models: how many a minute in stacks, beside one by one.

A cell is a dataset and a model: those of `subset_training` on random 70 % of the training samples, with the model's own
recipe, one thread. A stack and as many single models as take about as long run in turn, and the least time per model
counts; processor time leaves out what the machine did otherwise. Test accuracy is the mean over the same models trained
either way, ± their standard deviation. A stack of `small_cnn` is `torch.func.vmap` over its parameters: the reason why
it is not used there. Texts are trained one by one, their n-grams make no table.

    python benchmarks/subset_models.py --data FOLDER
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.func import functional_call, stack_module_state, vmap

from tracesift.catalog.files import write_json
from tracesift.pipelines.determinism import generator, settled
from tracesift.pipelines.encoding.encode import Encodings
from tracesift.pipelines.jobs import subset_training
from tracesift.pipelines.jobs.workbench import Workbench
from tracesift.pipelines.loop import Learner
from tracesift.pipelines.models.contract import find
from tracesift.pipelines.provenance import machine_facts

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.detection import opened

RESULTS = Path(__file__).parent / "results" / "subset_models"
DATA = ("digits", "fashion_mnist-10000")
CELLS = [
    *((base, model, find(model, "image").recipe.stack) for base in DATA for model in ("linear", "mlp")),
    ("digits", "mlp", 4), ("fashion_mnist-10000", "mlp", 4), ("digits", "small_cnn", 4),
    ("fashion_mnist-10000", "small_cnn", 2), ("trec6", "hashed_ngrams", 1),
]  # fmt: skip
ROUNDS = 3


class TestForVal:
    """A dataset whose models answer for test in the place of val."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def rows(self, split: str) -> np.ndarray:
        return self._dataset.rows("test" if split == "val" else split)


def main() -> None:
    """Compute the cells that have no file yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    for base, model, stack in CELLS:
        path = RESULTS / f"{base}_{model}_{stack}.json"
        if not path.exists():
            write_json(path, measure(base, model, stack, given.data))
            print(path.stem, flush=True)


def measure(base: str, name: str, stack: int, data: Path) -> dict[str, Any]:
    """Train in turn, ROUNDS times, and return the least times and the accuracies."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = opened(base, data, Path(folder))
        model = find(name, dataset.kind).for_size(len(dataset.rows("train")))
        bench = Workbench(
            TestForVal(dataset), model, Encodings(dataset), epochs=model.recipe.epochs, seed=0,
            device=torch.device("cpu"), threads=1, parts=Path(folder),
        )  # fmt: skip
        size = round(0.7 * len(bench.train))
        together = subset_training._stack if model.recipe.stack > 1 else vmapped
        torch.set_num_threads(1)
        times: dict[str, list[tuple[float, float]]] = {"stacked": [], "alone": []}
        right: dict[str, list[float]] = {"stacked": [], "alone": []}
        singles = min(stack, 4)
        for turn in range(ROUNDS):
            seeds = range(turn * stack, (turn + 1) * stack)
            ways = {"alone": partial(one_by_one, bench, size, seeds[:singles])}
            if stack > 1:
                ways["stacked"] = partial(together, bench, size, bench.epochs, seeds)
            for way, train in ways.items():
                times[way].append(_seconds(train, right[way]))
    found: dict[str, Any] = {
        "data": base, "samples": size, "model": name, "stack": stack, "rounds": ROUNDS, "epochs": bench.epochs,
    }  # fmt: skip
    for way, taken in times.items():
        if taken:
            wall, processor = map(min, zip(*taken, strict=True))
            found[way] = {
                "a_minute": round(60 / wall, 1), "a_processor_minute": round(60 / processor, 1),
                "models": len(right[way]), "accuracy": round(float(np.mean(right[way])), 4),
                "deviation": round(float(np.std(right[way], ddof=1)), 4),
            }  # fmt: skip
    if stack > 1:
        same = [value for number, value in enumerate(right["stacked"]) if number % stack < singles]
        found["ratio"] = round(found["stacked"]["a_minute"] / found["alone"]["a_minute"], 2)
        found["ratio_processor"] = round(
            found["stacked"]["a_processor_minute"] / found["alone"]["a_processor_minute"], 2
        )
        found["same_models_differ"] = round(float(np.abs(np.subtract(same, right["alone"])).max()), 4)
    return found | {"machine": machine_facts("cpu")}


def one_by_one(bench: Workbench, size: int, seeds: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """Train models as the job does with ``stack=1``."""
    made = []
    for seed in seeds:
        with settled(seed, 1):
            made += subset_training._one_by_one(bench, size, bench.epochs, [seed])
    return made


def _seconds(train: Callable[[], list[dict[str, np.ndarray]]], right: list[float]) -> tuple[float, float]:
    """Return seconds and processor seconds per model; how often each is right on test goes to `right`."""
    wall, processor = time.perf_counter(), time.process_time()
    made = train()
    taken = time.perf_counter() - wall, time.process_time() - processor
    right += [float(one["val_correct"].mean()) for one in made]
    return taken[0] / len(made), taken[1] / len(made)


def vmapped(bench: Workbench, size: int, epochs: int, seeds: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """Train any model in a stack by `vmap` over its parameters, as `subset_training` does its own stacks."""
    draws = [np.flatnonzero(subset_training._draw(bench, size, seed)) for seed in seeds]
    modules = []
    for seed in seeds:
        torch.manual_seed(seed)
        modules.append(bench.model.build(bench.inputs.input_shape, bench.dataset.num_classes))
    parameters, buffers = stack_module_state(modules)
    bare = copy.deepcopy(modules[0]).to("meta")

    class Vmapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stacked = torch.nn.ParameterList(parameters.values())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            bare.train(self.training)
            given = dict(zip(parameters, self.stacked, strict=True))
            every = vmap(lambda p, b, one: functional_call(bare, (p, b), (one,)), randomness="different")
            return every(given, buffers, x)

    steps = epochs * -(-size // bench.model.recipe.batch_size)
    learner = Learner(Vmapped(), bench.model.recipe, steps=steps, device=bench.device, fused=True)
    learner.module.train()
    for epoch in range(epochs):
        orders = torch.stack(
            [
                torch.from_numpy(draw)[torch.randperm(size, generator=generator(seed, epoch, 0))]
                for draw, seed in zip(draws, seeds, strict=True)
            ]
        )
        for batch in orders.tensor_split(steps // epochs, dim=1):
            rows = bench.train[batch]
            x = torch.stack([bench.inputs.batch(one) for one in rows])
            losses = torch.nn.functional.cross_entropy(
                learner(x).transpose(1, 2), bench.labels[rows], reduction="none"
            )
            learner.descend(losses.mean(1).sum())
    learner.module.eval()
    right: list[torch.Tensor] = []
    with torch.inference_mode():
        for rows in (bench.train, torch.from_numpy(bench.dataset.rows("val"))):  # as much work as the others
            right = [
                learner(bench.inputs.batch(part).expand(len(seeds), -1, -1, -1, -1)).argmax(2)
                == bench.labels[part]
                for part in rows.split(512)
            ]
    return [{"val_correct": one.numpy()} for one in torch.cat(right, 1)]


if __name__ == "__main__":
    main()
