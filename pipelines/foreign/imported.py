"""Somebody else's recording becomes a run like our own: matched by id, completed, written file by file.

What follows from logits or probabilities is computed by the function that our own recorder uses, in blocks of
samples; from scalars alone only what follows exactly (loss and probability of the label give each other, a
margin says whether the label won). Probabilities fix the logits up to a constant per sample, which no margin
sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from tracesift.catalog.files import digest
from tracesift.catalog.schema import FIELD_DTYPES, SCALAR_FIELDS, SIGNALS, BadInput
from tracesift.pipelines.foreign.class_order import complete, in_dataset_order
from tracesift.pipelines.foreign.matching import Matched, Part, match_val
from tracesift.pipelines.foreign.recording import PER_CLASS, Foreign
from tracesift.pipelines.provenance import dataset_facts, machine_facts
from tracesift.pipelines.recording.buffers import Buffers
from tracesift.pipelines.signals import (
    drop_epochs,
    drop_run,
    finish_run,
    is_whole,
    read_run,
    run_folder,
    run_id_of,
    write_array,
    write_epoch,
)

BLOCK = 65_536
"""Samples computed at a time."""

TINY = float(np.finfo(np.float32).tiny)
"""Stands for a probability of exactly 0 inside logarithms."""

SUM_TOLERANCE = 0.02
"""How far the probabilities of a sample may be from 1 together; half precision needs some room."""

NAMED = 5
"""Samples that a record names where it counts more of them."""

Report = Callable[[int, int, str], None]


def fields_of(foreign: Foreign) -> tuple[str, ...]:
    """Return the columns that a recording gives or implies, in the vocabulary's order."""
    given = set(foreign.fields)
    if given & set(PER_CLASS):
        given |= set(SCALAR_FIELDS) - ({"kl_step"} if len(foreign.epochs) < 2 else set())
    if given & {"loss", "prob_label"}:
        given |= {"loss", "prob_label"}
    if given & {"margin", "prob_margin", "pred"}:
        given |= {"correct"}
    return tuple(name for name in SCALAR_FIELDS if name in given)


