"""What scoring costs: in units of reading the same signals once, and in memory where they do not fit.

`fused` holds T = 50 epochs of N = 1,000,000 samples in memory; its unit is the time that the same threads take to
sum the bytes which the scorers read, in turn with them, least times compared. `fused_…_cuda` does the same on a GPU:
the signals lie there and the scores stay there, the unit is torch's sum of the same bytes, and the time from signals
in the CPU's memory to scores in it stands beside. `streamed` writes 30 epochs of 20,000,000 samples as a recorder does
(three different ones, linked ten times) and scores the six from the files.
`confident_learning` stands beside cleanlab on the same probabilities: in time at 200,000 x 100, and in peak memory
at 200,000 x 5,000.

    python benchmarks/scoring.py [CELL…]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.files import write_json
from tracesift.catalog.schema import SIGNALS
from tracesift.scorers.contract import compute, find, names

RESULTS = Path(__file__).parent / "results" / "scoring"
SIX = (
    "forgetting_events", "aum", "cartography_confidence", "cartography_variability", "mean_loss", "cld",
)  # fmt: skip
CELLS = (
    "fused_six", "fused_all", "fused_six_cuda", "fused_all_cuda", "streamed", "confident_learning_100",
    "confident_learning_5000",
)  # fmt: skip
ROUNDS = 25
MEMORY = 12 * 10**9
"""Bytes that each side of `confident_learning` may take before it is refused more."""


def main() -> None:
    """Compute the cells that have no file yet, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", help=f"of {', '.join(CELLS)}; all by default")
    parser.add_argument("--here", action="store_true", help="compute the one cell named in this process")
    given = parser.parse_args()
    if given.here:
        (cell,) = given.cells
        write_json(RESULTS / f"{cell}.json", measure(cell))
        return
    for cell in given.cells or CELLS:
        if cell.endswith("_cuda") and not sees_gpu():
            print(f"{cell}: skipped, torch sees no GPU", flush=True)
        elif not (RESULTS / f"{cell}.json").exists():
            subprocess.run([sys.executable, __file__, cell, "--here"], check=True)
            print(cell, flush=True)


def measure(cell: str) -> dict[str, Any]:
    """Return the figures of one cell."""
    work = {
        "fused_six": lambda: fused(SIX), "fused_all": lambda: fused(trajectory_scorers()),
        "fused_six_cuda": lambda: fused_on_device(SIX, "cuda"),
        "fused_all_cuda": lambda: fused_on_device(trajectory_scorers(), "cuda"), "streamed": streamed,
        "confident_learning_100": lambda: beside_cleanlab(200_000, 100),
        "confident_learning_5000": lambda: beside_cleanlab(200_000, 5_000),
    }[cell]  # fmt: skip
    figures = work()
    from tracesift.pipelines.provenance import machine_facts  # imports torch, which scoring does not need

    return {
        "cell": cell,
        **figures,
        "machine": machine_facts("cuda" if cell.endswith("_cuda") else "cpu"),
    }


def sees_gpu() -> bool:
    """Tell whether there is a GPU for the cells that need one."""
    import torch

    return torch.cuda.is_available()


def trajectory_scorers() -> tuple[str, ...]:
    """Return the scorers that go over epochs, sample by sample."""
    return tuple(
        name
        for name in names()
        if find(name).per_sample and any(SIGNALS[signal].axes == "TN" for signal in find(name).inputs)
    )


def made_up(epochs: int, samples: int) -> dict[str, np.ndarray]:
    """Return random signals as a recorder keeps them: float32 and bool."""
    rng = np.random.default_rng(0)
    floats = [name for name, signal in SIGNALS.items() if signal.axes == "TN" and signal.dtype == "float32"]
    signals = {name: rng.random((epochs, samples), dtype=np.float32) for name in floats}
    signals["correct"] = signals["prob_label"] > 0.5
    signals["labels"] = rng.integers(0, 10, samples)
    signals["val_loss"] = rng.random((epochs, 10_000), dtype=np.float32)
    signals["val_labels"] = rng.integers(0, 10, 10_000)
    return signals


def fused(scorers: tuple[str, ...]) -> dict[str, Any]:
    """Time the scorers together, beside the sum of the bytes that they read."""
    epochs, samples = 50, 1_000_000
    signals = read_by(scorers, made_up(epochs, samples))
    words = [array.reshape(-1).view(np.int64) for name, array in signals.items() if name != "val_loss"]
    alone = {name: {key: signals[key] for key in signals} for name in scorers}
    least = least_of(
        {
            "sum": lambda: total(words),
            "together": lambda: compute(scorers, signals),
            **{name: (lambda name=name: compute([name], alone[name])) for name in scorers},
        }
    )
    return {
        "epochs": epochs, "samples": samples, "threads": os.cpu_count(),
        "gigabytes": round(sum(word.nbytes for word in words) / 1e9, 3), **in_units(scorers, least),
    }  # fmt: skip


