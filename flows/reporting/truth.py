"""How well detectors did where the truth is known: planted noise, protected samples, labels that a person verified."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score, roc_auc_score

from tracesift.flows.work import Work
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.protection.protecting import TRUTH_COLUMN
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
        -> auroc, average_precision, precision_at_n (n = number of wrong labels); ``ranking``, the ``average_precision``
        of all samples by confidence plus suspicion, the order in which they look wrong, and what ``chance`` gives, the
        share of wrong labels (None where the flag brings no order).
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
    return {
        "known": len(known), "wrong": wrong, "n_planted": wrong, "planted": _planted(dataset, wrong), **measured,
        "flags": {"label_noise": measured},
        "ranking": _ranking(known, flags),
        "scorers": _detections(known, scores),
    }  # fmt: skip


def reviewed_truth(work: Work, scores: pl.DataFrame) -> dict[str, Any] | None:
    """Measure scores and flags on all labels that people verified so far; None where there are none in train.

    The flag is taken as it stood when a sample was reviewed: afterwards it says no. What AUROC and recall are
    worth, `worklist.OF_REVIEWED` says.

    Returns
    -------
    dict
        As `truth_of`, without a ranking.
    """
    reviews = work.catalog.query("SELECT sample_id, label AS label_true, note FROM reviews")
    dataset = work.dataset
    known = dataset.samples.drop("label_true").join(
        reviews.select("sample_id", "label_true"), on="sample_id", how="left", maintain_order="left"
    )
    said = [
        {
            "flag": "label_noise",
            "sample_id": sample_id,
            "flagged": json.loads(note or "{}").get("label_noise"),
        }
        for sample_id, note in reviews.select("sample_id", "note").iter_rows()
    ]
    flags = pl.DataFrame(said, schema={"flag": pl.String, "sample_id": pl.String, "flagged": pl.Boolean})
    return truth_of(replace(dataset, samples=known, transform=None), scores, flags)


def own_truth(work: Work, scores: pl.DataFrame, flags: pl.DataFrame) -> dict[str, Any] | None:
    """Measure scores and flags against the truth that the source brings or that was planted; None without any.

    What a person verified since is not among it, though the catalog holds it as the true label from then on.

    Parameters
    ----------
    flags
        As they stand without any person's word (`flags_alone`).
    """
    labels = work.catalog.query(
        "SELECT sample_id, split, label, label_true, sample_id IN (SELECT sample_id FROM reviews) AS reviewed "
        "FROM samples WHERE dataset_id = ? ORDER BY sample_row",
        (work.dataset.dataset_id,),
    ).join(
        work.dataset.samples.select("sample_id", own="label_true"),
        on="sample_id",
        how="left",
        maintain_order="left",
    )
    brought = pl.when("reviewed").then("own").otherwise("label_true")
    return truth_of(replace(work.dataset, samples=labels.with_columns(label_true=brought)), scores, flags)


def protection_truth(dataset: Dataset, scores: pl.DataFrame, flags: pl.DataFrame) -> dict[str, Any] | None:
    """Measure every score and the `unlearnable` flag against what `tracesift protect` changed; None where unknown.

    The source says so in its column `unlearnable_true`.

    Returns
    -------
    dict
        ``known`` and ``changed``, ``told`` (how many of the known the flag says yes or no of), ``flagged`` of the known
        and ``found`` of the changed (counts), ``precision`` and ``recall`` of the flag (None where nothing is flagged,
        or nothing is changed or told; else a sample that the flag cannot tell counts as not flagged), and ``scorers``:
        name -> auroc, average_precision, precision_at_n (n = number of changed samples).
    """
    samples = dataset.samples
    if samples.schema.get(TRUTH_COLUMN) != pl.Boolean:
        return None
    known = samples.filter((pl.col("split") == "train") & pl.col(TRUTH_COLUMN).is_not_null())
    known = known.select("sample_id", wrong=TRUTH_COLUMN)
    answers = flags.filter((pl.col("flag") == "unlearnable") & pl.col("flagged").is_not_null())
    told = int(known["sample_id"].is_in(answers["sample_id"].implode()).sum())
    yes = answers.filter("flagged")["sample_id"]
    changed, flagged = int(known["wrong"].sum()), known["sample_id"].is_in(yes.implode())
    hits = int((known["wrong"] & flagged).sum())
    return {
        "known": len(known), "changed": changed, "told": told, "flagged": int(flagged.sum()), "found": hits,
        "precision": hits / int(flagged.sum()) if flagged.any() else None,
        "recall": hits / changed if changed and told else None, "scorers": _detections(known, scores),
    }  # fmt: skip


def _detections(known: pl.DataFrame, scores: pl.DataFrame) -> dict[str, Mapping[str, float]]:
    """Return how well each score tells the samples that are marked `wrong` from the others."""
    values = known.join(scores, on="sample_id", how="left")
    detectors = {
        name: _detection(
            values["wrong"].to_numpy(), SIGNS[find(name).direction or ""] * values[name].to_numpy()
        )
        for name in names()
        if name in values.columns and find(name).direction in SIGNS
    }
    return {name: found for name, found in detectors.items() if found is not None}


def _ranking(known: pl.DataFrame, flags: pl.DataFrame) -> dict[str, float] | None:
    """Return how well the order by doubt, which needs no threshold, puts the wrong labels first."""
    if "suspicion" not in flags.columns:
        return None
    doubt = pl.col("confidence").fill_null(0.0) + pl.col("suspicion").fill_null(float("nan"))
    ordered = known.join(flags.filter(pl.col("flag") == "label_noise"), on="sample_id").select(
        "wrong", doubt=doubt
    )
    ordered = ordered.filter(pl.col("doubt").is_finite())
    found = _detection(ordered["wrong"].to_numpy(), ordered["doubt"].to_numpy())
    if found is None:
        return None
    return {
        "average_precision": found["average_precision"],
        "chance": float(ordered["wrong"].to_numpy().mean()),
    }


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
