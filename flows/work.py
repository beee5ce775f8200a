"""A workspace while somebody works in it: its lock, its catalog, and what was already done."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import psutil
from filelock import FileLock, Timeout

from tracesift.catalog.files import write_json
from tracesift.catalog.schema import BadInput, FingerprintMismatch, WorkspaceBusy
from tracesift.catalog.store import Catalog
from tracesift.catalog.swap import finish_swap
from tracesift.flows.options import Reading
from tracesift.flows.progress import say
from tracesift.pipelines.dataset import Dataset, Source, open_dataset
from tracesift.pipelines.foreign.bare import KIND, bare_dataset
from tracesift.pipelines.planting import plant_label_noise
from tracesift.pipelines.restricted import restricted

if TYPE_CHECKING:
    from tracesift.pipelines.encoding.encode import Encodings

LOCK_WAIT = 5.0
"""Seconds to wait for another command in the same workspace before naming it."""


@dataclass
class Work:
    """One workspace and what the steps of one command share."""

    path: Path
    opened: Dataset | None = field(default=None, repr=False)
    """The dataset of this command, opened once."""
    content_vectors: np.ndarray | None = field(default=None, repr=False)
    """The content embedding of its samples outside val, (N, D), made once."""
    encodings: Encodings | None = field(default=None, repr=False)
    """Its inputs as the models take them, made once; `embed_run`, the last to need them, lets them go."""

    recorded_before: Dataset | None = field(default=None, repr=False)
    """The dataset as it was recorded before the requests of this very command, where it is run again: nothing is
    trained on it, its recordings are there."""
    _without: tuple[Dataset, tuple[str, ...], Dataset] | None = field(default=None, repr=False)
    """The dataset, requests, and the dataset without what they deleted."""

    @property
    def catalog(self) -> Catalog:
        """The catalog; it connects for each transaction and holds no connection in between."""
        return Catalog(self.path)

    @property
    def dataset(self) -> Dataset:
        """The newest dataset of the workspace, opened again from its source the first time it is asked for."""
        if self.opened is None:
            self.opened = reopen(self)
        return self.opened

    @property
    def forgotten(self) -> pl.DataFrame:
        """Which samples of the dataset were asked to be deleted: sample_id, request_id, subset, how; earliest first.

        Asked anew each time, because a request may have been recorded since; where there is none that costs one query.
        """
        columns = [name for name in ("sample_id", "content_hash") if name in self.dataset.samples.columns]
        return self.catalog.recognised(self.dataset.samples.select(columns))

    @property
    def trainable(self) -> Dataset:
        """The dataset without what was asked to be deleted: the one that everything trains, fits and tests on."""
        return self.without(self.forgotten["request_id"].unique(maintain_order=True).to_list())

    def without(self, requests: Sequence[str]) -> Dataset:
        """Return the dataset without what these requests deleted; the same object for the same requests."""
        key = tuple(requests)
        if self._without is None or self._without[0] is not self.dataset or self._without[1] != key:
            gone = self.forgotten.filter(pl.col("request_id").is_in(list(key)))["sample_id"] if key else ()
            left = self.dataset.without(gone, key) if key else self.dataset
            self._without = (self.dataset, key, left)
        return self._without[2]

    def as_recorded(self, facts: Mapping[str, Any]) -> Dataset:
        """Return the dataset as a recording or a stored embedding saw it.

        Parameters
        ----------
        facts
            What its record says under ``dataset``.
        """
        return self.without(facts.get("withheld_by", ()))

    @property
    def inputs(self) -> Encodings:
        """The encodings of `trainable`, shared by the steps that train."""
        return self.inputs_of(self.trainable)

    def inputs_of(self, dataset: Dataset) -> Encodings:
        """Return the encodings of the dataset in one of its states, the last one kept."""
        from tracesift.pipelines.encoding.encode import Encodings  # torch, which `sql` and `why` do without

        if self.encodings is None or self.encodings.dataset is not dataset:
            self.encodings = Encodings(dataset)
        return self.encodings

    def record(self, step: str, key: str) -> dict[str, Any] | None:
        """Return what `finish` wrote for this step and key, or None where it was never finished."""
        path = self._record_path(step, key)
        return json.loads(path.read_text()) if path.exists() else None

    def finish(self, step: str, key: str, result: dict[str, Any]) -> dict[str, Any]:
        """Remember that a step is done; a later run of the same inputs finds it and returns at once."""
        write_json(self._record_path(step, key), result)
        return result

    def _record_path(self, step: str, key: str) -> Path:
        return self.path / "records" / f"{step}-{key}.json"

    @contextmanager
    def locked(self, *, catalog: bool = True) -> Iterator[None]:
        """Hold the workspace against other commands that write; name the holder when it is taken.

        Parameters
        ----------
        catalog
            Whether the catalog will be written: then one that a notebook keeps open is noticed now, and not
            after the training.
        """
        made = _make_folder(self.path)
        holder = self.path / ".holder.json"
        lock = FileLock(self.path / ".lock", timeout=LOCK_WAIT, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise WorkspaceBusy(
                f"{self.path} is in use by {_describe(holder)}; wait for it or stop it"
            ) from None
        try:
            finish_swap(self.path)  # a purge that was killed when all was made
            _sweep(self.path)
            write_json(holder, {"pid": os.getpid(), "command": " ".join(psutil.Process().cmdline())})
            if catalog and self.catalog.path.exists():
                self.catalog.check_writable()
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()
            if made and {path.name for path in self.path.iterdir()} <= {".lock"}:
                shutil.rmtree(self.path)  # refused before anything was written: leave no folder behind


def _make_folder(path: Path) -> bool:
    """Make the workspace's folder where there is none; return whether it was made."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        if path.is_dir():
            return False
        raise BadInput(f"--workspace {path} is a file; name a folder") from None
    except NotADirectoryError:
        raise BadInput(f"--workspace {path}: a part of this path is a file; name another folder") from None
    except FileNotFoundError:
        raise BadInput(f"--workspace {path} cannot be made there; name another folder") from None
    return True


