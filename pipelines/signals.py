"""Signals on disk: one Parquet file per checkpoint and mode, arrays beside them, a run record written last.

    signals/run=<run_id>/mode=<mode>/epoch-0000.parquet             training samples, sorted by sample_id
    signals/run=<run_id>/validation/mode=<mode>/epoch-0000.parquet  validation samples
    signals/run=<run_id>/mode=<mode>/scores.parquet                 instead of epochs: scores summed up in training
    signals/run=<run_id>/<name>.npz                                 probs_last, embedding, ...: (ids, values)
    signals/run=<run_id>/run.json                                   the record, with every file's SHA-256

A run without ``run.json`` is unfinished: it can be resumed, and nothing else reads it. Every file is written
beside its place and renamed, so a reader sees a whole file or none.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.files import ROW_GROUP, digest, replacing, sha256, write_json, write_parquet
from tracesift.catalog.schema import (
    FIELD_DTYPES,
    MODES,
    SIGNAL_SCHEMA,
    SIGNALS,
    BadInput,
    IncompleteRecording,
    MissingSignal,
)

PER_EPOCH = tuple(name for name, signal in SIGNALS.items() if signal.axes == "TN")


LISTED = 8
"""Runs that a message names at most."""


def run_id_of(dataset: Any, *, modes: Sequence[str], fields: Sequence[str], config: Mapping[str, Any]) -> str:
    """Return the run's id: 16 hex digits of its inputs, so the same inputs always name the same run.

    Neither time nor chance enters, nor what changes no meaning (device, threads).
    """
    try:
        return digest(
            {
                "schema": SIGNAL_SCHEMA,
                "fingerprint": dataset.fingerprint,
                "transform": dataset.transform,
                "modes": sorted(modes),
                "fields": sorted(fields),
                "config": dict(config),
                **withheld_from(dataset),
            }
        )
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"config= names the run and must be plain JSON values ({error}); write numbers, strings, lists"
        ) from None


def withheld_from(dataset: Any) -> dict[str, list[str]]:
    """Return what tells a dataset without deleted samples from one with them: the requests, by their ids."""
    requests = list(getattr(dataset, "withheld_by", ()))
    return {"withheld_by": requests} if requests else {}


def run_folder(workspace: Path | str, run_id: str) -> Path:
    """Return the folder that holds everything of one run."""
    return Path(workspace) / "signals" / f"run={run_id}"


def epoch_path(folder: Path, mode: str, epoch: int, *, validation: bool = False) -> Path:
    """Return the path of one checkpoint's file in a run folder."""
    place = folder / "validation" if validation else folder
    return place / f"mode={mode}" / f"epoch-{epoch:04d}.parquet"


def write_epoch(
    workspace: Path | str,
    run_id: str,
    mode: str,
    epoch: int,
    sample_ids: pl.Series,
    columns: Mapping[str, np.ndarray],
    *,
    validation: bool = False,
) -> Path:
    """Write one checkpoint of one mode, atomically; the same values give the same bytes.

    Parameters
    ----------
    sample_ids
        The samples in ascending order, (N,).
    columns
        Field name -> array (N,), of `catalog.schema.FIELD_DTYPES`.
    validation
        Whether these are the validation samples.
    """
    size = len(sample_ids)
    frame = pl.DataFrame(
        [
            pl.repeat(run_id, size, dtype=pl.String, eager=True).alias("run_id"),
            pl.repeat(epoch, size, dtype=pl.Int32, eager=True).alias("epoch"),
            pl.repeat(mode, size, dtype=pl.String, eager=True).alias("mode"),
            sample_ids.alias("sample_id"),
            *(pl.Series(name, values, dtype=FIELD_DTYPES[name]) for name, values in columns.items()),
        ]
    )
    path = epoch_path(run_folder(workspace, run_id), mode, epoch, validation=validation)
    write_parquet(frame, path)
    return path


def scores_path(folder: Path, mode: str) -> Path:
    """Return the path of the scores that a run kept instead of one mode's epochs."""
    return folder / f"mode={mode}" / "scores.parquet"


