"""What recording costs: the same training loop with and without a recorder, in turn, minima compared.

A cell is a model and the images of an epoch. The epoch-end pass, which is a choice and not part of the recorder's own
cost, has its own line.

    python benchmarks/recorder.py
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tracesift.catalog.files import write_json
from tracesift.pipelines.dataset import Dataset, open_dataset
from tracesift.pipelines.encode import encode
from tracesift.pipelines.loop import Learner, fit, predict
from tracesift.pipelines.models.contract import find
from tracesift.pipelines.provenance import machine_facts
from tracesift.pipelines.recorder import Recorder

RESULTS = Path(__file__).parent / "results" / "recorder"
ROUNDS = 9
CELLS = (("small_cnn", 12_000), ("small_cnn", 48_000), ("resnet18", 512))
"""Model and images per epoch. What an epoch's file costs weighs more, the shorter the epoch is."""


def main() -> None:
    """Compute the cells that have no file yet, for this machine's device."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    for model, size in CELLS:
        path = RESULTS / f"{model}_{size}_{device}.json"
        if not path.exists():
            write_json(path, measure(model, size, device))
            print(path.stem, flush=True)


def measure(model: str, size: int, device: str) -> dict[str, Any]:
    """Time one epoch without recorder, with it, and with the epoch-end pass, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = made_up(size, Path(folder))
        times: dict[str, list[float]] = {"off": [], "on": [], "pass": []}
        for number in range(ROUNDS + 1):
            for what in times:
                seconds = epoch(dataset, model, what, device, Path(folder) / f"{what}-{number}")
                if number:  # the first round warms up
                    times[what].append(seconds)
    least = {what: min(values) for what, values in times.items()}
    return {
        "model": model, "device": device, "images": size, "rounds": ROUNDS, "threads": 1,
        "seconds": {what: round(value, 3) for what, value in least.items()},
        "spread": {what: round(max(values) / min(values), 3) for what, values in times.items()},
        "ratio": round(least["on"] / least["off"], 4), "pass_ratio": round(least["pass"] / least["off"], 4),
        "machine": machine_facts(device),
    }  # fmt: skip


def epoch(dataset: Dataset, name: str, what: str, device: str, workspace: Path) -> float:
    """Return the seconds of one epoch; `pass` times the epoch-end pass alone."""
    model = find(name, "image")
    torch.manual_seed(0)
    where = torch.device(device)
    inputs = encode(dataset, model).to(where)
    rows = torch.from_numpy(dataset.rows("train"))
    steps = -(-len(rows) // model.recipe.batch_size)
    learner = Learner(
        model.build(inputs.input_shape, dataset.num_classes), model.recipe, steps=steps, device=where
    )
    labels = torch.tensor(dataset.labels, device=where)
    recorder = None if what == "off" else Recorder(workspace, dataset, device=where)
    start = time.perf_counter()
    if what == "pass":
        assert recorder is not None
        for batch, logits in predict(learner, inputs, rows):
            recorder.update(batch, logits, labels[batch.to(where)])
    else:
        for _ in fit(learner, inputs, labels, rows, seed=0, recorder=recorder):
            pass
    if recorder is not None:
        recorder.end_epoch()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def made_up(size: int, folder: Path) -> Dataset:
    """Return `size` training images of 28 x 28 noise with ten labels; timing needs no meaning."""
    rng = np.random.default_rng(0)
    path = folder / "noise.npz"
    total = size + 200
    split = np.array(["train"] * size + ["val"] * 100 + ["test"] * 100)
    np.savez(
        path, x=rng.integers(0, 256, (total, 28, 28), dtype=np.uint8), y=np.arange(total) % 10, split=split
    )
    return open_dataset(path)


if __name__ == "__main__":
    main()
