"""How well planted unlearnable samples are found, and how silent the verdict is where none are planted.

A cell is a base, a poison, a share and a seed: 6,000 images, of which so many carry the poison. AUROC and average
precision of `residual_shortcut`, the verdict, what the flag finds of the poisoned samples, and what it flags of the
others.

Bases: `raw`, Fashion-MNIST; `nf`, the same on a sensor noise floor, 0.1 + 0.8 x + N(0, 5/255); `colour`, its garments
tinted and laid over windows of two photographs, 32 x 32, coded as JPEG and decoded; `uneven`, `nf` with classes from
2,143 down to 43 images; `classes100`, 20,000 images of `nf`, ten kinds of each garment told apart by k-means,
`classes100-6000` the same of 60 images each; `digits`, and `digits-nf`. Poisons are those of `tracesift protect`:
`patch` (class_patches, +-8 per 4x4 block, on digits per pixel), `lsp` (6 grey levels per pixel, cells of 4 pixels),
`ops` (one_pixel), `emc` and `ems` (error_min_noise, class-wise and sample-wise, 8 grey levels), `beo`
(bayes_error_noise, 8 grey levels). `decoy-*` is the same noise with shuffled labels, `labels` 20 % wrong labels. All
are rounded to 8 bits, `jpeg-*` coded as JPEG of quality 95 after that; `some-*` is in every second class only.

The conditions of the verdict were set on sets that were looked at first: seeds 0 and 1 of `raw` and `nf` at several
shares and without poison, `digits` and `digits-nf` with all seeds, `uneven`. What is asked on flat backgrounds was set
later, and raised once more, after `decoy-emc` on `raw` had been called poisoned, of seed 0 and then of seeds 1 and 2;
so no cell of `raw` judges. That a single class may decide in the impulse view was dropped after it had called
`classes100` with wrong labels poisoned, of seed 2; and two kinds of view are asked of it since `decoy-patch` on
`colour` had been called poisoned, of seed 1: its level was read off seeds 0 and 1 of all sets without a signal, `raw`
with all seeds. That half as many images a class are enough where there are 3,000 in all was seen on 50 and 100 kinds
of garment, of seeds 0 and 1. Seed 2 of `nf`, `classes100`, `classes100-6000` and `colour` judge the whole. How often a
lone pixel may occur by nature was read off seeds 0 and 1 of all sets without a signal, and off the same binarised,
stretched and made coarser. That the flag begins where the lower group ends was seen on seed 0, and the level is the
published one; that a class whose groups do not carry its label stays open, on other images, of which two classes of six
were poisoned.

    python benchmarks/unlearnable.py --data FOLDER [--only nf] [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse
import gzip
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_sample_images
from sklearn.metrics import average_precision_score, roc_auc_score

from tracesift.catalog.files import write_json
from tracesift.pipelines.protection.contract import find
from tracesift.scorers.unlearnable.residual_analysis import residual_analysis
from tracesift.selectors.flags.unlearnable import unlearnable

RESULTS = Path(__file__).parent / "results" / "unlearnable"
SAMPLES = 6000
POISONS: dict[str, tuple[str, dict[str, Any]]] = {
    "patch": ("class_patches", {"eps": 8}),
    "lsp": ("lsp", {"eps": 6, "patch": 4}),
    "ops": ("one_pixel", {}),
    "emc": ("error_min_noise_classwise", {"eps": 8}),
    "ems": ("error_min_noise_samplewise", {"eps": 8}),
    "beo": ("bayes_error_noise", {"eps": 8}),
}
"""Generator and settings of each poison."""

SHARES = (5, 10, 25, 50, 75, 100)
POISONED = [
    *((base, poison, share) for base in ("nf", "raw") for poison in POISONS for share in SHARES),
    *((base, "patch", share) for base in ("digits", "digits-nf") for share in (10, 25, 50, 75)),
    *((base, poison, 25) for base in ("uneven", "classes100", "classes100-6000") for poison in ("patch", "lsp")),
    *(("colour", poison, share) for share in (25, 50, 10, 75, 100, 5) for poison in POISONS),
    *(("colour", "jpeg-patch", share) for share in (25, 10, 50)),
    *((base, "some-patch", 25) for base in ("nf", "raw", "uneven", "colour")), ("colour", "some-ems", 25),
]  # fmt: skip
CLEAN = [
    *((base, "none", 0) for base in ("raw", "nf", "raw-1500", "nf-1500", "digits", "digits-nf", "uneven")),
    *((base, "labels", 20) for base in ("raw", "nf", "digits", "digits-nf", "uneven")),
    *((base, f"decoy-{poison}", 50) for base in ("raw", "nf") for poison in ("patch", "lsp", "ops", "emc")),
    *((base, "decoy-patch", 50) for base in ("digits", "digits-nf")),  # a flat background shows outlines
    *((base, "none", 0) for base in ("raw-20000", "nf-20000", "classes100", "colour")),
    *(("classes100-6000", poison, share) for poison, share in (("none", 0), ("labels", 20), ("decoy-patch", 50))),
    ("classes100", "labels", 20), ("colour", "labels", 20), ("colour", "decoy-patch", 50),
]  # fmt: skip


def images_of(base: str, data: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return float images in grey levels and labels of a base, of `SAMPLES` images or as many as its name says."""
    name, *rest = base.split("-")
    rng = np.random.default_rng(seed + 1000)
    if name == "digits":
        digits = load_digits()
        images, labels = digits.images[..., None] * 255 / 16, digits.target
    else:
        count = int(rest[0]) if rest and rest[0].isdigit() else 20_000 if name == "classes100" else SAMPLES
        images, labels = fashion(data)
        order = np.random.default_rng(seed).permutation(len(labels))
        rows = uneven(labels, order, count) if name == "uneven" else order[:count]
        images, labels = images[rows].astype(np.float64), labels[rows]
    if name == "colour":
        images = over_photographs(images, rng)
    if name == "classes100":
        labels = kinds_within(images, labels)
    if name in ("nf", "uneven", "classes100") or rest[-1:] == ["nf"]:
        images = 25.5 + 0.8 * images + rng.normal(0, 5, images.shape)
    return images, labels.astype(np.int64)


