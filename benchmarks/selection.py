"""What selecting by geometry costs: in units of reading the embedding, and beside apricot-select.

`k_center_cloud` and `k_center_clusters` pick 1,000 of 50,000 x 128 samples. The unit is to read the embedding once
per pick, by as many threads, in turn with it: what a method that looks at all samples for every pick cannot go
below. A cloud has no structure, so that nothing can be passed over; clusters have. `facility_location_5000` picks 500
of 5,000 x 64 from all pairs, beside apricot's lazy greedy on the same similarities, in turn with it, with and
without the seconds that apricot compiles for at each call. `facility_location_200000` picks 10,000 of 200,000 x 64
from an approximate graph of 30 neighbours; apricot gets the same pairs as a sparse matrix, as all pairs would take
320 GB. Seconds are the least of several rounds, or those of one run for 200,000; memory is the most that a process
ever held.

    python benchmarks/selection.py [CELL…]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.files import write_json
from tracesift.catalog.neighbor_graph import NeighborGraph, neighbor_graph
from tracesift.selectors.contract import select

RESULTS = Path(__file__).parent / "results" / "selection"
CELLS = ("k_center_cloud", "k_center_clusters", "facility_location_5000", "facility_location_200000")
ROUNDS = 7
NEIGHBORS = 30
EXACT_UP_TO = 20_000
"""Beyond this the graph is searched approximately; its recall stands beside it."""
LIMIT_SECONDS = 1800


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
        if not (RESULTS / f"{cell}.json").exists():
            subprocess.run([sys.executable, __file__, cell, "--here"], check=True)
            print(cell, flush=True)


def measure(cell: str) -> dict[str, Any]:
    """Return the figures of one cell."""
    work = {
        "k_center_cloud": lambda: k_center(clusters=0),
        "k_center_clusters": lambda: k_center(clusters=300),
        "facility_location_5000": all_pairs,
        "facility_location_200000": near_pairs,
    }[cell]
    figures = work()
    from tracesift.pipelines.provenance import machine_facts  # imports torch, which selecting does not need

    return {"cell": cell, **figures, "threads": os.cpu_count(), "machine": machine_facts("cpu")}


def made_up(samples: int, features: int, clusters: int) -> np.ndarray:
    """Return a cloud, or several whose centres are four times as far apart as each is wide."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(samples, features))
    if clusters:
        rows += 4 * rng.normal(size=(clusters, features))[rng.integers(0, clusters, samples)]
    return rows.astype(np.float32)


def chosen(name: str, embedding: np.ndarray, budget: int, **settings: Any) -> pl.DataFrame:
    """Return what a selector says of made-up samples of one class."""
    ids = pl.Series("sample_id", np.arange(len(embedding))).cast(pl.String).str.zfill(8)
    frame = pl.DataFrame({"sample_id": ids, "label": pl.Series(["x"]).new_from_index(0, len(embedding))})
    return select(name, frame, budget=budget, seed=0, embedding=embedding, **settings)


def k_center(clusters: int) -> dict[str, Any]:
    """Time k-center beside reading the same bytes once per pick."""
    samples, features, budget = 50_000, 128, 1000
    embedding = made_up(samples, features, clusters)
    words = np.array_split(embedding.reshape(-1).view(np.int64), os.cpu_count() or 1)

    def read() -> None:
        with ThreadPoolExecutor(len(words)) as pool:
            for _ in range(budget):
                sum(pool.map(np.sum, words))

    least = least_of({"read": read, "picked": lambda: chosen("k_center_greedy", embedding, budget)})
    return {
        "samples": samples, "features": features, "clusters": clusters, "budget": budget, "rounds": ROUNDS,
        "read_seconds": round(least["read"][0], 3), "seconds": round(least["picked"][0], 3),
        "units": round(least["picked"][0] / least["read"][0], 2),
        "units_of_processor": round(least["picked"][1] / least["read"][1], 2), "peak_gigabytes": peak(),
        "embedding_gigabytes": round(embedding.nbytes / 1e9, 3),
    }  # fmt: skip


