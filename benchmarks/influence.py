"""How well influence estimates foretell what models trained on other subsets say: the linear datamodeling score (LDS).

A cell is a setting and a seed. 100 models are trained on random 70 % of the training samples each, from initial weights
of their own. For every validation sample the estimated influences of a subset's samples are added up and compared, by
Spearman's rank correlation over subsets, with the log odds that the subset's model gives to its label; the LDS is the
mean over validation samples (Park et al. 2023). Every estimate is judged on the same 50 models. `subset models` is the
difference of the other 50 models' log odds with and without a sample (Feldman and Zhang 2020), an estimate that costs
50 trainings. What a model says also depends on its initial weights, which no estimate knows: 1 is out of reach.

`trak` is the mean of 5 models, or of the first alone, with 256 dimensions, the usual at this size; `tracin` sums 5
checkpoints, by the last layer or by all parameters (projected to 512 dimensions); `last checkpoint` is one term of it;
`datainf` and the exact inverse that it approximates, with the same damping, are of the last layer at the end. `random`
are normal numbers. Digits and 2,000 images of Fashion-MNIST.

    python benchmarks/influence.py --data FOLDER [--only SETTING] [--seed N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from tracesift.catalog.files import write_json
from tracesift.pipelines.dataset import Dataset, open_dataset
from tracesift.pipelines.embedding.embeddings import embed
from tracesift.pipelines.jobs.contract import run_job
from tracesift.pipelines.provenance import machine_facts
from tracesift.pipelines.signals import load_signals
from tracesift.pipelines.train import TrainConfig, record
from tracesift.scorers.contract import compute

RESULTS = Path(__file__).parent / "results" / "influence"
SETTINGS = {
    "digits_mlp": ("digits", "mlp", 10),
    "digits_linear": ("digits", "linear", 10),
    "fashion_mlp": ("fashion", "mlp", 10),
}
"""Data, model, epochs."""
SEEDS = 3
MODELS = 100
TRAK_MODELS = 5
OTHER_DIMENSIONS = {"digits_mlp": (64, 1024)}
DAMPING = 0.1


def main() -> None:
    """Compute the cells that have no file yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="", help="only the setting of this name")
    parser.add_argument("--seed", type=int, help="only this seed")
    given = parser.parse_args()
    for seed in range(SEEDS) if given.seed is None else (given.seed,):
        for setting in SETTINGS:
            path = RESULTS / f"{setting}_seed{seed}.json"
            if given.only in ("", setting) and not path.exists():
                with tempfile.TemporaryDirectory() as folder:
                    write_json(path, measure(setting, seed, given.data, Path(folder)))
                print(path.stem, flush=True)


def measure(setting: str, seed: int, data: Path, folder: Path) -> dict[str, Any]:
    """Compute one cell."""
    source, model, epochs = SETTINGS[setting]
    dataset = open_dataset("digits") if source == "digits" else fashion(data, folder)
    run = record(dataset, folder, TrainConfig(seed=seed, model=model, epochs=epochs, device="cpu", threads=1))
    took = {"subset models": timed("subset_training", dataset, folder, run, {"models": MODELS})}
    subsets = signals_of(folder, run)
    seen, prob = subsets["subset_trained"], subsets["val_subset_prob_label"].astype(np.float64)
    odds = np.log(np.clip(prob, 1e-7, 1 - 1e-7)) - np.log1p(-np.clip(prob, 1e-7, 1 - 1e-7))
    half = MODELS // 2
    found = {
        "random": np.random.default_rng(seed).normal(size=(len(seen), len(odds))),
        "subset models": differences(seen[:, :half], odds[:, :half]),
    }
    embed(dataset, folder, run, device="cpu")
    found |= of_last_layer(signals_of(folder, run))
    pairs = {"pairs": True, "dimension": 512}
    took["tracin, last layer"] = timed("tracin", dataset, folder, run, pairs)
    found["tracin, last layer"] = tracin_pairs(signals_of(folder, run))
    took["tracin"] = timed("tracin", dataset, folder, run, {**pairs, "parameters": "all"})
    given = signals_of(folder, run)
    found["tracin"] = products(given["tracin_gradient"], given["val_tracin_gradient"])
    took["trak"] = timed("trak", dataset, folder, run, {"models": TRAK_MODELS, "pairs": True})
    found |= trak_pairs(signals_of(folder, run))
    for dimension in OTHER_DIMENSIONS.get(setting, ()):
        given = {"models": TRAK_MODELS, "pairs": True, "dimension": dimension}
        run_job("trak", dataset, folder, run, given, device="cpu", threads=1)
        found[f"trak, {dimension} dimensions"] = trak_pairs(signals_of(folder, run))["trak"]
    return {
        "setting": setting, "seed": seed, "samples": len(seen), "validation": len(odds), "models": MODELS,
        "lds": {name: lds(pairs, seen[:, half:], odds[:, half:]) for name, pairs in found.items()},
        "seconds": took, "machine": machine_facts("cpu"),
    }  # fmt: skip


