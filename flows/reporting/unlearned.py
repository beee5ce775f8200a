"""What was measured of unlearning, as a table: original, retraining and methods beside each other, seed by seed.

A difference to retraining is taken at equal seeds, to the mean of that seed's two retrained models. What one of the two
differs from the other by is the yardstick: nothing that forgets exactly can be expected to do better.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from tracesift.flows.selecting.written import recorded_subsets
from tracesift.flows.work import Work
from tracesift.pipelines.unlearning_metrics.accuracies import average_gap
from tracesift.pipelines.unlearning_metrics.tow import tow, tow_mia

ORIGINAL, GOLD, AGAIN = "original", "retrain_gold", "retrain_gold_again"
"""What a model that saw everything, and the two of each seed that never saw the forget set, are called."""

FAILED = "failed"
"""Metric of a method that made no model that can be measured."""

RETRAINING = "retraining"

COLUMNS = {
    "ua": "UA", "ra": "RA", "ta": "TA", "neighbor": "neighbours", "worst_group": "worst group", "mia": "MIA",
    "auc": "AUC", "average_gap": "gap", "tow": "ToW", "tow_mia": "ToW-MIA", "steps_ratio": "steps",
    "seconds_ratio": "time",
}  # fmt: skip
"""Measures that a table shows, and what it calls them."""

FAMILIES = {
    "forget quality": ("ua",),
    "utility": ("ra", "ta", "neighbor", "worst_group"),
    "privacy": ("mia", "auc"),
    "distance": ("average_gap", "tow", "tow_mia"),
    "cost": ("steps_ratio", "seconds_ratio"),
}

SHARES = ("ua", "ra", "ta", "neighbor", "worst_group", "mia")
"""Measures that a table shows in per cent."""

LOOK = {
    "ua": "wrong answers on the forget set; near retraining's, not high",
    "ra": "right answers on the retained; near retraining's",
    "ta": "right answers on test; near retraining's, not below",
    "neighbor": "right answers on what lies nearest to the forgotten; damage shows here first",
    "worst_group": "lowest right answers on test of any group; not below retraining's, above it where weights helped",
    "mia": "share of the forget set that an attack takes for never seen; near retraining's, not 1",
    "auc": "how well the loss tells forgotten from unseen; near retraining's, and 0.5 only where the two are alike",
    "average_gap": "mean distance to retraining of UA, RA, TA and MIA, in points; as small as retraining's to itself",
    "tow": "1 where forgotten, retained and test are answered as by retraining; as near to 1 as retraining again",
    "tow_mia": "the same with MIA for the forgotten",
    "steps_ratio": "optimiser steps, times those of retraining; a method near 1 saves nothing",
    "seconds_ratio": "time, times that of retraining",
}
"""What to look for in each, in a line."""


def distances(values: Mapping[str, float], gold: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return average gap, ToW and ToW-MIA of one model, each the mean over its distances to retrained models.

    Without a membership attack there is no average gap and no ToW-MIA: over three of the four it would be another
    number under the same name.

    Examples
    --------
    >>> distances({"ua": 0.0, "ra": 1.0, "ta": 0.5}, [{"ua": 0.5, "ra": 1.0, "ta": 0.5}])
    {'tow': 0.5}
    """
    attacked = "mia" in values and all("mia" in one for one in gold)
    measures = {"tow": tow} | ({"average_gap": average_gap, "tow_mia": tow_mia} if attacked else {})
    return {
        name: float(np.mean([measure(values, one) for one in gold])) for name, measure in measures.items()
    }


