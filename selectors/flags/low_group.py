"""Look for a separate low group of training margins that is also the one which the second witness rejects.

Two Gaussians can always be fitted; the question is whether the data ask for them. Overlapping classes, hard
samples and pure noise give skewed or wide margins, not a second group, and are turned away here. So is a group
so large that labels would be right less often than drawn at random: that is what has not been learned yet, beside a
few samples that are easier than all others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracesift.selectors.flags.mixture import Mixture, best_mixture
from tracesift.selectors.flags.witness import Witness

LEAST_SAMPLES = 50
"""Fewer samples than this cannot show two groups."""
INSIDE = 0.8
"""Least share of the group that the second witness rejects."""
CONTRAST = 0.5
"""By how much that share must exceed the share it rejects of the rest."""


@dataclass(frozen=True, kw_only=True)
class LowGroup:
    """The low group, or why there is none (then `probability` is NaN throughout)."""

    probability: np.ndarray
    """(N,) probability of belonging to the group; NaN for samples that were not used."""
    middle: float | None
    """At or above it the probability is below one half."""
    note: str

    @property
    def found(self) -> bool:
        """Whether there is such a group."""
        return bool(np.isfinite(self.probability).any())


def find_low_group(
    values: np.ndarray, witness: Witness, usable: np.ndarray, *, separation: float, most: float
) -> LowGroup:
    """Look for the largest low part of `values` that is apart from the rest and that the witness rejects.

    Parameters
    ----------
    values : ndarray (N,)
        High = clean.
    usable : ndarray (N,) bool
        Samples that take part.
    separation : float
        Least Ashman's D between the highest component of the group and the next one.
    most : float
        Largest share of the samples that can be a group of wrong labels.
    """
    everyone, observed = np.full(values.shape, np.nan), values[usable]
    if observed.size < LEAST_SAMPLES or np.ptp(observed) == 0:
        note = f"{observed.size} judgeable samples cannot show two groups"
        return LowGroup(probability=everyone, middle=None, note=note)
    mixture, rejects = best_mixture(observed), witness.rejects[usable]
    for lowest in range(mixture.means.size - 1, 0, -1):
        low, apart = mixture.low_probability(observed, lowest), mixture.separation(lowest)
        inside, outside = _share(rejects, low), _share(rejects, 1 - low)
        few = low.mean() <= most
        if few and apart >= separation and inside >= INSIDE and inside - outside >= CONTRAST:
            everyone[usable] = low
            note = (
                f"a separate low group of {low.mean():.1%} of the samples, {inside:.0%} of it rejected by the second "
                f"witness (Ashman's D {apart:.2f}, needed {separation:g})"
            )
            return LowGroup(probability=everyone, middle=_middle(observed, low), note=note)
    return LowGroup(probability=everyone, middle=None, note=_why_none(mixture, separation))


def _share(mask: np.ndarray, weights: np.ndarray) -> float:
    return float((mask * weights).sum() / max(weights.sum(), 1e-12))


def _middle(observed: np.ndarray, low: np.ndarray) -> float | None:
    below, above = observed[low >= 0.5], observed[low < 0.5]
    return float((below.max() + above.min()) / 2) if below.size and above.size else None


def _why_none(mixture: Mixture, separation: float) -> str:
    if mixture.means.size == 1:
        return "no separate low group: one Gaussian describes all best (BIC)"
    apart = max(mixture.separation(lowest) for lowest in range(1, mixture.means.size))
    if apart < separation:
        return f"no separate low group (Ashman's D {apart:.2f}, needed {separation:g})"
    return f"a low group (Ashman's D {apart:.2f}) that is not the one that the second witness rejects"
