"""What each selector's subset is worth: test accuracy of a fresh model after the same number of steps, at five sizes.

A cell is a setting, a selector and a seed: one recording with the default recipe gives scores, features and
probabilities; the selector keeps 70, 50, 30, 20 and 10 % of the training samples; a fresh model is trained on each for
STEPS steps, weighted where the selector gives weights. Settings: 10,000 images of Fashion-MNIST with the small CNN, as
they are and with 20 % symmetric label noise, and the imbalanced CLINC150 (151 classes, hashed n-grams). The seed is
that of the noise, the recording, the selection and the trainings. In `SELECTOR, unflagged` the samples that
`label_noise` flags are left out before the selector is asked, as `curate` does.

    python benchmarks/coresets.py --data FOLDER [--only SETTING] [--seed N]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.detection import opened
from tracesift.catalog.files import write_json
from tracesift.flows.candidates import training_frame
from tracesift.flows.ingest import ingest
from tracesift.flows.jobs import add_signals
from tracesift.flows.options import Training
from tracesift.flows.record import cross_fit_fold, embed_run, join_folds, record_seed
from tracesift.flows.score import flag, score
from tracesift.flows.selector_arrays import arrays_for
from tracesift.flows.work import Work
from tracesift.pipelines.dataset import Dataset, open_dataset
from tracesift.pipelines.planting import plant_label_noise
from tracesift.pipelines.retrain import retrain
from tracesift.selectors.contract import find, select

RESULTS = Path(__file__).parent / "results" / "coresets"
SETTINGS = {
    "fashion": ("small_cnn", 600),
    "fashion-noisy": ("small_cnn", 600),
    "clinc150-imbalanced": ("auto", 600),
}
"""Model and steps of the trainings."""
SHARES = (70, 50, 30, 20, 10)
SEEDS = 3
EXTRA_SCORES = ("cal", "deepfool", "ssl_prototypes")
"""Read by a selector of their own name and in no default set, because they search or train."""
SELECTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("random", {}),
    "random_balanced": ("random_balanced", {}),
    "top_k el2n": ("top_k", {"score": "el2n"}),
    "inverse el2n": ("inverse", {"score": "el2n"}),
    "top_k forgetting_events": ("top_k", {"score": "forgetting_events"}),
    "top_k aum": ("top_k", {"score": "aum"}),
    "bottom_k aum": ("bottom_k", {"score": "aum"}),
    "top_k cartography_variability": ("top_k", {"score": "cartography_variability"}),
    **{
        name: (name, {})
        for name in (
            "cld_per_class", "ccs", "dual", "moderate_ds", "uncertainty", "cal", "deepfool", "ssl_prototypes",
            "d2_pruning", "infomax", "k_center_greedy", "herding", "gm_matching", "facility_location", "graph_cut",
            "log_det", "craig", "grad_match",
        )
    },
    "glister": ("glister", {"refresh": 50}),
    "uncertainty entropy": ("uncertainty", {"measure": "prediction_entropy"}),
    "uncertainty margin": ("uncertainty", {"measure": "prediction_margin"}),
    "ccs per class": ("ccs", {"per_class": True}),
    "d2_pruning aum": ("d2_pruning", {"score": "aum"}),
}  # fmt: skip
UNFLAGGED = (
    "random",
    "random_balanced",
    "top_k el2n",
    "ccs",
    "dual",
    "moderate_ds",
    "gm_matching",
    "facility_location",
)
"""Selectors that are also asked after the flagged samples are left out, where labels are noisy."""


def main() -> None:
    """Compute the cells that have no file yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="", help="only the setting of this name")
    parser.add_argument("--seed", type=int, help="only this seed")
    parser.add_argument("--workspace", type=Path, default=Path("/tmp/tracesift-coresets"))
    given = parser.parse_args()
    for seed in range(SEEDS) if given.seed is None else (given.seed,):
        for setting in SETTINGS:
            if given.only not in ("", setting):
                continue
            missing = [name for name in names_of(setting) if not path_of(setting, name, seed).exists()]
            if not missing:
                continue
            work = prepared(setting, seed, given.data, given.workspace / f"{setting}-{seed}")
            for name in missing:
                write_json(path_of(setting, name, seed), measure(work, setting, name, seed))
                print(path_of(setting, name, seed).stem, flush=True)


