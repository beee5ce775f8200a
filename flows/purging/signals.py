"""A purge of recordings and of stored embeddings: written anew without the rows of the samples."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from tracesift.catalog.files import canonical_json
from tracesift.catalog.schema import SPLITS
from tracesift.flows.kept_embeddings import told
from tracesift.flows.purging.plan import Purge, recordings
from tracesift.flows.work import Work
from tracesift.pipelines.embedding.stored_embeddings import (
    BEFORE_PURGE,
    StoredEmbedding,
    content_digest,
    embeddings_folder,
    names,
    read_record,
    store_without,
)
from tracesift.pipelines.purged_signals import holds_samples, write_without


def write_recordings(doing: Purge) -> dict[str, dict[str, Any]]:
    """Write every recording that holds a sample; what cannot be finished, or is of a state unknown here, goes whole.

    Returns
    -------
    dict
        By new run id what its record says otherwise: ``dataset``, and ``purged``, how many samples it has seen that are
        gone now.
    """
    said: dict[str, dict[str, Any]] = {}
    for folder in recordings(doing.work.path):
        run_id = folder.name.removeprefix("run=")
        finished = (folder / "run.json").exists()
        if not finished:
            # Before its first epoch is written, a stopped recording holds no sample.
            if holds_samples(folder, doing.ids) or (folder / "checkpoint.pt").exists():
                doing.removed.add(f"signals/{folder.name}")
                doing.gone["unfinished recordings"] += 1
            continue
        new_id = doing.redaction.renamed.get(run_id)
        if new_id is None:
            if holds_samples(folder, doing.ids):
                doing.removed.add(f"signals/{folder.name}")
                doing.gone["recordings of states unknown to the catalog"] += 1
            continue
        rows = write_without(
            folder,
            doing.folder / "signals" / f"run={new_id}",
            doing.ids,
            lambda record: _run_record(doing, record),
        )
        record = json.loads((doing.folder / "signals" / f"run={new_id}" / "run.json").read_bytes())
        said[new_id] = {name: record[name] for name in ("dataset", "purged")}
        doing.removed.add(f"signals/{folder.name}")
        doing.gone["signal rows"] += rows
        doing.gone["checkpoints"] += (folder / "checkpoint.pt").exists()
    return said


def _run_record(doing: Purge, record: dict[str, Any]) -> dict[str, Any]:
    """Return a recording's record as it reads without the samples."""
    dataset_id = record["dataset"]["dataset_id"]
    keep = doing.keep(dataset_id)
    held = doing.held(dataset_id, record["dataset"])
    split = doing.samples[dataset_id].filter(pl.Series(keep & held))["split"]
    before = record.get("purged", 0)
    said: dict[str, Any] = doing.redaction.value({**record, "files": {}})
    said["files"] = record["files"]
    if "counts" in said["dataset"]:
        said["dataset"]["counts"] = {name: int((split == name).sum()) for name in said["dataset"]["counts"]}
    return said | {"purged": before + int((held & ~keep).sum())}


def write_embeddings(doing: Purge) -> dict[tuple[str, str], dict[str, Any] | None]:
    """Write every stored embedding of a state that loses samples; return what the catalog then says of each."""
    by_print = {state.dataset_id: state for state in doing.states}
    known = {row["fingerprint"]: row["dataset_id"] for row in _states_known(doing.work)}
    changed: dict[tuple[str, str], dict[str, Any] | None] = {}
    for name in names(doing.work.path):
        record = read_record(doing.work.path, name)
        assert record is not None
        dataset_id = known.get(record["dataset"]["fingerprint"])
        old = embeddings_folder(doing.work.path, name)
        if (
            dataset_id is None
        ):  # of a state that the catalog has forgotten: nobody can tell whose rows these are
            doing.removed.add(f"embeddings/{name}")
            doing.gone["embeddings of states unknown to the catalog"] += 1
            changed["embedding", name] = None
            continue
        if dataset_id not in by_print:
            continue
        split, keep = doing.samples[dataset_id]["split"].to_numpy(), doing.keep(dataset_id)
        held = doing.held(dataset_id, record["dataset"])
        stays = {one: keep[held & (split == one)] for one in SPLITS}
        if any(len(rows) != record["splits"][one]["shape"][0] for one, rows in stays.items()):
            # Whom it was withheld from was unlinked since: nobody can tell whose rows these are.
            doing.removed.add(f"embeddings/{name}")
            doing.gone["embeddings whose samples are not known any more"] += 1
            changed["embedding", name] = None
            continue
        state, made = by_print[dataset_id], doing.redaction.value(record["made"])
        facts = record["dataset"] | {"dataset_id": state.new_id, "fingerprint": state.fingerprint}
        if (held | ~keep).all():  # nobody is withheld any more
            facts.pop("withheld_by", None)
        if made["source"] == "content":  # by means and document frequencies of samples that are gone
            made |= {BEFORE_PURGE: True}
        fresh = store_without(
            StoredEmbedding(old, record), doing.folder / "embeddings" / name, stays, facts, made
        )
        doing.removed |= {f"embeddings/{name}/{path.name}" for path in old.iterdir()}
        doing.gone["vectors"] += int((held & ~keep).sum())
        details = canonical_json(told(fresh)).decode()
        changed["embedding", name] = {"digest": content_digest(fresh), "details": details}
    return changed


def _states_known(work: Work) -> list[dict[str, Any]]:
    return work.catalog.query("SELECT fingerprint, dataset_id FROM datasets").to_dicts()