def write_scores(folder: Path, mode: str, sample_ids: pl.Series, values: Mapping[str, np.ndarray]) -> Path:
    """Write scores (N,) by column, atomically, for samples in ascending order."""
    path = scores_path(folder, mode)
    columns = [pl.Series(name, column, dtype=pl.Float64) for name, column in values.items()]
    write_parquet(pl.DataFrame([sample_ids.alias("sample_id"), *columns]), path)
    return path


def write_array(folder: Path, name: str, sample_ids: Sequence[str] | pl.Series, values: np.ndarray) -> Path:
    """Write `values` (N, ...) with the ids of its rows to ``<name>.npz``, atomically.

    Ids are kept as UTF-8 bytes: a fixed-width unicode array takes four times the room.
    """
    if len(sample_ids) != len(values):
        raise BadInput(f"{name}: {len(values)} rows for {len(sample_ids)} samples; they must be row-aligned")
    ids = _as_bytes(sample_ids)
    path = folder / f"{name}.npz"
    with replacing(path) as temporary:
        np.savez(temporary, sample_ids=ids, values=values, allow_pickle=False)
    return path


def _as_bytes(sample_ids: Sequence[str] | pl.Series) -> np.ndarray:
    """Return ids as an array of bytes, a block at a time: a Python string takes several times the room of its text."""
    blocks = [slice(start, start + ROW_GROUP) for start in range(0, max(len(sample_ids), 1), ROW_GROUP)]
    return np.concatenate([np.array([name.encode() for name in sample_ids[block]]) for block in blocks])


def read_array(folder: Path, name: str) -> tuple[list[str], np.ndarray]:
    """Return the ids and the values (N, ...) of an array written by `write_array`."""
    path = folder / f"{name}.npz"
    if not path.exists():
        raise IncompleteRecording(
            f"{path} is missing; {SIGNALS[name].source if name in SIGNALS else 'record it'}"
        )
    with np.load(path, allow_pickle=False) as stored:
        return [sample_id.decode() for sample_id in stored["sample_ids"]], stored["values"]


def _ids_digest(folder: Path, name: str) -> str:
    """Return a hash of an array's ids, without making a string of each."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as stored:
        return hashlib.sha256(stored["sample_ids"].view(np.uint8)).hexdigest()


def drop_epochs(workspace: Path | str, run_id: str, start: int, *, modes: Sequence[str] = MODES) -> None:
    """Remove what a run wrote at epoch `start` or later, and its record: the run is unfinished from here on.

    Called on resume, so that files written after the last checkpoint never mix with the repeated epochs.
    """
    folder = run_folder(workspace, run_id)
    (folder / "run.json").unlink(missing_ok=True)
    for mode in modes:
        for place in (folder, folder / "validation"):
            for path in place.glob(f"mode={mode}/epoch-*.parquet"):
                if int(path.stem.removeprefix("epoch-")) >= start:
                    path.unlink()
            for leftover in place.glob(f"mode={mode}/.tmp-*"):
                leftover.unlink()


def drop_run(workspace: Path | str, run_id: str) -> None:
    """Remove a run; the record goes first, so a half-removed run never reads as whole, and then what resumes it."""
    folder = run_folder(workspace, run_id)
    (folder / "run.json").unlink(missing_ok=True)
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def finish_run(workspace: Path | str, run_id: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Check that the run has no gap, hash its files and write ``run.json``; return the record as written.

    Parameters
    ----------
    record
        Must hold ``modes`` and ``epochs``; everything else is kept as given.

    Raises
    ------
    IncompleteRecording
        When an epoch's file is missing.
    """
    folder = run_folder(workspace, run_id)
    summed = {score["mode"] for score in record.get("scores", ())}
    for mode in record["modes"]:
        if record["epochs"] and mode in summed and scores_path(folder, mode).exists():
            continue
        gaps = [epoch for epoch in range(record["epochs"]) if not epoch_path(folder, mode, epoch).exists()]
        if gaps or not record["epochs"]:
            raise IncompleteRecording(
                f"run {run_id} has no {mode} file for epoch(s) {gaps[:5] or [0]} in {folder}; "
                "record them, or start again from epoch 0"
            )
    files = sorted(path for path in folder.rglob("*") if path.suffix in {".parquet", ".npz"})
    hashes = {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in files
        if not path.name.startswith(".tmp-") and "folds" not in path.relative_to(folder).parts
    }
    whole = {**record, "run_id": run_id, "schema": SIGNAL_SCHEMA, "files": hashes}
    write_json(folder / "run.json", whole)
    return whole


