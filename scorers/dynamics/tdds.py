"""TDDS: how unevenly a sample's prediction moves, late windows first.

Two depths: within a window the changes k_t of the prediction from epoch to epoch, over the windows a decaying
weight. The weights are decay (1 - decay)^age, so with the paper's 0.9 the last window has nine tenths of all
the weight and nearly everything comes from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import first_epochs
from tracesift.scorers.twins import twinned
from tracesift.scorers.windows import check_window

if TYPE_CHECKING:
    from torch import Tensor


@scorer(
    mode="in_training",
    direction="keep",
    per_sample=True,
    tensors=True,
    reference="Zhang et al., Spanning training progress: temporal dual-depth scoring, CVPR 2024",
)
def tdds(
    kl_step: np.ndarray, *, window: int = 10, decay: float = 0.9, epochs: int | None = None
) -> np.ndarray:
    """Return the weighted sum over windows of the spread of prediction changes; high is to keep.

    Parameters
    ----------
    kl_step : array of shape (T, N)
        k_t = sum over classes of |p_t (log p_t - log p_{t-1})|, of probabilities, not logits; NaN at the first
        epoch.
    window
        Epochs of a window, the paper's J, so J - 1 changes. Paired with `epochs` in the paper's CIFAR-100
        experiments: (90, 10), (70, 10), (60, 20), (20, 10), (10, 5) for rising pruning rates.
    decay
        Weight of the last window; the one before has ``decay * (1 - decay)``, and so on.
    epochs
        Use the first that many epochs, the paper's T; all for None.

    Returns
    -------
    array of shape (N,)
        Sum over windows of their weight times the L2 norm of k_t - mean(k_t); at least 0. NaN for a sample
        with a missing change, because a window left out would shift the weights.

    Raises
    ------
    BadInput
        A window that does not fit, or a `decay` outside (0, 1].

    References
    ----------
    Zhang, Du, Li, Xie, Zhou, CVPR 2024, section 3, equations 4 to 8.

    Examples
    --------
    >>> k = np.array([[np.nan, np.nan], [1.0, 1.0], [3.0, 1.0]])
    >>> tdds(k, window=3).round(3).tolist()
    [1.273, 0.0]
    """
    if not 0 < decay <= 1:
        raise BadInput(f"tdds: decay is a share, above 0 and at most 1, got {decay}")
    k = first_epochs(kl_step, epochs, setting="tdds: epochs")
    check_window(len(k), window, scorer="tdds", least=3)
    return _weighted_norms(k, window, decay)


@twinned
@loop
def _weighted_norms(k: np.ndarray, window: int, decay: float) -> np.ndarray:
    epochs, samples = k.shape
    score, mean, square = np.zeros(samples), np.empty(samples), np.empty(samples)
    last = epochs - window
    for w in range(last + 1):
        weight = decay * (1.0 - decay) ** (last - w)
        mean[:] = 0.0
        square[:] = 0.0
        for t in range(w + 1, w + window):
            for i in range(samples):
                mean[i] += np.float64(k[t, i])
        for i in range(samples):
            mean[i] /= window - 1
        for t in range(w + 1, w + window):
            for i in range(samples):
                off = np.float64(k[t, i]) - mean[i]
                square[i] += off * off
        for i in range(samples):
            score[i] += weight * np.sqrt(square[i])
    return score


@_weighted_norms.on_tensors
def _(k: Tensor, window: int, decay: float) -> Tensor:
    changes = k[1:].double().unfold(0, window - 1, 1)  # (windows, N, changes), a view
    norms = (changes.var(-1, correction=0) * (window - 1)).sqrt()
    weights = [decay * (1.0 - decay) ** age for age in reversed(range(len(norms)))]
    return (norms.new_tensor(weights)[:, None] * norms).sum(0)
