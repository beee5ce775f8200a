"""How well each score finds wrong labels: planted noise and real weak labels, beside cleanlab on the same folds.

A cell is a dataset, a kind of noise and a seed: one recording with the default recipe, 3-fold cross-fitting, then
AUROC, average precision and precision at the true number of wrong labels for every score, and precision and recall
of the flag `label_noise`. cleanlab scores the same out-of-sample probabilities. `hausa` has real weak labels, half of
them wrong; on it, and on `adult`, most methods are weak, and the rows stay.

    python benchmarks/detection.py --data FOLDER
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from cleanlab.rank import get_self_confidence_for_each_label
from sklearn.metrics import average_precision_score, roc_auc_score

from tracesift.catalog.files import write_json
from tracesift.flows.ingest import ingest
from tracesift.flows.options import Training
from tracesift.flows.publish import newest_flags
from tracesift.flows.record import cross_fit_fold, join_folds, record_seed
from tracesift.flows.score import flag, score
from tracesift.flows.truth import truth_of
from tracesift.flows.work import Work
from tracesift.pipelines.dataset import Dataset, open_dataset
from tracesift.pipelines.planting import plant_label_noise
from tracesift.pipelines.signals import load_signals

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "detection"
CELLS = [
    *(("fashion_mnist-20000", "symmetric", 20, seed) for seed in range(3)),
    ("fashion_mnist-20000", "pair", 20, 0),
    ("fashion_mnist-20000", "symmetric", 40, 0),
    *(("digits", "symmetric", 20, seed) for seed in range(3)),
    ("clinc150", "symmetric", 20, 0),
    ("trec6", "symmetric", 20, 0),
    ("adult", "symmetric", 20, 0),
    ("hausa", "weak labels", 50, 0),
]


def main() -> None:
    """Compute the cells that have no file yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    for base, noise, rate, seed in CELLS:
        path = RESULTS / f"{base}_{noise.replace(' ', '-')}_{rate}_seed{seed}.json"
        if not path.exists():
            write_json(path, measure(base, noise, rate, seed, data))
            print(path.stem, flush=True)


def measure(base: str, noise: str, rate: int, seed: int, data: Path) -> dict[str, Any]:
    """Record, score and flag one noisy dataset, and measure every score against the truth."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = noisy(base, noise, rate, seed, data, Path(folder))
        work = Work(Path(folder) / "work")
        training = Training(seed=seed)
        ingest(work, dataset)
        run = record_seed(work, training, seed)
        for fold in range(training.folds):
            cross_fit_fold(work, training, run, fold)
        join_folds(work, training, run)
        flag(work, score(work, [run]))
        scores = work.catalog.query("SELECT * FROM sample_scores WHERE split = 'train' ORDER BY sample_id")
        found = truth_of(dataset, scores, newest_flags(work))
        assert found is not None
        detectors = found["scorers"] | {
            "cleanlab self-confidence": cleanlab(dataset, load_signals(work.path, run))
        }
    rounded = {
        name: {metric: round(value, 4) for metric, value in values.items()}
        for name, values in detectors.items()
    }
    return {
        "dataset": base, "noise": noise, "rate": rate, "seed": seed, "samples": found["known"], "wrong": found["wrong"],
        "detectors": rounded, "flag": {"precision": found["precision"], "recall": found["recall"]},
    }  # fmt: skip


def cleanlab(dataset: Dataset, signals: Any) -> dict[str, float]:
    """Return what cleanlab's self-confidence reaches on the out-of-sample probabilities of the recording."""
    there = signals.in_mode(signals.modes[0])
    quality = get_self_confidence_for_each_label(there["labels"], there["probs_oos"].astype(np.float64))
    train = dataset.samples.filter(pl.col("split") == "train")
    wrong = (train["label"] != train["label_true"]).to_numpy()
    worst = np.argsort(quality, kind="stable")[: wrong.sum()]
    return {
        "auroc": float(roc_auc_score(wrong, -quality)),
        "average_precision": float(average_precision_score(wrong, -quality)),
        "precision_at_n": float(wrong[worst].mean()),
    }


def noisy(base: str, noise: str, rate: int, seed: int, data: Path, folder: Path) -> Dataset:
    """Open a dataset with wrong labels in train and the truth beside them."""
    if base == "hausa":
        return open_dataset(adapted("hausa", data / "hausa_newsclass", folder))
    return plant_label_noise(opened(base, data, folder), rate / 100, kind=noise, seed=seed)


def opened(base: str, data: Path, folder: Path) -> Dataset:
    """Open one of the plain datasets."""
    name, _, count = base.partition("-")
    if name == "digits":
        return open_dataset("digits")
    if name == "adult":
        return open_dataset(
            data / "adult" / "adult.data",
            format="csv",
            label="Y",
            test=data / "adult" / "adult.test",
            clean_labels=True,
        )
    if name in ("clinc150", "trec6"):
        return open_dataset(adapted(name, data / name, folder))
    whole = open_dataset(data / name)
    if not count:
        return whole
    rows = np.sort(whole.rows("train")[: int(count)])  # sorted by a hash of the content: a random sample
    kept = np.concatenate([rows, whole.rows("val"), whole.rows("test")])
    path = folder / "part.npz"
    np.savez(
        path, x=whole.inputs[kept], y=np.array(whole.classes)[whole.labels[kept]],
        split=whole.samples["split"].gather(kept).to_numpy().astype(str),
    )  # fmt: skip
    return open_dataset(path, name=base)


def adapted(name: str, source: Path, folder: Path) -> Path:
    """Bring one of the odd formats to Parquet with its adapter in examples/."""
    path = folder / f"{name}.parquet"
    subprocess.run([sys.executable, HERE.parent / "examples" / f"{name}.py", source, path], check=True)
    return path


if __name__ == "__main__":
    main()
