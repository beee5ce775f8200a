"""How long a recording will take and how much disk it will fill, measured on a few batches before it starts.

Every stage is timed on a sample and goes up with what it goes through: batches with the recorder in them, the
pass at the end of an epoch, the files and the checkpoint of an epoch, the models of the cross-fitting, the
features. Computing is timed on the clock of the processor, which stands still while other programs have it;
how much faster the clock on the wall ran meanwhile is `busy`. What is written is timed on the wall, because
waiting for a disk is no work of the processor, and divided by `busy`.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from tracesift.catalog.files import replacing
from tracesift.catalog.schema import FIELD_DTYPES, SCALAR_FIELDS
from tracesift.pipelines.checkpoint import write_state
from tracesift.pipelines.crossfit import weak_config
from tracesift.pipelines.determinism import choose_device, settled
from tracesift.pipelines.embedding.embeddings import content_embedding
from tracesift.pipelines.encoding.encode import Encodings, encode
from tracesift.pipelines.loop import EVAL_BATCH, Learner, check_output, fit, predict
from tracesift.pipelines.recorder import Recorder, fits_per_class
from tracesift.pipelines.signals import write_epoch
from tracesift.pipelines.train import VALIDATION_FIELDS, Plan, TrainConfig, plan

SAMPLE = 2048
_FEW = 256
_WARM, _TIMED = 2, 6
_ROWS_WRITTEN = 100_000
"""So many rows of an epoch's file are written to learn how long a row takes."""
_BYTES_WRITTEN = 1 << 24
_BYTES_PER_VALUE = 3.2
"""Measured: float32 columns after zstd, the flags and ids of a row shared among them."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds of each stage of a recording on an idle machine, bytes on disk, and how busy the machine is."""

    encode_seconds: float
    train_seconds: float
    """All epochs, with the recorder."""
    epoch_end_seconds: float
    write_seconds: float
    """Epoch files, checkpoints and arrays."""
    crossfit_seconds: float
    """All folds, both models."""
    embed_seconds: float
    content_seconds: float
    """The content embedding, which `curate` makes for copies and neighbours; no part of a recording."""
    content_width: int
    """Its dimensions."""
    signal_bytes: int
    other_bytes: int
    epochs: int
    model: str
    busy: float
    """Seconds on the wall for a second of the processor, at least 1."""

    @property
    def recording_seconds(self) -> float:
        """One seed, without the encoding that all seeds share."""
        return self.train_seconds + self.epoch_end_seconds + self.write_seconds

    @property
    def seconds(self) -> float:
        """All of it."""
        return sum(getattr(self, one.name) for one in fields(self) if one.name.endswith("_seconds"))

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
    device = choose_device(config.device)
    part = sample_of(dataset)
    clock = _Clock()
    with settled(config.seed, planned.threads):
        inputs = Encodings(part)
        with clock:
            timed = _timed(part, inputs, planned, device, recorded=True)
        plain = weak = timed
        if folds:
            weak_planned = plan(dataset, weak_config(dataset, config))
            with clock:
                plain = _timed(part, inputs, planned, device, recorded=False)
                weak = _timed(part, inputs, weak_planned, device, recorded=False)
        with clock:
            content = _per_sample(content_embedding, part)
            width = content_embedding(sample_of(part, _FEW)).shape[1]
    measured = _extrapolated(dataset, config, planned, folds, timed, plain, weak, clock.busy)
    return replace(measured, content_seconds=content * len(dataset), content_width=width)