def add_array(
    workspace: Path | str, run_id: str, name: str, sample_ids: Sequence[str], values: np.ndarray, made: Any
) -> None:
    """Add an array to a whole run, with how it was `made` (plain JSON) in the run's record."""
    record = read_run(workspace, run_id)
    folder = run_folder(workspace, run_id)
    path = write_array(folder, name, sample_ids, values)
    record["files"][path.name] = sha256(path)
    record["arrays"] = {**record.get("arrays", {}), name: made}
    write_json(folder / "run.json", record)


def drop_arrays(workspace: Path | str, run_id: str, names: Sequence[str]) -> None:
    """Take arrays out of a run, all of them at once: first out of its record, so that none is read while files go."""
    if not names:
        return
    record, folder = read_run(workspace, run_id), run_folder(workspace, run_id)
    for name in names:
        del record["arrays"][name]
        record["files"].pop(f"{name}.npz", None)
    write_json(folder / "run.json", record)
    for name in names:
        (folder / f"{name}.npz").unlink(missing_ok=True)


def forget_broken_arrays(workspace: Path | str, run_id: str) -> None:
    """Take added arrays whose file is missing or has changed out of a run's record: their step makes them again."""
    folder = run_folder(workspace, run_id)
    if not (folder / "run.json").exists():
        return
    record = json.loads((folder / "run.json").read_bytes())
    paths = {name: folder / f"{name}.npz" for name in record.get("arrays", {})}
    broken = [
        name
        for name, path in paths.items()
        if not path.exists() or sha256(path) != record["files"].get(path.name)
    ]
    for name in broken:
        del record["arrays"][name]
        record["files"].pop(f"{name}.npz", None)
    if broken:
        write_json(folder / "run.json", record)


def read_run(workspace: Path | str, run_id: str, *, verify: bool = False) -> dict[str, Any]:
    """Return a whole run's record.

    Parameters
    ----------
    verify
        Recompute every file's SHA-256 instead of only looking whether it is there.

    Raises
    ------
    IncompleteRecording
        When the run is unknown, unfinished, lacks a file, or (`verify`) a file has changed.
    """
    folder = run_folder(workspace, run_id)
    if not (folder / "run.json").exists():
        if folder.exists():
            raise IncompleteRecording(
                f"run {run_id} is unfinished in {folder.parent}; run `tracesift record` to complete it"
            )
        raise IncompleteRecording(
            f"run {run_id} does not exist in {folder.parent}; {_those_there(workspace)}"
        )
    record = json.loads((folder / "run.json").read_bytes())
    for name, expected in record["files"].items():
        path = folder / name
        if not path.exists() or (verify and sha256(path) != expected):
            what = "has changed since it was recorded" if path.exists() else "is missing"
            raise IncompleteRecording(f"{path} {what}; remove {folder} and record the run again")
    return record


def _those_there(workspace: Path | str) -> str:
    """Return which finished runs there are, the newest first, in words."""
    found = sorted(list_runs(workspace), key=lambda run: str(run.get("finished_at") or ""), reverse=True)
    if not found:
        return "there is none; run `tracesift record` first"
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return f"there are {', '.join(run['run_id'] for run in found[:LISTED])}{more}"


def is_whole(workspace: Path | str, run_id: str) -> bool:
    """Return whether a run is finished and every file is there, unchanged."""
    try:
        read_run(workspace, run_id, verify=True)
    except IncompleteRecording:
        return False
    return True


