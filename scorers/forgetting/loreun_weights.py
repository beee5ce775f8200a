"""LoReUn: weights that make an unlearning method press hardest on samples of small loss, the hardest to forget."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import last_presented


@scorer(
    mode="epoch_end",
    direction="easy",
    experimental=True,
    reference="Li, Shen, Wang, Kawaguchi, LoReUn: data itself implicitly provides cues to improve machine unlearning, "
    "2025",
)
def loreun_weights(loss: np.ndarray, *, tau: float = 1.0) -> np.ndarray:
    """Return each sample's weight in the forgetting loss by its loss under the trained model; high is hard to forget.

    Parameters
    ----------
    loss : array of shape (T, N)
        Cross-entropy at the ends of epochs; the last one counts.
    tau : float
        Temperature: weights are the more equal the larger it is. The published value is not known to us; tune it.

    Returns
    -------
    array of shape (N,)
        exp(-loss / tau), scaled to mean 1 over all samples. Weights are proportional, so those of a forget set divided
        by their mean are what it would get alone. NaN without a loss.

    Raises
    ------
    BadInput
        A temperature that is not positive.

    Notes
    -----
    The static form, from the loss under the original model. For the dynamic one call `weights_of` in every step, with
    the losses of the batch under the model as it is.

    References
    ----------
    Li et al., arXiv 2507.22499 (loss-based reweighting, static and dynamic).

    Examples
    --------
    >>> loreun_weights(np.log([[1.0, 3.0]])).round(6).tolist()
    [1.5, 0.5]
    """
    last = last_presented(loss)
    score = np.full(len(last), np.nan)
    there = np.isfinite(last)
    if there.any():
        score[there] = weights_of(last[there], tau)
    return score


def weights_of(losses: Any, tau: float = 1.0) -> Any:
    """Return exp(-loss / tau) of each loss, scaled to mean 1 over those given; an array or a tensor (B,), as they are.

    Of tensors the weights carry no gradient: a step descends on the weighted losses and not on the weights.

    Examples
    --------
    >>> weights_of(np.array([0.0, 0.0, 100.0])).round(6).tolist()
    [1.5, 1.5, 0.0]
    """
    if not tau > 0:
        raise BadInput(f"loreun_weights: tau is a temperature, above 0, not {tau}")
    given = losses.detach() if hasattr(losses, "detach") else np.asarray(losses, dtype=np.float64)
    scaled = (given.min() - given) / tau  # the largest is 0: no weight overflows
    weights = scaled.exp() if hasattr(losses, "detach") else np.exp(scaled)
    return weights / weights.mean()
