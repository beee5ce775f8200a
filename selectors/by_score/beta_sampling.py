"""DUAL's Beta sampling: at high pruning rates draw by importance, favouring samples as easy as the rate demands.

The score alone keeps hard samples, which a small subset cannot be learned from. The weight is the score times the
density of a Beta distribution at the sample's mean probability; with r near 1 its mode moves to the easy end.
"""

from __future__ import annotations

from math import lgamma

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import Nulls, outcome, rank_within, score_column, score_values, seeded_keys

TOP = 10
"""How many of the highest scores say how hard the most important samples are."""
CONCENTRATION = 15
"""What a and b of the Beta distribution add up to, less 1."""
EDGE = 1e-6
"""Mean probabilities are kept this far from 0 and 1, where the density can be 0 or infinite."""


@selector(
    version=1,
    random=True,
    columns=("score", "mean"),
    reference="Cho, Shin, Kang and Yun 2025 (DUAL), section 3.3; constants as in their code",
)
def beta_sampling(
    frame: pl.DataFrame,
    *,
    size: int,
    seed: int,
    score: str = "dual",
    mean: str = "cartography_confidence",
    c_d: float = 4.0,
    nulls: Nulls = None,
) -> pl.DataFrame:
    """Draw `size` samples without replacement, by probabilities that are the score times a Beta density.

    Parameters
    ----------
    score : str
        Column of importances, none of them negative; a sample with 0 is never drawn.
    mean : str
        Column of mean probabilities of the given label, in [0, 1], over the same epochs as the score (the paper's
        30 on CIFAR: record that many, or score with ``epochs=30``).
    c_d : float
        How late the density moves as the pruning rate r rises: b = 15 (1 - a0) (1 - r^c_d) and a = 16 - b, where a0
        is the mean of `mean` over the ten highest scores; the authors' default.
    nulls : {"keep", "drop"}, optional
        Samples without `score` or `mean`: kept as part of the budget, or left out; without it an error.

    Raises
    ------
    BadInput
        Fewer samples with a positive weight than `size`, a negative score, means outside [0, 1], missing values.

    Notes
    -----
    Sample i gets the key E_i / w_i, with E_i exponential from a hash of the seed and its id, and the smallest keys
    win: the draw that numpy's ``choice(replace=False, p=w)`` makes one by one, but no sample's number depends on the
    others, so that the order of rows leaves no trace.

    Examples
    --------
    >>> frame = pl.DataFrame({
    ...     "sample_id": list("abc"), "label": ["x"] * 3, "dual": [0.0, 0.2, 0.3],
    ...     "cartography_confidence": [0.9, 0.6, 0.7],
    ... })
    >>> beta_sampling(frame, size=2, seed=0)["role"].to_list()
    ['drop', 'keep', 'keep']
    """
    columns = [score_column(frame, name, "beta_sampling") for name in (score, mean)]
    values, means = (score_values(frame, column, nulls, "beta_sampling") for column in columns)
    missing = np.isnan(values) | np.isnan(means)
    values, means = np.where(missing, 0.0, values), np.where(missing, 0.0, means)
    _check(values, means, score, mean, c_d)
    weights = beta_weights(values, means, pruned=1 - size / frame.height, c_d=c_d)
    always = missing if nulls == "keep" else np.zeros_like(missing)
    drawable, left = int((weights > 0).sum()), size - int(always.sum())
    if not 0 <= left <= drawable:
        raise BadInput(
            f"beta_sampling: {size} samples wanted, but only {drawable} of {frame.height} have a positive weight "
            f"('{score}' above 0) and {int(missing.sum())} have none (nulls={nulls!r}); change the budget"
        )
    with np.errstate(divide="ignore"):
        keys = exponentials(frame, seed) / weights
    kept = always | (rank_within(np.zeros(frame.height, dtype=np.int64), (keys,)) < left)
    share = pl.Series(weights / (weights.sum() or 1.0))
    verb = pl.when(pl.Series(kept)).then(pl.lit("drawn")).otherwise(pl.lit("not drawn"))
    value, probability = (pl.col(column).cast(pl.Float64).round_sig_figs(6) for column in columns)
    reason = pl.format(
        f"{score}={{}}, {mean}={{}}: weight {{}} of 1, {{}} with seed {seed} (c_d={c_d:g})",
        value, probability, share.round_sig_figs(4), verb,
    )  # fmt: skip
    reason = (
        pl.when(pl.Series(missing))
        .then(pl.lit(f"{score} or {mean} is missing; nulls='{nulls}'"))
        .otherwise(reason)
    )
    return outcome(frame, kept, reason)


def _check(values: np.ndarray, means: np.ndarray, score: str, mean: str, c_d: float) -> None:
    """Refuse what gives no weight: importances below 0, means that are no probabilities, a c_d that is none."""
    if not np.isfinite(values).all() or (values < 0).any():
        raise BadInput(
            f"beta_sampling: '{score}' holds negative or infinite values; importances are 0 or more"
        )
    if (means < 0).any() or (means > 1).any():
        raise BadInput(f"beta_sampling: '{mean}' holds values outside [0, 1]; it is a mean probability")
    if not c_d > 0:
        raise BadInput(f"beta_sampling: c_d is above 0, not {c_d}")


def beta_weights(scores: np.ndarray, means: np.ndarray, *, pruned: float, c_d: float) -> np.ndarray:
    """Return the weight of each sample, float64 (N,): its score times the Beta density at its mean probability.

    Parameters
    ----------
    scores, means
        (N,), in the order of `sample_id`, by which ties among the highest scores go.
    pruned
        The pruning rate r, in [0, 1).

    Examples
    --------
    With r = 0 and a0 = 0.8, b = 3 and a = 13.

    >>> weights = beta_weights(np.array([1.0, 2.0]), np.array([0.8, 0.8]), pruned=0.0, c_d=4)
    >>> (weights / beta_density(np.array([0.8, 0.8]), 13, 3)).round(6).tolist()
    [1.0, 2.0]
    """
    highest = np.argsort(-scores, kind="stable")[:TOP]
    a0 = float(means[highest].mean())
    b = CONCENTRATION * (1 - a0) * (1 - pruned**c_d)
    a = CONCENTRATION + 1 - b
    b = max(b, EDGE)  # all of the highest at probability 1: the density piles up there, and is none at b = 0
    return beta_density(means.clip(EDGE, 1 - EDGE), a, b) * scores


def beta_density(x: np.ndarray, a: float, b: float) -> np.ndarray:
    """Return the density of the Beta distribution at each `x` in (0, 1)."""
    scale = lgamma(a + b) - lgamma(a) - lgamma(b)
    return np.asarray(np.exp(scale + (a - 1) * np.log(x) + (b - 1) * np.log1p(-x)))


def exponentials(frame: pl.DataFrame, seed: int) -> np.ndarray:
    """Return one standard exponential number per sample, from the seed and its id alone."""
    uniform = (seeded_keys(frame, seed, "beta_sampling").astype(np.float64) + 0.5) / 2.0**64
    return np.asarray(-np.log(uniform.clip(max=1 - 2.0**-53)))