def list_runs(workspace: Path | str) -> list[dict[str, Any]]:
    """Return the records of all finished runs in a workspace, by run id."""
    records = sorted((Path(workspace) / "signals").glob("run=*/run.json"))
    return [json.loads(path.read_bytes()) for path in records]


def load_signals(
    workspace: Path | str, run_id: str, fields: Sequence[str] | None = None, *, verify: bool = False
) -> Signals:
    """Return a run's signals; columns are read when they are asked for.

    Parameters
    ----------
    fields
        Names to offer; all that were recorded by default.
    verify
        Recompute hashes first.

    Examples
    --------
    >>> signals = load_signals("tracesift-work", run_id)           # doctest: +SKIP
    >>> signals.in_mode("in_training")["margin"].shape             # doctest: +SKIP
    (10, 1437)
    """
    return Signals(run_folder(workspace, run_id), read_run(workspace, run_id, verify=verify), fields)


class Signals:
    """A recorded run, read lazily: `modes`, `sample_ids`, and one mapping of arrays per mode."""

    def __init__(self, folder: Path, run: dict[str, Any], fields: Sequence[str] | None = None) -> None:
        self.folder = folder
        self.run = run
        self.fields = None if fields is None else tuple(fields)
        self.modes: tuple[str, ...] = tuple(run["modes"])

    @cached_property
    def sample_ids(self) -> list[str]:
        """Training samples in ascending order, the rows of every array over N."""
        return read_array(self.folder, "labels")[0]

    @cached_property
    def val_sample_ids(self) -> list[str]:
        """Validation samples in ascending order, the rows of every array over M."""
        return read_array(self.folder, self._over_validation)[0]

    @cached_property
    def ids_digest(self) -> str:
        """The hash that the ids of every array over N have."""
        return _ids_digest(self.folder, "labels")

    @cached_property
    def val_ids_digest(self) -> str:
        """The hash that the ids of every array over M have."""
        return _ids_digest(self.folder, self._over_validation)

    @cached_property
    def _over_validation(self) -> str:
        """An array over M: the labels, or what a job or an embedding added to a run that recorded no validation."""
        over = [name for name, signal in SIGNALS.items() if signal.axes[0] == "M" and name != "val_labels"]
        found = (name for name in ("val_labels", *over) if f"{name}.npz" in self.run["files"])
        return next(found, "val_labels")

    def summed(self, scorer: str, version: int, params: Mapping[str, Any]) -> np.ndarray | None:
        """Return a scorer's values (N,) that the recorder itself summed up; None where it kept trajectories.

        Raises
        ------
        MissingSignal
            The scorer was summed up under other settings, or as an earlier version of itself.
        """
        found = [score for score in self.run.get("scores", ()) if score["scorer"] == scorer]
        for score in found:
            if (score["version"], score["params"]) == (version, dict(params)):
                path = scores_path(self.folder, score["mode"])
                return pl.read_parquet(path, columns=[score["column"]])[score["column"]].to_numpy()
        if found:
            kept = "; ".join(f"version {score['version']} with {score['params']}" for score in found)
            raise MissingSignal(
                f"run {self.run['run_id']} summed up '{scorer}' while training, as {kept}, and kept no "
                f"trajectories; for version {version} with {dict(params)} record again, with keep='trajectories'"
            )
        return None

    def in_mode(self, mode: str, beside: Mapping[str, np.ndarray] | None = None) -> ModeSignals:
        """Return the arrays recorded in `mode`, with those that belong to no mode, and any to put `beside`."""
        if mode not in self.modes:
            raise BadInput(f"run {self.run['run_id']} holds {', '.join(self.modes)}, not {mode!r}")
        return ModeSignals(self, mode, beside or {})


