"""What was measured on retrained models, as a table: each subset beside its random control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tracesift.flows.selecting.written import recorded_subsets
from tracesift.flows.work import Work

EVERYTHING = "all"
"""Name of the training on all of train, with the labels as given."""


def compared(work: Work, metric: str = "accuracy") -> list[dict[str, Any]]:
    """Return a row per subset: mean and spread over seeds, and the paired difference to each control.

    The difference is subset minus control at equal seeds, with the 95 % interval of its mean (Student's t).
    """
    measured = work.catalog.query(
        "SELECT subset, seed, value, num_train FROM evaluations "
        "WHERE metric = ? AND dataset_id = ? ORDER BY subset, seed",
        (metric, work.dataset.dataset_id),
    )
    values: dict[str, dict[int, float]] = {}
    sizes: dict[str, int] = {}
    for subset, seed, value, size in measured.iter_rows():
        values.setdefault(subset, {})[seed] = value
        sizes[subset] = size
    known = {EVERYTHING: None} | {row["name"]: row["control_of"] for row in recorded_subsets(work)}
    return [
        {
            "subset": name, "samples": sizes[name], metric: float(np.mean(list(values[name].values()))),
            "std": _std(values[name]), "seeds": len(values[name]), "control_of": known[name],
            **_difference(name, values, known),
        }
        for name in known
        if name in values
    ]  # fmt: skip


def _std(by_seed: Mapping[int, float]) -> float | None:
    return float(np.std(list(by_seed.values()), ddof=1)) if len(by_seed) > 1 else None


def _difference(
    name: str, values: Mapping[str, Mapping[int, float]], known: Mapping[str, str | None]
) -> dict[str, float | None]:
    """Return subset minus its random control at equal seeds, with half the width of the 95 % interval."""
    control = f"{name}-random"
    if known.get(control) != name or control not in values:
        return {"minus_random": None, "plus_minus": None}
    seeds = sorted(set(values[name]) & set(values[control]))
    paired = np.array([values[name][seed] - values[control][seed] for seed in seeds])
    if len(paired) < 2:
        return {"minus_random": float(paired.mean()) if len(paired) else None, "plus_minus": None}
    from scipy.stats import t  # a second of import that whoever evaluated nothing is spared

    half = t.ppf(0.975, len(paired) - 1) * paired.std(ddof=1) / np.sqrt(len(paired))
    return {"minus_random": float(paired.mean()), "plus_minus": float(half)}
