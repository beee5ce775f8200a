"""Whom each of a million samples helps and harms: seconds and peak memory, beside the matrix of all pairs.

Made-up predictions and vectors of 16 dimensions and 10 classes for `last_layer`, made-up answers of 200 models for
`influence_subset`; 20 partners of either kind for each sample at both ends, one thread. The memory is that of the whole
process with its inputs, which does not grow with the product of the two numbers of samples. The machine did other work
beside it: its own time is that of the processor.

    python benchmarks/edges.py [CELL…]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tracesift.catalog.files import write_json
from tracesift.scorers.influence.edges.contract import compute_edges

RESULTS = Path(__file__).parent / "results" / "edges"
CELLS = {
    "last_layer_1000000_100": ("last_layer", 1_000_000, 100),
    "last_layer_1000000_10000": ("last_layer", 1_000_000, 10_000),
    "influence_subset_1000000_100": ("influence_subset", 1_000_000, 100),
    "influence_subset_1000000_10000": ("influence_subset", 1_000_000, 10_000),
}
CLASSES, SIZE, MODELS, K = 10, 16, 200, 20


def main() -> None:
    """Compute the cells that have no file yet, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", help=f"of {', '.join(CELLS)}; all by default")
    parser.add_argument("--here", action="store_true", help="compute the one cell named in this process")
    given = parser.parse_args()
    if given.here:
        (cell,) = given.cells
        write_json(RESULTS / f"{cell}.json", {"cell": cell, **measure(*CELLS[cell])})
        return
    for cell in given.cells or CELLS:
        if not (RESULTS / f"{cell}.json").exists():
            subprocess.run([sys.executable, __file__, cell, "--here"], check=True)
            print(cell, flush=True)


def measure(method: str, samples: int, partners: int) -> dict[str, Any]:
    """Return the figures of one cell."""
    chance = np.random.default_rng(0)
    made = layer if method == "last_layer" else answers
    compute_edges(method, made(chance, 50, 20), {"k": K, "threads": 1})  # compiles
    before = peak()
    given = made(chance, samples, partners)
    wall, processor = time.perf_counter(), time.process_time()
    found = compute_edges(method, given, {"k": K, "threads": 1})
    taken = time.perf_counter() - wall, time.process_time() - processor
    lists = [*vars(found).values(), *vars(found.origins).values()]
    result = sum(array.nbytes for array in lists if isinstance(array, np.ndarray))
    after = peak()
    from tracesift.pipelines.provenance import machine_facts  # imports torch, which this does without

    return {
        "method": method, "samples": samples, "partners": partners, "k": K, "seconds": round(taken[0], 1),
        "processor_seconds": round(taken[1], 1), "peak_gigabytes": after, "peak_before_gigabytes": before,
        "input_gigabytes": round(sum(array.nbytes for array in given.values()) / 1e9, 2),
        "result_gigabytes": round(result / 1e9, 2), "matrix_gigabytes": round(8 * samples * partners / 1e9, 1),
        "machine": machine_facts("cpu"),
    }  # fmt: skip


def layer(chance: np.random.Generator, samples: int, partners: int) -> dict[str, np.ndarray]:
    """Return a last layer's inputs and probabilities of both sides."""
    arrays = {}
    for side, count in (("", samples), ("val_", partners)):
        raw = chance.random((count, CLASSES), dtype=np.float32) ** 4
        arrays[f"{side}probs_last"] = raw / raw.sum(axis=1, keepdims=True)
        arrays[f"{side}labels"] = chance.integers(0, CLASSES, count)
        arrays[f"{side}embedding"] = chance.standard_normal((count, SIZE), dtype=np.float32)
    return arrays


def answers(chance: np.random.Generator, samples: int, partners: int) -> dict[str, np.ndarray]:
    """Return who trained on what, and how the models answer."""
    prob = chance.random((partners, MODELS), dtype=np.float32)
    return {
        "subset_trained": chance.integers(0, 10, (samples, MODELS), dtype=np.uint8) < 7,
        "val_subset_correct": prob > 0.4, "val_subset_prob_label": prob,
    }  # fmt: skip


def peak() -> float:
    """Return the most memory that this process ever held, in gigabytes."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3)


if __name__ == "__main__":
    main()
