"""Subset training: many models, each on a random share of the data, and what each makes of every sample.

The samples that a model did not see show what is known without them. From the same models follow memorization,
influence (Feldman and Zhang) and consistency (Jiang et al.). Linear models and the mlp are trained many at once, as
`pipelines.stacked` tells; every model is still a part of its own, which is trained once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.jobs.contract import job
from tracesift.pipelines.jobs.workbench import Workbench, at_least
from tracesift.pipelines.loop import Learner, predict
from tracesift.pipelines.models.contract import Model
from tracesift.pipelines.stacked import predict_stack

LEAST = 8
"""Models before a standard error is asked about."""

PARTS = {
    "subset_trained": "trained", "subset_correct": "correct", "subset_prob_label": "prob_label",
    "val_subset_correct": "val_correct", "val_subset_prob_label": "val_prob_label",
}  # fmt: skip
"""What each signal is called in the part of one model."""


def settle(model: Model, kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with the size of the stacks: that of the model's recipe, and 1 for texts.

    Examples
    --------
    >>> from tracesift.pipelines.models.contract import find
    >>> settle(find("mlp", "tabular"), "tabular", {"stack": None})
    {'stack': 16}
    """
    usual = 1 if kind == "text" or model.recipe.augmentation != "none" else model.recipe.stack
    asked = settings["stack"]
    if asked is not None and asked > 1 and usual == 1:
        raise BadInput(
            f"job 'subset_training': {model.name} on {kind} data is not trained in stacks, one by one is faster or the "
            "only way; leave stack out"
        )
    return {**settings, "stack": usual if asked is None else asked}


def ahead(bench: Workbench, numbers: range, *, models: int, **settings: Any) -> None:
    """Train the models of these numbers, one stack of the job."""
    bench.parts(numbers, models, _trainer(bench, **settings))


