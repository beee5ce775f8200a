"""What one model knows of the forgotten, the retained and the unseen: every cheap measure of unlearning at once.

Membership is asked of the holdout, which nobody was trained on and which copies nobody: a test sample that copies a
trained one would count as unseen and is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor, nn

from tracesift.pipelines.determinism import generator
from tracesift.pipelines.loop import Learner, predict
from tracesift.pipelines.unlearners.contract import Trained
from tracesift.pipelines.unlearning_metrics.accuracies import accuracies
from tracesift.pipelines.unlearning_metrics.basic_mia import basic_mia
from tracesift.pipelines.unlearning_metrics.logit_margin import logit_margin
from tracesift.pipelines.unlearning_metrics.remind import remind
from tracesift.pipelines.unlearning_metrics.svc_mia import svc_mia

Rows = NDArray[np.int64]

COMPARED = ("forget", "retain", "test")
"""Sets whose margins are kept, in this order."""

ATTACKED = 2_000
"""At most so many retained and so many held out samples teach the attacks: a support vector machine takes the square of
their number, five times a model."""

PERTURBED = 200
"""At most so many samples of each set are varied for `remind`."""

RADII, VARIATIONS = (0.02, 0.05, 0.1), 4
"""Distances at which an input is varied, as shares of the median norm of the retained inputs, and how often at each.
The paper's own were not at hand; these are ours."""

LEAST_GROUP = 10
"""A group of fewer test samples has no accuracy to speak of."""


@dataclass(frozen=True, kw_only=True)
class Sets:
    """Rows of a forget-ready subset, each set ascending."""

    forget: Rows
    retain: Rows
    """Neighbours among them."""
    neighbor: Rows
    """The retained samples nearest to the forgotten."""
    test: Rows
    holdout: Rows
    """Never trained on, and no copy of what was; may be empty."""
    groups: NDArray[np.object_]
    """The group of each of `test`."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was measured on one model."""

    metrics: dict[str, float]
    """`measure` names them; empty where `failed` says something."""
    margins: NDArray[np.float32]
    """`logit_margin` of forget, retain and test, one after the other, as `klom` compares them."""
    failed: str = ""
    """Why there is no model to measure."""


def measure(trained: Trained, module: nn.Module, sets: Sets, *, seed: int) -> Outcome:
    """Return every measure of one model that needs no other model.

    Parameters
    ----------
    trained
        Holds inputs, labels and device; `module` is measured, not its own.
    module
        In eval mode from here on.
    sets
        What was forgotten, kept and never seen.
    seed
        Of the attacks' draws and of the variations of `remind`; the same for all models that are compared.

    Returns
    -------
    Outcome
        With ``ua``, ``ra``, ``ta`` (see `accuracies`), ``neighbor`` (accuracy on the neighbours) and ``worst_group``,
        the lowest accuracy on test of any group of 10 or more. With a holdout also ``mia`` (efficacy by confidence, the
        one that papers print), ``mia_correctness``, ``mia_entropy``, ``mia_modified_entropy``, ``mia_probability``
        (see `svc_mia`); ``auc`` and ``attack_accuracy`` (see `basic_mia`, against the holdout of the forgotten
        classes); and, for images and tables, ``remind``, ``remind_retain`` and ``remind_holdout``, mean changes of the
        loss around a sample. What cannot be measured is absent.
    """
    learner = trained.learner(1, 1, module=module)
    present = COMPARED + (("holdout",) if len(sets.holdout) else ())
    parts = {name: _logits(learner, trained, getattr(sets, name)) for name in present}
    labels = trained.labels.cpu().numpy()
    if not all(np.isfinite(logits).all() for logits in parts.values()):
        return Outcome(metrics={}, margins=np.empty(0, np.float32), failed="it gives NaN or infinite logits")
    answers = {name: (parts[name].argmax(1), labels[getattr(sets, name)]) for name in COMPARED}
    right = answers["test"][0] == answers["test"][1]
    metrics = accuracies(**answers)
    if len(sets.neighbor):
        near = np.searchsorted(sets.retain, sets.neighbor)
        metrics["neighbor"] = float((answers["retain"][0] == answers["retain"][1])[near].mean())
    in_groups = [right[sets.groups == name] for name in np.unique(sets.groups)]
    known = [group.mean() for group in in_groups if len(group) >= LEAST_GROUP]
    if known:
        metrics["worst_group"] = float(min(known))
    if len(sets.holdout):
        metrics |= _privacy(parts, labels, sets, seed)
    metrics |= _neighbourhoods(learner, trained, sets, seed)
    margins = [logit_margin(parts[name], labels[getattr(sets, name)]) for name in COMPARED]
    return Outcome(metrics=metrics, margins=np.concatenate(margins).astype(np.float32))


