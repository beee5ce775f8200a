"""Which detectors of wrong labels agree: what the worst samples of one have in common with the flag and the others.

Each detector is asked for as many samples as the flag calls wrong, or for a twentieth where it flags none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from tracesift.flows.reporting.truth import SIGNS

LABEL_DETECTORS = ("aum", "confident_learning", "elr_target_disagreement", "loss_gmm", "mean_loss")
"""Scores that are evidence about a label; those of shortcuts speak of the input, and of something else."""

SHARE = 0.05
"""Asked for where nothing is flagged."""


def agreement(
    scores: pl.DataFrame, flagged: pl.Series, directions: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return how much the detectors' worst samples have in common.

    Parameters
    ----------
    scores
        A row per training sample, with the detectors' columns.
    flagged
        Bool of the same rows: the flag says yes.
    directions
        Detector -> direction; those without a column in `scores` are left out.

    Returns
    -------
    dict
        ``asked``, how many samples each detector names; ``detectors``: per detector its ``name``, ``flagged``, the
        share of its samples that the flag calls wrong (None where it flags none), and ``common``: other detector ->
        share of its samples that the other names as well; ``all``, how many samples every detector names. None where
        there are fewer than two detectors.
    """
    yes = flagged.fill_null(value=False).to_numpy()
    asked = int(yes.sum()) or max(1, round(SHARE * scores.height))
    worst = {
        name: _worst(SIGNS[direction] * scores[name].cast(pl.Float64).fill_null(np.nan).to_numpy(), asked)
        for name, direction in directions.items()
        if name in scores.columns and direction in SIGNS
    }
    if len(worst) < 2:
        return None
    return {
        "asked": asked,
        "detectors": [
            {
                "name": name,
                "flagged": float(yes[rows].mean()) if yes.any() and rows.any() else None,
                "common": {
                    other: float(there[rows].mean()) if rows.any() else None for other, there in worst.items()
                },
            }
            for name, rows in worst.items()
        ],
        "all": int(np.logical_and.reduce(list(worst.values())).sum()),
    }


def _worst(suspicion: np.ndarray, count: int) -> np.ndarray:
    """Return which samples are the `count` most suspicious, ties by position; a missing score names nobody."""
    order = np.argsort(-suspicion, kind="stable")[:count]  # NaN sorts to the end
    named = np.zeros(len(suspicion), dtype=bool)
    named[order] = True
    return named & ~np.isnan(suspicion)
