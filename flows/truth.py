"""How well detectors did where the truth is known: planted noise, or labels that a person verified."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score, roc_auc_score

from tracesift.pipelines.dataset import Dataset
from tracesift.scorers.contract import find, names

SIGNS = {"suspicious": 1.0, "outlier": 1.0, "hard": 1.0, "clean": -1.0, "easy": -1.0, "keep": -1.0}
"""How a direction reads as a detector of wrong labels."""


def truth_of(dataset: Dataset, scores: pl.DataFrame, flags: pl.DataFrame) -> dict[str, Any] | None:
    """Measure every score and the `label_noise` flag against the known true labels; None where none are known.

    Returns
    -------
    dict
        ``known`` and ``wrong`` (counts), ``planted``, ``precision`` and ``recall`` of the flag (precision is None where
        nothing is flagged; a sample that the flag cannot tell counts as not flagged), ``flags`` and ``scorers``: name
        -> auroc, average_precision, precision_at_n (n = number of wrong labels).
    """
    known = dataset.samples.filter((pl.col("split") == "train") & pl.col("label_true").is_not_null())
    known = known.select("sample_id", wrong=pl.col("label") != pl.col("label_true"))
    if not len(known):
        return None
    wrong = int(known["wrong"].sum())
    answers = flags.filter(pl.col("flag") == "label_noise").select("sample_id", "flagged")
    joined = known.join(answers, on="sample_id", how="left").with_columns(
        pl.col("flagged").fill_null(value=False)
    )
    hits = int((joined["wrong"] & joined["flagged"]).sum())
    flagged = int(joined["flagged"].sum())
    measured = {"precision": hits / flagged if flagged else None, "recall": hits / wrong if wrong else None}
    values = known.join(scores, on="sample_id", how="left")
    detectors = {
        name: _detection(
            values["wrong"].to_numpy(), SIGNS[find(name).direction or ""] * values[name].to_numpy()
        )
        for name in names()
        if name in values.columns and find(name).direction in SIGNS
    }
    return {
        "known": len(known), "wrong": wrong, "n_planted": wrong, "planted": _planted(dataset, wrong), **measured,
        "flags": {"label_noise": measured},
        "scorers": {name: found for name, found in detectors.items() if found is not None},
    }  # fmt: skip


def _planted(dataset: Dataset, wrong: int) -> int:
    return wrong if (dataset.transform or {}).get("plant_label_noise") else 0


def _detection(wrong: np.ndarray, suspicion: np.ndarray) -> Mapping[str, float] | None:
    there = np.isfinite(suspicion)
    wrong, suspicion = wrong[there], suspicion[there]
    if wrong.all() or not wrong.any():
        return None
    worst = np.argsort(-suspicion, kind="stable")[: int(wrong.sum())]
    return {
        "auroc": float(roc_auc_score(wrong, suspicion)),
        "average_precision": float(average_precision_score(wrong, suspicion)),
        "precision_at_n": float(wrong[worst].mean()),
    }
