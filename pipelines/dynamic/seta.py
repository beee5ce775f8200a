"""SeTa: group the samples by loss and train on a window of groups that slides from easy to hard, again and again."""

from __future__ import annotations

from collections.abc import Sized

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.dynamic.kmeans_1d import kmeans_1d
from tracesift.pipelines.dynamic.sampler import PruningSampler, check_ratio, share_of


def seta_weights(
    losses: np.ndarray,
    shuffled: np.ndarray,
    epoch: int,
    *,
    prune_ratio: float,
    groups: int,
    window_scale: float,
) -> np.ndarray:
    """Return 1 for the samples of this epoch's window, 0 for the others.

    ``int((1 - prune_ratio) * N)`` samples are drawn at random; the k-means of their losses divides them into g
    groups, from easy to hard; ``w = round(g * window_scale)`` neighbouring groups are shown, the first of them
    ``epoch mod (g - w + 1)``. At epoch 0 all groups are.

    Parameters
    ----------
    losses : ndarray of shape (N,), float64
        The last loss of each sample.
    shuffled : ndarray of shape (N,), int64
        All places 0..N-1 in a random order.
    epoch : int
        From 0.
    prune_ratio : float
        Share of all samples to leave out at random, in [0, 1).
    groups : int
        Number of groups g. The k-means is exact, and equal losses share a group: with fewer distinct losses g is
        their number. When all losses are equal, the groups are random ones, of sizes that differ by one at most.
    window_scale : float
        Share of the groups in the window, in (0, 1].

    Returns
    -------
    ndarray of shape (N,), float64

    References
    ----------
    Zhou, Gao and Wang, Scale efficient training for large datasets, CVPR 2025.

    Examples
    --------
    >>> losses, shuffled = np.array([9.0, 0.1, 5.0, 0.2, 5.1]), np.arange(5)
    >>> for epoch in range(4):
    ...     seta_weights(losses, shuffled, epoch, prune_ratio=0, groups=3, window_scale=0.6)
    array([1., 1., 1., 1., 1.])
    array([1., 0., 1., 0., 1.])
    array([0., 1., 1., 1., 1.])
    array([1., 0., 1., 0., 1.])
    """
    drawn = shuffled[: share_of(len(shuffled), prune_ratio)]
    weights = np.zeros(len(losses))
    if epoch == 0:
        weights[drawn] = 1.0
        return weights
    group = kmeans_1d(losses[drawn], groups)
    if group.max() == 0:  # one loss for all
        group = np.arange(len(drawn)) * groups // len(drawn)
    found = int(group.max()) + 1
    width = max(1, round(found * window_scale))
    first = epoch % (found - width + 1)
    weights[drawn[(group >= first) & (group < first + width)]] = 1.0
    return weights


OWN = ("prune_ratio", "groups", "window_scale")
"""The settings that other samplers do not have."""


class SeTa(PruningSampler):
    """Prune at random, then show a window of loss groups that slides from easy to hard and begins anew.

    The contract is `PruningSampler`'s; all weights are 1, so that `update` returns the plain mean, and what
    is shown is not an unbiased sample. In the last ``1 - delta`` of the epochs a random share
    ``1 - prune_ratio`` of everything is shown ("partial annealing").

    The defaults are those of the published class. Its scripts use other values: for CIFAR
    ``prune_ratio=0.1, groups=5, window_scale=0.9``, for ImageNet ``prune_ratio=0, groups=5, window_scale=0.6``.
    What differs from the published code: the k-means is exact, where that is a local optimum from one start; fewer
    distinct losses than groups are no failure; epochs count from 0 throughout, where its sampler starts at 1.

    Parameters
    ----------
    data, epochs, delta, seed, drop_last
        As in `PruningSampler`.
    prune_ratio, groups, window_scale
        As in `seta_weights`.

    Examples
    --------
    >>> import torch
    >>> sampler = SeTa(6, epochs=8, groups=2, window_scale=0.5)
    >>> rows = torch.tensor(list(sampler))
    >>> sampler.update(rows, torch.where(rows < 2, 0.5, 2.0)).item()
    1.5
    >>> sorted(sampler)
    [2, 3, 4, 5]
    """

    def __init__(
        self,
        data: Sized | int,
        *,
        epochs: int,
        prune_ratio: float = 0.0,
        groups: int = 10,
        window_scale: float = 0.5,
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
            settings={"prune_ratio": prune_ratio, "groups": groups, "window_scale": window_scale},
        )
        prune_ratio, groups, window_scale = (self.settings[name] for name in OWN)
        check_ratio(prune_ratio)
        if groups < 1 or not 0 < window_scale <= 1 or round(groups * window_scale) < 1:
            raise BadInput(
                f"groups={groups}, window_scale={window_scale}: the window must hold at least one group of all, "
                "round(groups * window_scale) >= 1, and window_scale be at most 1"
            )
        if share_of(self.num_samples, prune_ratio) <= groups:
            raise BadInput(
                f"{share_of(self.num_samples, prune_ratio)} of {self.num_samples} samples remain with "
                f"prune_ratio={prune_ratio}: more than groups={groups} are needed"
            )
        self.prune_ratio: float = prune_ratio
        self.groups: int = groups
        self.window_scale: float = window_scale

    def weights(self, losses: np.ndarray, shuffled: np.ndarray) -> np.ndarray:
        """Return this epoch's weights (N,)."""
        if self.annealing:
            weights = np.zeros(len(losses))
            weights[shuffled[: share_of(len(losses), self.prune_ratio)]] = 1.0
            return weights
        return seta_weights(
            losses,
            shuffled,
            self.epoch,
            prune_ratio=self.prune_ratio,
            groups=self.groups,
            window_scale=self.window_scale,
        )
