"""Planting label noise in train, with the truth remembered, to measure detectors on the user's own data.

`symmetric` moves a label to any of the other classes alike; `pair` moves class k to class k + 1 (mod K).
Which samples are hit, and what they become, is decided by a seeded hash of each sample_id.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput, UnknownName, nearest
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.identity import stable_uniform

KINDS = ("symmetric", "pair")


def plant_label_noise(dataset: Dataset, rate: float, *, kind: str = "symmetric", seed: int = 0) -> Dataset:
    """Change exactly ``round(rate * n_train)`` labels of train, each to another class.

    Parameters
    ----------
    dataset : Dataset
        A dataset without planted noise.
    rate : float
        Share of train to change, strictly between 0 and 1.
    kind : {"symmetric", "pair"}
        How the new label is chosen.
    seed : int
        Another seed hits other samples.

    Returns
    -------
    Dataset
        `label_true` is set for every train row (and stays null elsewhere); `transform` records what was done;
        the fingerprint stays that of the source.

    Raises
    ------
    BadInput
        For a rate outside (0, 1), an unknown kind, or a dataset that already knows true labels.
    """
    if kind not in KINDS:
        raise UnknownName(f"unknown kind of noise '{kind}'{nearest(kind, KINDS)}; known: {', '.join(KINDS)}")
    if not 0 < rate < 1:
        raise BadInput(
            f"rate={rate}: the share of labels to change lies strictly between 0 and 1 (--plant-noise)"
        )
    if dataset.transform or dataset.samples["label_true"].is_not_null().any():
        raise BadInput(f"{dataset.name}: already knows true labels; plant noise in the plain source")
    rows = dataset.rows("train")
    ids = dataset.samples["sample_id"].gather(rows).to_list()
    count = round(rate * len(rows))
    hit = np.lexsort((ids, stable_uniform(ids, f"plant:{seed}")))[:count]
    labels = dataset.labels.copy()
    shift = np.ones(count, dtype=np.int64)
    if kind == "symmetric":
        draws = stable_uniform([ids[at] for at in hit], f"plant-label:{seed}")
        shift += (draws * (dataset.num_classes - 1)).astype(np.int64)  # 1 .. K-1 steps on, so never the same
    chosen = rows[hit]
    labels[chosen] = (labels[chosen] + shift) % dataset.num_classes
    names = np.asarray(dataset.classes, dtype=object)
    train = dataset.samples["split"] == "train"
    samples = dataset.samples.with_columns(
        pl.Series("label", names[labels].tolist(), dtype=pl.String),
        pl.when(train).then(pl.col("label")).otherwise(None).alias("label_true"),
    )
    note = f"{count} of {len(rows)} train labels are planted noise ({kind}, rate {rate:g}, seed {seed})."
    transform = {"plant_label_noise": {"kind": kind, "rate": float(rate), "seed": int(seed)}}
    return replace(dataset, samples=samples, transform=transform, notes=(*dataset.notes, note))