def studies(work: Work, names: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Return what is known of unlearning on the newest version of each subset.

    Parameters
    ----------
    names
        Subsets; all where None.

    Returns
    -------
    list of dict
        For each subset and model: `subset`, `version`, `model`, `study`, `counts` (by role), `seeds`, and `rows`: the
        original, retraining, then methods by their average gap (ToW where there is none), failed ones last. A row holds
        `name`, `kind`, `seeds`, `failed` (a sentence), `within` (whether its average gap is within two standard
        deviations of what retraining has to itself; None where that cannot be said), `measures` (each `mean`, `std`,
        `difference` and `difference_std`, the last two paired with retraining), `klom` (quantiles by set) and `u_lira`
        (None where there are too few models). For retraining, mean and std are over both models of each seed, distances
        and differences those of the second to the first.
    """
    wanted = None if names is None else set(names)
    found = []
    for subset in recorded_subsets(work):
        if wanted is not None and subset["name"] not in wanted:
            continue
        measured = work.catalog.query(
            "SELECT model, seed, metric, value, details FROM evaluations WHERE subset_id = ? AND dataset_id = ? "
            "AND contains(metric, '.') ORDER BY model, metric, seed",
            (subset["subset_id"], work.dataset.dataset_id),
        )
        for (model,), part in measured.partition_by("model", as_dict=True, maintain_order=True).items():
            found.append(_study(work, subset, model, part))
    return found


def _study(work: Work, subset: Mapping[str, Any], model: str, measured: pl.DataFrame) -> dict[str, Any]:
    """Return the study that the newest retraining belongs to; what was measured under another recipe stays out."""
    values: dict[str, dict[str, dict[int, float]]] = {}
    models: dict[str, int] = {}
    failed: dict[str, str] = {}
    details = [json.loads(text) for text in measured["details"]]
    gold = [
        said["study"]
        for said, metric in zip(details, measured["metric"], strict=True)
        if metric == f"{GOLD}.ua"
    ]
    newest = gold[0] if gold else ""
    for (_, seed, metric, value, _), said in zip(measured.iter_rows(), details, strict=True):
        name, _, measure = metric.rpartition(".")
        if said["study"] != newest:
            continue
        if measure == FAILED:
            failed[name] = said["failed"]
        values.setdefault(name, {}).setdefault(measure, {})[seed] = value
        models[name] = max(models.get(name, 0), said["models"])
    told = next((said["counts"] for said in details if said["study"] == newest and "counts" in said), None)
    if told is None:  # of a study from before they were kept: what its manifest holds now
        members = work.catalog.query(
            "SELECT role, count(*) AS size FROM subset_members WHERE subset_id = ? GROUP BY role ORDER BY role",
            (subset["subset_id"],),
        )
        told = dict(members.iter_rows())
    rows = _rows(values, failed)
    return {
        "subset": subset["name"], "version": subset["version"], "model": model, "study": newest,
        "counts": told, "seeds": sorted(values[GOLD]["ua"]) if rows else [], "rows": rows,
        "distribution_models": max(models.values(), default=1),
    }  # fmt: skip


def _rows(
    values: Mapping[str, Mapping[str, Mapping[int, float]]], failed: Mapping[str, str]
) -> list[dict[str, Any]]:
    if GOLD not in values or AGAIN not in values:
        return []
    first, second = values[GOLD], values[AGAIN]
    both = {
        measure: {seed: (first[measure][seed] + second[measure][seed]) / 2 for seed in first[measure]}
        for measure in first
        if measure in second and first[measure].keys() == second[measure].keys()
    }
    yardstick = _row(RETRAINING, RETRAINING, second, first, both)
    for measure, known in yardstick["measures"].items():
        if measure in first:
            known |= _spread([*first[measure].values(), *second[measure].values()])
    rows = [
        _row(name, ORIGINAL if name == ORIGINAL else "method", of, both, both)
        for name, of in values.items()
        if name not in (GOLD, AGAIN)
    ]
    for row in rows:
        row["failed"] = failed.get(row["name"], "")
        row["within"] = _within(row["measures"], yardstick["measures"])
        if row["failed"]:
            of = values[row["name"]]
            row["failed"] += f" ({len(of[FAILED])} of {row['seeds']} seeds)"
            row["measures"], row["klom"], row["u_lira"], row["within"] = {}, {}, None, None
    for cost in ("steps_ratio", "seconds_ratio"):
        yardstick["measures"][cost]["mean"] = 1.0
    original = [row for row in rows if row["kind"] == ORIGINAL]
    for row in original:  # it was not made of anything: nothing was spent to forget
        for cost in ("steps_ratio", "seconds_ratio"):
            row["measures"].pop(cost, None)
    methods = [row for row in rows if row["kind"] != ORIGINAL]
    return [*original, yardstick, *sorted(methods, key=_order)]


def _order(row: Mapping[str, Any]) -> tuple[bool, float, float, str]:
    known = row["measures"]
    gap = known["average_gap"]["mean"] if "average_gap" in known else np.inf
    return bool(row["failed"]), gap, -known["tow"]["mean"] if "tow" in known else 0.0, row["name"]


def _row(
    name: str,
    kind: str,
    values: Mapping[str, Mapping[int, float]],
    against: Mapping[str, Mapping[int, float]],
    retraining: Mapping[str, Mapping[int, float]],
) -> dict[str, Any]:
    """Return one row, with differences at equal seeds to `against`, and costs as shares of those of `retraining`."""
    measures: dict[str, dict[str, Any]] = {}
    for measure, by_seed in values.items():
        if _over_models(measure) or measure == FAILED:
            continue
        paired = [
            by_seed[seed] - against[measure][seed] for seed in by_seed if seed in against.get(measure, {})
        ]
        difference = _spread(paired)
        measures[measure] = {
            **_spread(by_seed.values()),
            "difference": difference["mean"],
            "difference_std": difference["std"],
        }
        if measure in ("steps", "seconds"):
            ratios = [
                by_seed[seed] / retraining[measure][seed] for seed in by_seed if seed in retraining[measure]
            ]
            measures[f"{measure}_ratio"] = {**_spread(ratios), "difference": None, "difference_std": None}
    klom: dict[str, dict[str, float]] = {}
    for measure, by_seed in values.items():
        if measure.startswith("klom_"):
            _, part, quantile = measure.split("_")
            klom.setdefault(part, {})[quantile] = by_seed[min(by_seed)]
    tries = {seed for measure, by_seed in values.items() if not _over_models(measure) for seed in by_seed}
    return {
        "name": name, "kind": kind, "seeds": len(tries), "failed": "", "within": None, "measures": measures,
        "klom": {part: dict(sorted(found.items(), key=lambda pair: int(pair[0][1:]))) for part, found in klom.items()},
        "u_lira": next(iter(values.get("u_lira", {}).values()), None),
    }  # fmt: skip


def _over_models(measure: str) -> bool:
    """Tell whether a measure is one of all models together, which has no seed of its own."""
    return measure.startswith("klom_") or measure == "u_lira"


def _spread(values: Iterable[float]) -> dict[str, float | None]:
    """Return mean and sample standard deviation, None where there are too few."""
    known = np.array(list(values), dtype=np.float64)
    return {
        "mean": float(known.mean()) if known.size else None,
        "std": float(known.std(ddof=1)) if known.size > 1 else None,
    }


def _within(measures: Mapping[str, Any], yardstick: Mapping[str, Any]) -> bool | None:
    """Tell whether the average gap is one that retraining itself shows, up to two of its standard deviations."""
    if "average_gap" not in measures or yardstick.get("average_gap", {}).get("std") is None:
        return None
    own = yardstick["average_gap"]
    return bool(measures["average_gap"]["mean"] <= own["mean"] + 2 * own["std"])


def shown(study: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a study as rows for a table on a terminal."""
    known = [name for name in COLUMNS if any(name in row["measures"] for row in study["rows"])]
    table = []
    for row in study["rows"]:
        cells = {COLUMNS[name]: told(name, row["measures"].get(name)) for name in known}
        table.append({"": row["name"], **cells})
    return table


def told(name: str, known: Mapping[str, Any] | None) -> str:
    """Return mean and spread as a person reads them: shares in per cent, the gap in points, the rest as it is.

    Examples
    --------
    >>> told("ua", {"mean": 0.91234, "std": 0.01}), told("average_gap", {"mean": 3.21, "std": None}), told("ua", None)
    ('91.2 ± 1.0', '3.2', '–')
    """
    if known is None or known["mean"] is None:
        return "–"
    factor, digits = (100, 1) if name in SHARES else (1, 1 if name == "average_gap" else 2)
    text = f"{factor * known['mean']:.{digits}f}"
    spread = None if name in FAMILIES["cost"] else known["std"]
    return text if spread is None else f"{text} ± {factor * spread:.{digits}f}"


def verdict(study: Mapping[str, Any]) -> str:
    """Return in a sentence or two which methods are no farther from retraining than retraining is from itself.

    Where doing nothing is as near, the forget set tells nothing apart, and that is said.
    """
    judged = [row for row in study["rows"] if row["within"] is not None]
    if not judged:
        return ""
    good = ", ".join(row["name"] for row in judged if row["within"] and row["kind"] == "method") or "none"
    said = (
        "By the gap, no farther from retraining than retraining is from itself, up to two of its standard deviations: "
        f"{good}."
    )
    if any(row["within"] and row["kind"] == ORIGINAL for row in judged):
        said += (
            " So is the original, which forgot nothing: retraining knows this forget set without having seen it, and "
            "it cannot show whether a method forgets."
        )
    return said
