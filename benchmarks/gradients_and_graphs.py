"""What selecting by gradients and by graphs costs: seconds and peak memory of a process of its own.

`d2_pruning` and `infomax` keep 30 % of 1,000,000 samples of 32 dimensions in 1,000 clusters; the search of their
neighbours, which is approximate at that size, is timed apart. `craig`, `grad_match` and `glister` keep 10 % of 50,000
samples with 10 classes and 128 dimensions, `glister` with 5,000 validation samples and a refresh after every 100;
`autocoreset` keeps 1 % of them by 100 checkpoints. All on one thread but the search.

    python benchmarks/gradients_and_graphs.py [CELL…]
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
import polars as pl

from tracesift.catalog.files import write_json
from tracesift.catalog.neighbor_graph import EXACT_UP_TO, neighbor_graph
from tracesift.selectors.contract import select

RESULTS = Path(__file__).parent / "results" / "gradients_and_graphs"
CELLS = ("d2_pruning", "infomax", "craig", "grad_match", "glister", "autocoreset")


def main() -> None:
    """Compute the cells that have no file yet, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", help=f"of {', '.join(CELLS)}; all by default")
    parser.add_argument("--here", action="store_true", help="compute the one cell named in this process")
    given = parser.parse_args()
    if given.here:
        (cell,) = given.cells
        figures = by_graph(cell) if cell in ("d2_pruning", "infomax") else by_gradient(cell)
        from tracesift.pipelines.provenance import (
            machine_facts,
        )  # imports torch, which is no part of the cost

        write_json(RESULTS / f"{cell}.json", {"cell": cell, **figures, "machine": machine_facts("cpu")})
        return
    for cell in given.cells or CELLS:
        if not (RESULTS / f"{cell}.json").exists():
            subprocess.run([sys.executable, __file__, cell, "--here"], check=True)
            print(cell, flush=True)


def by_graph(selector: str) -> dict[str, Any]:
    """Return the figures of a selector on a graph of a million samples."""
    samples, dimensions, rng = 1_000_000, 32, np.random.default_rng(0)
    centres = rng.normal(size=(1000, dimensions)).astype(np.float32)
    embedding = centres[rng.integers(0, 1000, samples)]
    embedding += 0.5 * rng.normal(size=embedding.shape).astype(np.float32)
    frame = made_frame(samples, np.zeros(samples, dtype=np.int64)).with_columns(
        el2n=pl.Series(rng.random(samples)), forgetting_events=pl.Series(rng.integers(0, 20, samples))
    )
    k, metric = (10, "euclidean") if selector == "d2_pruning" else (5, "cosine")
    warm_up(selector)
    start = time.perf_counter()
    graph = neighbor_graph(embedding, k, metric=metric, exact_up_to=EXACT_UP_TO)
    searched = time.perf_counter() - start
    arrays = {"embedding": embedding, "graph": graph}
    return {
        **timed(selector, frame, 300_000, arrays), "neighbours": k, "dimensions": dimensions,
        "search_seconds": round(searched, 1), "recall": graph.recall,
    }  # fmt: skip


def by_gradient(selector: str) -> dict[str, Any]:
    """Return the figures of a selector on last-layer gradients, or on losses, of 50,000 samples."""
    samples, validation, classes, dimensions = 50_000, 5_000, 10, 128
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, samples)
    frame = made_frame(samples, labels)
    warm_up(selector)
    if selector == "autocoreset":
        loss = np.exp(rng.normal(size=(100, samples)) - np.linspace(0, 3, 100)[:, None]).astype(np.float32)
        return {**timed(selector, frame, 5_000, {"loss": loss}), "checkpoints": 100}
    arrays = {
        "probs_last": softmax(rng.normal(size=(samples, classes)) * 3), "labels": labels,
        "embedding": rng.normal(size=(samples, dimensions)).astype(np.float32),
    }  # fmt: skip
    options = {}
    if selector == "glister":
        options = {"refresh": 100}
        arrays |= {
            "val_probs_last": softmax(rng.normal(size=(validation, classes)) * 3),
            "val_labels": rng.integers(0, classes, validation),
            "val_embedding": rng.normal(size=(validation, dimensions)).astype(np.float32),
        }
    figures = timed(selector, frame, 5_000, arrays, **options)
    return {**figures, "classes": classes, "dimensions": dimensions, **options}


def made_frame(samples: int, labels: np.ndarray) -> pl.DataFrame:
    """Return a frame of ids that are sorted already, and labels."""
    return pl.DataFrame({"sample_id": [f"{i:08d}" for i in range(samples)], "label": labels.astype(str)})


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities (N, K) in float32."""
    rows = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)


def warm_up(selector: str) -> None:
    """Compile the selector's loops on a few samples."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    frame = made_frame(60, labels).with_columns(
        el2n=pl.Series(rng.random(60)), forgetting_events=pl.Series(rng.integers(0, 9, 60))
    )
    part = {
        "probs_last": softmax(rng.normal(size=(60, 3))), "labels": labels,
        "embedding": rng.normal(size=(60, 4)).astype(np.float32),
    }  # fmt: skip
    arrays = {
        "d2_pruning": {"embedding": part["embedding"]}, "infomax": {"embedding": part["embedding"]},
        "autocoreset": {"loss": rng.random((5, 60), dtype=np.float32)},
        "glister": part | {f"val_{name}": array for name, array in part.items()},
    }.get(selector, part)  # fmt: skip
    select(selector, frame, budget=30, seed=0, arrays=arrays)


def timed(
    selector: str, frame: pl.DataFrame, budget: int, arrays: dict[str, Any], **options: Any
) -> dict[str, Any]:
    """Select once; return seconds, and the peak memory of the process in gigabytes."""
    start = time.perf_counter()
    result = select(selector, frame, budget=budget, seed=0, arrays=arrays, **options)
    seconds = time.perf_counter() - start
    assert int((result["role"] == "keep").sum()) == budget
    return {
        "samples": len(frame), "kept": budget, "seconds": round(seconds, 1),
        "gigabytes_peak": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
    }  # fmt: skip


if __name__ == "__main__":
    main()
