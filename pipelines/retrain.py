"""Train a fresh model on a subset and measure it on test: the judge of every selection.

The number of steps is fixed, not the number of epochs (Zheng et al. 2023): with fixed epochs a tenth of the
data gets a tenth of the steps, and every number drops for that reason alone. The last step is measured, never
the best epoch on test.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import choose_device, settled
from tracesift.pipelines.encoding.encode import Encoded, encode
from tracesift.pipelines.loop import Learner, fit, predict
from tracesift.pipelines.models.contract import find
from tracesift.pipelines.train import Progress


def retrain(
    dataset: Any,
    rows: np.ndarray,
    *,
    model: str,
    steps: int,
    seed: int,
    weights: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    split: str = "test",
    device: str = "auto",
    threads: int | None = None,
    inputs: Encoded | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train on `rows` for exactly `steps` steps and return the metrics on `split`.

    Parameters
    ----------
    rows
        Dataset rows of the subset, (n,) int64; training samples only.
    model
        A model's name, as in `pipelines.models.contract.find`.
    steps
        Optimiser steps, the same for every subset that is compared.
    seed
        Of initial weights, order and augmentation.
    weights
        Factor of each sample's loss (n,), brought to mean 1.
    labels
        Class indices (n,) instead of the dataset's, for relabelled subsets.
    split
        Where to measure.
    inputs
        The encoded dataset, where several subsets share it; by default fitted on the subset.

    Returns
    -------
    dict
        ``accuracy``, ``macro_f1``, ``loss`` on `split`, ``train_accuracy`` on the subset, ``steps``,
        ``samples``.
    """
    rows = np.asarray(rows, dtype=np.int64)
    _check(dataset, rows, weights, labels, split, steps)
    found = find(model, dataset.kind).for_size(len(dataset.rows("train")))  # the same batch for every subset
    where = choose_device(device)
    with settled(seed, threads or found.recipe.threads):
        encoded = (inputs or encode(dataset, found, fit=rows)).to(where)
        learner = Learner(
            found.build(encoded.input_shape, dataset.num_classes), found.recipe, steps=steps, device=where
        )
        targets = np.array(dataset.labels, dtype=np.int64)
        targets[rows] = targets[rows] if labels is None else labels
        given = torch.from_numpy(targets).to(where)
        factors = None if weights is None else _spread(weights, rows, len(targets)).to(where)
        done = None if progress is None else lambda: progress(learner.step, steps, "retraining")
        for _ in fit(
            learner, encoded, given, torch.from_numpy(rows), seed=seed, weights=factors, after_batch=done
        ):
            pass
        measured = measure(learner, encoded, given, dataset.rows(split))
        return {
            **measured,
            "train_accuracy": measure(learner, encoded, given, rows)["accuracy"],
            "steps": float(learner.step),
            "samples": float(len(rows)),
        }


def measure(learner: Learner, inputs: Encoded, labels: torch.Tensor, rows: np.ndarray) -> dict[str, float]:
    """Return accuracy, macro F1 over the classes present, and mean cross-entropy on `rows`."""
    logits = torch.cat([part for _, part in predict(learner, inputs, torch.from_numpy(rows))]).cpu()
    truth = labels.cpu()[torch.from_numpy(rows)]
    pred = logits.argmax(1)
    present = np.unique(truth.numpy())
    return {
        "accuracy": float((pred == truth).double().mean()),
        "macro_f1": float(
            f1_score(truth.numpy(), pred.numpy(), labels=present, average="macro", zero_division=0)
        ),
        "loss": float(F.cross_entropy(logits.double(), truth)),
    }


def _spread(weights: np.ndarray, rows: np.ndarray, size: int) -> torch.Tensor:
    spread = np.zeros(size, dtype=np.float32)
    spread[rows] = np.asarray(weights, dtype=np.float64) / np.mean(weights)
    return torch.from_numpy(spread)


def _check(
    dataset: Any,
    rows: np.ndarray,
    weights: np.ndarray | None,
    labels: np.ndarray | None,
    split: str,
    steps: int,
) -> None:
    if len(rows) < 2:
        raise BadInput(f"a subset of {len(rows)} sample(s) cannot be trained on; at least 2 are needed")
    if steps < 1:
        raise BadInput(f"steps={steps}: at least 1 is needed")
    if len(np.unique(rows)) != len(rows) or not np.isin(rows, dataset.rows("train")).all():
        raise BadInput("rows must be distinct training samples; use weights to count one several times")
    for name, values in (("weights", weights), ("labels", labels)):
        if values is not None and len(values) != len(rows):
            raise BadInput(f"{name} has {len(values)} entries for {len(rows)} rows")
    if weights is not None and not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise BadInput("weights must be finite, not negative, and not all zero")
    if not len(dataset.rows(split)):
        raise BadInput(f"{dataset.name} has no {split} samples to measure on; give --test SOURCE or a share")