def fashion(data: Path, folder: Path) -> Dataset:
    """Open 2,000 training and 300 validation images; rows are sorted by a hash of the content, a random sample."""
    whole = open_dataset(data / "fashion_mnist")
    kept = np.concatenate(
        [
            np.sort(whole.rows(split)[:count])
            for split, count in (("train", 2000), ("val", 300), ("test", 100))
        ]
    )
    path = folder / "part.npz"
    np.savez(
        path, x=whole.inputs[kept], y=np.array(whole.classes)[whole.labels[kept]],
        split=whole.samples["split"].gather(kept).to_numpy().astype(str),
    )  # fmt: skip
    return open_dataset(path, name="fashion")


def timed(job: str, dataset: Dataset, folder: Path, run: str, settings: dict[str, Any]) -> float:
    """Run a job; return its seconds."""
    start = time.perf_counter()
    run_job(job, dataset, folder, run, settings, device="cpu", threads=1)
    return round(time.perf_counter() - start, 1)


def signals_of(folder: Path, run: str) -> Any:
    """Return the signals of the recording."""
    signals = load_signals(folder, run)
    return signals.in_mode(signals.modes[0])


def differences(seen: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """Return mean log odds of the models that saw a sample minus that of the others, (N, M)."""
    inside, outside = seen.astype(np.float64), (~seen).astype(np.float64)
    return (inside @ odds.T) / inside.sum(1, keepdims=True) - (outside @ odds.T) / outside.sum(
        1, keepdims=True
    )


def of_last_layer(signals: Any) -> dict[str, np.ndarray]:
    """Return the influences by the last layer at the end (N, M): products, DataInf, and by the exact inverse."""

    def rows(part: str) -> np.ndarray:
        probs = np.asarray(signals[f"{part}probs_last"], dtype=np.float64)
        error = probs - np.eye(probs.shape[1])[signals[f"{part}labels"]]
        hidden = np.asarray(signals[f"{part}embedding"], dtype=np.float64)
        with_one = np.hstack([np.ones((len(hidden), 1)), hidden])
        return np.einsum("nk,nd->nkd", error, with_one).reshape(len(hidden), -1)

    g, v = rows(""), rows("val_")
    plain, lengths = g @ v.T, (g**2).sum(axis=1)
    lam = DAMPING * lengths.mean() / g.shape[1]
    mixed = g @ (g.T @ (plain / (lam + lengths)[:, None])) / len(g)
    datainf = (plain - mixed) / lam
    scored = compute("datainf", signals, params={"datainf": {"damping": DAMPING}})["datainf"].to_numpy()
    np.testing.assert_allclose(-datainf.mean(axis=1), scored, rtol=1e-4, atol=1e-6 * np.abs(scored).max())
    exact = g @ np.linalg.solve(lam * np.eye(g.shape[1]) + g.T @ g / len(g), v.T)
    return {"last checkpoint": plain, "datainf": datainf, "exact inverse": exact}


def tracin_pairs(signals: Any) -> np.ndarray:
    """Return TracIn by the last layer (N, M)."""
    total = 0.0
    names = ("tracin_error", "val_tracin_error", "tracin_hidden", "val_tracin_hidden")
    error, val_error, hidden, val_hidden = (np.asarray(signals[name], dtype=np.float64) for name in names)
    for c in range(error.shape[1]):
        total = total + (error[:, c] @ val_error[:, c].T) * (1 + hidden[:, c] @ val_hidden[:, c].T)
    return np.asarray(total)


def trak_pairs(signals: Any) -> dict[str, np.ndarray]:
    """Return TRAK of all models and of the first (N, M)."""
    features, val_features = signals["trak_feature"], signals["val_trak_feature"]
    residual = np.asarray(signals["trak_residual"], dtype=np.float64)
    return {
        "trak": products(features, val_features) * residual.mean(axis=1, keepdims=True),
        "trak, one model": products(features[:, :1], val_features[:, :1]) * residual[:, :1],
    }


def products(features: np.ndarray, val_features: np.ndarray) -> np.ndarray:
    """Return the sums of products over models or checkpoints (N, M)."""
    flat = [np.asarray(part, dtype=np.float64).reshape(len(part), -1) for part in (features, val_features)]
    return flat[0] @ flat[1].T


def lds(pairs: np.ndarray, seen: np.ndarray, odds: np.ndarray) -> float:
    """Return the mean over validation samples of the rank correlation over subsets."""
    foretold, true = (rankdata(part, axis=1) for part in (pairs.T @ seen, odds))
    foretold, true = (part - part.mean(axis=1, keepdims=True) for part in (foretold, true))
    norms = np.linalg.norm(foretold, axis=1) * np.linalg.norm(true, axis=1)
    return round(float(((foretold * true).sum(axis=1) / norms).mean()), 4)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
