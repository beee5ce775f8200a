"""Unlearning methods on forget sets of different kinds, each beside retraining without the set.

A cell is a forget set and a seed: 5,000 Fashion-MNIST images, 2,000 of its test images (half of them the holdout of the
attacks) and a small CNN with its default recipe; a tenth is forgotten. Choosers: `random`; `class`, all of class 8;
`worst_case`, the bi-level search with its defaults; `easiest`, the same with the opposite sign; `memorization` and
`entanglement` low and high, the ends of the order by `memorization_subset` (200 models of the mlp) and by
`entanglement_distance` (low distance, high entanglement); `sharp` and `flat`, half of what a random draw of a fifth
holds; `group`, four fifths of the darker half of class 6 and of the brighter half of class 0, retained samples weighted
by `group_reweight` or not. `entanglement` is the score of the set, `memorization` the mean over it.

Retraining is done twice a seed; its distance to itself is what no method can be expected to beat. UA, RA, TA and MIA
(efficacy by confidence) in %, gap is the mean of their distances to retraining in points, ToW is 1 where a model
answers like retraining. Steps are optimiser steps in % of those of retraining. Methods have their defaults, but for
two: `datamodel_matching` attributes by the last layer alone, as all parameters cost hundreds of passes over the data,
and `single_layer_single_gradient` aims at the original's accuracy on test, as no step makes it forget a part of a
class.

    python benchmarks/unlearning.py --data FOLDER [--only random] [--seed N]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from tracesift.flows.record import embed_run, record_seed
from tracesift.flows.reporting.unlearned import distances
from tracesift.flows.score import score
from tracesift.flows.work import Work
from tracesift.pipelines.signals import load_signals
from tracesift.pipelines.unlearners.contract import Trained, find, names
from tracesift.pipelines.unlearning_outcome import Outcome, Sets, measure
from tracesift.pipelines.unlearning_trial import Trial
from tracesift.scorers.forgetting.entanglement import entanglement
from tracesift.scorers.forgetting.loreun_weights import weights_of
from tracesift.selectors.contract import select
from tracesift.selectors.decisions.group_weights import retain_weights

RESULTS = Path(__file__).parent / "results" / "unlearning"
TRAIN, VAL, TEST, FORGET = 5000, 500, 2000, 500
MODELS = 200
GROUPED = ((6, "dark"), (0, "bright"))
LOREUN = ("gradient_ascent", "random_labels", "scrub", "salun", "npo")
"""Methods that weigh the forget set's losses: also run under `loreun_weights`, and on coresets."""
CORESETS = (0.05, 0.1)
"""Shares of the random forget set that these are given instead of all of it."""
CHOOSERS = (
    "random", "class", "worst_case", "memorization-high", "memorization-low", "entanglement-high", "entanglement-low",
    "group", "group-reweighted", "easiest", "sharp", "flat",
)  # fmt: skip
MEASURES = (
    "ua",
    "ra",
    "ta",
    "mia",
    "auc",
    "worst_group",
    "average_gap",
    "tow",
    "tow_mia",
    "steps",
    "seconds",
)


def main() -> None:
    """Compute the cells that have no file yet, one method after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workspace", type=Path, default=Path("/tmp/tracesift-unlearning"))
    parser.add_argument("--only", default="", help="choosers whose name begins so")
    parser.add_argument("--seed", type=int, help="this seed alone")
    given = parser.parse_args()
    for seed in range(3) if given.seed is None else (given.seed,):
        for chooser in CHOOSERS:
            path = RESULTS / f"{chooser}_seed{seed}.json"
            if chooser.startswith(given.only) and not path.exists():
                scored = Scored.of(given.data, given.workspace / f"seed{seed}", seed, chooser)
                write_json(path, cell(scored, chooser, seed))
                print(path.stem, flush=True)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The data, and what the choosers read."""

    dataset: Any
    frame: pl.DataFrame
    """`sample_id`, `label` and the score columns of the training samples."""
    features: np.ndarray

    @classmethod
    def of(cls, data: Path, folder: Path, seed: int, chooser: str) -> Scored:
        """Record once a seed, and score what this chooser needs; what is there is not made again."""
        work = Work(folder)
        folder.mkdir(parents=True, exist_ok=True)
        dataset = small_fashion(data, folder)
        ingest(work, dataset)
        run = record_seed(work, Training(seed=seed), seed)
        embed_run(work, run, "cpu")
        needed = {
            "memorization": ("memorization_subset",), "entanglement": ("entanglement_distance",),
            "worst_case": ("worst_case_weight",), "easiest": ("easiest_weight",), "sharp": ("sharpness",),
            "flat": ("sharpness",),
        }.get(chooser.split("-")[0], ())  # fmt: skip
        if "memorization_subset" in needed:
            training = Training(model="mlp", epochs=10)
            add_signals(work, training, ["subset_training"], {"subset_training": {"models": MODELS}})
        if chooser in ("worst_case", "easiest"):
            settings = {"size": FORGET, "easiest": chooser == "easiest"}
            add_signals(work, Training(), ["worst_case"], {"worst_case": settings})
        if needed:
            score(work, [run], needed)
        frame = work.catalog.query("SELECT * FROM sample_scores WHERE split = 'train' ORDER BY sample_id")
        signals = load_signals(folder, run)
        features = np.asarray(signals.in_mode(signals.modes[0])["embedding"])
        return cls(dataset=dataset, frame=frame, features=features)


