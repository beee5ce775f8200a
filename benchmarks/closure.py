"""How many planted copies of forgotten samples the closure of `forget_ready` pulls in, and what else it takes along.

A cell is a dataset and a seed. 100 samples are drawn and asked to be forgotten, each gets one planted copy of a kind,
one kind at a time, and the selector decides; recall is the share of planted copies that become `forget`, "others" is
what else is pulled in. Nothing else was planted, but some of it are copies all the same: natural ones, exact or
reworded. Data: 5,000 images of Fashion-MNIST (`fashion`), `digits` (1,797), 5,000 texts of clinc150 and the 4,965 of
trec6 (with 62 exact repeats).

Kinds, images: `crop`, 1 or 2 pixels cut off at a random side in each direction and resized; `noise4` and `noise16`,
Gaussian noise of that many grey levels; `jpeg` of quality 50; `bright`, 10 % brighter. Texts of four words and more:
`drop5`, `drop10`, `drop20`, each word left out with that probability, one at least; `swap`, two words exchanged;
`replace`, a word replaced by another of the dataset. Rules: `default`, what `forget` does unless told otherwise;
`cosine x`, near_duplicate=x; `Jaccard x`, near_words=x; `no words`, near_words=None, exact copies and cosines alone.

What to know of the figures. In texts, what else is pulled in is nearly all the same sentence in other words: of the
first 20 of clinc150 with seed 0, read by hand, 16 are, and 4 ask the same of another thing (oil and tires, two
numbers). A cropped image is not found: averaged down to 16 x 16 or fewer pixels it is as far from the original as
another image of its class, and no cosine tells them apart; vectors that bear it (`tracesift embed`, `--embedding NAME`)
are needed. With 200,000 texts (made of halves of these) and 1,000 of them asked, `duplicate_closure` by wording took 46
seconds of one processor and 250 MB.

    python benchmarks/closure.py --data FOLDER [--only clinc150] [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image
from sklearn.datasets import load_digits

from tracesift.catalog.files import write_json
from tracesift.pipelines.embedding.embeddings import content_embedding
from tracesift.selectors.contract import select

RESULTS = Path(__file__).parent / "results" / "closure"
ASKED = 100
IMAGES = ("exact", "crop", "noise4", "noise16", "jpeg", "bright")
TEXTS = ("exact", "drop5", "drop10", "drop20", "swap", "replace")
RULES: dict[str, dict[str, dict[str, Any]]] = {
    "image": {
        "default": {}, **{f"cosine {least:g}": {"near_duplicate": least} for least in (0.98, 0.95, 0.9)},
    },
    "text": {
        "default": {}, "no words": {"near_words": None},
        **{f"Jaccard {least:g}": {"near_words": least} for least in (0.5, 0.7, 0.8)},
    },
}  # fmt: skip
SHOWN = 20


def load(name: str, data: Path, rng: np.random.Generator) -> tuple[str, Any, list[str]]:
    """Return kind, contents and labels of at most 5,000 samples."""
    if name == "digits":
        digits = load_digits()
        return (
            "image",
            np.round(digits.images * 255 / 16).astype(np.uint8)[..., None],
            digits.target.astype(str),
        )
    if name == "fashion":
        with gzip.open(data / "fashion_mnist" / "train-images-idx3-ubyte.gz") as file:
            images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
        with gzip.open(data / "fashion_mnist" / "train-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read(), np.uint8, offset=8)
        rows = rng.permutation(len(labels))[:5000]
        return "image", images[rows], labels[rows].astype(str).tolist()
    if name == "trec6":
        lines = (data / "trec6" / "train.txt").read_text(encoding="latin-1").splitlines()
        pairs = [tuple(line.split(":", 1)) for line in lines]
        return "text", [text for _, text in pairs], [label for label, _ in pairs]
    pairs = json.loads((data / "clinc150" / "data_full.json").read_text())["train"]
    rows = rng.permutation(len(pairs))[:5000]
    return "text", [pairs[row][0] for row in rows], [pairs[row][1] for row in rows]


def image_copy(image: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Return a copy (H, W, 1) of an image."""
    values, plain = image.astype(np.float64), Image.fromarray(image[..., 0])
    if kind == "crop":
        cut, (high, wide) = rng.integers(1, 3), image.shape[:2]
        top, left = rng.integers(0, 2, size=2) * cut
        box = (int(left), int(top), int(left + wide - cut), int(top + high - cut))
        return np.asarray(plain.crop(box).resize((wide, high), Image.Resampling.BILINEAR))[..., None]
    if kind.startswith("noise"):
        values += rng.normal(0, int(kind.removeprefix("noise")), image.shape)
    if kind == "bright":
        values *= 1.1
    if kind == "jpeg":
        file = io.BytesIO()
        plain.save(file, "JPEG", quality=50)
        values = np.asarray(Image.open(file))[..., None].astype(np.float64)
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def text_copy(text: str, kind: str, rng: np.random.Generator, words: list[str]) -> str:
    """Return a copy of a text of several words."""
    parts = text.split()
    if kind.startswith("drop"):
        gone = rng.random(len(parts)) < int(kind.removeprefix("drop")) / 100
        gone[rng.integers(len(parts))] |= not gone.any()
        gone[rng.integers(len(parts))] &= not gone.all()
        parts = [word for word, out in zip(parts, gone, strict=True) if not out]
    if kind == "swap":
        one, other = rng.choice(len(parts), 2, replace=False)
        parts[one], parts[other] = parts[other], parts[one]
    if kind == "replace":
        parts[rng.integers(len(parts))] = words[rng.integers(len(words))]
    return " ".join(parts) if kind != "exact" else text


