"""Recorder: per-sample signals out of any training loop, by sample, with no wait for the device.

    rec = Recorder(workspace, dataset)
    for epoch in range(epochs):
        for rows, x, y in loader:          # rows: int64 positions in the dataset, the only carrier of
        identity
            logits = model(x)
            rec.update(rows, logits, y)    # scatter into buffers on the device
            ...
        rec.end_epoch()                    # one copy to the host, one atomic file
    run_id = rec.finalize()

Unlike the recorders in the AUM and forgetting papers' code there is no dictionary and no loop per sample.
What cannot be known without a synchronisation (a row outside train, a label outside the classes) is counted
on the device and raised by `end_epoch`.

With ``keep="scores"`` no epoch is written. Each one moves on the scores that are counts and sums over
presentations (`tracesift.pipelines.recording.running_scores`), and `finalize` writes these: the memory is that of a few
numbers per sample, whatever the number of epochs, and so is the disk.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from tracesift.catalog.schema import MODES, SCALAR_FIELDS, BadInput, IncompleteRecording, Mode, nearest
from tracesift.pipelines.provenance import dataset_facts, machine_facts
from tracesift.pipelines.recording import gather
from tracesift.pipelines.recording.buffers import Buffers
from tracesift.pipelines.recording.running_scores import RUNNING, RunningScores, chosen
from tracesift.pipelines.signals import (
    drop_epochs,
    finish_run,
    run_folder,
    run_id_of,
    write_array,
    write_epoch,
    write_scores,
)

PER_CLASS_LIMIT = 1 << 30
"""Largest N x K float32 buffer, in bytes, that `kl_step` or `elr_target` may keep on the device."""

_SPANS = {"kl_step": "previous", "elr_target": "elr_target"}


class RunReplaced(UserWarning):
    """The run that is about to be recorded exists already, whole."""


class CoverageWarning(UserWarning):
    """An epoch did not present every training sample exactly once, or held non-finite logits."""


class ScoreMissed(UserWarning):
    """A score that a recorder was to keep needs another number of epochs than came."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What one epoch presented; counts are of training samples."""

    epoch: int
    samples: int
    seen: int
    missing: int
    doubled: int
    nonfinite: int
    relabelled: int
    """Presentations whose label is not the dataset's: another class order, or labels changed on the way."""
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every training sample came exactly once, with finite logits and its own label."""
        return not (self.missing or self.doubled or self.nonfinite or self.relabelled)

    def sentence(self) -> str:
        """Return the counts and the first ids in one line."""
        counts = {name: getattr(self, name) for name in ("missing", "doubled", "nonfinite", "relabelled")}
        parts = [
            f"{count} {name}" + (f" ({', '.join(self.examples[name])})" if name in self.examples else "")
            for name, count in counts.items()
            if count
        ]
        return f"epoch {self.epoch}: of {self.samples} training samples {'; '.join(parts) or 'all seen once'}"


class Recorder:
    """Record the scalars of every training sample, once per epoch.

    Parameters
    ----------
    workspace
        Folder that receives ``signals/``.
    dataset
        The opened `tracesift.pipelines.dataset.Dataset`; only its training samples are recorded.
    mode
        ``"in_training"`` (train-mode forward passes, weights moving) or ``"epoch_end"`` (one eval-mode pass).
    fields
        What to record, out of `catalog.schema.SCALAR_FIELDS`, and ``"elr_target"``; by default all scalars, or
        those that the scores to `keep` rest on. ``("loss",)`` alone admits `update_loss`.
    keep
        ``"trajectories"``, a file per epoch. Or no such files: ``"scores"``, every score that can be summed up
        from `fields` in this `mode`, or several by name, of `running_scores.RUNNING`.
    epochs
        How many the training will have, where that is known; with `keep`, `el2n` is read at a tenth of them.
    config
        Plain JSON values that tell this run from others (model, seed, learning rate). They name the run: two
        seeds recorded with the same config are the same run.
    start_epoch
        First epoch to record; with `load_state_dict`, how a run is resumed.
    device
        Where the buffers live; by default where the first logits are.
    run_id
        Join a run that somebody else names and finishes.
    """

    def __init__(
        self,
        workspace: Path | str,
        dataset: Any,
        *,
        mode: Mode = "in_training",
        fields: Sequence[str] | None = None,
        keep: Literal["trajectories", "scores"] | Sequence[str] = "trajectories",
        epochs: int | None = None,
        config: Mapping[str, Any] | None = None,
        start_epoch: int = 0,
        device: torch.device | str | None = None,
        run_id: str | None = None,
    ) -> None:
        if mode not in MODES:
            raise BadInput(f"mode={mode!r}: a recording is one of {', '.join(MODES)}")
        self.workspace = Path(workspace)
        self.dataset = dataset
        self.mode = mode
        given = None if fields is None else _checked_fields(fields, dataset)
        names = () if keep == "trajectories" else chosen(keep, mode, given, epochs)
        self.fields = _checked_fields(_needed(names, given) if names else given or SCALAR_FIELDS, dataset)
        self.config = dict(config or {})
        if names:
            self.config["keep"] = _identity(names, epochs, self.config)
        self.epoch = start_epoch
        self.run_id = run_id or run_id_of(dataset, modes=[mode], fields=self.fields, config=self.config)
        self.rows = np.asarray(dataset.rows("train"), dtype=np.int64)  # (N,), ascending: sorted by sample_id
        self.sample_ids: pl.Series = dataset.samples["sample_id"].gather(self.rows)
        if not len(self.rows):
            raise BadInput(f"{dataset.name} has no training samples to record")
        self.running = RunningScores(names, len(self.rows), epochs=epochs) if names else None
        self._device = None if device is None else torch.device(device)
        self._buffers: Buffers | None = None
        self._positions_of: dict[str, int] | None = None
        self._elr_kept: Tensor | None = None
        self._restored: dict[str, Tensor] = {}
        self._tokens = np.zeros(len(self.rows), dtype=np.int64)
        self._facts: dict[str, Any] = {
            "coverage": [],
            "best_val_accuracy": None,
            "elr_epoch": None,
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._clean = self._joined = run_id is not None  # who names a run also clears what it left
        if run_id is None and start_epoch == 0 and (run_folder(workspace, self.run_id) / "run.json").exists():
            warnings.warn(
                f"run {self.run_id} of this dataset and config is already recorded and will be replaced; "
                "put what differs (the seed, say) into config= to keep both",
                RunReplaced,
                stacklevel=2,
            )

    @property
    def scalar_fields(self) -> tuple[str, ...]:
        """The recorded columns of the epoch files."""
        return tuple(name for name in self.fields if name in SCALAR_FIELDS)

    def update(self, rows: Tensor | Sequence[str], logits: Tensor, labels: Tensor) -> None:
        """Record one batch; returns without waiting for the device.

        Parameters
        ----------
        rows
            Positions in the dataset (B,) int64, or sample ids as a list of str.
        logits
            (B, K), before the softmax, before the optimiser's step; any floating type.
        labels
            Class indices (B,) of any integer type, in the order of ``dataset.classes``.
        """
        size, classes = _checked_batch(logits, labels)
        rows = self._as_rows(rows, size)
        if size:
            self._on(logits.device, classes).add(rows, logits, labels)

    @torch.no_grad()
    def update_loss(
        self, rows: Tensor | Sequence[str], loss: Tensor, num_tokens: Tensor | None = None
    ) -> None:
        """Record per-sample losses of a language model or a regression; needs ``fields=("loss",)``.

        Parameters
        ----------
        rows
            As in `update`, (B,).
        loss
            One loss per sample (B,), mean over its tokens where it has several.
        num_tokens
            Tokens behind each loss (B,); kept as an array over samples.
        """
        if self.fields != ("loss",):
            raise BadInput(f"update_loss records the loss alone, not {self.fields}; pass fields=('loss',)")
        if loss.ndim != 1:
            raise BadInput(f"loss must be one number per sample, shape (B,), not {tuple(loss.shape)}")
        rows = self._as_rows(rows, loss.shape[0])
        if loss.shape[0]:
            self._on(loss.device, max(1, self.dataset.num_classes)).add_loss(rows, loss.detach(), num_tokens)

    def end_epoch(self, *, val_accuracy: float | None = None) -> Coverage:
        """Write the epoch's file, or move the scores on, and return what the epoch covers.

        Warns unless every sample was seen exactly once.

        Missing samples stand as NaN with ``seen`` false; of a sample presented twice the first presentation
        is kept, and the column ``presentations`` says how often it came.

        Parameters
        ----------
        val_accuracy
            Validation accuracy after this epoch. `elr_target` is kept as it stood at the epoch with the best
            one (the earliest of ties); without it, as it stands at the end.

        Raises
        ------
        BadInput
            When nothing was recorded, or a batch held a row outside train or a label outside the classes.
        """
        if self._buffers is None and not gather.distributed():
            raise BadInput(f"end_epoch of epoch {self.epoch} before any update; call update in the loop")
        buffers = self._on(torch.device("cpu"), max(1, self.dataset.num_classes))
        columns, counts = buffers.collect()
        self._refuse(counts)
        coverage = self._covered(columns, counts["relabelled"])
        if gather.rank() == 0:
            if not self._clean:
                drop_epochs(self.workspace, self.run_id, self.epoch, modes=[self.mode])
            if self.running is None:
                kept = {name: columns[name] for name in (*self.scalar_fields, "seen", "presentations")}
                write_epoch(self.workspace, self.run_id, self.mode, self.epoch, self.sample_ids, kept)
        self._clean = True
        if self.running is not None:  # in every process, so that each can be resumed from its own state
            self.running.add(columns)
        self._keep_elr_target(buffers, val_accuracy)
        self._tokens = np.where(columns["num_tokens"] > 0, columns["num_tokens"], self._tokens)
        self._facts["coverage"].append(asdict(coverage))
        self.epoch += 1
        buffers.reset()
        gather.wait()
        if not coverage.complete:
            warnings.warn(coverage.sentence(), CoverageWarning, stacklevel=2)
        return coverage

    def finalize(self) -> str:
        """Write the run's record, last of all, and return the run id; refuses a run with a gap.

        Warns of a score that cannot be had, because the training was not as long as `epochs` said.
        """
        if self.running is not None and self.running.epochs != self.epoch:
            raise IncompleteRecording(
                f"run {self.run_id} stands at epoch {self.epoch}, but its scores hold {self.running.epochs} epochs; "
                "a recorder that keeps scores is resumed with load_state_dict, or starts again at epoch 0"
            )
        missed = {} if self.running is None else self.running.missed()
        for name, why in missed.items():
            warnings.warn(f"run {self.run_id} has no {name}: {why}", ScoreMissed, stacklevel=2)
        if gather.rank() == 0:
            self.write_arrays()
            finish_run(self.workspace, self.run_id, {"kind": "recorded", **self.record()})
        gather.wait()
        return self.run_id

    def record(self) -> dict[str, Any]:
        """Return the facts of this recording for the run's record, as plain JSON."""
        summed = (
            {} if self.running is None else {"scores": self.running.record(), "missed": self.running.missed()}
        )
        return {
            "dataset": dataset_facts(self.dataset),
            "config": self.config,
            "fields": list(self.scalar_fields) if self.running is None else [],
            "modes": [self.mode],
            "epochs": self.epoch,
            **summed,
            **self._facts,
            "machine": machine_facts(self._device or "cpu"),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def write_arrays(self) -> None:
        """Write what belongs to no epoch: labels, `elr_target` and `num_tokens` where kept, and summed-up scores."""
        folder = run_folder(self.workspace, self.run_id)
        ids = self.sample_ids
        if self.running is not None:
            write_scores(folder, self.mode, ids, self.running.values())
        write_array(folder, "labels", ids, np.asarray(self.dataset.labels, dtype=np.int64)[self.rows])
        if "elr_target" in self.fields:
            kept = self._spans()["elr_target"] if self._elr_kept is None else self._elr_kept
            write_array(folder, "elr_target", ids, kept[:-1].cpu().numpy())
        if (self._tokens > 0).any():
            write_array(folder, "num_tokens", ids, self._tokens)

    def state_dict(self, *, copy: bool = True) -> dict[str, Any]:
        """Return what a resumed recorder needs, tensors and plain values; to be taken between two epochs.

        Parameters
        ----------
        copy
            False: on the CPU the tensors are the recorder's own and change with it, which is enough where the
            state is written at once.
        """
        if self._buffers is not None and self._buffers.presented:
            raise BadInput("state_dict in the middle of an epoch: call end_epoch first, then checkpoint")
        return {
            "run_id": self.run_id,
            "epoch": self.epoch,
            "facts": {**self._facts, "coverage": [dict(entry) for entry in self._facts["coverage"]]},
            "tokens": torch.from_numpy(self._tokens.copy()),
            "elr_kept": None if self._elr_kept is None else self._elr_kept.to("cpu", copy=copy),
            "spans": {name: span.to("cpu", copy=copy) for name, span in self._spans().items()},
            "running": None if self.running is None else self.running.state_dict(copy=copy),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue after the epoch at which `state` was taken; later files of the run are dropped."""
        if state["run_id"] != self.run_id:
            raise BadInput(f"the state belongs to run {state['run_id']}, this recorder to run {self.run_id}")
        self.epoch = state["epoch"]
        self._facts = {**state["facts"], "coverage": [dict(entry) for entry in state["facts"]["coverage"]]}
        self._tokens = state["tokens"].numpy().copy()
        self._elr_kept = state["elr_kept"]
        self._restored = {name: span.clone() for name, span in state["spans"].items()}
        if self.running is not None:
            self.running.load_state_dict(state["running"])
        self._buffers, self._clean = None, self._joined

    def _spans(self) -> Mapping[str, Tensor]:
        return self._restored if self._buffers is None else self._buffers.spans

    def _on(self, device: torch.device, num_classes: int) -> Buffers:
        """Return the buffers, made at the first call."""
        if self._buffers is None:
            self._device = self._device or device
            self._buffers = Buffers(
                self.rows,
                len(self.dataset.samples),
                np.asarray(self.dataset.labels, dtype=np.int64)[self.rows],
                fields=self.scalar_fields,
                spans=[span for needed_by, span in _SPANS.items() if needed_by in self.fields],
                num_classes=num_classes,
                device=self._device,
            )
            for name, span in self._restored.items():
                self._buffers.spans[name].copy_(span)
            self._restored = {}
        return self._buffers

    def _as_rows(self, rows: Tensor | Sequence[str], size: int) -> Tensor:
        if not isinstance(rows, Tensor):
            rows = self._rows_of(rows)
        if rows.dtype != torch.int64 or rows.shape != (size,):
            raise BadInput(
                f"rows must be int64 dataset rows of shape ({size},), not {rows.dtype} {tuple(rows.shape)}; "
                "or a list of sample ids"
            )
        return rows

    def _rows_of(self, sample_ids: Sequence[str]) -> Tensor:
        if not isinstance(sample_ids, (list, tuple)) or not all(isinstance(name, str) for name in sample_ids):
            raise BadInput(
                "rows must be the int64 tensor of dataset rows or a list of sample ids (str); "
                f"this {type(sample_ids).__name__} could be positions in a shuffled loader"
            )
        if self._positions_of is None:
            self._positions_of = dict(zip(self.sample_ids.to_list(), map(int, self.rows), strict=True))
        unknown = [name for name in sample_ids if name not in self._positions_of]
        if unknown:
            raise BadInput(f"sample id {unknown[0]!r} is not a training sample of {self.dataset.name}")
        return torch.tensor([self._positions_of[name] for name in sample_ids], dtype=torch.int64)

    def _keep_elr_target(self, buffers: Buffers, val_accuracy: float | None) -> None:
        if "elr_target" not in self.fields:
            return
        best = self._facts["best_val_accuracy"]
        if val_accuracy is None:
            if best is None:
                self._facts["elr_epoch"] = self.epoch
        elif best is None or val_accuracy > best:
            self._facts.update(best_val_accuracy=float(val_accuracy), elr_epoch=self.epoch)
            self._elr_kept = buffers.spans["elr_target"].clone()

    def _refuse(self, counts: Mapping[str, int]) -> None:
        where = f"epoch {self.epoch} of {self.dataset.name}"
        if counts["outside"]:
            raise BadInput(
                f"{where}: {counts['outside']} presentations of rows that are no training sample (row "
                f"{counts['last_outside']} is one); pass the dataset's own rows, not positions in a subset"
            )
        if counts["label_outside"]:
            raise BadInput(f"{where}: {counts['label_outside']} labels lie outside the network's outputs")

    def _covered(self, columns: Mapping[str, np.ndarray], relabelled: int) -> Coverage:
        marks = {
            "missing": ~columns["seen"],
            "doubled": columns["presentations"] > 1,
            "nonfinite": columns["nonfinite"] > 0,
        }
        first = {name: np.flatnonzero(mark)[:3] for name, mark in marks.items() if mark.any()}
        return Coverage(
            epoch=self.epoch,
            samples=len(self.rows),
            seen=int(columns["seen"].sum()),
            relabelled=relabelled,
            examples={name: tuple(self.sample_ids.gather(places)) for name, places in first.items()},
            **{name: int(mark.sum()) for name, mark in marks.items()},
        )


def fits_per_class(dataset: Any) -> bool:
    """Return whether an (N, K) float32 array over the training samples is small enough to be carried."""
    return (len(dataset.rows("train")) + 1) * max(1, dataset.num_classes) * 4 <= PER_CLASS_LIMIT


def _needed(names: Sequence[str], fields: Sequence[str] | None) -> tuple[str, ...]:
    """Return the fields that the scores to keep rest on, and `elr_target` where it is asked for."""
    needed = {RUNNING[name].reads for name in names}
    for name in fields or ():
        if name in SCALAR_FIELDS and name not in needed:
            raise BadInput(
                f"fields: {name!r} enters none of the scores to keep ({', '.join(names)}); leave it out"
            )
    return (*needed, *(name for name in fields or () if name not in needed))


def _identity(names: Sequence[str], epochs: int | None, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells a run that keeps scores from one of the same config that keeps trajectories."""
    if "keep" in config:
        raise BadInput("config: 'keep' is what the recorder writes there itself; give yours another name")
    return {"scores": list(names), **({"epochs": epochs} if "el2n" in names else {})}


def _checked_fields(fields: Sequence[str], dataset: Any) -> tuple[str, ...]:
    known = (*SCALAR_FIELDS, "elr_target")
    if isinstance(fields, str):
        raise BadInput(f"fields={fields!r} must be several names; write fields=({fields!r},)")
    for name in fields:
        if name not in known:
            raise BadInput(f"fields: unknown name {name!r}{nearest(name, known)}; known: {', '.join(known)}")
    if not any(name in SCALAR_FIELDS for name in fields):
        raise BadInput(f"fields={tuple(fields)} holds no scalar to record; known: {', '.join(SCALAR_FIELDS)}")
    for name in _SPANS:
        if name in fields and not fits_per_class(dataset):
            rest = tuple(other for other in fields if other not in _SPANS)
            raise BadInput(
                f"{name} carries {len(dataset.rows('train')):,} x {dataset.num_classes:,} probabilities on "
                f"the device, more than 1 GiB; leave it out: fields={rest}"
            )
    return tuple(name for name in known if name in fields)


def _checked_batch(logits: Tensor, labels: Tensor) -> tuple[int, int]:
    """Return B and K."""
    shape = logits.shape
    if len(shape) != 2 or not shape[1] or not logits.is_floating_point():
        raise BadInput(f"logits must be floating point of shape (B, K), not {logits.dtype} {tuple(shape)}")
    size, classes = shape
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise BadInput(f"labels must be class indices, not {labels.dtype}; soft targets are not recorded")
    if labels.shape != (size,):
        raise BadInput(f"labels has shape {tuple(labels.shape)} for {size} rows of logits")
    return size, classes