def _extrapolated(
    dataset: Any,
    config: TrainConfig,
    planned: Plan,
    folds: int,
    timed: _Timed,
    plain: _Timed,
    weak: _Timed,
    busy: float,
) -> Estimate:
    size, validation, classes = len(dataset.rows("train")), len(dataset.rows("val")), dataset.num_classes
    batch = planned.model.recipe.batch_size
    passes = planned.epochs if config.epoch_end else 0
    files = planned.epochs * len(planned.modes)
    half = max(3, math.ceil(planned.epochs / 2)) if config.epochs is None else planned.epochs
    columns = len(planned.fields) + 2
    per_class = 4 * size * classes if fits_per_class(dataset) else 0
    spans = sum(name in planned.fields for name in ("kl_step", "elr_target", "elr_target"))
    spans += len(planned.modes) - 1 if "kl_step" in planned.fields else 0
    checkpoint = 3 * timed.weights + spans * per_class
    features = 4 * (size + validation) * timed.features
    arrays = per_class * (2 + 2 * bool(folds)) + features
    kept = size - size // folds if folds else 0
    weakly = plan(dataset, weak_config(dataset, config))
    weak_steps = weakly.epochs * math.ceil(kept / weakly.model.recipe.batch_size)
    per_byte = _byte_seconds() / busy
    return Estimate(
        encode_seconds=timed.encoding * len(dataset),
        train_seconds=planned.epochs * math.ceil(size / batch) * timed.per_batch,
        epoch_end_seconds=passes * (size + validation) * timed.per_sample,
        write_seconds=files * _epoch_file_seconds(size, planned.fields) / busy
        + planned.epochs * checkpoint * per_byte
        + arrays * per_byte,
        crossfit_seconds=folds
        * (half * math.ceil(kept / batch) * plain.per_batch + weak_steps * weak.per_batch)
        + (size * (plain.per_sample + weak.per_sample) if folds else 0.0),
        embed_seconds=(size + validation) * plain.per_sample,
        content_seconds=0.0,
        content_width=0,
        signal_bytes=int(len(planned.modes) * planned.epochs * size * (columns * _BYTES_PER_VALUE + 16)),
        other_bytes=int(checkpoint + arrays + size * 48),
        epochs=planned.epochs,
        model=planned.model.name,
        busy=busy,
    )


class _Clock:
    """Wall time for processor time over all blocks that it times."""

    def __init__(self) -> None:
        self.wall = self.own = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._began[0]
        self.own += time.thread_time() - self._began[1]

    @property
    def busy(self) -> float:
        return max(1.0, self.wall / max(self.own, 1e-9))


class _Timed(NamedTuple):
    encoding: float
    """Seconds a sample."""
    per_batch: float
    per_sample: float
    """Seconds a sample of a pass in eval mode."""
    weights: int
    """Bytes."""
    features: int
    """Width of the penultimate layer, as far as it can be seen."""


def _timed(part: Any, encodings: Encodings, planned: Plan, device: torch.device, *, recorded: bool) -> _Timed:
    """Time a model on a part of the dataset, with the recorder in the loop and in the pass, or without."""
    model = planned.model
    encoding = _per_sample(lambda some: encode(some, model), part) if recorded else 0.0
    inputs = encodings.of(model).to(device)
    module = model.build(inputs.input_shape, part.num_classes)
    learner = Learner(module, model.recipe, steps=_WARM + _TIMED, device=device)
    labels = torch.tensor(part.labels, dtype=torch.int64, device=device)
    rows = torch.from_numpy(part.rows("train"))
    check_output(learner, inputs, rows, part.num_classes, model.name)
    with _recorders(part, planned, device, recorded=recorded) as (training, passing):
        per_batch = _batch_seconds(learner, inputs, labels, rows, training)
        per_sample = _predict_seconds(learner, inputs, labels, rows, passing)
    linear = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
    return _Timed(
        encoding=encoding,
        per_batch=per_batch,
        per_sample=per_sample,
        weights=sum(p.numel() * 4 for p in module.parameters()),
        features=linear[-1].in_features if linear else part.num_classes,
    )


@contextmanager
def _recorders(
    part: Any, planned: Plan, device: torch.device, *, recorded: bool
) -> Iterator[tuple[Recorder | None, Recorder | None]]:
    """Yield recorders as `record` has them, which write nothing before an epoch's end, or none."""
    if not recorded:
        yield None, None
        return
    scalar = tuple(name for name in planned.fields if name in SCALAR_FIELDS)
    with tempfile.TemporaryDirectory() as folder:
        yield (
            Recorder(folder, part, fields=planned.fields, device=device, run_id="estimate"),
            Recorder(folder, part, mode="epoch_end", fields=scalar, device=device, run_id="estimate"),
        )


