"""One-dimensional Gaussian mixtures by EM, deterministic: sorted input, fixed starts, no random numbers.

Used to ask whether a score falls into separate groups at all. The number of components (1, 2 or 3) is the one
of least BIC. More than `LARGEST` values are thinned to evenly spaced order statistics, which keeps the shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LARGEST = 20_000
STARTS: dict[int, tuple[tuple[float, ...], ...]] = {
    1: ((),),
    2: ((0.05,), (0.25,), (0.5,)),
    3: ((0.05, 0.4), (0.1, 0.5), (0.3, 0.6)),
}
"""For each number of components, the shares at which the sorted values are cut to start EM."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Components in ascending order of their means."""

    weights: np.ndarray
    means: np.ndarray
    deviations: np.ndarray
    bic: float

    def posterior(self, values: np.ndarray) -> np.ndarray:
        """Return P(component | value), (N, components)."""
        joint = _log_joint(values, self.weights, self.means, self.deviations)
        return np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))

    def low_probability(self, values: np.ndarray, lowest: int) -> np.ndarray:
        """Return P(one of the `lowest` components | value), never increasing with the value.

        A wide component takes over again in the far tail of a narrow one; a value further out on the low side
        must never look less low.
        """
        grid = np.unique(values)
        low = self.posterior(grid)[:, :lowest].sum(axis=1)
        return np.maximum.accumulate(low[::-1])[::-1][np.searchsorted(grid, values)]

    def separation(self, lowest: int) -> float:
        """Return Ashman's D of component `lowest` and the next: sqrt(2) |m1 - m2| / sqrt(s1^2 + s2^2)."""
        (m1, m2), (s1, s2) = self.means[lowest - 1 : lowest + 1], self.deviations[lowest - 1 : lowest + 1]
        return float(np.sqrt(2) * abs(m2 - m1) / np.hypot(s1, s2))


def best_mixture(values: np.ndarray, *, largest: int = 3) -> Mixture:
    """Return the mixture of 1 to `largest` components with the least BIC.

    Parameters
    ----------
    values : ndarray (N,)
        Finite numbers, at least two different ones.
    largest : int
        At most 3.

    References
    ----------
    Ashman, Bird and Zepf 1994, "Detecting bimodality in astronomical datasets" (D > 2 for a clean
    separation).

    Examples
    --------
    >>> best_mixture(np.r_[np.linspace(-6, -4, 50), np.linspace(4, 6, 50)]).means.round(1).tolist()
    [-5.0, 5.0]
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if ordered.size > LARGEST:
        ordered = ordered[np.linspace(0, ordered.size - 1, LARGEST).round().astype(np.int64)]
    # a component may not collapse onto repeated values: its variance is at least 1e-4 of the whole
    least = 1e-4 * ordered.var()
    fits = [
        _expectation_maximisation(ordered, cuts, least) for k in range(1, largest + 1) for cuts in STARTS[k]
    ]
    return min(fits, key=lambda fit: fit.bic)


def _expectation_maximisation(ordered: np.ndarray, cuts: tuple[float, ...], least: float) -> Mixture:
    share = (np.arange(ordered.size) + 0.5) / ordered.size
    belongs = np.digitize(share, cuts)[:, None] == np.arange(len(cuts) + 1)  # (N, components)
    responsibility, before = belongs.astype(np.float64), -np.inf
    for _ in range(300):
        mass = responsibility.sum(axis=0) + 1e-12
        means = responsibility.T @ ordered / mass
        variances = (responsibility * (ordered[:, None] - means) ** 2).sum(axis=0) / mass + least
        joint = _log_joint(ordered, mass / ordered.size, means, np.sqrt(variances))
        norm = np.logaddexp.reduce(joint, axis=1)
        responsibility, likelihood = np.exp(joint - norm[:, None]), float(norm.sum())
        if likelihood - before < 1e-6 * ordered.size:
            break
        before = likelihood
    order = np.argsort(means, kind="stable")
    bic = (3 * means.size - 1) * np.log(ordered.size) - 2 * likelihood
    return Mixture(
        weights=mass[order] / ordered.size, means=means[order], deviations=np.sqrt(variances)[order], bic=bic
    )


def _log_joint(
    values: np.ndarray, weights: np.ndarray, means: np.ndarray, deviations: np.ndarray
) -> np.ndarray:
    """Return log(weight * density) for every value and component, (N, components)."""
    z = (values[:, None] - means) / deviations
    return np.log(weights) - np.log(deviations) - 0.5 * np.log(2 * np.pi) - 0.5 * z**2
