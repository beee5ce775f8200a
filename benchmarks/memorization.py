"""What costs one training beside what costs hundreds: the rank correlation of each score with estimated memorization.

A cell is a dataset, a model and a seed. Memorization is that of `subset_training`: models on random 70 % of the
training samples, how much more often those that saw a sample are right about it. The scores come from one recording of
the same model with 3-fold cross-fitting. Spearman's correlation over the samples, high against high, ± its standard
error from 200 bootstrap samples; below 0 the score falls where memorization rises. `the same again` is the correlation
of the memorization by one half of the models with that by the other: how sure the estimate itself is. Beside it, the
share of the 5 % most memorized samples that is among the first 5 % by the score. The error of the estimate itself is by
the plain formula of proportions (`memorization_subset_error` before version 2), which is 0 where all models agree.

    python benchmarks/memorization.py --data FOLDER
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.detection import opened
from tracesift.catalog.files import write_json
from tracesift.flows.ingest import ingest
from tracesift.flows.jobs import add_signals
from tracesift.flows.options import Training
from tracesift.flows.record import cross_fit_fold, embed_run, join_folds, record_seed
from tracesift.flows.score import score
from tracesift.flows.work import Work
from tracesift.pipelines.provenance import machine_facts
from tracesift.pipelines.signals import load_signals
from tracesift.scorers.contract import find
from tracesift.scorers.influence.memorization_subset import memorization_subset

RESULTS = Path(__file__).parent / "results" / "memorization"
MODELS, FIRST = 200, 0.05
CELLS = [("fashion_mnist-10000", "mlp", seed) for seed in range(3)]
NAMED = ("last_layer_self_influence",)
"""Scores that run when they are named, beside all the usual ones."""
OWN = ("memorization_subset", "memorization_subset_error", "c_score")


def main() -> None:
    """Compute the cells that have no file yet; a stopped one goes on with the stack that it was at."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workspace", type=Path, default=Path("/tmp/tracesift-memorization"))
    parser.add_argument("--seed", type=int, help="this seed alone")
    given = parser.parse_args()
    for base, model, seed in CELLS:
        path = RESULTS / f"{base}_{model}_seed{seed}.json"
        if not path.exists() and given.seed in (None, seed):
            folder = given.workspace / path.stem
            folder.mkdir(parents=True, exist_ok=True)
            write_json(path, measure(base, model, seed, given.data, folder))
            print(path.stem, flush=True)


def measure(base: str, model: str, seed: int, data: Path, folder: Path) -> dict[str, Any]:
    """Record, train on subsets, score, and correlate."""
    work, training = Work(folder / "work"), Training(model=model, seed=seed)
    ingest(work, opened(base, data, folder))
    run = record_seed(work, training, seed)
    for fold in range(training.folds):
        cross_fit_fold(work, training, run, fold)
    join_folds(work, training, run)
    embed_run(work, run, training.device)
    add_signals(work, Training(), ("subset_training",), {"subset_training": {"models": MODELS}})
    score(work, [run])
    score(work, [run], NAMED)
    frame = work.catalog.query("SELECT * FROM sample_scores WHERE split = 'train' ORDER BY sample_id")
    signals = load_signals(work.path, run).in_mode("in_training")
    trained, correct, prob = (
        np.asarray(signals[name]) for name in ("subset_trained", "subset_correct", "subset_prob_label")
    )
    half = trained.shape[1] // 2
    halves = [
        memorization_subset(trained[:, part], correct[:, part], prob[:, part])
        for part in (slice(half), slice(half, None))
    ]
    memorized = frame["memorization_subset"].to_numpy()
    found = {
        name: compared(frame[name].cast(float).to_numpy(), memorized, seed)
        | {"direction": find(name).direction}
        for name in frame.columns
        if name not in ("sample_id", "split", "label", *OWN)
    }
    rate = correct[~trained].mean()
    return {
        "dataset": base, "model": model, "seed": seed, "samples": frame.height, "models": trained.shape[1],
        "standard_error": round(float(np.nanmean(frame["memorization_subset_error"].to_numpy())), 4),
        "mean": round(float(np.nanmean(memorized)), 4), "above_quarter": round(float(np.nanmean(memorized >= 0.25)), 4),
        "accuracy_unseen": round(float(rate), 4), "again": compared(halves[0], halves[1], seed), "scores": found,
        "machine": machine_facts("cpu"),
    }  # fmt: skip


def compared(values: np.ndarray, memorized: np.ndarray, seed: int) -> dict[str, Any]:
    """Return the rank correlation, its standard error, and the share of the most memorized that the score has first."""
    there = np.isfinite(values) & np.isfinite(memorized)
    if not there.any() or np.ptp(values[there]) == 0:
        return {"correlation": None, "error": None, "first": None, "samples": int(there.sum())}
    ranks = rankdata(values[there]), rankdata(memorized[there])
    chance = np.random.default_rng(seed)
    again = [
        np.corrcoef(ranks[0][pick], ranks[1][pick])[0, 1]
        for pick in (chance.integers(0, there.sum(), there.sum()) for _ in range(200))
    ]
    correlation = float(np.corrcoef(*ranks)[0, 1])
    count = int(FIRST * there.sum())
    most = set(np.argsort(-memorized[there], kind="stable")[:count])
    first = set(np.argsort(-np.sign(correlation) * values[there], kind="stable")[:count])
    return {
        "correlation": round(correlation, 4), "error": round(float(np.std(again)), 4),
        "first": round(len(most & first) / count, 4), "samples": int(there.sum()),
    }  # fmt: skip


if __name__ == "__main__":
    main()
