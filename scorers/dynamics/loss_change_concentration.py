"""How few samples make the loss move: the share of all loss changes that falls on the top percent, epoch by epoch."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import diagnostic


@diagnostic(
    mode="epoch_end",
    reference="Rosenfeld, Risteski, Outliers with opposing signals, ICLR 2024; the share is our measure of it",
)
def loss_change_concentration(loss: np.ndarray, *, percent: float = 1.0) -> dict[str, Any]:
    """Return which share of the absolute loss change of each step belongs to the samples that change most.

    Parameters
    ----------
    loss : array of shape (T, N)
        Loss of each sample after each epoch.
    percent
        How many samples count as those that change most, in percent of N, rounded up.

    Returns
    -------
    dict
        ``top`` (how many samples that is), ``shares`` (one for each of the T - 1 steps from epoch to epoch, None
        where no sample has a finite change or none changes), ``largest`` and ``step`` (the largest share and its
        step, counted from 1; None without any). A share near ``percent / 100`` says that all move alike, near 1
        that a few carry it all.

    Raises
    ------
    BadInput
        A `percent` outside (0, 100].

    References
    ----------
    Rosenfeld, Risteski, ICLR 2024, section 2: a very small part of the data drives the spikes of the loss.

    Examples
    --------
    >>> loss = np.array([[1.0, 1.0, 1.0], [0.9, 1.1, 4.8]])
    >>> found = loss_change_concentration(loss)
    >>> found["top"], round(found["largest"], 3), found["step"]
    (1, 0.95, 1)
    """
    if not 0 < percent <= 100:
        raise BadInput(f"loss_change_concentration: percent is above 0 and at most 100, got {percent}")
    top = math.ceil(loss.shape[1] * percent / 100)
    finite = np.where(np.isfinite(loss), loss, np.nan).astype(np.float64)
    shares: list[float | None] = []
    for before, after in pairwise(finite):
        change = np.abs(after - before)
        change = np.sort(change[~np.isnan(change)])[::-1]  # sorted, so that the order of rows leaves no trace
        total = float(change.sum())
        shares.append(float(change[:top].sum()) / total if total > 0 else None)
    known = [share for share in shares if share is not None]
    largest = max(known, default=None)
    return {
        "top": top,
        "shares": shares,
        "largest": largest,
        "step": None if largest is None else shares.index(largest) + 1,
    }
