"""What a graph of the 10 nearest neighbours costs, beside a flat index of faiss on the same vectors and threads.

50,000 vectors of 128 dimensions: random ones, and ones in 50 groups with every tenth a copy and every hundredth zero.
Both search in turns within one process, least times compared; the ratio is ours over faiss's, so below 1 is faster.
faiss answers in float32, where the order of near ties depends on the machine; ours is the same bytes everywhere.
`part` is the graph of nine tenths of the samples out of the graph of all, over a fresh search. `approximate` is an
inverted file over 200,000 vectors, with its recall. Peak memory is of a process that does nothing else, vectors
included; the approximate search also measures its recall in it.

    python benchmarks/neighbors.py [CELL…]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tracesift.catalog.files import write_json
from tracesift.catalog.neighbor_graph import graph_among, neighbor_graph

RESULTS = Path(__file__).parent / "results" / "neighbors"
SAMPLES, LARGE, WIDTH, K = 50_000, 200_000, 128, 10
CELLS = (
    "cosine_random", "cosine_groups", "euclidean_random", "euclidean_groups", "part_cosine", "part_euclidean",
    "approximate_cosine", "approximate_euclidean",
)  # fmt: skip
ROUNDS = 2
THREADS = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))


def main() -> None:
    """Compute the cells that have no file yet, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", help=f"of {', '.join(CELLS)}; all by default")
    parser.add_argument("--here", action="store_true", help="compute the one cell named in this process")
    parser.add_argument("--peak", choices=("ours", "faiss"), help="search once, and print the peak memory")
    given = parser.parse_args()
    if given.peak:
        once(given.cells[0], given.peak)
        return
    if given.here:
        (cell,) = given.cells
        write_json(RESULTS / f"{cell}.json", measure(cell))
        return
    for cell in given.cells or CELLS:
        if not (RESULTS / f"{cell}.json").exists():
            subprocess.run([sys.executable, __file__, cell, "--here"], check=True)
            print(cell, flush=True)


def measure(cell: str) -> dict[str, Any]:
    """Return the figures of one cell."""
    figures = {"approximate": approximate, "part": part}.get(cell.split("_")[0], beside_faiss)(cell)
    from tracesift.pipelines.provenance import machine_facts  # imports torch, which no search needs

    return {"cell": cell, "k": K, "threads": THREADS, **figures, "machine": machine_facts("cpu")}


def vectors(cell: str) -> np.ndarray:
    """Return the made-up vectors of a cell, float32."""
    rng = np.random.default_rng(0)
    size = LARGE if cell.startswith("approximate") else SAMPLES
    x = rng.normal(size=(size, WIDTH)).astype(np.float32)
    if not cell.endswith("random"):
        x += 2 * rng.normal(size=(50, WIDTH)).astype(np.float32)[rng.integers(0, 50, size)]
        x[5::10] = x[::10]
        x[1::100] = 0
    return x


def metric_of(cell: str) -> str:
    """Return the metric that a cell's name says."""
    return "euclidean" if "euclidean" in cell else "cosine"


def beside_faiss(cell: str) -> dict[str, Any]:
    """Time an exact graph in turns with a flat index, and compare what they found."""
    x, metric = vectors(cell), metric_of(cell)
    found: dict[str, Any] = {}

    def ours() -> None:
        found["ours"] = neighbor_graph(x, K, metric=metric, threads=THREADS)

    def theirs() -> None:
        found["faiss"] = flat(x, metric)

    seconds = in_turns({"ours": ours, "faiss": theirs})
    near = np.any(found["faiss"][1][:, :, None] == found["ours"].index[:, None, :], axis=2).sum(axis=1)
    return {
        "samples": len(x), "width": WIDTH, "metric": metric, "vectors": cell.split("_")[1], **seconds,
        "ratio": round(seconds["ours_seconds"] / seconds["faiss_seconds"], 3),
        "ratio_processor": round(seconds["ours_processor_seconds"] / seconds["faiss_processor_seconds"], 3),
        "same_neighbours": round(float((near >= K).mean()), 4),
        "ours_peak_gigabytes": peak_of(cell, "ours"), "faiss_peak_gigabytes": peak_of(cell, "faiss"),
    }  # fmt: skip


