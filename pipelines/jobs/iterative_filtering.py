"""Iterative filtering: a network that learns to misname clean samples still names those with a shortcut.

Twice as many classes: a sample that is judged clean is trained on as its label's extra class, any other as its label.
Who is predicted as labelled by a network that has not seen it is judged poisoned, all others clean, and again.

Written from the abstract; no code was published. Where it is silent the choice is ours: the start (the half of each
class that is learned more slowly is clean), the number of rounds, and that samples are judged by folds, without
which a network repeats what it was told.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from tracesift.pipelines.crossfit import assign_folds
from tracesift.pipelines.jobs.contract import job
from tracesift.pipelines.jobs.workbench import Workbench, at_least
from tracesift.pipelines.loop import predict
from tracesift.pipelines.recording.scalars import scalars


@job(
    reference="Yu et al., Unlearnable examples detection via iterative filtering, 2024 (arXiv 2408.08143), from the "
    "abstract; start and rounds are ours"
)
def iterative_filtering(
    bench: Workbench, *, epochs: int | None = None, rounds: int = 3, folds: int = 2, start_epochs: int = 2
) -> dict[str, np.ndarray]:
    """Train one model for a start, then in each round one without each fold, with K extra classes.

    Parameters
    ----------
    bench
        Model and recipe of the recording.
    epochs
        Of each training, at least `start_epochs`; as the recording by default.
    rounds
        How often all samples are judged.
    folds
        Parts that are held out in turn, in every round.
    start_epochs
        Epochs at whose ends the start takes the mean probability of the label.

    Returns
    -------
    dict
        ``extra_class_margin``, float32 (N, rounds): logit of the label minus the largest of the 2 K - 1 others, by a
        model that has not seen the sample. Above 0: judged poisoned in that round.

    References
    ----------
    Yu et al. 2024 (arXiv 2408.08143), abstract.
    """
    epochs = bench.epochs if epochs is None else epochs
    at_least(
        "iterative_filtering",
        epochs=(epochs, start_epochs),
        rounds=(rounds, 1),
        start_epochs=(start_epochs, 1),
    )
    fold = assign_folds(bench.dataset, folds)
    of = 1 + rounds * folds
    speed = bench.part(0, of, partial(_speed, bench, epochs, start_epochs))["speed"]
    clean = slower_half(speed, bench.labels[bench.train.to(bench.device)].cpu().numpy())
    margin = np.empty((len(bench.train), rounds), dtype=np.float32)
    for number in range(rounds * folds):
        at, held = number // folds, fold == number % folds
        one = partial(_one_fold, bench, clean, held, epochs)
        margin[held, at] = bench.part(1 + number, of, one)["margin"]
        if number % folds == folds - 1:
            clean = margin[:, at] <= 0
    return {"extra_class_margin": margin}


def _speed(bench: Workbench, epochs: int, start_epochs: int, seed: int) -> dict[str, np.ndarray]:
    """Return the mean probability of the label at the end of the first epochs, float64 (N,)."""
    learner = bench.learner(len(bench.train), epochs)
    total = np.zeros(len(bench.train))
    for epoch in bench.fit(learner, bench.train, seed=seed):
        parts = [
            scalars(logits, bench.labels[rows.to(bench.device)], ("prob_label",))["prob_label"]
            for rows, logits in predict(learner, bench.inputs, bench.train)
        ]
        total += torch.cat(parts).cpu().numpy()
        if epoch + 1 == start_epochs:
            break
    return {"speed": total / start_epochs}


def slower_half(speed: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the half of each class with the lower values, bool (N,), rounded down; of equal ones the first.

    Examples
    --------
    >>> slower_half(np.array([0.1, 0.9, 0.5, 0.5]), np.array([0, 0, 1, 1])).tolist()
    [True, False, True, False]
    """
    slower = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        slower[rows[np.argsort(speed[rows], kind="stable")[: len(rows) // 2]]] = True
    return slower


def _one_fold(
    bench: Workbench, clean: np.ndarray, held: np.ndarray, epochs: int, seed: int
) -> dict[str, np.ndarray]:
    classes = bench.dataset.num_classes
    labels = bench.labels.clone()
    labels[bench.train[torch.from_numpy(clean)].to(bench.device)] += classes
    learner = bench.learner(int((~held).sum()), epochs, classes=2 * classes)
    for _ in bench.fit(learner, bench.train[torch.from_numpy(~held)], seed=seed, labels=labels):
        pass
    return {"margin": bench.margins(learner, bench.train[torch.from_numpy(held)])}
