"""Embeddings that are kept in the workspace by name, for every consumer: vectors of all splits, and who is near whom.

    embeddings/<name>/record.json              what made it, of which state of the dataset, SHA-256 of every file
    embeddings/<name>/<split>-<hash>.npy       float32 (samples of the split, D), in ascending order of sample_id
    embeddings/<name>/neighbors-<hash>.npy     int32 (training samples, k), see `tracesift.catalog.neighbor_graph`
    embeddings/<name>/distances-<hash>.npy     float64 of the same shape; one graph by cosine, one by Euclidean distance

Files are named by their content and the record comes last, so what is read is whole, old or new, whatever kills the
writer. Files that no record names any more are removed by the next writer.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tracesift.catalog.files import digest, replacing, sha256, write_json
from tracesift.catalog.nearest_rows import Metric, Report
from tracesift.catalog.neighbor_graph import EXACT_UP_TO, RECALL, NeighborGraph, graph_among, neighbor_graph
from tracesift.catalog.schema import SPLITS, BadInput, FingerprintMismatch, IncompleteRecording, nearest
from tracesift.pipelines.signals import withheld_from

SCHEMA = 2
"""Version of the record and of how the files lie."""

SHOWN = ("k", "metric", "approximate", "recall", "lists", "probed")
"""What a person wants to know of a graph."""

BEFORE_PURGE = "before_purge"
"""In what made an embedding: other samples than there are now had a part in these vectors."""

BLOCK = 16384
"""Rows that are looked through at a time."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class StoredEmbedding:
    """One embedding of a workspace; vectors are mapped from their files."""

    folder: Path
    record: dict[str, Any]

    @property
    def name(self) -> str:
        """What it is called in this workspace."""
        return str(self.record["name"])

    def vectors(self, split: str) -> np.ndarray:
        """Return the vectors of a split, (n, D) float32, in ascending order of sample_id."""
        return self._array(self.record["splits"][split])

    def graph(self, metric: Metric = "cosine") -> NeighborGraph | None:
        """Return the graph of the training samples by a metric, None where none was made."""
        kept = self.record["graphs"].get(metric)
        if kept is None:
            return None
        return NeighborGraph(
            self._array(kept["index"]), self._array(kept["distance"]), kept["metric"],
            approximate=kept["approximate"], recall=kept["recall"], lists=kept.get("lists"), probed=kept.get("probed"),
        )  # fmt: skip

    def graph_among(self, rows: np.ndarray, metric: Metric = "cosine") -> NeighborGraph | None:
        """Return the graph of some training samples, ascending; exactly what a search among them would find."""
        graph = self.graph(metric)
        return None if graph is None or len(rows) < 2 else graph_among(graph, self.vectors("train"), rows)

    def verify(self) -> None:
        """Recompute the hash of every file.

        Raises
        ------
        IncompleteRecording
            A file is missing or has changed.
        """
        for kept in _files(self.record):
            path = self.folder / kept["file"]
            if not path.exists() or sha256(path) != kept["sha256"]:
                what = "has changed since it was written" if path.exists() else "is missing"
                raise IncompleteRecording(f"{path} {what}; {_again(self.name)}")

    def _array(self, kept: Mapping[str, Any]) -> np.ndarray:
        path = self.folder / kept["file"]
        try:
            values: np.ndarray = np.load(
                path, mmap_mode="r" if kept["shape"][0] else None, allow_pickle=False
            )
        except (FileNotFoundError, ValueError, EOFError):
            raise IncompleteRecording(f"{path} is missing or broken; {_again(self.name)}") from None
        return values


def embeddings_folder(workspace: Path | str, name: str) -> Path:
    """Return the folder of one stored embedding."""
    return Path(workspace) / "embeddings" / name


def checked_name(name: str) -> str:
    """Return a name that may call a folder, or refuse it."""
    if not _NAME.fullmatch(name):
        raise BadInput(f"--name {name}: letters, digits, dots, dashes and underscores, such as my-encoder")
    return name


def names(workspace: Path | str) -> list[str]:
    """Return the names of the stored embeddings, sorted."""
    return sorted(path.parent.name for path in (Path(workspace) / "embeddings").glob("*/record.json"))


def of_other_states(workspace: Path | str, fingerprint: str) -> list[str]:
    """Return the names of embeddings whose dataset has another fingerprint: nothing can read them any more."""
    records = {name: read_record(workspace, name) for name in names(workspace)}
    return [
        name for name, record in records.items() if record and record["dataset"]["fingerprint"] != fingerprint
    ]


def read_record(workspace: Path | str, name: str) -> dict[str, Any] | None:
    """Return the record of a stored embedding, None where there is none of this name."""
    path = embeddings_folder(workspace, name) / "record.json"
    return _as_now(json.loads(path.read_bytes())) if path.exists() else None


