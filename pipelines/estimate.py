"""How long a run will take and how much disk it will fill, measured on a few batches before it starts."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from tracesift.pipelines.crossfit import weak_config
from tracesift.pipelines.determinism import choose_device, settled
from tracesift.pipelines.encode import encode
from tracesift.pipelines.loop import EVAL_BATCH, Learner, check_output, fit, predict
from tracesift.pipelines.models.contract import Model
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
        timed = _timed(part, planned.model, device)
        weak = plan(dataset, weak_config(dataset, config))
        weak_seconds = weak.steps * _timed(part, weak.model, device).per_batch if folds else 0.0
    encoding, per_sample, weights = timed.encoding * len(dataset) / len(part), timed.per_sample, timed.weights
    per_epoch = math.ceil(size / recipe.batch_size) * timed.per_batch
    passes = planned.epochs if config.epoch_end else 0
    half = max(3, math.ceil(planned.epochs / 2)) if config.epochs is None else planned.epochs
    columns = len(planned.fields) + 2
    per_class = 4 * size * dataset.num_classes
    return Estimate(
        encode_seconds=encoding,
        train_seconds=planned.epochs * per_epoch,
        epoch_end_seconds=passes * (size + validation) * per_sample,
        crossfit_seconds=(folds - 1) * (half * per_epoch + weak_seconds) + size * per_sample
        if folds
        else 0.0,
        signal_bytes=int(len(planned.modes) * planned.epochs * size * (columns * _BYTES_PER_VALUE + 16)),
        other_bytes=int(3 * weights + per_class * (4 + 2 * bool(folds)) + size * 128 * 4),
        epochs=planned.epochs,
        model=planned.model.name,
    )


class _Timed(NamedTuple):
    encoding: float
    per_batch: float
    per_sample: float
    weights: int


def _timed(part: Any, model: Model, device: torch.device) -> _Timed:
    """Time a model on a part of the dataset: seconds to encode it, per training batch, per sample of a pass."""
    began = time.perf_counter()
    inputs = encode(part, model).to(device)
    encoding = time.perf_counter() - began
    module = model.build(inputs.input_shape, part.num_classes)
    learner = Learner(module, model.recipe, steps=_WARM + _TIMED, device=device)
    labels = torch.tensor(part.labels, dtype=torch.int64, device=device)
    rows = torch.from_numpy(part.rows("train"))
    check_output(learner, inputs, rows, part.num_classes, model.name)
    per_batch = _batch_seconds(learner, inputs, labels, rows)
    weights = sum(p.numel() * 4 for p in module.parameters())
    return _Timed(encoding, per_batch, _predict_seconds(learner, inputs, rows), weights)


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
