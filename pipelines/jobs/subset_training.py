"""Subset training: many models, each on a random share of the data, and what each makes of every sample.

The samples that a model did not see show what is known without them. From the same models follow memorization,
influence (Feldman and Zhang) and consistency (Jiang et al.).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.jobs.contract import job
from tracesift.pipelines.jobs.workbench import Workbench, at_least
from tracesift.pipelines.loop import Learner, predict

LEAST = 8
"""Models before a standard error is asked about: of fewer it is mostly 0 or not known."""


@job(reference="Feldman, Zhang, What neural networks memorize and why, NeurIPS 2020")
def subset_training(
    bench: Workbench,
    *,
    models: int = 200,
    share: float = 0.7,
    epochs: int | None = None,
    standard_error: float = 0.0,
) -> dict[str, np.ndarray]:
    """Train models on random subsets of one size, and let each predict every training and validation sample.

    Parameters
    ----------
    bench
        Each model has its own draw, its own initial weights and its own order of batches.
    models : int
        R, at most. A job that was stopped goes on with the next model; more models than before repeat none.
    share : float
        alpha: each subset is drawn uniformly from all training samples, alpha N of them, rounded.
    epochs
        Of each model, over its subset; as the recording by default.
    standard_error : float
        Stop as soon as the mean over the samples of the standard error of `memorization_subset` is no larger; 0 for
        all the models.

    Returns
    -------
    dict
        ``subset_trained``, bool (N, R): the model trained on the sample. ``subset_correct``, bool (N, R), and
        ``subset_prob_label``, float32 (N, R): what it then predicts in eval mode. ``val_subset_correct``, bool (M, R),
        and ``val_subset_prob_label``, float32 (M, R), where there are validation samples.

    Raises
    ------
    BadInput
        A share that leaves no sample in or none out, or fewer than two models.

    References
    ----------
    Feldman, Zhang, NeurIPS 2020, section 2: alpha = 0.7; 2,000 models on MNIST, 4,000 on CIFAR-100.
    """
    epochs = bench.epochs if epochs is None else epochs
    at_least("subset_training", models=(models, 2), epochs=(epochs, 1))
    size = round(share * len(bench.train)) if 0 < share < 1 else 0
    if not 0 < size < len(bench.train):
        raise BadInput(
            f"job 'subset_training': a share of {share:g} of {len(bench.train)} training samples leaves none in or "
            "none out; give one such as 0.7"
        )
    if standard_error < 0:
        raise BadInput(f"job 'subset_training': standard_error is {standard_error:g}, it must be at least 0")
    made: list[dict[str, np.ndarray]] = []
    sums = _Sums(len(bench.train))
    for number in range(models):
        made.append(bench.part(number, models, partial(_one_model, bench, size, epochs)))
        sums.add(made[-1]["trained"], made[-1]["correct"])
        if standard_error and number + 1 >= LEAST and sums.standard_error() <= standard_error:
            break
    signals = {
        "subset_trained": "trained", "subset_correct": "correct", "subset_prob_label": "prob_label",
        "val_subset_correct": "val_correct", "val_subset_prob_label": "val_prob_label",
    }  # fmt: skip
    return {
        signal: np.stack([part[name] for part in made], axis=1)
        for signal, name in signals.items()
        if len(made[0][name])
    }


class _Sums:
    """What the standard error needs of the models so far: how many saw each sample or not, and were right."""

    def __init__(self, samples: int) -> None:
        self.seen = np.zeros((2, samples))
        self.right = np.zeros((2, samples))

    def add(self, trained: np.ndarray, correct: np.ndarray) -> None:
        for side, there in enumerate((trained, ~trained)):
            self.seen[side] += there
            self.right[side] += there & correct

    def standard_error(self) -> float:
        """Return its mean over the samples; infinite while one was always in or always out."""
        if not self.seen.all():
            return np.inf
        rate = self.right / self.seen
        return float(np.sqrt((rate * (1 - rate) / self.seen).sum(axis=0)).mean())


def _one_model(bench: Workbench, size: int, epochs: int, seed: int) -> dict[str, np.ndarray]:
    """Train on one draw; return who was in it, and what the model makes of all."""
    trained = np.zeros(len(bench.train), dtype=bool)
    trained[np.random.default_rng(seed).permutation(len(bench.train))[:size]] = True
    rows = bench.train[torch.from_numpy(trained)]
    learner = bench.learner(size, epochs)
    for _ in bench.fit(learner, rows, seed=seed):
        pass
    correct, prob_label = _answers(bench, learner, bench.train)
    val_correct, val_prob_label = _answers(bench, learner, torch.from_numpy(bench.dataset.rows("val")))
    return {
        "trained": trained, "correct": correct, "prob_label": prob_label, "val_correct": val_correct,
        "val_prob_label": val_prob_label,
    }  # fmt: skip


def _answers(bench: Workbench, learner: Learner, rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each of `rows` is predicted as labelled, and the probability of its label, in eval mode."""
    correct, prob_label = np.empty(len(rows), dtype=bool), np.empty(len(rows), dtype=np.float32)
    at = 0
    for part, logits in predict(learner, bench.inputs, rows):
        labels = bench.labels[part.to(bench.device)]
        here = slice(at, at + len(part))
        correct[here] = (logits.argmax(1) == labels).cpu().numpy()
        prob_label[here] = logits.softmax(1).gather(1, labels[:, None])[:, 0].cpu().numpy()
        at += len(part)
    return correct, prob_label
