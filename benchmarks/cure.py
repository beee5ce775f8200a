"""What leaving out and projecting are worth: a fresh model on the cured set, beside the same images never poisoned.

A cell is a poison of the section above, a share and a seed: 6,000 images of `nf`, of which so many carry the signal,
and 2,000 further ones that never do, to test on. A small CNN is trained for 470 steps on each of: the images before
anything was planted (the ceiling); the set as it is; what `depoison` leaves of it, by the flag `unlearnable`; as many
drawn at random; what is left without the samples that truly carry the signal; and all of it after
`orthogonal_projection`, where the test images lose the same directions. Where all images carry the signal
there are no two groups, and nothing is left out.

    python benchmarks/cure.py --data FOLDER [--seed N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.unlearnable import SAMPLES, fashion, planted, rounded
from tracesift.catalog.files import write_json
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.protection.orthogonal_projection import class_directions, in_8_bits, on_complement
from tracesift.pipelines.retrain import retrain
from tracesift.scorers.unlearnable.residual_analysis import residual_analysis
from tracesift.selectors.contract import select
from tracesift.selectors.flags.unlearnable import unlearnable

RESULTS = Path(__file__).parent / "results" / "cure"
TEST, VAL, STEPS = 2200, 200, 470
CELLS = [(poison, share) for share in (50, 100) for poison in ("patch", "lsp", "ops", "emc", "ems", "beo")]


def main() -> None:
    """Compute the cells that have no file yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, help="this seed alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(3) if given.seed is None else (given.seed,):
        for poison, share in CELLS:
            path = RESULTS / f"{poison}_{share}_seed{seed}.json"
            if not path.exists():
                write_json(path, measure(poison, share, seed, given.data))
                print(path.stem, flush=True)


def measure(poison: str, share: int, seed: int, data: Path) -> dict[str, Any]:
    """Poison, cure and retrain once."""
    rng = np.random.default_rng(seed)
    images, labels = noise_floor(data, seed)
    train, test = images[:SAMPLES], rounded(images[SAMPLES:])
    spoiled, _, marked = planted(train, labels[:SAMPLES], poison, share, rng)
    found = residual_analysis(spoiled, labels[:SAMPLES])
    ids = [f"{row:06d}" for row in range(SAMPLES)]
    frame = pl.DataFrame(
        {"sample_id": ids, "label": labels[:SAMPLES].astype(str), "residual_shortcut": found.score}
    )
    flags = unlearnable(frame, verdict=found.verdict).select("sample_id", unlearnable="flagged")
    members = select("depoison", frame.join(flags, on="sample_id"), budget=None, seed=seed)
    left = np.flatnonzero((members.sort("sample_id")["role"] == "keep").to_numpy())
    chance = np.sort(rng.permutation(SAMPLES)[: len(left)])
    shown = spoiled.transpose(0, 3, 1, 2)
    directions = class_directions(shown, labels[:SAMPLES])
    projected, projected_test = (
        in_8_bits(on_complement(part.transpose(0, 3, 1, 2), directions)).transpose(0, 2, 3, 1)
        for part in (spoiled, test)
    )
    everything = np.arange(SAMPLES)
    arms = {
        "ceiling": (rounded(train), test, everything), "as it is": (spoiled, test, everything),
        "depoison": (spoiled, test, left), "as many at random": (spoiled, test, chance),
        "projected": (projected, projected_test, everything),
    }  # fmt: skip
    if not marked.all():
        arms["truth left out"] = (spoiled, test, np.flatnonzero(~marked))
    accuracy = {
        name: round(trained_on(shown, asked, labels, rows, seed), 4)
        for name, (shown, asked, rows) in arms.items()
    }
    recall = 1 - float(marked[left].sum() / marked.sum())
    false_drops = None if marked.all() else round(1 - float((~marked)[left].sum() / (~marked).sum()), 4)
    return {
        "poison": poison, "share": share, "seed": seed, "samples": SAMPLES, "steps": STEPS,
        "verdict": found.verdict["verdict"], "left": len(left), "recall": round(recall, 4), "false_drops": false_drops,
        "accuracy": accuracy,
    }  # fmt: skip


def noise_floor(data: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Fashion-MNIST on a sensor noise floor, in grey levels, and labels: those for training first."""
    images, labels = fashion(data)
    order = np.random.default_rng(seed).permutation(len(labels))[: SAMPLES + TEST]
    noise = np.random.default_rng(seed + 1000).normal(0, 5, (len(order), *images.shape[1:]))
    return 25.5 + 0.8 * images[order] + noise, labels[order].astype(np.int64)


def trained_on(train: np.ndarray, test: np.ndarray, labels: np.ndarray, rows: np.ndarray, seed: int) -> float:
    """Return the accuracy on `test` of a small CNN trained on `rows` of `train`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cured.npz"
        ids = np.array([f"{row:06d}" for row in range(len(labels))])
        split = np.array(["train"] * len(train) + ["val"] * VAL + ["test"] * (len(test) - VAL))
        np.savez(path, x=np.concatenate([train, test]), y=labels, id=ids, split=split)
        dataset = open_dataset(path)
        kept = dataset.samples["sample_id"].search_sorted(pl.Series(ids[rows])).to_numpy().astype(np.int64)
        measured = retrain(dataset, kept, model="small_cnn", steps=STEPS, seed=seed, device="cpu", threads=1)
    return float(measured["accuracy"])


if __name__ == "__main__":
    main()