def names_of(setting: str) -> list[str]:
    """Return the rows of a setting."""
    alone = [
        name for name in SELECTORS if name != "deepfool" or "clinc" not in setting
    ]  # no gradient by the text
    noisy = [f"{name}, unflagged" for name in UNFLAGGED] if setting == "fashion-noisy" else []
    return ["full", *alone, *noisy]


def path_of(setting: str, name: str, seed: int) -> Path:
    """Return the file of a cell."""
    return RESULTS / f"{setting}_{name.replace(', ', '-').replace(' ', '-')}_seed{seed}.json"


def prepared(setting: str, seed: int, data: Path, folder: Path) -> Work:
    """Record, cross-fit, embed, score and flag once; a later run finds it done."""
    folder.mkdir(parents=True, exist_ok=True)
    work, training = Work(folder / "work"), Training(seed=seed)
    ingest(work, dataset_of(setting, seed, data, folder))
    run = record_seed(work, training, seed)
    if setting == "fashion-noisy":
        for fold in range(training.folds):
            cross_fit_fold(work, training, run, fold)
        join_folds(work, training, run)
    embed_run(work, run)
    if "clinc" not in setting:
        add_signals(work, training, ("deepfool",), {})
    flag(work, score(work, [run]))
    score(work, [run], [name for name in EXTRA_SCORES if name != "deepfool" or "clinc" not in setting])
    return work


def dataset_of(setting: str, seed: int, data: Path, folder: Path) -> Dataset:
    """Open the dataset of a setting."""
    if setting == "clinc150-imbalanced":
        parts = json.loads((data / "clinc150" / "data_imbalanced.json").read_text())
        rows = [
            (text, label, split.removeprefix("oos_"))
            for split, pairs in parts.items()
            for text, label in pairs
        ]
        frame = pl.DataFrame(rows, schema=["text", "label", "split"], orient="row")
        path = folder / "clinc150_imbalanced.parquet"
        frame.write_parquet(path)
        return open_dataset(path)
    dataset = opened("fashion_mnist-10000", data, folder)
    return plant_label_noise(dataset, 0.2, seed=seed) if setting == "fashion-noisy" else dataset


def measure(work: Work, setting: str, name: str, seed: int) -> dict[str, Any]:
    """Select and train at every size."""
    model, steps = SETTINGS[setting]
    dataset, train = work.dataset, work.dataset.rows("train")
    accuracy = {}
    for share in (100,) if name == "full" else SHARES:
        rows, weights = train, None
        if name != "full":
            kept = chosen(work, name, round(share / 100 * len(train)), seed)
            rows = dataset.samples["sample_id"].search_sorted(kept["sample_id"]).to_numpy().astype(np.int64)
            weights = kept["weight"].to_numpy() if kept["weight"].n_unique() > 1 else None
        measured = retrain(dataset, rows, model=model, steps=steps, seed=seed, weights=weights)
        accuracy[str(share)] = round(measured["accuracy"], 4)
    return {
        "setting": setting,
        "selector": name,
        "seed": seed,
        "samples": len(train),
        "steps": steps,
        "accuracy": accuracy,
    }


def chosen(work: Work, name: str, size: int, seed: int) -> pl.DataFrame:
    """Return the kept members of a subset: `sample_id` and `weight`."""
    asked, _, first = name.partition(", ")
    selector, params = SELECTORS[asked]
    pool = training_frame(work).sort("sample_id")
    if first:
        pool = pool.filter(~pl.col("label_noise").fill_null(value=False))
    facts = find(selector)
    settings = {**params, **({"nulls": "drop"} if "nulls" in facts.defaults else {})}
    arrays, _ = arrays_for(work, pool, facts, params, None)
    members = select(selector, pool, budget=size, seed=seed, arrays=arrays, **settings)
    return members.filter(pl.col("role") == "keep").select("sample_id", "weight")


if __name__ == "__main__":
    main()