def _logits(learner: Learner, trained: Trained, rows: Rows) -> NDArray[np.float64]:
    found = predict(learner, trained.inputs, torch.from_numpy(rows))
    return np.asarray(torch.cat([logits for _, logits in found]).cpu().double().numpy())


def _privacy(parts: dict[str, NDArray[np.float64]], labels: Rows, sets: Sets, seed: int) -> dict[str, float]:
    forget, retain, held = (parts[name] for name in ("forget", "retain", "holdout"))
    rng = np.random.default_rng(seed)
    kept, unseen = (_some(len(rows), ATTACKED, rng) for rows in (sets.retain, sets.holdout))
    efficacy = svc_mia(
        forget=(softmax(forget, axis=1), labels[sets.forget]),
        retain=(softmax(retain[kept], axis=1), labels[sets.retain][kept]),
        test=(softmax(held[unseen], axis=1), labels[sets.holdout][unseen]),
        seed=seed,
    )
    found = {"mia": efficacy.pop("confidence")} | {f"mia_{name}": share for name, share in efficacy.items()}
    alike = np.isin(labels[sets.holdout], labels[sets.forget])  # a class is easier than another, seen or not
    if min(len(forget), alike.sum()) >= 2:
        losses = _losses(forget, labels[sets.forget]), _losses(held[alike], labels[sets.holdout][alike])
        attack = basic_mia(*losses, seed=seed, folds=min(10, *map(len, losses)))
        found |= {"auc": attack["auc"], "attack_accuracy": attack["accuracy"]}
    return found


def _losses(logits: NDArray[np.float64], labels: Rows) -> NDArray[np.float64]:
    return np.asarray(
        np.logaddexp(0.0, -logit_margin(logits, labels))
    )  # -log p, as margin = log(p / (1 - p))


def _some(size: int, most: int, rng: np.random.Generator) -> Rows:
    """Return at most `most` of so many places, drawn, ascending."""
    return np.arange(size) if size <= most else np.sort(rng.choice(size, most, replace=False))


def _neighbourhoods(learner: Learner, trained: Trained, sets: Sets, seed: int) -> dict[str, float]:
    """Return the mean change of the loss around forgotten, retained and unseen samples; of texts, nothing."""
    rng = np.random.default_rng(seed)
    drawn = {
        name: torch.from_numpy(rows[_some(len(rows), PERTURBED, rng)])
        for name, rows in (("remind", sets.forget), ("remind_retain", sets.retain), ("remind_holdout", sets.holdout))
    }  # fmt: skip
    inputs = {name: trained.inputs.batch(rows) for name, rows in drawn.items() if len(rows)}
    if not all(isinstance(x, Tensor) and x.is_floating_point() for x in inputs.values()):
        return {}  # words have no small variations
    norm = float(inputs["remind_retain"].flatten(1).norm(dim=1).median())
    if not norm:
        return {}
    found = {}
    for number, (name, x) in enumerate(inputs.items()):
        labels = trained.labels[drawn[name].to(trained.device)]
        around = np.stack(
            [
                [_noisy(learner, x, labels, share * norm, (seed, number, at, turn)) for turn in range(VARIATIONS)]
                for at, share in enumerate(RADII)
            ]
        )  # fmt: skip
        loss = _batch_losses(learner, x, labels)
        if not np.isfinite(around).all():
            return {}
        change = remind(loss, around, norm * np.array(RADII))["change"]
        found[name] = float(change.mean())
    return found


def _noisy(
    learner: Learner, x: Tensor, labels: Tensor, radius: float, draw: tuple[int, ...]
) -> NDArray[np.float64]:
    noise = torch.randn(x.shape, generator=generator(*draw)).to(x.device)
    length = noise.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, *[1] * (x.ndim - 1))
    return _batch_losses(learner, x + radius * noise / length, labels)


@torch.inference_mode()
def _batch_losses(learner: Learner, x: Tensor, labels: Tensor) -> NDArray[np.float64]:
    return np.asarray(
        nn.functional.cross_entropy(learner(x).double(), labels, reduction="none").cpu().numpy()
    )