class ModeSignals(Mapping[str, np.ndarray]):
    """The vocabulary's arrays of one mode; each is read from disk at its first use and kept."""

    def __init__(self, signals: Signals, mode: str, beside: Mapping[str, np.ndarray]) -> None:
        self.signals = signals
        self.mode = mode
        self.loaded: dict[str, np.ndarray] = dict(beside)
        self._names = (*self._recorded(), *beside)
        self._slab: SlabSignals | None = None

    @property
    def slabs(self) -> list[slice]:
        """The training samples in parts that can be read one at a time, as the files hold them."""
        scored = any(score["mode"] == self.mode for score in self.signals.run.get("scores", ()))
        folder = self.signals.folder
        first = scores_path(folder, self.mode) if scored else epoch_path(folder, self.mode, 0)
        samples = pl.scan_parquet(first).select(pl.len()).collect().item()
        return [slice(start, min(start + ROW_GROUP, samples)) for start in range(0, samples, ROW_GROUP)]

    def rows(self, slab: slice) -> SlabSignals:
        """Return the signals of one of the `slabs` alone; the last one asked for is kept."""
        if self._slab is None or self._slab.slab != slab:
            self._slab = SlabSignals(self, slab)
        return self._slab

    def _recorded(self) -> Iterator[str]:
        wanted = self.signals.fields
        files = self.signals.run["files"]
        trajectories = f"mode={self.mode}/epoch-0000.parquet" in files
        columns = [*self.signals.run["fields"], "seen"] if trajectories else []
        columns += ["prob_label"] if self._loss_alone else []
        validation = f"validation/mode={self.mode}/epoch-0000.parquet" in files
        for name in SIGNALS:
            on_disk = f"{name}.npz" in files or (name in PER_EPOCH and name in columns)
            if (on_disk or (name == "val_loss" and validation)) and (wanted is None or name in wanted):
                yield name

    @property
    def _loss_alone(self) -> bool:
        """Whether a language model or a regression was recorded: exp(-loss) stands for the label's probability."""
        return bool(self.signals.run["fields"] == ["loss"])

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        if name not in self.loaded:
            self.loaded[name] = self._read(name)
        return self.loaded[name]

    def __contains__(self, name: object) -> bool:  # what stands in Mapping would read the array to find out
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _read(self, name: str) -> np.ndarray:
        if name in PER_EPOCH or name == "val_loss":
            return self.read_epochs(name)
        validation = SIGNALS[name].axes[0] == "M"
        expected = self.signals.val_ids_digest if validation else self.signals.ids_digest
        if _ids_digest(self.signals.folder, name) != expected:
            raise IncompleteRecording(f"{name}.npz of run {self.signals.run['run_id']} covers other samples")
        with np.load(self.signals.folder / f"{name}.npz", allow_pickle=False) as stored:
            values: np.ndarray = stored["values"]
        return values

    def read_epochs(self, name: str, slab: slice | None = None) -> np.ndarray:
        """Return a signal over epochs, of all samples or of those of a slab."""
        if name == "prob_label" and self._loss_alone:
            return np.exp(-self.read_epochs("loss", slab))
        validation = name == "val_loss"
        column = "loss" if validation else name
        part = slice(0, None) if slab is None else slab
        length = None if part.stop is None else part.stop - part.start
        epochs = self.signals.run["epochs"]
        values = np.empty(0)
        for epoch in range(epochs):
            path = epoch_path(self.signals.folder, self.mode, epoch, validation=validation)
            row = pl.scan_parquet(path).select(column).slice(part.start, length).collect()[column].to_numpy()
            if epoch == 0:
                values = np.empty((epochs, len(row)), dtype=row.dtype)
            values[epoch] = row
        return values


class SlabSignals(Mapping[str, np.ndarray]):
    """The signals of consecutive training samples; what is over epochs is read for these alone."""

    def __init__(self, whole: ModeSignals, slab: slice) -> None:
        self.slab = slab
        self._whole = whole
        self._read: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        axes = SIGNALS[name].axes if name in SIGNALS else ""
        if "N" not in axes:
            return self._whole[name]
        if name not in self._whole:
            raise KeyError(name)
        if axes != "TN" or name in self._whole.loaded:
            return self._whole[name][(slice(None),) * axes.index("N") + (self.slab,)]
        if name not in self._read:
            self._read[name] = self._whole.read_epochs(name, self.slab)
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._whole

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole)

    def __len__(self) -> int:
        return len(self._whole)