def write_imported(
    workspace: Path, matched: Matched, *, mode: str, report: Report = lambda *_: None
) -> dict[str, Any]:
    """Write a matched recording as a run and return its record; the same again writes nothing.

    Parameters
    ----------
    mode
        ``in_training`` or ``epoch_end``.
    report
        Called as ``report(done, total, what)``.

    Raises
    ------
    BadInput
        Probabilities that do not sum to 1, logits that are probabilities, or classes whose order is unknown.
    """
    foreign, dataset = matched.foreign, matched.dataset
    fields = fields_of(foreign)
    config = {
        "import": foreign.content,
        "ids": digest(foreign.ids),
        "classes": [list(pair) for pair in sorted(matched.order.items())],
    }
    run_id = run_id_of(dataset, modes=[mode], fields=fields, config=config)
    if is_whole(workspace, run_id):
        return read_run(workspace, run_id)
    started = _now()
    drop_epochs(workspace, run_id, 0)
    folder = run_folder(workspace, run_id)
    writer = Writer(Path(workspace), run_id, mode, matched)
    try:
        for epoch, values in enumerate(foreign.read()):
            report(epoch, len(foreign.epochs), f"epoch {foreign.epochs[epoch]}")
            writer.write(epoch, values)
        if not foreign.epochs:
            writer.write_unseen()
        writer.write_arrays(folder)
    except BadInput:
        drop_run(workspace, run_id)
        if folder.parent.exists() and not any(folder.parent.iterdir()):
            folder.parent.rmdir()
        raise
    return finish_run(
        workspace,
        run_id,
        {
            "kind": "import", "dataset": dataset_facts(dataset), "config": config, "fields": list(fields),
            "modes": [mode], "epochs": max(1, len(foreign.epochs)), "model": None, "seed": None,
            "coverage": writer.coverage, "machine": machine_facts("cpu"), "started_at": started,
            "finished_at": _now(),
            "imported": {
                "file": foreign.where, "form": foreign.form, "given": list(foreign.fields),
                "computed": [name for name in fields if name not in foreign.fields],
                "arrays": sorted(foreign.arrays), "epochs": list(foreign.epochs),
                "missing": len(matched.missing), "nonfinite": writer.nonfinite, **writer.observed(),
                "columns": writer.columns,
            },
        },
    )  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Writer:
    """Writes the epochs of a matched recording; carries what one epoch needs of the one before."""

    def __init__(self, workspace: Path, run_id: str, mode: str, matched: Matched) -> None:
        self.workspace, self.run_id, self.mode, self.matched = workspace, run_id, mode, matched
        self.fields = fields_of(matched.foreign)
        self.coverage: list[dict[str, int]] = []
        self.nonfinite = 0
        self._nan_rows: dict[str, np.ndarray] = {}
        self._observed = np.zeros(len(matched.train.rows), dtype=bool)
        self._columns: np.ndarray | None = None
        self._previous: dict[str, np.ndarray] = {}
        self._val, self._val_epochs = matched.val, None
        if matched.foreign.val is not None:
            self._val = match_val(matched.foreign.val, matched.dataset, matched.order)
            self._val_epochs = matched.foreign.val.read()

    def write(self, epoch: int, values: Mapping[str, np.ndarray]) -> None:
        """Write one epoch of train and, where the file has it, of val."""
        train = self._completed(self.matched.train, values, self.fields)
        ids = self.matched.train.ids
        write_epoch(self.workspace, self.run_id, self.mode, epoch, ids, train)
        self._observed |= train["seen"]
        seen = int(train["seen"].sum())
        self.coverage.append({"epoch": epoch, "samples": len(ids), "seen": seen, "missing": len(ids) - seen})
        if not len(self._val.rows):
            return
        fields = self.fields
        if self._val_epochs is not None:
            apart = next(self._val_epochs, None)
            if apart is None:
                return
            values, fields = apart, fields_of(self.matched.foreign.val)  # type: ignore[arg-type]
        kept = tuple(name for name in fields if name != "kl_step")
        val = self._completed(self._val, values, kept)
        write_epoch(self.workspace, self.run_id, self.mode, epoch, self._val.ids, val, validation=True)

    def write_unseen(self) -> None:
        """Write an epoch in which nothing was seen, for a file that holds no epochs at all."""
        size = len(self.matched.train.rows)
        nothing = {"seen": np.zeros(size, dtype=bool), "presentations": np.zeros(size, dtype=np.int32)}
        write_epoch(self.workspace, self.run_id, self.mode, 0, self.matched.train.ids, nothing)

    def write_arrays(self, folder: Path) -> None:
        """Write labels, the last probabilities, and the arrays that the file holds beside its epochs."""
        train, foreign = self.matched.train, self.matched.foreign
        write_array(folder, "labels", train.ids.to_list(), train.labels)
        _check_whole(foreign, train)
        arrays = {name: _placed(values, train.at) for name, values in foreign.arrays.items()}
        for name, values in arrays.items():
            if SIGNALS[name].axes == "NK":
                arrays[name] = values[:, self._order(values.shape[1])]
            if not foreign.epochs:  # a sample was observed where one of the arrays holds it
                self._observed |= (train.at >= 0) & ~_nan_in(arrays[name])
            self._note_nan(train, (train.at >= 0) & _nan_in(arrays[name]))
            if name.startswith("probs"):
                _check_probs(arrays[name], train.ids, f"{foreign.where}, '{name}'")
        if "train" in self._previous:
            arrays.setdefault("probs_last", self._previous["train"])
        for name, values in arrays.items():
            write_array(folder, name, train.ids.to_list(), values)
        if len(self._val.rows):
            write_array(folder, "val_labels", self._val.ids.to_list(), self._val.labels)
            if "val" in self._previous:
                write_array(folder, "val_probs_last", self._val.ids.to_list(), self._previous["val"])
        apart = foreign.val.arrays if foreign.val is not None else {}
        if "embedding" in apart:
            placed = _placed(apart["embedding"], self._val.at)
            write_array(folder, "val_embedding", self._val.ids.to_list(), placed)

    @property
    def columns(self) -> list[str]:
        """The class that each column of logits or probabilities stands for; empty where the file has none."""
        if self._columns is None:
            return []
        return [self.matched.dataset.classes[target] for target in np.argsort(self._columns)]

    def observed(self) -> dict[str, Any]:
        """Return how many training samples were observed at all, and which samples of train and val hold NaN."""
        parts = {"train": self.matched.train, "val": self._val}
        counted = [(parts[split].ids, rows) for split, rows in self._nan_rows.items()]
        held = [sample_id for ids, rows in counted for sample_id in ids.filter(pl.Series(rows > 0))]
        return {
            "observed": int(self._observed.sum()),
            "nan": {
                "rows": int(sum(rows.sum() for _, rows in counted)), "samples": len(held), "first": held[:NAMED],
                "never": self._never(),
            },
        }  # fmt: skip

    def _never(self) -> list[str]:
        """Return the first training samples that hold NaN wherever the file holds them."""
        rows = self._nan_rows.get("train")
        if rows is None:
            return []
        return self.matched.train.ids.filter(pl.Series((rows > 0) & ~self._observed)).head(NAMED).to_list()

    def _note_nan(self, part: Part, rows: np.ndarray) -> None:
        """Count rows (n,) of a part that hold NaN in place of what was observed."""
        self._nan_rows.setdefault(part.split, np.zeros(len(part.rows), dtype=np.int64))
        self._nan_rows[part.split] += rows

    def _completed(
        self, part: Part, values: Mapping[str, np.ndarray], fields: tuple[str, ...]
    ) -> dict[str, np.ndarray]:
        kind = next((name for name in PER_CLASS if name in values), None)
        if kind is not None:
            columns = self._from_classes(part, values[kind], kind, fields)
        else:
            columns = self._from_scalars(part, values, fields)
        there = part.at >= 0
        if "seen" in values:
            there &= _placed(values["seen"], part.at) == 1
        self._note_nan(part, there & ~columns["seen"])
        columns["seen"] &= there
        for name in fields:
            columns[name] = _blanked(columns[name], columns["seen"], name)
        return columns | {"presentations": columns["seen"].astype(np.int32)}

    def _from_classes(
        self, part: Part, values: np.ndarray, kind: str, fields: tuple[str, ...]
    ) -> dict[str, np.ndarray]:
        """Compute the scalars from logits or probabilities (N, K), a block of samples at a time."""
        order = self._order(values.shape[1])
        size = len(part.rows)
        columns: dict[str, np.ndarray] = {
            name: np.zeros(size, dtype=_numpy_type(name)) for name in (*fields, "seen")
        }
        last = np.full((size, len(order)), np.nan, dtype=np.float32)
        previous = self._previous.get(part.split)
        for start in range(0, size, BLOCK):
            block = slice(start, start + BLOCK)
            rows = _placed(values, part.at[block])[:, order]
            columns["seen"][block] = seen = ~np.isnan(rows).any(1)
            self._check(kind, rows[seen], part.ids[block].filter(pl.Series(seen)))
            self.nonfinite += int(np.isinf(rows).any(1).sum())
            logits = rows if kind == "logits" else np.log(np.maximum(rows, TINY))
            before = None if previous is None else previous[block]
            found, last[block] = _as_recorded(logits, part.labels[block], fields, before)
            for name in fields:
                columns[name][block] = found[name]
        self._previous[part.split] = last
        return columns

    def _from_scalars(
        self, part: Part, values: Mapping[str, np.ndarray], fields: tuple[str, ...]
    ) -> dict[str, np.ndarray]:
        """Place the scalars that were recorded, and add those that follow from them exactly."""
        found = {name: _placed(values[name], part.at) for name in values if name in SCALAR_FIELDS}
        there = part.at >= 0
        observed = [
            ~np.isnan(column)
            for name, column in found.items()
            if name != "kl_step" and column.dtype.kind == "f"
        ]
        seen = there & (np.logical_or.reduce(observed) if observed else True)
        if "pred" in found:
            self._order(len(self.matched.dataset.classes))
            found["pred"] = in_dataset_order(_plain(found["pred"]), self._full, self.matched.dataset.classes)
        self._check_range(found, seen, part.ids)
        infinite = [np.isinf(column) for column in found.values() if column.dtype.kind == "f"]
        if infinite:
            self.nonfinite += int(np.logical_or.reduce(infinite).sum())
        if "loss" in fields and "loss" not in found:
            found["loss"] = -np.log(np.maximum(found["prob_label"], TINY))
        if "prob_label" in fields and "prob_label" not in found:
            found["prob_label"] = np.exp(-found["loss"])
        if "correct" in fields and "correct" not in found:
            won = found["pred"] == part.labels if "pred" in found else None
            found["correct"] = won if won is not None else found.get("margin", found.get("prob_margin")) > 0  # type: ignore[operator, assignment]
        columns = {name: found[name] for name in fields}
        if "correct" in columns:
            columns["correct"] = columns["correct"] == 1
        return columns | {"seen": seen}

    @property
    def _full(self) -> dict[int, int]:
        assert self._columns is not None
        return {int(column): target for target, column in enumerate(self._columns)}

    def _order(self, num_columns: int) -> np.ndarray:
        if self._columns is None or len(self._columns) != num_columns:
            foreign, classes = self.matched.foreign, self.matched.dataset.classes
            self._columns = complete(self.matched.order, num_columns, foreign, classes)
        return self._columns

    def _check(self, kind: str, rows: np.ndarray, ids: pl.Series) -> None:
        where = self.matched.foreign.where
        if kind == "probs":
            _check_probs(rows, ids, where)
        elif rows.shape[1] > 1 and len(rows) > 1 and _look_like_probs(rows):
            raise BadInput(f"{where}: its logits lie in [0, 1] and sum to 1 in every row; name them 'probs'")

    def _check_range(self, found: Mapping[str, np.ndarray], seen: np.ndarray, ids: pl.Series) -> None:
        for name, lowest in (("prob_label", 0.0), ("prob_margin", -1.0)):
            if name in found:
                outside = seen & ((found[name] < lowest) | (found[name] > 1.0 + 1e-6))
                if outside.any():
                    first = int(np.flatnonzero(outside)[0])
                    raise BadInput(
                        f"{self.matched.foreign.where}: {name} of '{ids[first]}' is {found[name][first]:g}, "
                        f"outside {lowest:g} to 1 ({outside.sum()} such values)"
                    )