def small_fashion(data: Path, folder: Path) -> Any:
    """Return 5,000 + 500 + 2,000 images of Fashion-MNIST, the same for all seeds."""
    from tracesift.pipelines.dataset import open_dataset

    path = folder / "small.npz"
    if not path.exists():
        whole = opened("fashion_mnist", data, folder)
        parts = [
            whole.rows(split)[:count] for split, count in (("train", TRAIN), ("val", VAL), ("test", TEST))
        ]
        rows = np.concatenate(parts)
        np.savez(
            path, x=whole.inputs[rows], y=np.array(whole.classes)[whole.labels[rows]],
            split=whole.samples["split"].gather(rows).to_numpy().astype(str),
            id=whole.samples["sample_id"].gather(rows).to_numpy().astype(str),
        )  # fmt: skip
    return open_dataset(path, name="fashion_mnist")


def cell(scored: Scored, chooser: str, seed: int) -> dict[str, Any]:
    """Choose, train, retrain twice, and let every method forget."""
    dataset, train = scored.dataset, scored.dataset.rows("train")
    groups = in_groups(dataset)
    forget = chosen(scored, chooser, seed, groups)
    inside = np.isin(train, forget)
    entangled = round(float(entanglement(scored.features, inside)), 4)
    test = dataset.rows("test")
    sets = Sets(
        forget=forget, retain=np.setdiff1d(train, forget), neighbor=np.empty(0, np.int64), test=test[::2],
        holdout=test[1::2], groups=groups[test[::2]],
    )  # fmt: skip
    weights = np.ones(len(dataset))
    if chooser == "group-reweighted":
        kept = np.isin(train, sets.retain)
        weights[train], _ = retain_weights(groups[train], np.ones(len(train), bool), kept)
    trial = Within(dataset, sets, weights, model="small_cnn", epochs=None, device="cpu", threads=1)
    gold = [trial.retrained(1000 + 10 * seed + turn, draws=seed) for turn in (0, 1)]
    known = [one.metrics for one in gold]
    rows = {
        "retrain_gold": known[0], "retrain_gold_again": with_distances(known[1], known[:1]),
        "original": with_distances(trial.original(seed).metrics, known),
    }  # fmt: skip
    aim = trial.original(seed).metrics["ta"]
    for name, outcome in tried(trial, chooser, seed, aim):
        rows[name] = {"failed": outcome.failed} if outcome.failed else with_distances(outcome.metrics, known)
        print(f"  {chooser} {name}", flush=True)
    return {
        "chooser": chooser, "seed": seed, "samples": len(train), "forgotten": len(forget),
        "entanglement": entangled,
        "memorization": mean_of(scored.frame, "memorization_subset", inside),
        "models": {
            name: {key: value if key == "failed" else round(value, 5) for key, value in row.items()
                   if key in (*MEASURES, "failed")}
            for name, row in rows.items()
        },
    }  # fmt: skip


