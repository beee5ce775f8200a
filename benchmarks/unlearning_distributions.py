"""Unlearning judged over many models: the attack of each sample's own (U-LiRA) and the distance of margins (KLoM).

Digits and the mlp with its default recipe. Per forget set, three random draws of 100 of the training samples, 24
originals are trained on everything and unlearned, and 24 models are retrained without the set. `u_lira`: the first half
of the models shadows, the other half targets; 50 % is what exact unlearning gives. `klom`: the 95 % quantile over
points of KL(unlearned | retrained) of the margins, in nats, for forgotten, retained and test points. `retrain` as a
method trains 24 further models: what it has is what the estimate itself adds. Mean ± standard deviation over the forget
sets.

    python benchmarks/unlearning_distributions.py
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from tracesift.catalog.files import write_json
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.unlearners.contract import find, names
from tracesift.pipelines.unlearning_metrics.klom import klom
from tracesift.pipelines.unlearning_metrics.u_lira import u_lira
from tracesift.pipelines.unlearning_outcome import COMPARED, Sets
from tracesift.pipelines.unlearning_trial import Trial

RESULTS = Path(__file__).parent / "results" / "unlearning_distributions"
MODELS, FORGET, DRAWS = 24, 100, 3


def main() -> None:
    """Compute the forget sets that have no file yet."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    for draw in range(DRAWS):
        path = RESULTS / f"digits_mlp_draw{draw}.json"
        if not path.exists():
            write_json(path, measure(draw))
            print(path.stem, flush=True)


def measure(draw: int) -> dict[str, Any]:
    """Train, retrain and unlearn, and compare the distributions of margins."""
    dataset = open_dataset("digits")
    train, test = dataset.rows("train"), dataset.rows("test")
    forget = np.sort(np.random.default_rng(draw).permutation(train)[:FORGET])
    sets = Sets(
        forget=forget, retain=np.setdiff1d(train, forget), neighbor=np.empty(0, np.int64), test=test,
        holdout=np.empty(0, np.int64), groups=np.full(len(test), "", object),
    )  # fmt: skip
    trial = Trial(dataset, sets, np.ones(len(dataset)), model="mlp", epochs=None, device="cpu", threads=1)
    margins: dict[str, list[np.ndarray]] = {"never": [], "original": [], **{name: [] for name in names()}}
    failed = {}
    for seed in range(MODELS):
        margins["never"].append(trial.retrained(10_000 + seed, draws=seed).margins)
    for seed in range(MODELS):
        margins["original"].append(trial.original(seed).margins)
        for name in names():
            outcome = trial.unlearned(find(name), seed, settings={})
            if outcome.failed:
                failed[name] = outcome.failed
            margins[name].append(outcome.margins)
        print(f"  draw {draw}: model {seed + 1} of {MODELS}", flush=True)
    found = {
        name: compared(each, margins["never"], sets) for name, each in margins.items() if name not in failed
    }
    del found["never"]
    return {
        "dataset": "digits", "model": "mlp", "draw": draw, "models": MODELS, "forgotten": FORGET, "failed": failed,
        "methods": found,
    }  # fmt: skip


def compared(unlearned: list[np.ndarray], never: list[np.ndarray], sets: Sets) -> dict[str, float]:
    """Return U-LiRA's accuracy on the forget set, and KLoM's quantile of each set."""
    ends = np.cumsum([len(getattr(sets, name)) for name in COMPARED])[:-1]
    ours = dict(zip(COMPARED, np.split(np.stack(unlearned).astype(np.float64), ends, axis=1), strict=True))
    theirs = dict(zip(COMPARED, np.split(np.stack(never).astype(np.float64), ends, axis=1), strict=True))
    half = MODELS // 2
    attack = u_lira(
        ours["forget"][:half], theirs["forget"][:half], target_unlearned=ours["forget"][half:],
        target_never=theirs["forget"][half:],
    )  # fmt: skip
    far = {f"klom_{name}": klom(ours[name], theirs[name])["quantiles"][0.95] for name in COMPARED}
    return {"u_lira": round(attack["accuracy"], 4)} | {name: round(value, 4) for name, value in far.items()}


if __name__ == "__main__":
    main()