def _check_probs(rows: np.ndarray, ids: pl.Series, where: str) -> None:
    off = np.flatnonzero((np.abs(rows.sum(1) - 1) > SUM_TOLERANCE) | (rows < -1e-6).any(1))
    if len(off):
        raise BadInput(
            f"{where}: the probabilities of '{ids[int(off[0])]}' sum to {rows[off[0]].sum():g} "
            f"({len(off)} such samples); name them 'logits' if they are logits"
        )


def _nan_in(values: np.ndarray) -> np.ndarray:
    """Return which rows of an array (n, ...) hold NaN, (n,)."""
    if values.dtype.kind != "f":
        return np.zeros(len(values), dtype=bool)
    return np.isnan(values).reshape(len(values), -1).any(1)


def _look_like_probs(rows: np.ndarray) -> bool:
    return bool(rows.min() >= 0 and rows.max() <= 1 and (np.abs(rows.sum(1) - 1) < 1e-3).all())


def _as_recorded(
    logits: np.ndarray, labels: np.ndarray, fields: tuple[str, ...], before: np.ndarray | None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the columns that a recorder would keep of one batch (B, K), and the probabilities."""
    rows = np.arange(len(logits))
    buffers = Buffers(
        rows, len(rows), labels, fields=fields, spans=("previous",), num_classes=logits.shape[1],
        device=torch.device("cpu"),
    )  # fmt: skip
    if before is not None:
        buffers.spans["previous"][:-1] = torch.from_numpy(before)
    buffers.add(*map(torch.from_numpy, (rows, np.ascontiguousarray(logits), labels)))
    return buffers.collect()[0], buffers.spans["previous"][:-1].numpy()


def _check_whole(foreign: Foreign, train: Part) -> None:
    """Refuse counts and truths that a file has of a part of the samples only: they have no value for "unknown"."""
    absent = train.ids.filter(pl.Series(train.at < 0))
    exact = [name for name, values in foreign.arrays.items() if values.dtype.kind != "f"]
    if len(absent) and exact:
        raise BadInput(
            f"{foreign.where}, '{exact[0]}': not every training sample is in it ({len(absent)} are not, such as "
            f"{', '.join(absent.head(NAMED))}), and a count or a yes or no cannot be left open as a NaN can; bring "
            "all samples, or leave this array out"
        )


def _placed(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return rows of the file in a part's order; NaN (or 0 for whole numbers, "" for text) where absent."""
    taken = values[np.maximum(at, 0)]
    if taken.dtype.kind == "f":
        taken = taken.astype(np.float32)
    absent = at < 0
    if absent.any():
        taken = taken.copy()
        taken[absent] = {"f": np.nan, "O": "", "U": ""}.get(taken.dtype.kind, 0)
    return taken


def _plain(values: np.ndarray) -> np.ndarray:
    """Return predictions as whole numbers where they are numbers; -1 where there is none."""
    return np.where(np.isnan(values), -1, values).astype(np.int64) if values.dtype.kind == "f" else values


def _numpy_type(name: str) -> type:
    return {pl.Boolean: np.bool_, pl.Int32: np.int32}.get(type(FIELD_DTYPES[name]), np.float32)


def _blanked(values: np.ndarray, seen: np.ndarray, name: str) -> np.ndarray:
    blank = {np.bool_: False, np.int32: -1}.get(_numpy_type(name), np.nan)
    return np.where(seen, values, blank).astype(_numpy_type(name))