def fused_on_device(
    scorers: tuple[str, ...], where: str, epochs: int = 50, samples: int = 1_000_000
) -> dict[str, Any]:
    """Time the scorers on tensors of a device, beside torch's sum of the bytes that they read."""
    import torch

    from tracesift.scorers.blocks import Asked, evaluate_once
    from tracesift.scorers.device_blocks import score_on_device
    from tracesift.scorers.gather import Taken, gather

    device = torch.device(where)
    signals = read_by(scorers, made_up(epochs, samples))
    tensors = {name: torch.from_numpy(array).to(device) for name, array in signals.items()}
    words = [tensor.reshape(-1).view(torch.int64) for name, tensor in tensors.items() if name != "val_loss"]
    taken: Taken = {}
    asked = {
        name: Asked(
            known=find(name), given=gather(find(name), tensors, taken, tensors=True)[0], seen=None,
            settings=find(name).defaults,
        )
        for name in scorers
    }  # fmt: skip
    once: dict[str, Any] = {}
    start = time.perf_counter()
    evaluate_once(list(asked.values()), once)
    once_seconds = time.perf_counter() - start

    def finished(work: Callable[[], Any]) -> Callable[[], Any]:
        def call() -> None:
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return call

    def only(name: str) -> Callable[[], Any]:
        return lambda: score_on_device([asked[name]], once, device)

    least = least_of(
        {
            "sum": finished(lambda: [word.sum() for word in words]),
            "together": finished(lambda: score_on_device(list(asked.values()), once, device)),
            "from_host": finished(lambda: compute(scorers, signals, device=where)),
            **{name: finished(only(name)) for name in scorers},
        }
    )
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return {
        "epochs": epochs, "samples": samples,
        "gigabytes": round(sum(word.nbytes for word in words) / 1e9, 3), **in_units(scorers, least),
        "once_seconds": round(once_seconds, 4), "from_host_seconds": round(least["from_host"], 4),
        "peak_gigabytes": round(memory / 1e9, 2),
    }  # fmt: skip