def all_pairs() -> dict[str, Any]:
    """Time facility location from all pairs beside apricot's, and compare what is reached."""
    samples, features, budget = 5000, 64, 500
    embedding = made_up(samples, features, 0)
    names = ["tracesift", "apricot"] if has_apricot() else ["tracesift"]
    code = "from benchmarks.selection import side; side({!r})"
    sides: dict[str, Any] = {
        name: {"peak_gigabytes": float(printed(code.format(name))[-1])} for name in names
    }
    work: dict[str, Callable[[], Any]] = {
        "tracesift": lambda: chosen("facility_location", embedding, budget, per_class=False)
    }
    if has_apricot():
        work["apricot"] = lambda: apricot(embedding, budget)
        work["apricot_compiled"] = lambda: compiled(embedding, budget)
        sides["apricot"]["objective"] = objective(embedding, np.sort(apricot(embedding, budget)))
    sides["tracesift"]["objective"] = objective(
        embedding, np.flatnonzero(work["tracesift"]()["role"] == "keep")
    )
    for name, (seconds, processor) in least_of(work).items():
        sides.setdefault(name, {}).update(seconds=round(seconds, 3), processor_seconds=round(processor, 3))
    return {"samples": samples, "features": features, "budget": budget, "rounds": ROUNDS, **sides}


def side(name: str) -> None:
    """Run one side of `all_pairs` once and print the memory that it took."""
    embedding = made_up(5000, 64, 0)
    if name == "apricot":
        apricot(embedding, 500)
    else:
        chosen("facility_location", embedding, 500, per_class=False)
    print(peak())


def has_apricot() -> bool:
    """Tell whether apricot-select is installed; the cells leave its rows out where it is not."""
    return importlib.util.find_spec("apricot") is not None


def apricot(embedding: np.ndarray, budget: int) -> np.ndarray:
    """Return apricot's picks over the largest distance minus each, by its lazy greedy."""
    from apricot import FacilityLocationSelection
    from sklearn.metrics import pairwise_distances

    similar = pairwise_distances(embedding.astype(np.float64))
    np.subtract(similar.max(), similar, out=similar)
    return FacilityLocationSelection(budget, metric="precomputed", optimizer="lazy").fit(similar).ranking


def compiled(embedding: np.ndarray, budget: int) -> np.ndarray:
    """Return the same, with apricot's loops compiled once instead of at each call."""
    from apricot.functions import facilityLocation as theirs

    makers = theirs.calculate_gains, theirs.calculate_gains_sieve
    theirs.calculate_gains, theirs.calculate_gains_sieve = map(once, makers)
    try:
        return apricot(embedding, budget)
    finally:
        theirs.calculate_gains, theirs.calculate_gains_sieve = makers


@lru_cache
def once(maker: Callable[..., Any]) -> Callable[..., Any]:
    """Return a maker of compiled loops that makes each but once."""
    return lru_cache(maker)


def objective(embedding: np.ndarray, picks: np.ndarray) -> float:
    """Return the sum of the Euclidean distances of all samples to their nearest pick, by a tree of scikit-learn."""
    from sklearn.neighbors import NearestNeighbors

    tree = NearestNeighbors(n_neighbors=1, algorithm="kd_tree").fit(embedding[picks].astype(np.float64))
    return float(tree.kneighbors(embedding.astype(np.float64))[0].sum())


