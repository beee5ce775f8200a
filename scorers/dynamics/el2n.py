"""EL2N: how far the predicted distribution is from the label, early in training.

The paper's ||p - onehot(y)||_2 at one early checkpoint, averaged over runs: epoch 20 of 200, so a tenth of
the run, rounded up, is the default here for runs of any length. Coverage-centric selection adds it up over
the first 10 epochs of training instead: ``checkpoint=10, aggregate="sum"`` on an `in_training` recording.
"""

from __future__ import annotations

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import first_epochs, mean_and_count


@scorer(
    mode="epoch_end",
    direction="hard",
    per_sample=True,
    tensors=True,
    reference="Paul, Ganguli, Dziugaite, Deep learning on a data diet, NeurIPS 2021",
)
def el2n(error_norm: np.ndarray, *, checkpoint: int | None = None, aggregate: str = "at") -> np.ndarray:
    """Return the L2 norm of the prediction error at an early checkpoint; high is hard.

    Parameters
    ----------
    error_norm : array of shape (T, N)
        L2 norm of p - onehot(label) after each epoch; NaN where there is none.
    checkpoint
        Number of epochs trained, from 1 to T. None takes a tenth of T, rounded up: epoch 20 of 200, 1 of 8.
    aggregate
        ``"at"`` reads that epoch alone, as in the paper; ``"mean"`` and ``"sum"`` go over all epochs up to it.

    Returns
    -------
    array of shape (N,)
        In [0, sqrt 2] (times the number of epochs for ``"sum"``); NaN without an observation. The very top
        is where wrong labels are.

    Notes
    -----
    The paper's code takes the mean of at least ten runs, each at one checkpoint in eval mode: record several seeds,
    which are combined by their mean. The code of CCS, and of DUAL on ImageNet, adds up the first ten epochs of one run
    while it trains: ``checkpoint=10, aggregate="sum"`` on the mode `in_training`, which `compute` takes as ``mode=``
    and `tracesift score` as ``--mode``.
    The code of DUAL on CIFAR reads the 21st epoch of one run: ``checkpoint=21``.

    References
    ----------
    Paul, Ganguli, Dziugaite, NeurIPS 2021, definition 2.2.

    Examples
    --------
    >>> error = np.array([[1.0, 0.5], [0.5, 0.25]])
    >>> el2n(error).tolist(), el2n(error, checkpoint=2, aggregate="mean").tolist()
    ([1.0, 0.5], [0.75, 0.375])
    """
    if checkpoint is None:
        checkpoint = max(1, -(-len(error_norm) // 10))
    if aggregate not in ("at", "mean", "sum"):
        raise BadInput(f"el2n: aggregate is 'at', 'mean' or 'sum', not '{aggregate}'")
    early = first_epochs(error_norm, checkpoint, setting="el2n: checkpoint")
    mean, count = mean_and_count(early[-1:] if aggregate == "at" else early)
    return mean * count if aggregate == "sum" else mean
