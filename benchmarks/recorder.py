"""What recording costs: the same training loop with and without a recorder, in turn, minima compared.

A cell is a model and the images of an epoch. The epoch-end pass, which is a choice and not part of the recorder's own
cost, has its own line. One batch alone stands beside the `aum` package (`pip install --no-deps aum`), which sums up
one margin per sample, on the same logits in turn. And a recording of 5,000,000 made-up samples is kept as trajectories
and as scores alone, until the scores can be read, each in a process of its own.

    python benchmarks/recorder.py
"""

from __future__ import annotations

import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import torch

from tracesift.catalog.files import write_json
from tracesift.catalog.schema import SCALAR_FIELDS
from tracesift.pipelines.dataset import Dataset, open_dataset
from tracesift.pipelines.encoding.encode import encode
from tracesift.pipelines.loop import Learner, fit, predict
from tracesift.pipelines.models.contract import find
from tracesift.pipelines.provenance import machine_facts
from tracesift.pipelines.recorder import Recorder
from tracesift.pipelines.recording.running_scores import RUNNING
from tracesift.pipelines.signals import load_signals, run_folder
from tracesift.scorers.contract import compute

RESULTS = Path(__file__).parent / "results" / "recorder"
ROUNDS = 9
CELLS = (("small_cnn", 12_000), ("small_cnn", 48_000), ("resnet18", 512))
"""Model and images per epoch. What an epoch's file costs weighs more, the shorter the epoch is."""
BATCHES = ((10, 128), (10, 256), (100, 128), (100, 256))
"""Classes and samples of a batch, for one update beside `aum`."""
UPDATE_ROUNDS = 30
KEPT = ("scores", "the same fields", "all fields")
LARGE, EPOCHS = 5_000_000, 3


