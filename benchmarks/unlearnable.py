"""How well the small-residual detector finds planted unlearnable samples, and how silent it is without any.

One cell is a base (`raw` Fashion-MNIST, `nf` the same on a sensor noise floor, `digits`), a poison, a share and a
seed. Each is computed once and kept as one JSON file; a second run computes what is missing and prints the table.

    python benchmarks/unlearnable.py --data FOLDER [--only nf] [--seed 0]

FOLDER holds `fashion_mnist/` with the IDX files. Poisons: `patch` (one random +-8 sign per 4x4 block and class; on
digits per pixel), `lsp` (Yu et al., KDD 2022, section 4: separable coarse grids, L2 of 6 grey levels per pixel), `ops`
(one far-out pixel a class), `emc` and `ems` (Huang et al., ICLR 2021: error-minimising noise, class-wise and
sample-wise, 8 grey levels, a small surrogate network). `decoy-*` is the same noise with shuffled labels, `labels` 20 %
wrong labels. All are rounded to 8 bits.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from sklearn.datasets import load_digits, make_classification
from sklearn.metrics import roc_auc_score
from torch import nn

from tracesift.catalog.files import write_json
from tracesift.scorers.unlearnable.residual_analysis import residual_analysis
from tracesift.selectors.flags.unlearnable import unlearnable

RESULTS = Path(__file__).parent / "results" / "unlearnable"
SAMPLES = 6000
LEVELS = 8  # grey levels of the bounded poisons

POISONED = [
    *((base, poison, share) for base in ("raw", "nf") for poison in ("patch", "lsp", "ops") for share in (10, 30, 50)),
    *(("nf", poison, share) for poison in ("patch", "lsp") for share in (75, 90)),
    *(("nf", poison, share) for poison in ("emc", "ems") for share in (10, 30, 50)),
    *((base, "patch", share) for base in ("digits", "digits-nf") for share in (10, 30, 50)),
]  # fmt: skip
CLEAN = [
    *((base, "none", 0) for base in ("raw", "nf", "raw-1500", "nf-1500", "raw-20000", "nf-20000")),
    *((base, "none", 0) for base in ("digits", "digits-nf")),
    *((base, "labels", 20) for base in ("raw", "nf", "digits", "digits-nf")),
    *((base, f"decoy-{poison}", 50) for base in ("raw", "nf") for poison in ("patch", "lsp", "ops")),
    ("digits-nf", "decoy-patch", 50),
    ("digits", "decoy-patch", 50),  # on a flat background noise shows the object's outline
]  # fmt: skip


def images_of(base: str, data: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return float images in grey levels and labels; `nf`: 0.1 + 0.8 x + N(0, 5/255)."""
    name, *rest = base.split("-")
    if name == "digits":
        digits = load_digits()
        images, labels = digits.images[..., None] * 255 / 16, digits.target
    else:
        count = int(rest[0]) if rest else SAMPLES
        images, labels = fashion(data)
        rows = np.random.default_rng(seed).permutation(len(labels))[:count]
        images, labels = images[rows].astype(np.float64), labels[rows]
    if base.split("-")[0] == "nf" or base.endswith("-nf"):
        images = 25.5 + 0.8 * images + np.random.default_rng(seed + 1000).normal(0, 5, images.shape)
    return images, labels.astype(np.int64)


def fashion(data: Path) -> tuple[np.ndarray, np.ndarray]:
    folder = data / "fashion_mnist"
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        return images, np.frombuffer(file.read(), np.uint8, offset=8)