def chosen(scored: Scored, chooser: str, seed: int, groups: np.ndarray) -> np.ndarray:
    """Return the dataset's rows of the forget set."""
    train = scored.dataset.rows("train")
    if chooser.startswith("group"):
        asked = [np.flatnonzero(groups[train] == f"{label} {kind}") for label, kind in GROUPED]
        rng = np.random.default_rng(seed)
        return np.sort(
            np.concatenate([train[rng.permutation(rows)[: int(0.8 * len(rows))]] for rows in asked])
        )
    selector, params = {
        "random": ("random_forget_set", {}), "class": ("class_forget_set", {"label": scored.dataset.classes[8]}),
        "worst_case": ("worst_case_forget_set", {}), "easiest": ("easiest_forget_set", {}),
        "memorization-high": ("memorization_strata", {"part": "high"}),
        "memorization-low": ("memorization_strata", {"part": "low"}),
        "entanglement-high": ("entanglement_strata", {"part": "high"}),
        "entanglement-low": ("entanglement_strata", {"part": "low"}),
        "sharp": ("sharpness_partition", {"part": "sharp"}), "flat": ("sharpness_partition", {"part": "flat"}),
    }[chooser]  # fmt: skip
    budget = None if chooser == "class" else FORGET
    members = select(selector, scored.frame, budget=budget, seed=seed, **params)
    ids = members.filter(pl.col("role") == "forget")["sample_id"]
    return np.sort(scored.dataset.samples["sample_id"].search_sorted(ids).to_numpy().astype(np.int64))


def in_groups(dataset: Any) -> np.ndarray:
    """Return the group of every row: its class, and whether its garment is darker than the median of the class."""
    light = np.asarray(dataset.inputs).reshape(len(dataset), -1).mean(axis=1)
    labels = np.asarray(dataset.labels)
    middle = np.array([np.median(light[labels == k]) for k in range(dataset.num_classes)])
    kind = np.where(light < middle[labels], "dark", "bright")
    return np.array([f"{label} {one}" for label, one in zip(labels, kind, strict=True)], dtype=object)


def tried(trial: Within, chooser: str, seed: int, aim: float) -> Iterator[tuple[str, Outcome]]:
    """Yield what each method makes; under weights and from coresets where the forget set is a random one."""
    methods = [find(name) for name in names()]
    own = {"datamodel_matching": {"parameters": "last"}, "single_layer_single_gradient": {"target": aim}}
    for method in methods:
        yield method.name, trial.unlearned(method, seed, settings=own.get(method.name, {}))
        if chooser == "random" and method.name in LOREUN:
            yield f"{method.name}, loreun", trial.unlearned(method, seed, settings={}, weigh=weights_of)
    if chooser == "random":
        for share in CORESETS:
            part = trial.of_a_part(share, seed)
            for method in methods:
                if method.name in LOREUN:
                    yield (
                        f"{method.name}, {share:.0%} of it",
                        part.unlearned(method, seed, settings=own.get(method.name, {})),
                    )


class Within(Trial):
    """A trial whose methods may be given a part of the forget set; measured is always the whole."""

    whole: Sets | None = None

    def of_a_part(self, share: float, seed: int) -> Within:
        """Return a trial with a random coreset of the forget set; the rest of it is in neither set."""
        rng = np.random.default_rng(seed)
        few = np.sort(rng.permutation(self.sets.forget)[: round(share * len(self.sets.forget))])
        part = Within(
            self.dataset, replace(self.sets, forget=few), self.weights, model="small_cnn", epochs=None, device="cpu",
            threads=1,
        )  # fmt: skip
        part.whole = self.sets
        part._stages, part._original = self._stages, self._original  # the same original
        return part

    def _measured(self, stage: Trained, module: Any, draws: int, cost: dict[str, float]) -> Outcome:
        outcome = measure(stage, module, self.whole or self.sets, seed=draws)
        return outcome if outcome.failed else replace(outcome, metrics=outcome.metrics | cost)


def with_distances(metrics: dict[str, float], gold: list[dict[str, float]]) -> dict[str, float]:
    """Return the measures with their distances to retraining."""
    return metrics | distances(metrics, gold)


def mean_of(frame: pl.DataFrame, column: str, inside: np.ndarray) -> float | None:
    """Return the mean of a score over the forget set, None where it was not made."""
    if column not in frame.columns:
        return None
    return round(float(np.nanmean(frame[column].to_numpy()[inside])), 4)


if __name__ == "__main__":
    main()
