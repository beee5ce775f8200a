"""Train a model on a dataset and record every sample's signals: one run, one seed, resumable at any moment.

Two recordings share the run: `in_training` as the batches pass, and `epoch_end`, an eval-mode pass over train
and val with the weights after the epoch. Epoch t of the second is the weights after t + 1 epochs; there is no
pass before training, as in the published code of CLD (its formula starts one checkpoint earlier).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tracesift.catalog.schema import SCALAR_FIELDS, BadInput
from tracesift.pipelines.checkpoint import load_checkpoint, save_checkpoint
from tracesift.pipelines.determinism import choose_device, rng_state, set_rng_state, settled
from tracesift.pipelines.encoding.encode import Encoded, Encodings, encode
from tracesift.pipelines.loop import Learner, check_output, fit, predict
from tracesift.pipelines.models.contract import Model, find
from tracesift.pipelines.recorder import Recorder, fits_per_class
from tracesift.pipelines.recording.scalars import scalars
from tracesift.pipelines.signals import (
    drop_epochs,
    drop_run,
    finish_run,
    forget_broken_arrays,
    is_whole,
    run_folder,
    run_id_of,
    write_array,
    write_epoch,
)

Progress = Callable[[float, float, str], None]
"""Called with what is done, the total, and what is going on."""

VALIDATION_FIELDS = ("loss", "correct", "margin", "prob_label", "pred")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What a recording is asked for; None means the model's recipe.

    Device and threads decide the bits but not the meaning, and are no part of the run's name.
    """

    seed: int
    model: str = "auto"
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    fields: tuple[str, ...] | None = None
    """All scalars and `elr_target` by default, without those that carry classes where these are too many."""
    epoch_end: bool = True
    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A config resolved against a dataset."""

    model: Model
    epochs: int
    steps: int
    fields: tuple[str, ...]
    modes: tuple[str, ...]
    threads: int | None
    config: dict[str, Any]
    run_id: str


def plan(dataset: Any, config: TrainConfig) -> Plan:
    """Return what `record` will do, with the run's id; trains nothing.

    Raises
    ------
    BadInput
        For an unknown model or field, no epochs, or fewer than two training samples.
    """
    size = len(dataset.rows("train"))
    model = find(config.model, dataset.kind).for_size(size)
    model = model.with_recipe(batch_size=config.batch_size, lr=config.lr)
    epochs = config.epochs if config.epochs is not None else model.recipe.epochs
    if epochs < 1 or model.recipe.batch_size < 1:
        raise BadInput(f"epochs={epochs}, batch_size={model.recipe.batch_size}: both must be at least 1")
    if size < 2:
        raise BadInput(f"{dataset.name} has {size} training sample(s); training needs at least 2")
    fields = config.fields or _all_fields(dataset)
    modes = ("in_training", "epoch_end") if config.epoch_end else ("in_training",)
    named = {"model": model.identity(), "epochs": epochs, "seed": config.seed}
    return Plan(
        model=model,
        epochs=epochs,
        steps=epochs * math.ceil(size / model.recipe.batch_size),
        fields=fields,
        modes=modes,
        threads=config.threads or model.recipe.threads,
        config=named,
        run_id=run_id_of(dataset, modes=modes, fields=fields, config=named),
    )


def record(
    dataset: Any,
    workspace: Path | str,
    config: TrainConfig,
    progress: Progress | None = None,
    *,
    inputs: Encodings | None = None,
) -> str:
    """Train, record, and return the run's id; a run that is already whole is returned at once.

    Killed at any moment and called again, it continues after its last whole epoch and ends with the same
    bytes as an undisturbed run on the same machine and thread count.

    Parameters
    ----------
    dataset
        The opened dataset.
    workspace
        Folder that receives ``signals/run=<run_id>/``.
    progress
        Called after every batch.
    inputs
        The dataset's encodings, where several models share them.
    """
    planned = plan(dataset, config)
    forget_broken_arrays(workspace, planned.run_id)
    if is_whole(workspace, planned.run_id):
        return planned.run_id
    if (run_folder(workspace, planned.run_id) / "run.json").exists():
        # Finished once and damaged since: the checkpoint stands behind the last epoch and gives nothing back.
        drop_run(workspace, planned.run_id)
    with settled(config.seed, planned.threads):
        encoded = encode(dataset, planned.model) if inputs is None else inputs.of(planned.model)
        _Recording(dataset, Path(workspace), config, planned, encoded, progress).run()
    return planned.run_id


class _Recording:
    """One run in the making: model, inputs and recorders."""

    def __init__(
        self,
        dataset: Any,
        workspace: Path,
        config: TrainConfig,
        planned: Plan,
        encoded: Encoded,
        progress: Progress | None,
    ) -> None:
        self.dataset, self.workspace, self.plan, self.seed = dataset, workspace, planned, config.seed
        self.progress = progress
        self.folder = run_folder(workspace, planned.run_id)
        self.device = choose_device(config.device)
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.inputs = encoded.to(self.device)
        module = planned.model.build(self.inputs.input_shape, dataset.num_classes)
        self.learner = Learner(module, planned.model.recipe, steps=planned.steps, device=self.device)
        self.labels = torch.tensor(dataset.labels, dtype=torch.int64, device=self.device)
        self.train = torch.from_numpy(dataset.rows("train"))
        self.val = torch.from_numpy(dataset.rows("val"))
        check_output(self.learner, self.inputs, self.train, dataset.num_classes, planned.model.name)
        scalar_fields = tuple(name for name in planned.fields if name in SCALAR_FIELDS)
        self.recorders = {
            mode: Recorder(
                workspace,
                dataset,
                mode=mode,  # type: ignore[arg-type]
                fields=planned.fields if mode == "in_training" else scalar_fields,
                config=planned.config,
                device=self.device,
                run_id=planned.run_id,
            )
            for mode in planned.modes
        }

    def run(self) -> None:
        """Train from the last whole epoch to the end, and write the record."""
        start = self._resume()
        self._say(start, "start")
        in_training = self.recorders["in_training"]
        epochs = fit(
            self.learner,
            self.inputs,
            self.labels,
            self.train,
            seed=self.seed,
            start=start,
            recorder=in_training,
            after_batch=lambda: self._say(self.learner.step * self.plan.epochs / self.plan.steps, "training"),
        )
        for epoch in epochs:
            accuracy = self._epoch_end(epoch) if "epoch_end" in self.recorders else None
            in_training.end_epoch(val_accuracy=accuracy)
            self._checkpoint(epoch + 1)
            self._say(epoch + 1, "epoch done" if accuracy is None else f"val accuracy {accuracy:.3f}")
        self._finish()

    def _say(self, epochs: float, message: str) -> None:
        if self.progress is not None:
            self.progress(epochs, self.plan.epochs, f"epoch {max(1, math.ceil(epochs))}: {message}")

    def _resume(self) -> int:
        state = load_checkpoint(self.folder)
        start = 0
        if state is not None and state["run_id"] == self.plan.run_id:
            start = state["epoch"]
            self.started_at = state["started_at"]
            self.learner.load_state_dict(state["learner"])
            for mode, recorder in self.recorders.items():
                recorder.load_state_dict(state["recorders"][mode])
            set_rng_state(state["rng"])
        drop_epochs(self.workspace, self.plan.run_id, start)
        return start

    def _checkpoint(self, epoch: int) -> None:
        save_checkpoint(
            self.folder,
            {
                "run_id": self.plan.run_id,
                "epoch": epoch,
                "started_at": self.started_at,
                "learner": self.learner.state_dict(),
                "recorders": {
                    mode: recorder.state_dict(copy=False) for mode, recorder in self.recorders.items()
                },
                "rng": rng_state(),
            },
        )

    def _epoch_end(self, epoch: int) -> float | None:
        """Record the eval-mode pass; return the validation accuracy, None without validation samples."""
        recorder = self.recorders["epoch_end"]
        keep = epoch + 1 == self.plan.epochs and fits_per_class(self.dataset)
        last = np.empty((len(self.train) if keep else 0, self.dataset.num_classes), dtype=np.float32)
        at = 0
        for rows, logits in predict(self.learner, self.inputs, self.train):
            recorder.update(rows, logits, self.labels[rows.to(self.device, non_blocking=True)])
            if keep:
                last[at : at + len(rows)] = logits.softmax(1).cpu().numpy()
                at += len(rows)
        if keep:
            write_array(self.folder, "probs_last", self._ids(self.train), last)
        accuracy = self._validate(epoch, keep=keep)
        recorder.end_epoch(val_accuracy=accuracy)
        return accuracy

    def _validate(self, epoch: int, *, keep: bool) -> float | None:
        """Record the validation samples, with their probabilities to `keep`; return the accuracy."""
        if not len(self.val):
            return None
        parts, last = [], []
        for rows, logits in predict(self.learner, self.inputs, self.val):
            parts.append(
                scalars(logits, self.labels[rows.to(self.device, non_blocking=True)], VALIDATION_FIELDS)
            )
            if keep:
                last.append(logits.softmax(1).cpu().numpy())
        if keep:
            write_array(self.folder, "val_probs_last", self._ids(self.val), np.concatenate(last))
        columns = {
            name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in VALIDATION_FIELDS
        }
        ids = self.dataset.samples["sample_id"].gather(self.val.numpy())
        write_epoch(self.workspace, self.plan.run_id, "epoch_end", epoch, ids, columns, validation=True)
        return float(columns["correct"].mean())

    def _ids(self, rows: Tensor) -> list[str]:
        return self.dataset.samples["sample_id"].gather(rows.numpy()).to_list()

    def _finish(self) -> None:
        recorder = self.recorders["in_training"]
        recorder.write_arrays()
        if len(self.val) and "epoch_end" in self.recorders:
            labels = np.asarray(self.dataset.labels, dtype=np.int64)[self.val.numpy()]
            write_array(self.folder, "val_labels", self._ids(self.val), labels)
        record = {
            **recorder.record(),
            "kind": "trained",
            "model": self.plan.model.name,
            "seed": self.seed,
            "modes": list(self.plan.modes),
            "started_at": self.started_at,
        }
        finish_run(self.workspace, self.plan.run_id, record)


def _all_fields(dataset: Any) -> tuple[str, ...]:
    if fits_per_class(dataset):
        return (*SCALAR_FIELDS, "elr_target")
    return tuple(name for name in SCALAR_FIELDS if name != "kl_step")