def near_pairs(samples: int = 200_000, budget: int = 10_000) -> dict[str, Any]:
    """Search the graph, then select from it by either side, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "embedding.npy", made_up(samples, 64, 1000))
        said: dict[str, Any] = {}
        for name in ("graph", "tracesift", *(["apricot"] if has_apricot() else [])):
            words = printed(
                f"from benchmarks.selection import near_side; near_side({name!r}, {folder!r}, {budget})"
            )
            if words[0] == "failed":
                said[name] = {"failed": " ".join(words[1:])}
            else:
                keys = (
                    "seconds",
                    "processor_seconds",
                    "peak_gigabytes",
                    "recall" if name == "graph" else "objective",
                )
                said[name] = dict(zip(keys, map(float, words), strict=False))
    return {
        "samples": samples,
        "features": 64,
        "clusters": 1000,
        "budget": budget,
        "neighbors": NEIGHBORS,
        **said,
    }


def near_side(name: str, folder: str, budget: int) -> None:
    """Do one step of `near_pairs`; print its seconds, its memory and the similarity that is reached."""
    embedding = np.load(Path(folder) / "embedding.npy", mmap_mode="r")
    if name == "graph":
        spent, graph = cost(
            lambda: neighbor_graph(embedding, NEIGHBORS, metric="euclidean", exact_up_to=EXACT_UP_TO)
        )
        print(*(round(seconds, 1) for seconds in spent), peak(), graph.recall)
        np.savez(Path(folder) / "graph.npz", index=graph.index, distance=graph.distance)
        return
    with np.load(Path(folder) / "graph.npz") as stored:
        graph = NeighborGraph(stored["index"], stored["distance"], "euclidean")
    if name == "tracesift":
        _sparse_picks(embedding, graph, budget)  # compiles
    pairs = similarities(graph) if name == "apricot" else None
    spent, picks = cost(
        lambda: (
            _sparse_picks(embedding, graph, budget)
            if pairs is None
            else _apricots_sparse_picks(pairs, budget)
        )
    )
    memory = peak()
    covered = similarities(graph)[np.sort(picks)].max(axis=0).toarray().sum()
    print(*(round(seconds, 1) for seconds in spent), memory, round(float(covered), 3))


def _sparse_picks(embedding: np.ndarray, graph: NeighborGraph, budget: int) -> np.ndarray:
    settings = {"arrays": {"graph": graph}, "neighbors": NEIGHBORS, "per_class": False}
    result = chosen("facility_location", embedding, budget, **settings)
    assert result["weight"].sum() == len(embedding)
    return np.flatnonzero(result["role"] == "keep")


def _apricots_sparse_picks(pairs: Any, budget: int) -> np.ndarray:
    from apricot import FacilityLocationSelection

    return FacilityLocationSelection(budget, metric="precomputed", optimizer="lazy").fit(pairs).ranking


def similarities(graph: NeighborGraph) -> Any:
    """Return the largest distance of the graph minus each, as a symmetric sparse matrix; all else is 0."""
    from scipy.sparse import csr_matrix, eye

    samples, k = graph.index.shape
    farthest = graph.distance.max()
    rows = np.repeat(np.arange(samples), k)
    values = (farthest - graph.distance).ravel()
    one_way = csr_matrix((values, (rows, graph.index.ravel())), shape=(samples, samples))
    return one_way.maximum(one_way.T).maximum(farthest * eye(samples, format="csr")).tocsr()


def printed(code: str) -> list[str]:
    """Return the words that some code prints in a process of its own, or "failed" and why."""
    try:
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True,
            timeout=LIMIT_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return ["failed", f"not done after {LIMIT_SECONDS} s"]
    return ["failed", *run.stderr.strip().splitlines()[-1].split()] if run.returncode else run.stdout.split()


def least_of(work: dict[str, Callable[[], Any]]) -> dict[str, tuple[float, float]]:
    """Return the least seconds and processor seconds of each, in turn; the first round compiles and warms up."""
    least = {name: (float("inf"), float("inf")) for name in work}
    for number in range(ROUNDS + 1):
        for name, function in work.items():
            spent = cost(function)[0]
            if number:
                least[name] = min(least[name][0], spent[0]), min(least[name][1], spent[1])
    return least


def cost(function: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Return the seconds and processor seconds of a call, and its result."""
    start, processor = time.perf_counter(), time.process_time()
    result = function()
    return (time.perf_counter() - start, time.process_time() - processor), result


def peak() -> float:
    """Return the most memory that this process ever held, in gigabytes."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3)


if __name__ == "__main__":
    main()