def sample_of(dataset: Any, size: int = SAMPLE) -> Any:
    """Return the dataset with a spread of its training samples alone, or all of it when it is small.

    None of them is withheld, so that the part, whose rows are numbered anew, withholds nothing.
    """
    rows = dataset.rows("train")
    if len(rows) <= size:
        return dataset
    chosen = rows[np.linspace(0, len(rows) - 1, size).astype(np.int64)]
    inputs = dataset.inputs
    if isinstance(inputs, list):
        inputs = [inputs[row] for row in chosen.tolist()]
    elif isinstance(inputs, (np.ndarray, pl.DataFrame)):
        inputs = inputs[chosen]
    else:
        inputs = inputs.take(chosen)
    return replace(
        dataset, samples=dataset.samples[chosen], inputs=inputs, originals=None, positions=None, withheld=None,
        withheld_by=(),
    )  # fmt: skip


def _per_sample(work: Callable[[Any], object], part: Any) -> float:
    """Return the seconds that a sample adds, without those that any number of samples takes."""
    few = sample_of(part, _FEW)
    marks = []
    for some in (few, few, part):  # the first warms up
        work(some)
        marks.append(time.thread_time())
    added, more = (marks[2] - marks[1]) - (marks[1] - marks[0]), len(part) - len(few)
    return added / more if added > 0 and more >= len(few) else (marks[2] - marks[1]) / len(part)


def _batch_seconds(
    learner: Learner, inputs: Any, labels: torch.Tensor, rows: torch.Tensor, recorder: Recorder | None
) -> float:
    marks: list[float] = []

    def mark() -> None:
        if learner.device.type == "cuda":
            torch.cuda.synchronize()
        marks.append(time.thread_time())

    for _ in fit(learner, inputs, labels, rows, seed=0, recorder=recorder, after_batch=mark):
        pass
    # A sample that fills no whole batch says what its rows took, and a whole batch has more of them.
    whole = learner.recipe.batch_size / min(learner.recipe.batch_size, len(rows))
    return float(np.median(np.diff(marks[_WARM - 1 :]))) * whole


def _predict_seconds(
    learner: Learner, inputs: Any, labels: torch.Tensor, rows: torch.Tensor, recorder: Recorder | None
) -> float:
    rows = rows[: 2 * EVAL_BATCH]
    for _ in range(2):  # the first pass warms up
        began = time.thread_time()
        for batch, logits in predict(learner, inputs, rows):
            there = batch.to(learner.device)
            if recorder is not None:
                recorder.update(there, logits, labels[there])
            logits.sum().cpu()
    return (time.thread_time() - began) / len(rows)


def _on_the_wall(write: Callable[[Path], object]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        write(Path(folder))
        return time.perf_counter() - began


def _epoch_file_seconds(size: int, recorded: tuple[str, ...]) -> float:
    """Return the seconds of one epoch's file of `size` samples."""
    rows = min(size, _ROWS_WRITTEN)
    draw = np.random.default_rng(0)
    values = draw.random(rows, dtype=np.float32)
    columns = {
        name: values.astype(np.int32) if FIELD_DTYPES[name].is_integer() else values
        for name in (*recorded, *VALIDATION_FIELDS)
        if name in SCALAR_FIELDS and FIELD_DTYPES[name] != pl.Boolean()
    }
    ids = pl.Series([f"{number:032x}" for number in range(rows)])
    seconds = _on_the_wall(lambda folder: write_epoch(folder, "estimate", "epoch_end", 0, ids, columns))
    return seconds * size / rows


def _byte_seconds() -> float:
    """Return the seconds a byte takes through a checkpoint's file to the disk."""
    state = torch.zeros(_BYTES_WRITTEN // 4)

    def write(folder: Path) -> None:
        with replacing(folder / "state.pt") as temporary, temporary.open("wb") as file:
            write_state({"state": state}, file)

    return _on_the_wall(write) / _BYTES_WRITTEN
