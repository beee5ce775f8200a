"""How the published detectors of poisoned samples do in a mixture, beside the one that the flag rests on.

A cell is a base, a poison of the section above and a seed, 6,000 images, a share of them poisoned: a small CNN is
recorded with its default recipe, what the detectors need beyond that is trained (cross-fitting, and the jobs
`bias_shift`, `iterative_filtering` and `simple_networks`), and each score is held against the truth by AUROC and
average precision; `speed` is `cartography_confidence` of the first two epochs less the median of the class. Below them
what each diagnostic says of some of the sets as a whole: the verdict; how often simple networks
(`simple_network_detection`) and one trained on shifted images (`bias_shift_detection`) are right on samples that they
did not see, which the papers hold against 70 %; and the best possible error by `knn_bayes_error`, here in embeddings of
a network that knows the labels.

    python benchmarks/poison_detectors.py --data FOLDER [--seed N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score, roc_auc_score

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.unlearnable import POISONS, images_of, planted
from tracesift.catalog.files import write_json
from tracesift.flows.ingest import ingest
from tracesift.flows.jobs import add_signals
from tracesift.flows.options import Training
from tracesift.flows.record import cross_fit_fold, embed_run, join_folds, record_seed
from tracesift.flows.score import find_out, score
from tracesift.flows.work import Work
from tracesift.pipelines.dataset import open_dataset
from tracesift.scorers.unlearnable.class_median import above_class_median

RESULTS = Path(__file__).parent / "results" / "poison_detectors"
CELLS = [
    *(("nf", poison, share) for share in (50, 10, 25, 75, 5) for poison in POISONS),
    ("nf", "none", 0),
    *((base, poison, 25) for base in ("colour", "raw") for poison in POISONS),
    *(("nf", poison, 100) for poison in POISONS),
]
DETECTORS = (
    "residual_shortcut", "early_loss_shortcut", "bias_shift", "iterative_filtering", "spectral_signature",
    "activation_clustering",
)  # fmt: skip
WHOLE = ("residual_verdict", "simple_network_detection", "bias_shift_detection", "knn_bayes_error")
WHOLE_SHARES = (0, 10, 50, 100)
"""Of which sets something is said as a whole: the simple networks alone take longer than all the rest."""


def main() -> None:
    """Compute the cells that have no file yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, help="this seed alone")
    given = parser.parse_args()
    for seed in range(3) if given.seed is None else (given.seed,):
        for base, poison, share in CELLS:
            path = RESULTS / f"{base}_{poison}_{share}_seed{seed}.json"
            if not path.exists():
                write_json(path, measure(base, poison, share, seed, given.data))
                print(path.stem, flush=True)


def measure(base: str, poison: str, share: int, seed: int, data: Path) -> dict[str, Any]:
    """Plant, record, train what the detectors need, and hold them against the truth."""
    whole = base == "nf" and share in WHOLE_SHARES
    images, labels = images_of(base, data, seed)
    images, labels, marked = planted(images, labels, poison, share, np.random.default_rng(seed))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"{base}.npz"
        np.savez(source, x=images, y=labels, id=np.array([f"{row:06d}" for row in range(len(labels))]))
        work, training = Work(Path(folder) / "work"), Training(model="small_cnn")
        ingest(work, open_dataset(source))
        run = record_seed(work, training, seed)
        for fold in range(training.folds):
            cross_fit_fold(work, training, run, fold)
        join_folds(work, training, run)
        embed_run(work, run)
        jobs = ("bias_shift", "iterative_filtering", *(("simple_networks",) if whole else ()))
        add_signals(work, Training(), jobs, {})
        score(
            work, [run], ["cartography_confidence", *DETECTORS], {"cartography_confidence": {"burn_out": 2}}
        )
        scores = work.catalog.query("SELECT * FROM sample_scores WHERE split = 'train' ORDER BY sample_id")
        early = work.catalog.query(
            "SELECT value FROM scores WHERE scorer = 'cartography_confidence' ORDER BY sample_id"
        )
        said = {name: brief(find_out(work, [run], name, {})) for name in WHOLE} if whole else {}
    rows = scores["sample_id"].cast(pl.Int64).to_numpy()
    values = {name: scores[name].to_numpy() for name in DETECTORS}
    values["speed"] = above_class_median(early["value"].to_numpy(), labels[rows])
    mixed = marked.any() and not marked.all()
    return {
        "base": base, "poison": poison, "share": share, "seed": seed, "samples": len(rows),
        "detectors": {name: against(marked[rows], one) for name, one in values.items()} if mixed else {},
        "whole": said,
    }  # fmt: skip


def against(marked: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """Return AUROC and average precision over the samples that have a score."""
    there = np.isfinite(values)
    return {
        "auroc": round(float(roc_auc_score(marked[there], values[there])), 4),
        "average_precision": round(float(average_precision_score(marked[there], values[there])), 4),
    }


def brief(found: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers and words of a diagnostic, without what it says of views or classes one by one."""
    return {key: value for key, value in found.items() if isinstance(value, int | float | str)}


if __name__ == "__main__":
    main()