def _sweep(path: Path) -> None:
    """Remove the temporary files of killed commands, where nobody but the holder of the lock writes.

    A run that is not whole may be somebody's recording in progress; it is swept when it is resumed.
    """
    whole = [found.parent for found in path.glob("signals/run=*/run.json")]
    whole.append(path / "signals" / "run=_schema")
    found = [*path.glob(".tmp-*"), *path.glob("records/.tmp-*"), *path.glob("manifests/**/.tmp-*")]
    found += path.glob("embeddings/*/.tmp-*")
    for leftover in found + [leftover for run in whole for leftover in run.rglob(".tmp-*")]:
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)  # its folder may have gone before it


def existing(path: Path) -> Work:
    """Return the workspace at `path`, which must have a catalog."""
    if not (path / "catalog.duckdb").exists():
        raise BadInput(
            f"{path} holds no catalog; run `tracesift curate SOURCE --workspace {path}` or "
            f"`tracesift ingest SOURCE --workspace {path}` first"
        )
    return Work(path)


def open_source(
    source: Source | Dataset, reading: Reading, plant_noise: float = 0.0, seed: int = 0
) -> Dataset:
    """Open what the user named or handed over, and plant noise where that was asked for."""
    if not isinstance(source, Dataset):
        dataset = open_dataset(source, **reading.arguments())
    elif reading == Reading():
        dataset = source
    else:
        raise BadInput(
            f"{source.name} is open already: how it is read was said to open_dataset, leave out reading="
        )
    return plant_label_noise(dataset, plant_noise, seed=seed) if plant_noise else dataset


def tell(dataset: Dataset) -> None:
    """Say what was guessed or found on opening; called once it is in the catalog."""
    for note in dataset.notes:
        say(note)


def location(dataset: Dataset) -> dict[str, Any]:
    """Return what opens a dataset again from any working directory: source and options with absolute paths."""
    options = {
        name: _absolute(value) if name in ("val", "test") else value
        for name, value in dataset.options.items()
    }
    return {"source": _absolute(dataset.source), "options": options}


def _absolute(source: Any) -> Any:
    return str(Path(source).absolute()) if isinstance(source, str) and Path(source).exists() else source


def reopen(work: Work) -> Dataset:
    """Open the newest dataset of a workspace again, and refuse one that has changed since."""
    known = work.catalog.newest_dataset()
    if known is None:
        raise BadInput(
            f"{work.path} holds no dataset; run `tracesift ingest SOURCE --workspace {work.path}` first"
        )
    where = known["details"].get("location", {"source": "", "options": {}})
    if known["kind"] == KIND or was_handed_over(known):
        if was_handed_over(known):
            say(
                f"{known['name']} was handed over in Python ({where['source']}): known here by ids and labels, "
                "without content"
            )
        rows = work.catalog.query(
            "SELECT sample_id, split, label FROM samples WHERE dataset_id = ? ORDER BY sample_row",
            (known["dataset_id"],),
        )
        return bare_dataset(known["name"], known["source"], rows, known["classes"], known["fingerprint"])
    dataset = open_dataset(where["source"], name=known["name"], **where["options"])
    if known["details"].get("purged"):
        return _what_is_left(work, known, dataset)
    if dataset.fingerprint != known["fingerprint"]:
        raise _changed(work, known)
    planted = (known["transform"] or {}).get("plant_label_noise")
    return plant_label_noise(dataset, **planted) if planted else dataset


def _changed(work: Work, known: Mapping[str, Any]) -> FingerprintMismatch:
    return FingerprintMismatch(
        f"{known['source']} has changed since it was ingested into {work.path}; "
        f"run `tracesift ingest {known['source']} --workspace {work.path}` to take the new state"
    )


def _what_is_left(work: Work, known: Mapping[str, Any], dataset: Dataset) -> Dataset:
    """Return the samples of a source that the catalog still knows, after a purge; the source may hold the others yet.

    Labels that were planted are those of the catalog: which labels are hit depends on how many samples there are.
    """
    rows = work.catalog.query(
        "SELECT sample_id, label, label_true FROM samples WHERE dataset_id = ? ORDER BY sample_row",
        (known["dataset_id"],),
    )
    keep = dataset.samples["sample_id"].is_in(rows["sample_id"].implode())
    if keep.any():
        dataset = restricted(dataset, keep.to_numpy())
    if dataset.fingerprint != known["fingerprint"]:
        raise _changed(work, known)
    dataset = replace(dataset, classes=tuple(known["classes"]))
    if not known["transform"]:
        return dataset
    samples = dataset.samples.with_columns(rows["label"], rows["label_true"])
    return replace(dataset, samples=samples, transform=known["transform"])


def was_handed_over(known: dict[str, Any]) -> bool:
    """Tell whether a dataset of the catalog was an object in Python, which no other process can open again."""
    return str(known["source"]).startswith("<")


def _describe(holder: Path) -> str:
    try:
        known = json.loads(holder.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return "another process"
    running = psutil.pid_exists(known["pid"])
    return f"process {known['pid']} ({known['command']})" + ("" if running else ", which has ended meanwhile")
