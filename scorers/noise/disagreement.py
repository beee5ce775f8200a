"""How much oftener labels disagree with the models where these are less sure of their prediction.

Where classes overlap, disagreement rises with every step away from the surest samples; noise is a floor under it.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.arrays import Floats

LEVEL, MOST = 1.2, 1 / 3
"""Disagreement is level when it rises by less than this factor, from a share of at most `MOST`."""
HEAVY_LEVEL, HEAVY_MOST = 1.5, 2 / 3
"""Heavy disagreement is level when its odds rise by less than this factor, from a share of at most `HEAVY_MOST`."""


def disagreement_is_level(probs_oos: np.ndarray, labels: np.ndarray) -> bool:
    """Return whether labels disagree with the models as often where these are surest as where they are less sure.

    The surest fifth of the samples predicted as each class beside the rest of the surest half. The ratio of the two
    shares must lie below `LEVEL` with its one-sided 95 % bound.
    """
    wrong, seen = _by_sureness(probs_oos, labels)
    surest, next_ones = share = (wrong + 0.5) / (seen + 1)
    deviation = np.sqrt(((1 - share) / (share * (seen + 1))).sum())  # of the logarithm of the ratio
    return bool(surest <= MOST and next_ones / surest * np.exp(1.645 * deviation) < LEVEL)


def heavy_disagreement_is_level(probs_oos: np.ndarray, labels: np.ndarray) -> bool:
    """Return the same where most labels may be wrong: by the odds, as a share near 1 cannot rise by a factor.

    Where the models agree with so few labels even of the surest samples that any share is near 1, nothing is level.
    """
    wrong, seen = _by_sureness(probs_oos, labels)
    surest, next_ones = (wrong + 0.5) / (seen - wrong + 0.5)
    deviation = np.sqrt((1 / (wrong + 0.5) + 1 / (seen - wrong + 0.5)).sum())
    level = next_ones / surest * np.exp(1.645 * deviation) < HEAVY_LEVEL
    return bool(level and wrong[0] <= HEAVY_MOST * seen[0])


def _by_sureness(probs_oos: np.ndarray, labels: np.ndarray) -> tuple[Floats, Floats]:
    """Return how many labels disagree, and how many there are, in the surest fifth of each class and the next 30 %."""
    predicted = probs_oos.argmax(axis=1)
    wrong, seen = np.zeros(2), np.zeros(2)
    for k in np.unique(predicted):
        called = np.flatnonzero(predicted == k)
        called = called[np.argsort(-probs_oos[called, k], kind="stable")]
        fifth, half = called.size // 5, called.size // 2
        for band, rows in enumerate((called[:fifth], called[fifth:half])):
            wrong[band] += (labels[rows] != k).sum()
            seen[band] += rows.size
    return wrong, seen