def _as_now(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record in the present schema; the first one knew a single graph."""
    if record["schema"] != 1:
        return record
    graph = record.pop("graph")
    return {**record, "schema": SCHEMA, "graphs": {} if graph is None else {graph["metric"]: graph}}


def stored_embedding(workspace: Path | str, name: str, dataset: Any) -> StoredEmbedding:
    """Return an embedding by its name, which must be of this state of the dataset.

    Raises
    ------
    BadInput
        There is none of this name; the message lists those there are.
    FingerprintMismatch
        It was made of another state of the dataset.
    """
    record = read_record(workspace, name)
    if record is None:
        known = names(workspace)
        there = f"; there are {', '.join(known)}" if known else ""
        raise BadInput(f"no embedding '{name}' is stored{nearest(name, known)}{there}; {_again(name)}")
    if record["dataset"]["fingerprint"] != dataset.fingerprint:
        raise FingerprintMismatch(
            f"embedding '{name}' is of another state of {record['dataset']['name']}; {_again(name)}"
        )
    return StoredEmbedding(embeddings_folder(workspace, name), record)


def is_made(workspace: Path | str, name: str, dataset: Any, made: Mapping[str, Any]) -> bool:
    """Tell whether this very embedding is stored already, with every file as it was written."""
    record = read_record(workspace, name)
    if record is None or record["schema"] != SCHEMA or record["made"] != dict(made):
        return False
    if record["dataset"]["fingerprint"] != dataset.fingerprint:
        return False
    try:
        StoredEmbedding(embeddings_folder(workspace, name), record).verify()
    except IncompleteRecording:
        return False
    return True


def store_vectors(
    workspace: Path | str,
    name: str,
    dataset: Any,
    vectors: Mapping[str, np.ndarray],
    made: Mapping[str, Any],
) -> StoredEmbedding:
    """Write an embedding in place of any other of its name; graphs are kept where the vectors are the same.

    Parameters
    ----------
    vectors
        The vectors of train, val and test, (n, D) each, rows in ascending order of sample_id.
    made
        What made them, plain JSON: the same means the same vectors.

    Raises
    ------
    BadInput
        Rows that hold NaN or infinity, or shapes that do not fit; the message names the first sample.
    """
    folder = embeddings_folder(workspace, checked_name(name))
    widths = {values.shape[1] for values in vectors.values() if len(values)}
    if len(widths) != 1 or 0 in widths:
        raise BadInput(
            f"embedding '{name}': all vectors must have one length of at least 1, got {sorted(widths)}"
        )
    (width,) = widths
    kept = {}
    for split in SPLITS:
        values = vectors[split] if len(vectors[split]) else np.zeros((0, width), np.float32)
        ids = dataset.samples["sample_id"].gather(dataset.rows(split))
        if len(values) != len(ids):
            raise BadInput(f"embedding '{name}': {len(values)} vectors for {len(ids)} samples of {split}")
        _check_finite(name, values, ids, split)
        kept[split] = _write(folder, split, values, np.float32)
    known = {"name": dataset.name, "dataset_id": dataset.dataset_id, "fingerprint": dataset.fingerprint}
    known |= withheld_from(dataset)
    record = {
        "schema": SCHEMA, "name": name, "dataset": known, "made": dict(made), "width": width, "splits": kept,
        "graphs": {},
    }  # fmt: skip
    before = read_record(workspace, name)
    if before is not None and before["schema"] == SCHEMA and before["splits"]["train"] == kept["train"]:
        record["graphs"] = before["graphs"]
    return _finish(folder, record)


def store_graph(
    stored: StoredEmbedding,
    k: int,
    *,
    metric: Metric = "cosine",
    exact_up_to: int = EXACT_UP_TO,
    least_recall: float = RECALL,
    seed: int = 0,
    report: Report | None = None,
) -> StoredEmbedding:
    """Search the k nearest others of every training sample and keep them; nothing happens where they are there.

    A graph by the other metric stays beside it. With more than `exact_up_to` samples the search is approximate; it
    goes on until `least_recall` of the true neighbours are found, and what it reached is kept.
    """
    size = stored.record["splits"]["train"]["shape"][0]
    if k < 1:
        raise BadInput(f"--neighbors {k}: at least 1, or 0 for no graph")
    if metric not in get_args(Metric):
        raise BadInput(f"--metric {metric}: it is {' or '.join(get_args(Metric))}")
    if size < 2:
        return stored
    approximate = size > exact_up_to
    asked = {"metric": metric, "k": min(k, size - 1), "approximate": approximate}
    asked |= {"seed": seed, "least_recall": least_recall} if approximate else {}
    before = stored.record["graphs"].get(metric)
    if before is not None and _serves(before, asked):
        return stored
    graph = neighbor_graph(
        stored.vectors("train"), k, metric=metric, exact_up_to=exact_up_to, least_recall=least_recall, seed=seed,
        report=report,
    )  # fmt: skip
    kept = {
        **asked, "recall": graph.recall, "lists": graph.lists, "probed": graph.probed,
        "index": _write(stored.folder, "neighbors", graph.index, np.int32),
        "distance": _write(stored.folder, "distances", graph.distance, np.float64),
    }  # fmt: skip
    return _finish(stored.folder, {**stored.record, "graphs": {**stored.record["graphs"], metric: kept}})


def _serves(graph: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Tell whether a graph is the one asked for; an exact one of more neighbours begins with those of fewer."""
    if graph["approximate"] or asked["approximate"]:
        return {key: graph.get(key) for key in asked} == dict(asked)
    return bool(graph["k"] >= asked["k"])


def drop_embedding(workspace: Path | str, name: str) -> None:
    """Remove a stored embedding; the record goes first, so that a half-removed one is none."""
    folder = embeddings_folder(workspace, name)
    (folder / "record.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def content_digest(record: Mapping[str, Any]) -> str:
    """Return a hash of the vectors; an exact graph follows from them, and who reads an approximate one names it."""
    return digest([record["splits"][split]["sha256"] for split in SPLITS], length=32)


def _again(name: str) -> str:
    source = "" if name == "model" else f" --source … --name {name}"
    return f"run `tracesift embed{source}` (--help lists the sources)"


def _check_finite(name: str, values: np.ndarray, ids: Any, split: str) -> None:
    bad = [
        start + np.flatnonzero(~np.isfinite(values[start : start + BLOCK]).all(axis=1))
        for start in range(0, len(values), BLOCK)
    ]
    rows = np.concatenate(bad) if bad else np.zeros(0, np.int64)
    if rows.size:
        raise BadInput(
            f"embedding '{name}': the vectors of {rows.size} of {len(values)} samples of {split} hold NaN or "
            f"infinity, first '{ids[int(rows[0])]}'; make these again"
        )


def _write(folder: Path, what: str, values: np.ndarray, dtype: type[Any]) -> dict[str, Any]:
    """Write one array under a name that says its content; return what the record keeps of it."""
    whole = np.ascontiguousarray(values, dtype=dtype)
    with replacing(folder / f"{what}.npy") as temporary:
        np.save(temporary, whole, allow_pickle=False)
    content = sha256(folder / f"{what}.npy")
    path = (folder / f"{what}.npy").rename(folder / f"{what}-{content[:16]}.npy")
    return {"file": path.name, "sha256": content, "shape": list(whole.shape)}


def _files(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    graphs = [graph[part] for graph in record["graphs"].values() for part in ("index", "distance")]
    return [*(record["splits"][split] for split in SPLITS), *graphs]


def _finish(folder: Path, record: dict[str, Any]) -> StoredEmbedding:
    """Write the record, which makes the files count, and remove those that it does not name."""
    write_json(folder / "record.json", record)
    named = {"record.json", *(kept["file"] for kept in _files(record))}
    for path in folder.iterdir():
        if path.name not in named:
            path.unlink()
    return StoredEmbedding(folder, record)


def store_without(
    stored: StoredEmbedding,
    folder: Path,
    keep: Mapping[str, np.ndarray],
    dataset: Mapping[str, Any],
    made: Mapping[str, Any],
) -> dict[str, Any]:
    """Write an embedding of the rows that `keep` (split -> (n,) bool) has, with its graphs, and return its record.

    Parameters
    ----------
    folder
        Where it is written; the embedding itself stays.
    dataset
        What the record says of the remaining samples: `name`, `dataset_id`, `fingerprint`, `withheld_by`.
    made
        What made it.
    """
    splits = {
        split: _write(folder, split, stored.vectors(split)[keep[split]], np.float32) for split in SPLITS
    }
    record = {**stored.record, "dataset": dict(dataset), "made": dict(made), "splits": splits, "graphs": {}}
    for metric, before in stored.record["graphs"].items():
        graph = stored.graph_among(np.flatnonzero(keep["train"]), metric)
        if graph is not None:
            record["graphs"][metric] = {
                **before, "k": graph.index.shape[1], "recall": graph.recall,
                "index": _write(folder, "neighbors", graph.index, np.int32),
                "distance": _write(folder, "distances", graph.distance, np.float64),
            }  # fmt: skip
    write_json(folder / "record.json", record)
    return record