def uneven(labels: np.ndarray, order: np.ndarray, count: int) -> np.ndarray:
    """Return rows whose classes fall in size by the same factor, from a quarter of all to a fiftieth of that."""
    shares = np.geomspace(1, 1 / 50, 10)
    sizes = np.round(shares / shares.sum() * count).astype(int)
    return np.concatenate([order[labels[order] == k][:size] for k, size in enumerate(sizes)])


def kinds_within(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return a hundred classes: ten kinds of each garment, by k-means of its pixels."""
    kinds = np.empty(len(labels), dtype=np.int64)
    for k in np.unique(labels):
        rows = np.flatnonzero(labels == k)
        means = KMeans(10, n_init=1, random_state=0).fit_predict(images[rows].reshape(len(rows), -1))
        kinds[rows] = 10 * k + means
    return kinds


def over_photographs(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return garments tinted each in a colour and laid over windows of two photographs, 32 x 32, coded as JPEG."""
    photographs = load_sample_images().images
    made = np.empty((len(images), 32, 32, 3))
    for number, image in enumerate(images):
        photograph = photographs[rng.integers(len(photographs))]
        top, left = rng.integers(photograph.shape[0] - 32), rng.integers(photograph.shape[1] - 32)
        window = photograph[top : top + 32, left : left + 32].astype(np.float64)
        garment = np.zeros((32, 32, 1))
        garment[2:30, 2:30] = image / 255
        tint = rng.uniform(80, 255, 3)
        made[number] = as_jpeg(rounded(window * (1 - garment) + tint * garment * garment), 90)
    return made


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Return what is left of an image (H, W, 3) when it is coded as JPEG and decoded again."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def fashion(data: Path) -> tuple[np.ndarray, np.ndarray]:
    folder = data / "fashion_mnist"
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        return images, np.frombuffer(file.read(), np.uint8, offset=8)


_made: dict[tuple[Any, ...], np.ndarray] = {}
"""The last poison, which all shares of one base and seed have in common."""


def poisoned(kind: str, images: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the images (N, H, W, C), each with the signal of its class, in 8 bits."""
    key = (kind, images.tobytes(), labels.tobytes(), seed)
    if key not in _made:
        _made.clear()
        _made[key] = _poisoned(kind, images, labels, seed)
    return _made[key]


def _poisoned(kind: str, images: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    name, settings = POISONS[kind]
    if kind == "patch" and images.shape[1] < 16:
        settings = {**settings, "patch": 1}
    known = find(name)
    seeded = {"seed": seed} if known.takes("seed") else {}
    clean = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).clip(0, 255) / 255
    made = known.function(clean, labels, num_classes=int(labels.max()) + 1, **seeded, **settings)
    if "reached" in made.report:
        print(f"  surrogate error {made.report['surrogate_error']:.3f} after {made.report['rounds']} rounds")
    return made.inputs.transpose(0, 2, 3, 1)


def planted(
    images: np.ndarray, labels: np.ndarray, poison: str, share: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return 8-bit images, the labels that go with them, and which samples carry a signal tied to their label."""
    marked = rng.random(len(labels)) < share / 100
    none = np.zeros(len(labels), dtype=bool)
    classes = int(labels.max()) + 1
    if poison == "labels":
        return (
            rounded(images),
            np.where(marked, (labels + rng.integers(1, classes, len(labels))) % classes, labels),
            none,
        )
    if poison == "none":
        return rounded(images), labels, none
    tied = not poison.startswith("decoy-")
    carried = labels if tied else rng.permutation(labels)
    if poison.startswith("some-"):
        marked &= labels % 2 == 0
    kind = poison.removeprefix("decoy-").removeprefix("jpeg-").removeprefix("some-")
    changed = poisoned(kind, images, carried, int(rng.integers(1 << 31)))
    mixed = rounded(np.where(marked[:, None, None, None], changed, images))
    if poison.startswith("jpeg-"):
        mixed = np.stack([as_jpeg(image, 95) for image in mixed])
    return mixed, labels, marked if tied else none


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
    known = np.isfinite(found.score)
    both = marked[known].any() and not marked[known].all()
    return {
        "base": base, "poison": poison, "share": share, "seed": seed, "samples": len(labels),
        "verdict": found.verdict["verdict"], "best_view": found.verdict["best_view"],
        "views": {
            name: [line[key] for key in ("separation", "separation_of_clouds", "gap", "gap_of_clouds")]
            for name, line in found.verdict["views"].items()
        },
        "auroc": round(float(roc_auc_score(marked[known], found.score[known])), 4) if both else None,
        "average_precision":
            round(float(average_precision_score(marked[known], found.score[known])), 4) if both else None,
        "recall": round(float(flagged[marked].mean()), 4) if marked.any() else None,
        "false_flags": round(float(flagged[~marked].mean()), 4) if not marked.all() else None,
        "seconds": round(seconds, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="", help="compute cells whose name contains this")
    parser.add_argument("--seeds", type=int, nargs="*", default=(0, 1, 2))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in options.seeds:
        for base, poison, share in [*CLEAN, *POISONED]:
            path = RESULTS / f"{base}_{poison}_{share}_seed{seed}.json"
            if not path.exists() and options.only in path.stem:
                print(path.stem, flush=True)
                write_json(path, measure(base, poison, share, seed, options.data))


if __name__ == "__main__":
    main()
