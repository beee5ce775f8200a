"""Late stopping: train, keep what was learned first, train anew on it, and again; wrong labels are left behind.

A sample has been learned once it is predicted as labelled k epochs running, the first epochs not counted. A
round stops as soon as enough samples have been learned, and these alone go into the next, with a new network.

Where the published code does something else we say so here, and in a test each:

- it predicts the training samples in an augmented view; we predict them as they are;
- it looks for enough learned samples one epoch late, and leaves that epoch out: we stop one epoch earlier, with
  the same samples. So of E epochs a round can use E - 1;
- where a round never gets there, its training set is carried over to the next; after a first round it has
  nothing to carry and goes on with an empty set, where we go on with all samples;
- its last epoch admits all that it learned, so a round may remove less than its share; that is kept.

Its closing round, which only trains a model on what is left, is left to `tracesift evaluate`. Our optimiser's
momentum is Nesterov's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.jobs.contract import job
from tracesift.pipelines.jobs.workbench import Workbench, at_least

STRETCHES = (1, 2, 3)
"""Epochs running that count as learned, the paper's k: the first third of the rounds, the second, the last."""


@job(reference="Yuan, Feng, Liu, Late stopping, ICCV 2023")
def late_stopping(
    bench: Workbench,
    *,
    epochs: int = 300,
    rounds: int = 12,
    share: float = 0.98,
    skip: int = 7,
    batch_size: int = 32,
    lr: float = 0.01,
) -> dict[str, np.ndarray]:
    """Filter the training set in rounds: each keeps what a new network learns first and leaves the slowest out.

    Parameters
    ----------
    bench
        Trained by SGD with momentum 0.9, weight decay 5e-4 and a constant rate, as in the paper, whatever the
        model's recipe says; vectors of n-grams by Adam at the same rate.
    epochs
        At most, in each round; at least ``skip + 4``.
    rounds
        A multiple of three; k is 1, 2 and 3 in their thirds.
    share
        What a round keeps: round r stops when ``int(N share^r)`` samples have been learned.
    skip
        Epochs at the beginning of a round that count neither as learned nor towards a stretch.
    batch_size
        Samples in a batch, as in the paper.
    lr
        The constant rate, as in the paper.

    Returns
    -------
    dict
        ``late_stopping_kept``, bool (N, rounds): still in the set after each round.

    References
    ----------
    Yuan, Feng, Liu, ICCV 2023, section 3.3, algorithm 1; rounds and thresholds as in their code.
    """
    at_least(
        "late_stopping",
        epochs=(epochs, skip + 4),
        rounds=(rounds, 3),
        skip=(skip, 0),
        batch_size=(batch_size, 1),
    )
    if rounds % len(STRETCHES):
        raise BadInput(f"job 'late_stopping': rounds is a multiple of {len(STRETCHES)}, not {rounds}")
    if not 0 < share < 1:
        raise BadInput(f"job 'late_stopping': share is above 0 and below 1, not {share}")
    recipe: dict[str, Any] = {
        "optimizer": "sgd", "lr": lr, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": batch_size,
        "schedule": "constant",
    }  # fmt: skip
    kept = np.ones((len(bench.train), rounds), dtype=bool)
    current = np.ones(len(bench.train), dtype=bool)
    for number in range(rounds):
        k = STRETCHES[number * len(STRETCHES) // rounds]
        target = int(len(bench.train) * share ** (number + 1))
        one = partial(_round, bench, current, recipe, epochs=epochs, skip=skip, k=k, target=target)
        current = bench.part(number, rounds, one)["kept"]
        kept[:, number] = current
    return {"late_stopping_kept": kept}


def _round(
    bench: Workbench,
    current: np.ndarray,
    recipe: dict[str, Any],
    seed: int,
    *,
    epochs: int,
    skip: int,
    k: int,
    target: int,
) -> dict[str, np.ndarray]:
    """Return which samples are in the next round's set, bool (N,)."""
    rows = bench.train[torch.from_numpy(current)]
    learner = bench.learner(len(rows), epochs - 1, **recipe)
    learned = Learned(len(rows), skip=skip, k=k)
    for epoch in bench.fit(learner, rows, seed=seed):
        if learned.after(epoch, bench.correct(learner, rows)) >= target:
            kept = np.zeros_like(current)
            kept[np.flatnonzero(current)[learned.ever]] = True
            return {"kept": kept}
    return {"kept": current}


class Learned:
    """Which of n samples have been right k epochs running, epochs below `skip` not counted.

    Examples
    --------
    >>> learned = Learned(2, skip=1, k=2)
    >>> [learned.after(epoch, np.array([True, epoch > 1])) for epoch in range(4)]
    [0, 0, 1, 2]
    """

    def __init__(self, size: int, *, skip: int, k: int) -> None:
        self.skip, self.k = skip, k
        self.stretch = np.zeros(size, dtype=np.int64)
        self.ever = np.zeros(size, dtype=bool)

    def after(self, epoch: int, correct: np.ndarray) -> int:
        """Take in an epoch, counted from 0, and return how many samples have been learned by now."""
        if epoch >= self.skip:
            self.stretch = np.where(correct, self.stretch + 1, 0)
            self.ever |= self.stretch >= self.k
        return int(self.ever.sum())