def part(cell: str) -> dict[str, Any]:
    """Time the graph of nine tenths of the samples, out of the graph of all and searched afresh."""
    x, metric = vectors(cell), metric_of(cell)
    whole = neighbor_graph(x, K, metric=metric, threads=THREADS)
    rows = np.flatnonzero(np.random.default_rng(1).random(len(x)) < 0.9)
    found: dict[str, Any] = {}

    def among() -> None:
        found["ours"] = graph_among(whole, x, rows)

    def fresh() -> None:
        found["fresh"] = neighbor_graph(x[rows], K, metric=metric, threads=THREADS)

    seconds = in_turns({"ours": among, "fresh": fresh})
    same = all(
        np.array_equal(getattr(found["ours"], name), getattr(found["fresh"], name))
        for name in ("index", "distance")
    )
    return {
        "samples": len(rows), "width": WIDTH, "metric": metric, "vectors": "groups", **seconds,
        "ratio": round(seconds["ours_seconds"] / seconds["fresh_seconds"], 3),
        "ratio_processor": round(seconds["ours_processor_seconds"] / seconds["fresh_processor_seconds"], 3),
        "same_bytes": same, "ours_peak_gigabytes": peak(),
    }  # fmt: skip


def approximate(cell: str) -> dict[str, Any]:
    """Time an approximate graph once, and keep its recall."""
    x, metric = vectors(cell), metric_of(cell)
    start, processor = time.perf_counter(), time.process_time()
    graph = neighbor_graph(x, K, metric=metric, exact_up_to=0, threads=THREADS)
    return {
        "samples": len(x), "width": WIDTH, "metric": metric, "vectors": "groups",
        "ours_seconds": round(time.perf_counter() - start, 2),
        "ours_processor_seconds": round(time.process_time() - processor, 2),
        "recall": graph.recall, "probed": graph.probed, "lists": graph.lists, "ours_peak_gigabytes": peak(),
    }  # fmt: skip


def flat(x: np.ndarray, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what a flat index of faiss finds: the k + 1 nearest, the sample itself most often among them."""
    import faiss

    faiss.omp_set_num_threads(THREADS)
    index = faiss.IndexFlatIP(WIDTH) if metric == "cosine" else faiss.IndexFlatL2(WIDTH)
    if metric == "cosine":
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        x = x / np.where(lengths > 0, lengths, 1)
    index.add(x)
    distances, near = index.search(x, K + 1)
    return distances, near


def in_turns(work: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the least seconds and processor seconds of each, in turn; the first round compiles and warms up."""
    least: dict[str, float] = {}
    for number in range(ROUNDS + 1):
        for name, function in work.items():
            start, processor = time.perf_counter(), time.process_time()
            function()
            taken = {
                f"{name}_seconds": time.perf_counter() - start,
                f"{name}_processor_seconds": time.process_time() - processor,
            }
            if number:
                least |= {key: min(least.get(key, value), value) for key, value in taken.items()}
    return {key: round(value, 3) for key, value in least.items()}


def once(cell: str, side: str) -> None:
    """Search once and print the most memory that this took."""
    x, metric = vectors(cell), metric_of(cell)
    if side == "ours":
        neighbor_graph(x, K, metric=metric, threads=THREADS)
    else:
        flat(x, metric)
    print(peak())


def peak_of(cell: str, side: str) -> float:
    """Return the peak memory of one side, from a process of its own."""
    words = [sys.executable, __file__, cell, "--peak", side]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def peak() -> float:
    """Return the most memory that this process ever held, in gigabytes.

    Linux counts for `getrusage` what the parent held when it started this process; its own status does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return round(int(line.split()[1]) * 1024 / 1e9, 3)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3)


if __name__ == "__main__":
    main()
