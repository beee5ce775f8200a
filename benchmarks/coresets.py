"""What each selector's subset is worth: test accuracy of a fresh model after the same number of steps, at five sizes.

A cell is a setting, a selector and a seed: one recording with the default recipe gives scores, features and
probabilities; the selector keeps 70, 50, 30, 20 and 10 % of the training samples; a fresh model is trained on each for
as many steps, weighted where the selector gives weights. The seed is that of the noise, the recording, the selection
and the trainings. In `SELECTOR, unflagged` the samples that `label_noise` flags are left out before the selector is
asked, as `curate` does; so they are for `auto`, which takes one of the others by the rules of docs/selecting.md.

The rules were read off seed 0 of 10,000 images of Fashion-MNIST (as they are, and with 20 % symmetric label noise) and
of the imbalanced CLINC150 (151 classes). Their other seeds, and all of the settings that have fewer rows, judge them.

    python benchmarks/coresets.py --data FOLDER [--only SETTING] [--seed N]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.detection import opened
from tracesift.catalog.files import write_json
from tracesift.flows.ingest import ingest
from tracesift.flows.jobs import add_signals
from tracesift.flows.options import Training
from tracesift.flows.record import cross_fit_fold, embed_run, join_folds, record_seed
from tracesift.flows.recordings import newest_runs
from tracesift.flows.score import flag, score
from tracesift.flows.selecting.candidates import training_frame
from tracesift.flows.selecting.selector_arrays import arrays_for
from tracesift.flows.selecting.situation import chosen as chosen_by_rules
from tracesift.flows.work import Work
from tracesift.pipelines.dataset import Dataset, open_dataset
from tracesift.pipelines.planting import plant_label_noise
from tracesift.pipelines.retrain import retrain
from tracesift.selectors.contract import find, select

RESULTS = Path(__file__).parent / "results" / "coresets"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A dataset, what is done to its labels, and how models are trained on its subsets."""

    source: str
    model: str = "auto"
    steps: int = 600
    noise: float = 0.0
    few: bool = False
    """Whether only `auto`, what it chooses from and the controls are measured."""
    seeds: int = 3


SETTINGS = {
    "fashion": Setting(source="fashion_mnist-10000", model="small_cnn"),
    "fashion-noisy": Setting(source="fashion_mnist-10000", model="small_cnn", noise=0.2),
    "clinc150-imbalanced": Setting(source="clinc150-imbalanced"),
    "trec6": Setting(source="trec6", steps=400, few=True, seeds=5),
    "trec6-noisy": Setting(source="trec6", steps=400, noise=0.2, few=True, seeds=5),
    "clinc150-noisy": Setting(source="clinc150", noise=0.2, few=True),
    "digits": Setting(source="digits", steps=300, few=True, seeds=5),
    "digits-noisy": Setting(source="digits", steps=300, noise=0.2, few=True, seeds=5),
    "adult": Setting(source="adult", steps=400, few=True),
}
SHARES = (70, 50, 30, 20, 10)
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
CHOSEN = (
    "random", "random_balanced", "dual", "ccs", "k_center_greedy", "facility_location", "gm_matching",
    "top_k cartography_variability", "top_k aum",
)  # fmt: skip
"""What `auto` chooses from and what comes near it: measured first, and in settings of few rows alone."""
LIKELY = (
    *CHOSEN, "herding", "cld_per_class", "top_k forgetting_events", "moderate_ds", "d2_pruning", "top_k el2n",
    "ccs per class", "uncertainty", "infomax", "graph_cut",
)  # fmt: skip
"""Measured next, and where labels are noisy after the flagged samples are left out."""


