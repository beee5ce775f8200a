"""The likelihood-ratio attack on unlearning: a trial for each sample, with models that did and did not see it."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import norm

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearning_metrics.given import Floats, numbers


def u_lira(
    unlearned: np.ndarray,
    never: np.ndarray,
    *,
    target_unlearned: np.ndarray,
    target_never: np.ndarray,
) -> dict[str, Any]:
    """Return how well models that unlearned a sample are told from models that never saw it; 0.5 is not at all.

    For each sample a normal distribution is fitted to its margins under the shadow models that were trained with it and
    unlearned it, and another to those under models that were never trained with it. The larger likelihood decides for
    every target model; targets take no part in the fit.

    Parameters
    ----------
    unlearned, never : arrays of shape (A, n) and (B, n)
        `logit_margin` of n samples under A shadow models that unlearned them and B that never saw them; at least 2
        each, tens for a steady fit. Their forget sets are random draws, not one set alone.
    target_unlearned, target_never : arrays of shape (C, n) and (D, n)
        The same of other models, on which the attack is judged.

    Returns
    -------
    dict
        ``accuracy``, the mean over samples of the share of right decisions, each kind of target counting half: 0.5 for
        exact unlearning, up to 1 where every model gives away what it unlearned. ``per_sample``, the same for each
        sample (n,). ``ratio_unlearned`` (C, n) and ``ratio_never`` (D, n), log-likelihood ratios of unlearned to never.

    Raises
    ------
    BadInput
        Fewer than 2 shadow models of a kind, different numbers of samples, or a sample whose margin is the same under
        all shadow models of a kind.

    References
    ----------
    Hayes et al., Inexact unlearning needs more careful evaluations to avoid a false sense of privacy, 2024
    (U-LiRA); Carlini et al., S&P 2022.

    Examples
    --------
    >>> unlearned, never = np.array([[2.0], [4.0]]), np.array([[-4.0], [-2.0]])
    >>> u_lira(unlearned, never, target_unlearned=[[1.0]], target_never=[[-1.0]])["accuracy"]
    1.0
    """
    shadows = {
        "unlearned": numbers("unlearned", unlearned, "models, samples"),
        "never": numbers("never", never, "models, samples"),
    }
    targets = {
        "unlearned": numbers("target_unlearned", target_unlearned, "models, samples"),
        "never": numbers("target_never", target_never, "models, samples"),
    }
    if len({array.shape[1] for array in (*shadows.values(), *targets.values())}) > 1:
        raise BadInput(
            "u_lira: all four arrays hold the same samples, in the same order; their widths differ"
        )
    fits = {name: _fit(name, array) for name, array in shadows.items()}
    ratios = {
        name: norm.logpdf(array, *fits["unlearned"]) - norm.logpdf(array, *fits["never"])
        for name, array in targets.items()
    }
    right = (_positive(ratios["unlearned"]) + _positive(-ratios["never"])) / 2
    return {
        "accuracy": float(right.mean()),
        "per_sample": right,
        "ratio_unlearned": ratios["unlearned"],
        "ratio_never": ratios["never"],
    }


def _fit(name: str, margins: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation over models (n,), whatever their order."""
    if len(margins) < 2:
        raise BadInput(
            f"u_lira: {len(margins)} shadow model of kind '{name}'; a distribution needs at least 2"
        )
    ordered = np.sort(margins, axis=0)
    spread = ordered.std(axis=0, ddof=1)
    if not spread.all():
        raise BadInput(
            f"u_lira: sample {int(np.argmin(spread))} has one margin under all models of kind '{name}'; "
            "pass logit_margin of logits, of models trained under different seeds"
        )
    return ordered.mean(axis=0), spread


def _positive(ratios: Floats) -> Floats:
    """Return the share of models above 0 per sample, a ratio of exactly 0 counting half."""
    return np.asarray(((ratios > 0) + 0.5 * (ratios == 0)).mean(axis=0))
