"""How long a run will take and how much disk it will fill, measured on a few batches before it starts."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch

from tracesift.pipelines.determinism import choose_device, settled
from tracesift.pipelines.encode import encode
from tracesift.pipelines.loop import EVAL_BATCH, Learner, fit, predict
from tracesift.pipelines.train import TrainConfig, plan

SAMPLE = 2048
_WARM, _TIMED = 2, 6
_BYTES_PER_VALUE = 3.2
"""Measured: float32 columns after zstd, the flags and ids of a row shared among them."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds and bytes of a recording; on a busy machine the seconds are off by the factor it is busy."""

    encode_seconds: float
    train_seconds: float
    epoch_end_seconds: float
    crossfit_seconds: float
    signal_bytes: int
    other_bytes: int
    epochs: int
    model: str

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.encode_seconds + self.train_seconds + self.epoch_end_seconds + self.crossfit_seconds

    @property
    def bytes(self) -> int:
        """All that stays on disk."""
        return self.signal_bytes + self.other_bytes


def estimate(dataset: Any, config: TrainConfig, *, folds: int = 0) -> Estimate:
    """Time a few real batches of a sample of the dataset, and extrapolate.

    Parameters
    ----------
    config
        As for `record`.
    folds
        Cross-fitting folds to count in; 0 for none.
    """
    planned = plan(dataset, config)
    recipe = planned.model.recipe
    device = choose_device(config.device)
    size, validation = len(dataset.rows("train")), len(dataset.rows("val"))
    part = _part(dataset)
    with settled(config.seed, planned.threads):
        began = time.perf_counter()
        inputs = encode(part, planned.model).to(device)
        encoding = (time.perf_counter() - began) * len(dataset) / len(part)
        module = planned.model.build(inputs.input_shape, dataset.num_classes)
        learner = Learner(module, recipe, steps=_WARM + _TIMED, device=device)
        labels = torch.tensor(part.labels, dtype=torch.int64, device=device)
        rows = torch.from_numpy(part.rows("train"))
        per_batch = _batch_seconds(learner, inputs, labels, rows)
        per_sample = _predict_seconds(learner, inputs, rows)
        weights = sum(p.numel() * 4 for p in module.parameters())
    per_epoch = math.ceil(size / recipe.batch_size) * per_batch
    passes = planned.epochs if config.epoch_end else 0
    half = max(3, math.ceil(planned.epochs / 2)) if config.epochs is None else planned.epochs
    columns = len(planned.fields) + 2
    per_class = 4 * size * dataset.num_classes
    return Estimate(
        encode_seconds=encoding,
        train_seconds=planned.epochs * per_epoch,
        epoch_end_seconds=passes * (size + validation) * per_sample,
        crossfit_seconds=(folds - 1) * half * per_epoch + size * per_sample if folds else 0.0,
        signal_bytes=int(len(planned.modes) * planned.epochs * size * (columns * _BYTES_PER_VALUE + 16)),
        other_bytes=int(3 * weights + per_class * (4 + 2 * bool(folds)) + size * 128 * 4),
        epochs=planned.epochs,
        model=planned.model.name,
    )


def _part(dataset: Any) -> Any:
    """Return the dataset with a spread of its training samples alone, or all of it when it is small."""
    rows = dataset.rows("train")
    if len(rows) <= SAMPLE:
        return dataset
    chosen = rows[np.linspace(0, len(rows) - 1, SAMPLE).astype(np.int64)]
    inputs = dataset.inputs
    if isinstance(inputs, list):
        inputs = [inputs[row] for row in chosen.tolist()]
    elif isinstance(inputs, (np.ndarray, pl.DataFrame)):
        inputs = inputs[chosen]
    else:
        inputs = inputs.take(chosen)
    return replace(dataset, samples=dataset.samples[chosen], inputs=inputs, originals=None)


def _batch_seconds(learner: Learner, inputs: Any, labels: torch.Tensor, rows: torch.Tensor) -> float:
    marks: list[float] = []

    def mark() -> None:
        if learner.device.type == "cuda":
            torch.cuda.synchronize()
        marks.append(time.perf_counter())

    for _ in fit(learner, inputs, labels, rows, seed=0, after_batch=mark):
        pass
    steps = np.diff(marks[_WARM - 1 :])
    return float(np.median(steps))


def _predict_seconds(learner: Learner, inputs: Any, rows: torch.Tensor) -> float:
    rows = rows[: 2 * EVAL_BATCH]
    for _ in range(2):  # the first pass warms up
        began = time.perf_counter()
        for _, logits in predict(learner, inputs, rows):
            logits.sum().cpu()
    return (time.perf_counter() - began) / len(rows)
