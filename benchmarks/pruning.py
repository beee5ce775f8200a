"""What a pruned subset is worth: test accuracy of a fresh model after the same number of steps, beside random.

A cell is a selector, the share it keeps and a seed: Fashion-MNIST with 53,911 of its images in train, selected by
the scores of one recording, 1,400 steps of the small CNN. `full` trains on everything for as many steps.

    python benchmarks/pruning.py --data FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.files import write_json
from tracesift.pipelines.dataset import Dataset, open_dataset
from tracesift.pipelines.retrain import retrain
from tracesift.pipelines.signals import load_signals
from tracesift.pipelines.train import TrainConfig, record
from tracesift.scorers.contract import compute
from tracesift.selectors.contract import select

RESULTS = Path(__file__).parent / "results" / "pruning"
STEPS = 1400
SEEDS = 3
SCORES = ["aum", "aum_prob_sum", "cartography_variability", "cld", "el2n", "forgetting_events"]
SELECTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("random", {}),
    "random_balanced": ("random_balanced", {}),
    "top_k el2n": ("top_k", {"score": "el2n"}),
    "top_k forgetting_events": ("top_k", {"score": "forgetting_events"}),
    "top_k cartography_variability": ("top_k", {"score": "cartography_variability"}),
    "bottom_k el2n": ("bottom_k", {"score": "el2n"}),
    "cld_per_class": ("cld_per_class", {}),
    "ccs": ("ccs", {}),
}


def main() -> None:
    """Compute the cells that have no file yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workspace", type=Path, default=Path("/tmp/tracesift-pruning"))
    given = parser.parse_args()
    dataset = open_dataset(given.data / "fashion_mnist")
    frame = scored(dataset, given.workspace)
    for seed in range(SEEDS):
        for name, share in [("full", 100), *((name, share) for share in (50, 20) for name in SELECTORS)]:
            path = RESULTS / f"{name.replace(' ', '-')}_{share}_seed{seed}.json"
            if not path.exists():
                write_json(path, measure(dataset, frame, name, share, seed))
                print(path.stem, flush=True)


def scored(dataset: Dataset, workspace: Path) -> pl.DataFrame:
    """Record once and return the score frame that the selectors read."""
    signals = load_signals(workspace, record(dataset, workspace, TrainConfig(seed=0)))
    ids = pl.Series("sample_id", signals.sample_ids)
    labels = dataset.samples.select("sample_id", "label")
    return compute(SCORES, signals).insert_column(0, ids).join(labels, on="sample_id", maintain_order="left")


def measure(dataset: Dataset, frame: pl.DataFrame, name: str, share: int, seed: int) -> dict[str, Any]:
    """Select, train and test once."""
    rows = dataset.rows("train")
    if name != "full":
        selector, params = SELECTORS[name]
        members = select(selector, frame, budget=share / 100, seed=seed, **params)
        kept = members.filter(pl.col("role") == "keep")["sample_id"]
        rows = np.asarray(dataset.samples["sample_id"].search_sorted(kept), dtype=np.int64)
    measured = retrain(dataset, rows, model="small_cnn", steps=STEPS, seed=seed)
    return {
        "dataset": "fashion_mnist", "selector": name, "kept": share, "seed": seed, "samples": len(rows), "steps": STEPS,
        "accuracy": round(measured["accuracy"], 4),
    }  # fmt: skip


if __name__ == "__main__":
    main()