def main() -> None:
    """Compute the cells that have no file yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="", help="only the setting of this name")
    parser.add_argument("--seed", type=int, help="only this seed")
    parser.add_argument("--workspace", type=Path, default=Path("/tmp/tracesift-coresets"))
    given = parser.parse_args()
    settings = [name for name in SETTINGS if given.only in ("", name)]
    seeds = range(max(SETTINGS[name].seeds for name in settings)) if given.seed is None else (given.seed,)
    for rows, seed, setting in product((CHOSEN, LIKELY, tuple(SELECTORS)), seeds, settings):
        missing = [name for name in names_of(setting, rows) if not path_of(setting, name, seed).exists()]
        if not missing or seed >= SETTINGS[setting].seeds:
            continue
        work = prepared(setting, seed, given.data, given.workspace / f"{setting}-{seed}")
        if set(missing) & set(EXTRA_SCORES):
            score_more(work, setting)
        for name in missing:
            write_json(path_of(setting, name, seed), measure(work, setting, name, seed))
            print(path_of(setting, name, seed).stem, flush=True)


def names_of(setting: str, rows: Sequence[str]) -> list[str]:
    """Return what is measured of a setting when it is the turn of these rows."""
    about = SETTINGS[setting]
    if about.few and rows != CHOSEN:
        return []
    names = [name for name in rows if name != "deepfool" or "clinc" not in setting]  # no gradient by the text
    if about.noise:
        names = ["random", "random_balanced", *(f"{name}, unflagged" for name in names if name in LIKELY)] + [
            name for name in names if rows == tuple(SELECTORS) and name not in ("random", "random_balanced")
        ]
    return ["full", *names, "auto"]


def path_of(setting: str, name: str, seed: int) -> Path:
    """Return the file of a cell."""
    return RESULTS / f"{setting}_{name.replace(', ', '-').replace(' ', '-')}_seed{seed}.json"


def prepared(setting: str, seed: int, data: Path, folder: Path) -> Work:
    """Record, cross-fit, embed, score and flag once; a later run finds it done."""
    folder.mkdir(parents=True, exist_ok=True)
    work, training = Work(folder / "work"), Training(seed=seed)
    ingest(work, dataset_of(setting, seed, data, folder))
    run = record_seed(work, training, seed)
    if SETTINGS[setting].noise or SETTINGS[setting].few:
        for fold in range(training.folds):
            cross_fit_fold(work, training, run, fold)
        join_folds(work, training, run)
    embed_run(work, run)
    flag(work, score(work, [run]))
    return work


def score_more(work: Work, setting: str) -> None:
    """Score what curate does not, because it searches or trains."""
    if "clinc" not in setting:
        add_signals(work, Training(), ("deepfool",), {})
    names = [name for name in EXTRA_SCORES if name != "deepfool" or "clinc" not in setting]
    score(work, newest_runs(work)[:1], names)


def dataset_of(setting: str, seed: int, data: Path, folder: Path) -> Dataset:
    """Open the dataset of a setting."""
    source, noise = SETTINGS[setting].source, SETTINGS[setting].noise
    if source == "clinc150-imbalanced":
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
    dataset = opened(source, data, folder)
    return plant_label_noise(dataset, noise, seed=seed) if noise else dataset


def measure(work: Work, setting: str, name: str, seed: int) -> dict[str, Any]:
    """Select and train at every size."""
    about = SETTINGS[setting]
    dataset, train = work.dataset, work.dataset.rows("train")
    accuracy, took = {}, {}
    for share in (100,) if name == "full" else SHARES:
        rows, weights, asked = train, None, name
        if name == "auto":
            asked = took[str(share)] = taken(work, share / 100)
            if about.noise:
                asked += ", unflagged"
            known = path_of(setting, asked, seed)
            if known.exists():  # the same samples, weights and seed: the same training
                accuracy[str(share)] = json.loads(known.read_text())["accuracy"][str(share)]
                continue
        if name != "full":
            kept = chosen(work, asked, round(share / 100 * len(train)), seed)
            rows = dataset.samples["sample_id"].search_sorted(kept["sample_id"]).to_numpy().astype(np.int64)
            weights = kept["weight"].to_numpy() if kept["weight"].n_unique() > 1 else None
        measured = retrain(dataset, rows, model=about.model, steps=about.steps, seed=seed, weights=weights)
        accuracy[str(share)] = round(measured["accuracy"], 4)
    return {
        "setting": setting,
        "selector": name,
        "seed": seed,
        "samples": len(train),
        "steps": about.steps,
        "accuracy": accuracy,
        **({"took": took} if took else {}),
    }


def taken(work: Work, share: float) -> str:
    """Return what `auto` takes at a share, by its name in SELECTORS."""
    choice = chosen_by_rules(work, share)
    return next(
        name
        for name, (selector, params) in SELECTORS.items()
        if (selector, params) == (choice.selector, choice.params)
    )


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