def patch(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    _, height, width, channels = images.shape
    block = 4 if height >= 16 else 1
    signs = rng.choice([-LEVELS, LEVELS], (10, -(-height // block), -(-width // block), channels))
    grid = signs.repeat(block, axis=1).repeat(block, axis=2)[:, :height, :width]
    return images + grid[labels]


def lsp(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    _, height, width, channels = images.shape
    cells = (height // 4, width // 4, channels)
    points, groups = make_classification(
        n_samples=3 * len(labels), n_features=int(np.prod(cells)), n_informative=int(np.prod(cells)), n_redundant=0,
        n_classes=10, n_clusters_per_class=1, class_sep=10.0, flip_y=0.0, random_state=int(rng.integers(1 << 31)),
    )  # fmt: skip
    noise = np.empty((len(labels), points.shape[1]))
    for label in range(10):
        noise[labels == label] = points[groups == label][: (labels == label).sum()]
    noise = noise.reshape(-1, *cells).repeat(4, axis=1).repeat(4, axis=2)
    return images + noise * 6 / np.sqrt((noise**2).mean(axis=(1, 2, 3), keepdims=True))


def ops(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Set, per class, the free pixel whose change is largest and steadiest to black or white."""
    out, taken = images.copy(), set()
    for label in range(10):
        change = np.stack([np.abs(images[labels == label] - end).mean(-1) for end in (0, 255)])
        worth = change.mean(1) / (change.var(1) + 25.0)
        for place in taken:
            worth[:, place[0], place[1]] = -1
        end, row, column = np.unravel_index(worth.argmax(), worth.shape)
        taken.add((int(row), int(column)))
        out[labels == label, row, column] = 255 * end
    return out


def error_minimising(
    images: np.ndarray, labels: np.ndarray, rng: np.random.Generator, *, classwise: bool
) -> np.ndarray:
    """Return images with noise that a small network learns instead of the picture."""
    torch.manual_seed(int(rng.integers(1 << 31)))
    clean = torch.from_numpy(images).float().permute(0, 3, 1, 2) / 255
    given = torch.from_numpy(labels)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 49, 10),
    )  # fmt: skip
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    noise = torch.zeros(10, *clean.shape[1:]) if classwise else torch.zeros_like(clean)
    for _ in range(40 if classwise else 6):
        for _ in range(10):
            rows = torch.randint(len(given), (128,))
            carried = noise[given[rows]] if classwise else noise[rows]
            optimiser.zero_grad()
            nn.functional.cross_entropy(model((clean[rows] + carried).clamp(0, 1)), given[rows]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5)
            optimiser.step()
        wrong = 0
        for rows in torch.randperm(len(given)).split(500):
            for _ in range(1 if classwise else 10):
                carried = (noise[given[rows]] if classwise else noise[rows]).clone().requires_grad_()
                output = model((clean[rows] + carried).clamp(0, 1))
                (slope,) = torch.autograd.grad(nn.functional.cross_entropy(output, given[rows]), carried)
                moved = (carried.detach() - 0.8 / 255 * slope.sign()).clamp(-LEVELS / 255, LEVELS / 255)
                if classwise:
                    for label in given[rows].unique():
                        noise[label] = moved[given[rows] == label].mean(0)
                else:
                    noise[rows] = moved
            wrong += int((output.argmax(1) != given[rows]).sum())
        if wrong / len(given) <= (0.1 if classwise else 0.01):
            break
    print(f"  surrogate error {wrong / len(given):.3f}")
    added = (noise[given] if classwise else noise).permute(0, 2, 3, 1).numpy()
    return images + added * 255


def planted(
    images: np.ndarray, labels: np.ndarray, poison: str, share: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return 8-bit images, the labels that go with them, and which samples carry a signal tied to their label."""
    marked = rng.random(len(labels)) < share / 100
    none = np.zeros(len(labels), dtype=bool)
    if poison == "labels":
        return (
            rounded(images),
            np.where(marked, (labels + rng.integers(1, 10, len(labels))) % 10, labels),
            none,
        )
    if poison == "none":
        return rounded(images), labels, none
    tied = not poison.startswith("decoy-")
    carried = labels if tied else rng.permutation(labels)
    kind = poison.removeprefix("decoy-")
    if kind in ("emc", "ems"):
        changed = error_minimising(images, carried, rng, classwise=kind == "emc")
    else:
        changed = {"patch": patch, "lsp": lsp, "ops": ops}[kind](images, carried, rng)
    return rounded(np.where(marked[:, None, None, None], changed, images)), labels, marked if tied else none


def rounded(images: np.ndarray) -> np.ndarray:
    return np.clip(np.round(images), 0, 255).astype(np.uint8)


def measure(base: str, poison: str, share: int, seed: int, data: Path) -> dict[str, Any]:
    """Compute one cell."""
    images, labels = images_of(base, data, seed)
    images, labels, marked = planted(images, labels, poison, share, np.random.default_rng(seed))
    start = time.perf_counter()
    found = residual_analysis(images, labels)
    seconds = time.perf_counter() - start
    frame = pl.DataFrame(
        {"sample_id": [f"{row:06d}" for row in range(len(labels))], "label": labels.astype(str),
         "residual_shortcut": found.score}
    )  # fmt: skip
    flagged = unlearnable(frame, verdict=found.verdict)["flagged"].fill_null(value=False).to_numpy()
    return {
        "base": base, "poison": poison, "share": share, "seed": seed, "samples": len(labels),
        "verdict": found.verdict["verdict"], "best_view": found.verdict["best_view"],
        "views": {name: [line["separation"], line["gap"]] for name, line in found.verdict["views"].items()},
        "auroc": round(float(roc_auc_score(marked, found.score)), 4) if marked.any() else None,
        "recall": round(float(flagged[marked].mean()), 4) if marked.any() else None,
        "false_flags": round(float(flagged[~marked].mean()), 4),
        "seconds": round(seconds, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="", help="compute cells whose name contains this")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for base, poison, share in [*POISONED, *CLEAN]:
        path = RESULTS / f"{base}_{poison}_{share}_seed{options.seed}.json"
        if not path.exists() and options.only in path.stem:
            print(path.stem, flush=True)
            write_json(path, measure(base, poison, share, options.seed, options.data))
    print_table()


def print_table() -> None:
    cells = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    print("| data | signal | % | seed | verdict | AUROC | flagged: recall / false | best view | s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for cell in sorted(
        cells, key=lambda cell: (cell["auroc"] is None, cell["poison"], cell["base"], cell["share"])
    ):
        auroc, recall = (f"{cell[key]:.3f}" if cell[key] is not None else "" for key in ("auroc", "recall"))
        print(
            f"| {cell['base']} | {cell['poison']} | {cell['share']} | {cell['seed']} | {cell['verdict']} | {auroc} "
            f"| {recall} / {cell['false_flags']:.3f} | {cell['best_view']} | {cell['seconds']} |"
        )


if __name__ == "__main__":
    main()