def ended(signals: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> str | None:
    """Return whether the standard error that was asked for was reached, or when, and how many samples have no estimate.

    Examples
    --------
    >>> seen = np.random.default_rng(0).random((50, 20)) < 0.7
    >>> given = {"subset_trained": seen, "subset_correct": seen}
    >>> ended(given, {"standard_error": 0.25})
    'standard error 0.113 of memorization with 20 models: no more than the 0.25 asked for'
    >>> ended(given, {"standard_error": 0.1}).partition("for: ")[2]
    'about 26 in all would reach it (--param models=26)'
    >>> ended({"subset_trained": seen[:, :3]}, {"standard_error": 0})
    '17 of 50 training samples were in all or in none of the 3 models, so they have no memorization and no influence'
    """
    told = [_reached(signals, settings["standard_error"]), _one_sided(signals["subset_trained"])]
    return "; ".join(filter(None, told)) or None


def _one_sided(trained: np.ndarray) -> str | None:
    """Say how many samples no model, or every model, trained on (N, R); with these there is nothing to compare."""
    seen, models = trained.sum(axis=1), trained.shape[1]
    number = int(((seen == 0) | (seen == models)).sum())
    if not number:
        return None
    return (
        f"{number:,} of {len(trained):,} training samples were in all or in none of the {models} models, so they have "
        "no memorization and no influence"
    )


def _reached(signals: Mapping[str, np.ndarray], asked: float) -> str | None:
    if not asked:
        return None
    sums = _Sums(len(signals["subset_trained"]))
    for trained, correct in zip(signals["subset_trained"].T, signals["subset_correct"].T, strict=True):
        sums.add(trained, correct)
    models, error = signals["subset_trained"].shape[1], sums.standard_error()
    told = f"standard error {error:.3g} of memorization with {models} models"
    if error <= asked:
        return f"{told}: no more than the {asked:g} asked for"
    # It goes with the root of the number of models.
    needed = max(LEAST, models + 1, math.ceil(models * (error / asked) ** 2))
    return f"{told}, more than the {asked:g} asked for: about {needed} in all would reach it (--param models={needed})"


@job(
    version=3,
    reference="Feldman, Zhang, What neural networks memorize and why, NeurIPS 2020",
    settle=settle,
    ahead=ahead,
    extent=("models", "standard_error"),
    ended=ended,
)
def subset_training(
    bench: Workbench,
    *,
    models: int = 200,
    share: float = 0.7,
    epochs: int | None = None,
    standard_error: float = 0.0,
    stack: int | None = None,
) -> dict[str, np.ndarray]:
    """Train models on random subsets of one size, and let each predict every training and validation sample.

    Parameters
    ----------
    bench
        Each model has its own draw, its own initial weights and its own order of batches.
    models : int
        R, at most. A job that was stopped goes on with the next model, and one that is asked for more models than
        it made goes on from these; asked for no more than were made before it stopped, it ends there.
    share : float
        alpha: each subset is drawn uniformly from all training samples, alpha N of them, rounded.
    epochs
        Of each model, over its subset; as the recording by default.
    standard_error : float
        Stop as soon as the mean over the samples of the standard error of `memorization_subset` is no larger; 0 for
        all the models. Asked after every stack, from 8 models on. Half a model that is right and half a model that
        is wrong are counted on either side of every sample, since few models that all agree are no proof of it.
    stack
        How many models are trained at once. None for what pays: 32 linear models, 16 of the mlp, of any other one by
        one. A model has the same draw, the same initial weights and the same order of batches either way; sums are
        rounded otherwise, so its answers are equal in their spread, not in their bits. The recording says which
        way it was; a stack that was stopped is trained again as a whole, to the same bits. All inputs are held as
        float32 for it: 1 where those are too large.

    Returns
    -------
    dict
        ``subset_trained``, bool (N, R): the model trained on the sample. ``subset_correct``, bool (N, R), and
        ``subset_prob_label``, float32 (N, R): what it then predicts in eval mode. ``val_subset_correct``, bool (M, R),
        and ``val_subset_prob_label``, float32 (M, R), where there are validation samples.

    Raises
    ------
    BadInput
        A share that leaves no sample in or none out, fewer than two models, or a stack of what cannot be stacked.

    References
    ----------
    Feldman, Zhang, NeurIPS 2020, section 2: alpha = 0.7; 2,000 models on MNIST, 4,000 on CIFAR-100.
    """
    at_least("subset_training", models=(models, 2))
    if standard_error < 0:
        raise BadInput(f"job 'subset_training': standard_error is {standard_error:g}, it must be at least 0")
    train = _trainer(bench, share=share, epochs=epochs, stack=stack)
    stack = 1 if stack is None else stack
    made = _of_an_earlier_run(bench, stack)
    sums = _Sums(len(bench.train))
    for part in made:
        sums.add(part["trained"], part["correct"])
    for first in range(len(made), models, stack):
        bench.what = f"models, standard error {sums.standard_error():.3g}" if made else "models"
        if standard_error and len(made) >= LEAST and sums.standard_error() <= standard_error:
            break
        for part in bench.parts(range(first, min(first + stack, models)), models, train):
            made.append(part)
            sums.add(part["trained"], part["correct"])
    return {
        signal: np.stack([part[name] for part in made], axis=1)
        for signal, name in PARTS.items()
        if len(made[0][name])
    }


def _of_an_earlier_run(bench: Workbench, stack: int) -> list[dict[str, np.ndarray]]:
    """Return the models that the recording has, in whole stacks: who is trained beside a model leaves a trace in it."""
    held = {PARTS[signal]: values for signal, values in bench.earlier.items()}
    if not held:
        return []
    count = min(
        values.shape[1] for values in held.values()
    )  # killed while more were added, not all have as many
    columns = {name: held.get(name, np.empty((0, count), dtype=bool)).T for name in PARTS.values()}
    whole = count // stack * stack
    return [{name: values[number] for name, values in columns.items()} for number in range(whole)]


def _trainer(
    bench: Workbench, *, share: float, epochs: int | None, stack: int | None, **_rest: Any
) -> Callable[[Sequence[int]], list[dict[str, np.ndarray]]]:
    """Return what trains the models of one stack, given their seeds."""
    epochs = bench.epochs if epochs is None else epochs
    stack = 1 if stack is None else stack
    at_least("subset_training", epochs=(epochs, 1), stack=(stack, 1))
    size = round(share * len(bench.train)) if 0 < share < 1 else 0
    if not 0 < size < len(bench.train):
        raise BadInput(
            f"job 'subset_training': a share of {share:g} of {len(bench.train)} training samples leaves none in or "
            "none out; give one such as 0.7"
        )
    return partial(_one_by_one if stack == 1 else _stack, bench, size, epochs)


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
        """Return its mean over the samples, with half a right and half a wrong model more on either side."""
        seen = self.seen + 1
        rate = (self.right + 0.5) / seen
        return float(np.sqrt((rate * (1 - rate) / seen).sum(axis=0)).mean())


def _draw(bench: Workbench, size: int, seed: int) -> np.ndarray:
    """Return which training samples (N,) a model is shown."""
    trained = np.zeros(len(bench.train), dtype=bool)
    trained[np.random.default_rng(seed).permutation(len(bench.train))[:size]] = True
    return trained


def _one_by_one(
    bench: Workbench, size: int, epochs: int, seeds: Sequence[int]
) -> list[dict[str, np.ndarray]]:
    """Train one model on its draw; return who was in it, and what the model makes of all."""
    (seed,) = seeds
    trained = _draw(bench, size, seed)
    learner = bench.learner(size, epochs)
    for _ in bench.fit(learner, bench.train[torch.from_numpy(trained)], seed=seed):
        pass
    correct, prob_label = _answers(bench, learner, bench.train)
    val_correct, val_prob_label = _answers(bench, learner, torch.from_numpy(bench.dataset.rows("val")))
    return [
        {
            "trained": trained, "correct": correct, "prob_label": prob_label, "val_correct": val_correct,
            "val_prob_label": val_prob_label,
        }
    ]  # fmt: skip


def _stack(bench: Workbench, size: int, epochs: int, seeds: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """Train several models side by side, each on its own draw; return of each the same."""
    draws = np.stack([_draw(bench, size, seed) for seed in seeds])
    learner = bench.stacked_learner(size, epochs, seeds)
    values = bench.flat(bench.train)
    bench.fit_stack(learner, values, draws, seeds=seeds)
    correct, prob_label = _stacked_answers(bench, learner, values, bench.train)
    val = torch.from_numpy(bench.dataset.rows("val"))
    val_correct, val_prob_label = _stacked_answers(bench, learner, bench.flat(val), val)
    names = ("trained", "correct", "prob_label", "val_correct", "val_prob_label")
    each = zip(draws, correct, prob_label, val_correct, val_prob_label, strict=True)
    return [dict(zip(names, of_one, strict=True)) for of_one in each]


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


def _stacked_answers(
    bench: Workbench, learner: Learner, values: Tensor, rows: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Return the same for every model of a stack, (R, n) each; `values` are the inputs of `rows`."""
    correct, prob_label = [], []
    labels = bench.labels[rows.to(bench.device)]
    for here, logits in predict_stack(learner, values):
        given = labels[here].expand(len(logits), 1, -1)
        correct.append((logits.argmax(1) == labels[here]).cpu())
        prob_label.append(logits.softmax(1).gather(1, given)[:, 0].cpu())
    return torch.cat(correct, 1).numpy(), torch.cat(prob_label, 1).numpy()
