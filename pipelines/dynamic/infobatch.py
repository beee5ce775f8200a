"""InfoBatch: leave out half of the samples with small losses, and let the other half stand for them."""

from __future__ import annotations

import math
from collections.abc import Sized

import numpy as np

from tracesift.pipelines.dynamic.sampler import PruningSampler, check_ratio, share_of


def infobatch_weights(losses: np.ndarray, shuffled: np.ndarray, *, prune_ratio: float) -> np.ndarray:
    """Return each sample's weight in the next epoch's loss: 0 where it is left out.

    Of the samples whose loss is strictly below the mean, ``int((1 - prune_ratio) * their number)`` stay, drawn
    at random, with weight ``1 / (1 - prune_ratio)``; all others stay with weight 1. So the expected sum of
    weighted gradients is that of all samples, up to the truncation by ``int``.

    Parameters
    ----------
    losses : ndarray of shape (N,), float64
        The last loss of each sample.
    shuffled : ndarray of shape (N,), int64
        All places 0..N-1 in a random order.
    prune_ratio : float
        Share of the well-learned samples to leave out, in [0, 1).

    Returns
    -------
    ndarray of shape (N,), float64

    References
    ----------
    Qin et al., InfoBatch: Lossless training speed up by unbiased dynamic data pruning, ICLR 2024, section 3.

    Examples
    --------
    >>> infobatch_weights(np.array([0.1, 0.2, 4.0, 0.3, 0.4]), np.array([3, 2, 0, 4, 1]), prune_ratio=0.5)
    array([2., 0., 1., 2., 0.])
    """
    # Exact, so that no summation order decides who is below; clipped, since equal losses may round to a mean above.
    mean = min(max(math.fsum(losses.tolist()) / len(losses), losses.min()), losses.max())
    learned = losses < mean
    candidates = shuffled[learned[shuffled]]
    weights = np.where(learned, 0.0, 1.0)
    weights[candidates[: share_of(len(candidates), prune_ratio)]] = 1 / (1 - prune_ratio)
    return weights


class InfoBatch(PruningSampler):
    """Prune well-learned samples at random in every epoch and weigh the rest of them up.

    The contract is `PruningSampler`'s; `update` returns the weighted mean. A sample that is left out keeps
    its last loss; before the first epoch all losses are equal, so that it shows everything. In the last
    ``1 - delta`` of the epochs every sample is shown with weight 1.

    The published code differs in what is not the method: its epoch counter runs one ahead, it seeds NumPy's
    global generator in every epoch, replaces an iterator of torch, clamps `prune_ratio` at 0.9 in silence,
    multiplies the caller's losses in place, and sends indices through the dtype of the losses.

    Parameters
    ----------
    data, epochs, delta, seed, drop_last
        As in `PruningSampler`.
    prune_ratio
        Share of the well-learned samples to leave out, in [0, 1).

    Examples
    --------
    >>> import torch
    >>> sampler = InfoBatch(6, epochs=4, seed=1)
    >>> rows = torch.tensor(list(sampler))
    >>> sampler.update(rows, torch.tensor([0.1, 0.2, 0.3, 0.4, 5.0, 6.0]))
    tensor(2.)
    >>> len(list(sampler)), sampler.epoch, sampler.shown
    (4, 1, 6)
    """

    def __init__(
        self,
        data: Sized | int,
        *,
        epochs: int,
        prune_ratio: float = 0.5,
        delta: float = 0.875,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        super().__init__(
            data,
            epochs=epochs,
            delta=delta,
            seed=seed,
            drop_last=drop_last,
            settings={"prune_ratio": prune_ratio},
        )
        self.prune_ratio: float = self.settings["prune_ratio"]
        check_ratio(self.prune_ratio)

    def weights(self, losses: np.ndarray, shuffled: np.ndarray) -> np.ndarray:
        """Return this epoch's weights (N,)."""
        if self.annealing:
            return np.ones(len(losses))
        return infobatch_weights(losses, shuffled, prune_ratio=self.prune_ratio)