def read_by(scorers: tuple[str, ...], signals: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the signals that these scorers read."""
    read = {signal for name in scorers for signal in (*find(name).inputs, *find(name).optional)}
    return {name: array for name, array in signals.items() if name in read}


def in_units(scorers: tuple[str, ...], least: dict[str, float]) -> dict[str, Any]:
    """Return seconds, and multiples of the sum's, of the scorers together and one by one."""
    return {
        "scorers": len(scorers), "rounds": ROUNDS,
        "sum_seconds": float(f"{least['sum']:.4g}"), "together_seconds": float(f"{least['together']:.4g}"),
        "units": round(least["together"] / least["sum"], 2),
        "units_one_by_one": round(sum(least[name] for name in scorers) / least["sum"], 2),
        "units_alone": {name: round(least[name] / least["sum"], 2) for name in scorers},
    }  # fmt: skip


def total(words: list[np.ndarray]) -> int:
    """Sum all words, with as many threads as scoring takes."""
    parts = [part for word in words for part in np.array_split(word, 64)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return sum(map(int, pool.map(np.sum, parts)))


def least_of(work: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the least seconds of each, in turn; the first round compiles and warms up."""
    least = dict.fromkeys(work, float("inf"))
    for number in range(ROUNDS + 1):
        for name, function in work.items():
            start = time.perf_counter()
            function()
            if number:
                least[name] = min(least[name], time.perf_counter() - start)
    return least


def streamed() -> dict[str, Any]:
    """Score 20,000,000 samples from the files of 30 epochs; writing them is another process's work."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-c", f"from benchmarks.scoring import write; write({folder!r})"],
            check=True, cwd=Path(__file__).parent.parent,
        )  # fmt: skip
        from tracesift.pipelines.signals import load_signals

        signals = load_signals(folder, "made-up")
        start, processor = time.perf_counter(), time.process_time()
        frame = compute(SIX, signals, mode="in_training")
        return {
            "samples": frame.height, "epochs": 30, "scorers": len(SIX),
            "gigabytes": round(frame.height * 30 * 13 / 1e9, 1),
            "seconds": round(time.perf_counter() - start, 1),
            "processor_seconds": round(time.process_time() - processor, 1),
            "result_gigabytes": round(frame.estimated_size() / 1e9, 2), "peak_gigabytes": peak(),
            "goal_gigabytes": 1.5,
        }  # fmt: skip


def write(folder: str, samples: int = 20_000_000) -> None:
    """Write 30 epochs of a recording: three different ones, the rest links to them."""
    from tracesift.pipelines import signals

    rng = np.random.default_rng(0)
    ids = pl.Series("sample_id", np.arange(samples)).cast(pl.String).str.zfill(16)
    place = signals.run_folder(folder, "made-up")
    for epoch in range(30):
        path = signals.epoch_path(place, "in_training", epoch)
        if epoch < 3:
            columns = {
                name: rng.random(samples, dtype=np.float32) for name in ("loss", "margin", "prob_label")
            }
            columns |= {"correct": columns["prob_label"] > 0.5, "seen": np.ones(samples, dtype=bool)}
            signals.write_epoch(folder, "made-up", "in_training", epoch, ids, columns)
        else:
            path.hardlink_to(signals.epoch_path(place, "in_training", epoch % 3))
        validation = {"loss": rng.random(1000, dtype=np.float32), "seen": np.ones(1000, dtype=bool)}
        signals.write_epoch(folder, "made-up", "in_training", epoch, ids[:1000], validation, validation=True)
    labels = rng.integers(0, 10, samples)
    signals.write_array(place, "labels", ids, labels)
    signals.write_array(place, "val_labels", ids[:1000], labels[:1000])
    fields = ["loss", "margin", "prob_label", "correct"]
    signals.finish_run(
        folder, "made-up", {"kind": "recorded", "modes": ["in_training"], "epochs": 30, "fields": fields}
    )


def beside_cleanlab(samples: int, classes: int) -> dict[str, Any]:
    """Find label issues by the default rule, ours and cleanlab's, each in a process of its own for its memory.

    Their flags can differ where the confident joint is rounded to whole numbers and remainders are equal: there
    an unstable sort decides, and here the order of the classes. So they are compared at cleanlab's joint as well.
    """
    sides: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, classes, samples)
        probs = np.lib.format.open_memmap(
            Path(folder) / "probs.npy", mode="w+", dtype=np.float32, shape=(samples, classes)
        )
        for start in range(0, samples, 10_000):
            block = rng.gamma(0.05, size=(len(labels[start : start + 10_000]), classes)) + 1e-9
            block[np.arange(len(block)), labels[start : start + 10_000]] += rng.gamma(1.0, size=len(block))
            probs[start : start + 10_000] = block / block.sum(axis=1, keepdims=True)
        probs.flush()
        np.save(Path(folder) / "labels.npy", labels)
        for who in ("cleanlab", "tracesift"):
            run = subprocess.run(
                [sys.executable, "-c", f"from benchmarks.scoring import {who}; {who}({folder!r})"],
                cwd=Path(__file__).parent.parent, capture_output=True, text=True,
            )  # fmt: skip
            if run.returncode:
                sides[who] = {"failed": run.stderr.strip().splitlines()[-1]}
            else:
                seconds, memory = map(float, run.stdout.split()[-2:])
                sides[who] = {"seconds": seconds, "peak_gigabytes": memory}
        flags = {path.stem: np.load(path) for path in Path(folder).glob("*_flags.npy")}
    differ = {
        name: int((flags[name] != flags["cleanlab_flags"]).sum())
        for name in ("own_joint_flags", "cleanlabs_joint_flags")
        if {name, "cleanlab_flags"} <= set(flags)
    }
    return {
        "samples": samples,
        "classes": classes,
        "limit_gigabytes": MEMORY / 1e9,
        "differ": differ,
        **sides,
    }


def cleanlab(folder: str) -> None:
    """Print the seconds and the memory of cleanlab's default rule; keep its flags and its confident joint."""
    from cleanlab.count import compute_confident_joint
    from cleanlab.filter import find_label_issues

    probs, labels = given(folder)
    _print_cost(lambda: find_label_issues(labels, probs, n_jobs=1), Path(folder) / "cleanlab_flags.npy")
    np.save(Path(folder) / "joint.npy", compute_confident_joint(labels, probs))


def tracesift(folder: str) -> None:
    """Print the seconds and the memory of our default rule; keep its flags, and those at cleanlab's joint."""
    from tracesift.scorers.noise.label_issues import find_label_issues

    probs, labels = given(folder)
    _print_cost(lambda: find_label_issues(probs, labels), Path(folder) / "own_joint_flags.npy")
    if (Path(folder) / "joint.npy").exists():
        joint = np.load(Path(folder) / "joint.npy")
        np.save(Path(folder) / "cleanlabs_joint_flags.npy", find_label_issues(probs, labels, joint=joint))


def given(folder: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities, mapped from their file, and the labels."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    return np.load(Path(folder) / "probs.npy", mmap_mode="r"), np.load(Path(folder) / "labels.npy")


def _print_cost(work: Callable[[], np.ndarray], path: Path) -> None:
    least = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        flags = work()
        least = min(least, time.perf_counter() - start)
    np.save(path, flags)
    print(round(least, 3), peak())


def peak() -> float:
    """Return the most memory that this process ever held, in gigabytes."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3)


if __name__ == "__main__":
    main()