def main() -> None:
    """Compute the cells that have no file yet, for this machine's device."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    for model, size in CELLS:
        path = RESULTS / f"{model}_{size}_{device}.json"
        if not path.exists():
            write_json(path, measure(model, size, device))
            print(path.stem, flush=True)
    for classes, size in BATCHES:
        path = RESULTS / f"update_{classes}_{size}_cpu.json"
        if path.exists():
            continue
        if importlib.util.find_spec("aum") is None:
            print(f"{path.stem}: skipped, aum is not installed; pip install --no-deps aum", file=sys.stderr)
            continue
        write_json(path, beside_aum(classes, size))
        print(path.stem, flush=True)
    for kept in KEPT:
        path = RESULTS / f"kept_{kept.replace(' ', '_')}_{LARGE}.json"
        if not path.exists():
            write_json(path, in_own_process(kept))
            print(path.stem, flush=True)


def beside_aum(classes: int, size: int, *, samples: int = 50_000, batches: int = 40) -> dict[str, Any]:
    """Time one update of the recorder and of `aum.AUMCalculator` on the same batches, in turn."""
    from aum import AUMCalculator

    names = [f"s{number:06d}" for number in range(samples)]
    split = ["train"] * (samples - 2) + ["val", "test"]
    frame = pl.DataFrame(
        {"id": names, "x": np.arange(samples), "label": np.arange(samples) % classes, "split": split}
    )
    dataset = open_dataset(frame, label="label", name="made up")
    rows, labels = torch.from_numpy(dataset.rows("train")), torch.tensor(dataset.labels)
    torch.manual_seed(0)
    parts = rows[torch.randperm(len(rows))][: batches * size].split(size)
    given = [(part, torch.randn(size, classes, requires_grad=True), labels[part]) for part in parts]
    with tempfile.TemporaryDirectory() as folder:
        recorders = {
            "margin": Recorder(f"{folder}/margin", dataset, fields=("margin",)),
            "scores": Recorder(f"{folder}/scores", dataset, keep="scores"),
            "all fields": Recorder(f"{folder}/all", dataset, fields=SCALAR_FIELDS),
        }
        calculator = AUMCalculator(folder)
        ids = [part.tolist() for part, _, _ in given]
        calls: dict[str, list[Callable[[], object]]] = {
            name: [partial(recorder.update, *batch) for batch in given]
            for name, recorder in recorders.items()
        }
        calls["aum"] = [
            partial(calculator.update, logits.detach(), target, names)
            for (_, logits, target), names in zip(given, ids, strict=True)
        ]
        times = {between: {name: list[float]() for name in calls} for between in ("", "after other work")}
        other_work = np.zeros(4_000_000)
        for between, taken in times.items():
            for number in range(UPDATE_ROUNDS + 1):
                for name, updates in calls.items():
                    for update in updates:
                        if between:
                            other_work += 1.0  # 32 MB: nothing that an update needs is in the cache any more
                        start = time.perf_counter()
                        update()
                        if number:  # the first round warms up
                            taken[name].append(1e6 * (time.perf_counter() - start))
    return {
        "cell": "update", "classes": classes, "batch": size, "rounds": UPDATE_ROUNDS, "batches": batches, "threads": 1,
        "least_microseconds": _rounded(times[""], min), "median_microseconds": _rounded(times[""], statistics.median),
        "median_microseconds_after_other_work": _rounded(times["after other work"], statistics.median),
        "least_microseconds_after_other_work": _rounded(times["after other work"], min),
        "machine": machine_facts("cpu"),
    }  # fmt: skip


def _rounded(times: dict[str, list[float]], figure: Callable[[list[float]], float]) -> dict[str, float]:
    return {name: round(figure(values), 1) for name, values in times.items()}


def in_own_process(kept: str) -> dict[str, Any]:
    """Run `keep` where nothing has used memory before."""
    code = f"import json; from benchmarks.recorder import keep; print(json.dumps(keep({kept!r})))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        check=True,
        capture_output=True,
        text=True,
    )
    cell: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return cell


def keep(kept: str) -> dict[str, Any]:
    """Record made-up epochs and compute the scores; memory is what comes on top of the ids and labels."""
    torch.set_num_threads(1)
    scorers = [name for name, known in RUNNING.items() if known.mode == "in_training"]
    fields = tuple(dict.fromkeys(RUNNING[name].reads for name in scorers))
    samples = pl.DataFrame({"sample_id": [f"{number:032x}" for number in range(LARGE)]})
    rows, labels = np.arange(LARGE), np.arange(LARGE) % 10
    dataset: Any = SimpleNamespace(
        dataset_id="made-up", name="made up", source=None, kind="table", fingerprint="made up", transform=None,
        classes=tuple("0123456789"), num_classes=10, samples=samples, labels=labels,
        rows=lambda split: rows if split == "train" else rows[:0],
    )  # fmt: skip
    drawn = torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        before, start = gigabytes(), time.perf_counter()
        if kept == "scores":
            recorder = Recorder(folder, dataset, keep="scores")
        else:
            recorder = Recorder(folder, dataset, fields=SCALAR_FIELDS if kept == "all fields" else fields)
        places, given = torch.from_numpy(rows), torch.from_numpy(labels)
        for _ in range(EPOCHS):
            for part, target in zip(places.split(8000), given.split(8000), strict=True):
                recorder.update(part, torch.randn(len(part), 10, generator=drawn), target)
            recorder.end_epoch()
        run_id = recorder.finalize()
        recorded, seconds = gigabytes(), time.perf_counter() - start
        disk = sum(path.stat().st_size for path in run_folder(folder, run_id).rglob("*") if path.is_file())
        del recorder
        compute(scorers, load_signals(folder, run_id))
        return {
            "cell": "kept", "kept": kept, "samples": LARGE, "epochs": EPOCHS, "scorers": len(scorers),
            "recording_gigabytes": round(recorded - before, 2), "peak_gigabytes": round(gigabytes() - before, 2),
            "disk_gigabytes": round(disk / 1e9, 2), "recording_seconds": round(seconds, 1),
            "scoring_seconds": round(time.perf_counter() - start - seconds, 1), "machine": machine_facts("cpu"),
        }  # fmt: skip


def gigabytes() -> float:
    """Return the most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


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