def measure(name: str, seed: int, data: Path) -> dict[str, Any]:
    """Compute one cell."""
    rng = np.random.default_rng(seed)
    what, contents, labels = load(name, data, rng)
    count = len(labels)
    fit = (
        np.arange(count) if what == "image" else [row for row in range(count) if contents[row].count(" ") > 2]
    )
    asked = np.sort(rng.choice(fit, ASKED, replace=False))
    words = [] if what == "image" else sorted({word for text in contents for word in text.split()})
    kinds: dict[str, Any] = {}
    for kind in IMAGES if what == "image" else TEXTS:
        if what == "image":
            inputs = np.concatenate([contents, [image_copy(contents[row], kind, rng) for row in asked]])
        else:
            inputs = [*contents, *(text_copy(contents[row], kind, rng, words) for row in asked)]
        vectors = content_embedding(SimpleNamespace(kind=what, inputs=inputs))
        hashes = [
            hashlib.blake2b(one.tobytes() if what == "image" else one.encode()).hexdigest() for one in inputs
        ]
        frame = pl.DataFrame(
            {"sample_id": [f"{row:06d}" for row in range(len(inputs))],
             "label": [*labels, *(labels[row] for row in asked)], "content_hash": hashes}
        )  # fmt: skip
        kinds[kind] = {
            rule: decided(frame, vectors, None if what == "image" else inputs, asked, params)
            for rule, params in RULES[what].items()
        }
    return {"dataset": name, "seed": seed, "samples": count, "asked": ASKED, "kinds": kinds}


def decided(
    frame: pl.DataFrame,
    vectors: np.ndarray,
    texts: list[str] | None,
    asked: np.ndarray,
    params: dict[str, Any],
) -> dict[str, Any]:
    """Return what the selector pulls in; the last rows of the frame are the planted copies."""
    start = time.perf_counter()
    result = select(
        "forget_ready", frame, budget=None, seed=0, embedding=vectors, arrays={} if texts is None else {"texts": texts},
        forget=[f"{row:06d}" for row in asked], neighbors=0, indirect_neighbors=0, **params,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    pulled = result.filter(pl.col("how").is_not_null())
    planted = pulled.filter(pl.col("sample_id") >= f"{len(frame) - ASKED:06d}")
    others = pulled.filter(pl.col("sample_id") < f"{len(frame) - ASKED:06d}")
    direct = others.filter(pl.col("pulled_by").cast(pl.Int64).is_in(asked.tolist()))
    return {
        "recall": len(planted) / ASKED, "planted_how": dict(sorted(Counter(planted["how"]).items())),
        "others": len(others), "others_how": dict(sorted(Counter(others["how"]).items())),
        "others_by_asked": len(direct), "precision": round(len(planted) / max(1, len(pulled)), 4),
        "examples": [] if texts is None else [
            [texts[int(row["pulled_by"])], texts[int(row["sample_id"])], row["how"], row["similarity"]]
            for row in others.filter(pl.col("how") != "exact").head(SHOWN).iter_rows(named=True)
        ],
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
        for name in ("digits", "trec6", "clinc150", "fashion"):
            path = RESULTS / f"{name}_seed{seed}.json"
            if not path.exists() and options.only in path.stem:
                print(path.stem, flush=True)
                write_json(path, measure(name, seed, options.data))


if __name__ == "__main__":
    main()
