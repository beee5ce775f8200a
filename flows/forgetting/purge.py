"""Samples leave a workspace for good: their content, ids, signals, vectors and scores, and what names them.

What remains is what the workspace would be of a source that never held them, as far as that can be had without a
training: the state of the dataset is that of the remaining samples, under their own fingerprint, and manifests,
recordings and embeddings are of that state. The old fingerprints and the names made of them (of states, runs,
subsets) go as well, because a fingerprint is a sum over samples: the old one minus the new one is a hash of who is
gone. Rows that were tombstones instead would keep it, and every reader would have to step over them.

Scores and flags of the others stay to the bit. They were computed while the others were there; a new recording is
another one.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import html
import io
import json
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.connection import CATALOG_FILE
from tracesift.catalog.files import canonical_json, digest, write_bytes, write_json, write_parquet
from tracesift.catalog.forgotten import KEY_FILE
from tracesift.catalog.goldfish import GOLDFISH_FILE, without_samples
from tracesift.catalog.manifest import (
    MANIFEST_FILE,
    MEMBERS_FILE,
    read_manifest,
    read_members,
    without_members,
    write_copy,
)
from tracesift.catalog.rebuild import OF_OTHERS, Rebuilding, State, rebuild, settle
from tracesift.catalog.redaction import Redaction, unmistakable
from tracesift.catalog.schema import SPLITS, BadInput, nearest
from tracesift.catalog.swap import JOURNAL, STAGE, staged, swap
from tracesift.flows.exports import NOTES, note_name, noted_exports
from tracesift.flows.kept_embeddings import told
from tracesift.flows.progress import counted, say, stage, watched
from tracesift.flows.reporting.worklist import unguard
from tracesift.flows.work import Work
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.embedding.stored_embeddings import (
    BEFORE_PURGE,
    StoredEmbedding,
    content_digest,
    embeddings_folder,
    names,
    read_record,
    store_without,
)
from tracesift.pipelines.handover.export_record import RECORD, export_record, exported_samples
from tracesift.pipelines.identity import fingerprint
from tracesift.pipelines.purged_signals import holds_samples, write_without
from tracesift.pipelines.restricted import fingerprint_without, restricted

PURGES = "purges.json"
"""What was purged when: counts, and hashes of ids and contents under a key that stands beside and may be deleted."""

_NOBODYS = (
    ".lock",
    ".holder.json",
    JOURNAL,
    PURGES,
    KEY_FILE,
    CATALOG_FILE,
    f"{CATALOG_FILE}.wal",
    "report.html",
)
_OURS = ("signals", "embeddings", STAGE)
"""Folders that are written elsewhere than `_write_others`."""

_LARGEST_SCANNED = 1 << 28
_LEAST_TEXT, _TEXT_SOUGHT = 16, 200
"""Characters of a text that cannot stand in a file by chance, and those that are sought of a longer one."""


@dataclass(kw_only=True)
class _Purge:
    """What the steps of one purge share."""

    work: Work
    ids: frozenset[str]
    folder: Path
    redaction: Redaction
    states: list[State] = field(default_factory=list)
    samples: dict[str, pl.DataFrame] = field(default_factory=dict)
    """dataset_id -> the rows of a state that loses any, in order."""
    left: dict[str, int] = field(default_factory=dict)
    """Fingerprint of such a state -> how many samples stay."""
    removed: set[str] = field(default_factory=set)
    """Paths that go."""
    gone: Counter[str] = field(default_factory=Counter)
    """What was removed where."""
    unsure: list[str] = field(default_factory=list)
    """Files that name a sample, or hold its text, and are not ours to rewrite."""
    manifests: set[str] = field(default_factory=set)
    """Paths of manifests and their members, which were looked through."""
    exports: list[dict[str, Any]] = field(default_factory=list)
    """Exports in the workspace that go."""
    texts: list[str] = field(default_factory=list)
    """How the texts of the samples begin, where the source still has them."""

    def keep(self, dataset_id: str) -> np.ndarray:
        """Return which rows of a state stay."""
        ids = pl.Series(sorted(self.ids), dtype=pl.String).implode()
        return (~self.samples[dataset_id]["sample_id"].is_in(ids)).to_numpy()

    def held(self, dataset_id: str, facts: Mapping[str, Any]) -> np.ndarray:
        """Return which rows of a state went into what has these facts: what was deleted before was withheld from it."""
        rows = self.samples[dataset_id]
        requests = list(facts.get("withheld_by", ()))
        if not requests:
            return np.ones(rows.height, bool)
        deleted = self.work.catalog.recognised(rows.select("sample_id", "content_hash"))
        withheld = deleted.filter(pl.col("request_id").is_in(requests))["sample_id"]
        return (~rows["sample_id"].is_in(withheld.implode())).to_numpy()


@watched("purge")
def purge(
    work: Work,
    ids: Collection[str],
    *,
    request: str | None = None,
    dry_run: bool = False,
    at: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Remove samples from everything that the workspace holds; the caller holds its lock.

    Everything is first written anew beside, which takes as much disk as what is rewritten, and then swapped in. Killed
    before the swap, the workspace is as it was; killed in it, the next command that writes finishes it.

    Parameters
    ----------
    ids
        Of the samples, of any state of the dataset and any split; none where what was asked for was purged before: then
        what a killed purge left undone, the report, is finished.
    request
        The deletion request that asks for it, for the record.
    dry_run
        Only say what would go.
    at
        Called with the name of each step that is done.

    Returns
    -------
    dict
        ``purged`` samples, ``already`` purged before, ``removed``: how many rows or files of each kind,
        ``datasets``: old to new id of each state, ``runs`` and ``subsets`` likewise; ``twins``: remaining samples
        with the very content of a purged one; ``left``: files in the workspace that name a purged sample, or hold its
        text, and were made by nobody here; ``exports`` that hold one (`folder`, `format`, `manifest`), with whether
        each was `removed`, as those in the workspace are; ``sources``: where the data came from, which nothing here
        ever touches; ``report``: what became of it; ``dry_run``.

    Raises
    ------
    BadInput
        No ids, and nothing was purged for this request before; an id that this workspace does not hold and never held;
        or nothing would be left.
    """
    wanted = frozenset(ids)
    before = _journal(work.path)
    there, already = _known(work, wanted, before) if wanted else (wanted, wanted)
    if not there:
        number = len(already) if wanted else _purged_for(work, request, before)
        answer = _answer(work, request, already=number, dry_run=dry_run)
        answer["exports"] = _exports_outside(work, already)
        return answer | ({} if dry_run else {"report": _report_again(work, before)})
    settle(work.catalog.path)
    doing = _Purge(work=work, ids=there, folder=staged(work.path), redaction=Redaction(there))
    try:
        answer = _made(doing, request, already=len(already), dry_run=dry_run, at=at)
        if dry_run:
            return answer
        entry = _entry(doing, before, request, answer)
        write_json(doing.folder / PURGES, entry)
        swap(work.path, doing.removed, at=at)
    finally:
        if not (work.path / JOURNAL).exists():
            shutil.rmtree(doing.folder, ignore_errors=True)
    work.opened = work.content_vectors = work.encodings = None
    at("swapped")
    return answer | {"report": _report_again(work, entry)}


def _made(
    doing: _Purge, request: str | None, *, already: int, dry_run: bool, at: Callable[[str], None]
) -> dict[str, Any]:
    """Write everything anew into the stage and return what to tell of it."""
    work = doing.work
    stage("states")
    _find_states(doing)
    runs = _rename_runs(doing)
    twins = _twins(doing)
    at("planned")
    stage("recordings")
    _write_recordings(doing)
    at("recordings")
    stage("embeddings")
    artifacts = _write_embeddings(doing)
    at("embeddings")
    stage("manifests")
    _drop_exports(doing)
    subsets, columns = _write_manifests(doing)
    at("manifests")
    stage("files")
    doing.texts = _texts(doing)
    _write_others(doing)
    at("files")
    stage("catalog")
    removed = rebuild(
        work.path, doing.folder,
        Rebuilding(states=doing.states, redaction=doing.redaction, subsets=columns, artifacts=artifacts), at=at,
    )  # fmt: skip
    doing.removed.add(f"{CATALOG_FILE}.wal")
    return _answer(work, request, already=already, dry_run=dry_run) | {
        "purged": len(doing.ids),
        "removed": {f"catalog {name}": number for name, number in sorted(removed.items())}
        | {name: number for name, number in sorted(doing.gone.items()) if number},
        "datasets": {state.dataset_id: state.new_id for state in doing.states},
        "runs": runs, "subsets": subsets, "twins": twins, "left": sorted(doing.unsure),
        "exports": doing.exports + _exports_outside(work, doing.ids),
    }  # fmt: skip


def _answer(work: Work, request: str | None, *, already: int, dry_run: bool) -> dict[str, Any]:
    return {
        "request": request, "purged": 0, "already": already, "removed": {}, "datasets": {}, "runs": {}, "subsets": {},
        "twins": 0, "left": [], "exports": [], "sources": _sources(work), "report": None, "dry_run": dry_run,
    }  # fmt: skip


# --- who is meant


def requested(work: Work, request: str | None = None) -> tuple[str, ...]:
    """Return the samples of any state of the dataset that one deletion request forgets, or all do; ascending.

    Copies that were pulled in are among them, and what the request asked for outside train.

    Raises
    ------
    BadInput
        There is no such request, or one of an earlier tracesift, which kept no hashes: ask again.
    """
    known = {row["request_id"]: row for row in work.catalog.forget_requests()}
    if request is not None and request not in known:
        raise BadInput(
            f"--request {request}: no such deletion request in {work.path}{nearest(request, list(known))}; there are: "
            f"{', '.join(known) or 'none'}"
        )
    meant = known if request is None else {request: known[request]}
    unhashed = [name for name, row in meant.items() if row["status"] is None]
    if unhashed:
        raise BadInput(
            f"request {', '.join(unhashed)} was made by an earlier tracesift, which did not keep whom it concerned; "
            "make it again with `tracesift forget`, then purge"
        )
    samples = work.catalog.query("SELECT DISTINCT sample_id, content_hash FROM samples ORDER BY ALL")
    found = work.catalog.recognised(samples).filter(pl.col("request_id").is_in(list(meant)))
    return tuple(found["sample_id"].unique().sort())


def left_out(work: Work, dataset: Dataset) -> Dataset:
    """Return a dataset without the samples that were purged here before, known by their id or by their very content.

    Its source may hold them still; what was purged does not come back by reading it again, nor under another id.
    """
    journal = _journal(work.path)
    if not journal["purges"]:
        return dataset
    gone = was_purged(work, dataset.samples["sample_id"].to_list()) | _came_back(work, dataset, journal)
    if not gone:
        return dataset
    were = "was" if len(gone) == 1 else "were"
    say(
        f"{counted(len(gone), 'sample')} of {dataset.name} {were} purged from {work.path} and left out; what still "
        f"stands in {dataset.source} is yours to delete"
    )
    keep = ~dataset.samples["sample_id"].is_in(pl.Series(sorted(gone), dtype=pl.String).implode())
    return restricted(dataset, keep.to_numpy())


def _came_back(work: Work, dataset: Dataset, journal: dict[str, Any]) -> frozenset[str]:
    """Return the samples with the content of a purged one; a twin that stayed in the workspace is none of them."""
    if "content_hash" not in dataset.samples.columns:
        return frozenset()
    samples = dataset.samples.select("sample_id", "content_hash")
    # Purges of an earlier tracesift kept no hashes of content, but those of the request tell.
    earlier = {one["request"] for one in journal["purges"] if "contents" not in one} - {None}
    found: set[str] = set()
    if earlier:
        known = work.catalog.recognised(samples)
        found |= set(known.filter(pl.col("request_id").is_in(sorted(earlier)))["sample_id"])
    key, hashes = journal["key"], {one for entry in journal["purges"] for one in entry.get("contents", ())}
    if key and hashes:
        stayed = set(work.catalog.query("SELECT DISTINCT sample_id FROM samples")["sample_id"])
        found |= {
            name for name, content in samples.drop_nulls().iter_rows()
            if name not in stayed and _hashed(key, content, kind="content") in hashes
        }  # fmt: skip
    return frozenset(found)


def was_purged(work: Work, ids: Collection[str]) -> frozenset[str]:
    """Return those of these ids that were purged here before, as long as their hashes and the key are kept."""
    journal = _journal(work.path)
    key = journal.get("key")
    hashes = {one for entry in journal["purges"] for one in entry["ids"]}
    return frozenset(one for one in ids if key and _hashed(key, one) in hashes)


def _known(
    work: Work, wanted: frozenset[str], before: dict[str, Any]
) -> tuple[frozenset[str], frozenset[str]]:
    """Return which ids are here and which were purged before; refuse any other."""
    there = frozenset(work.catalog.query("SELECT DISTINCT sample_id FROM samples")["sample_id"]) & wanted
    rest = wanted - there
    already = was_purged(work, rest) if before["purges"] else frozenset()
    unknown = rest - already
    if unknown:  # a recording of the user's own loop may hold samples that were never ingested
        runs = [path for path in (work.path / "signals").glob("run=[!_]*") if path.is_dir()]
        recorded = {one for one in unknown if any(holds_samples(run, [one]) for run in runs)}
        there, unknown = there | recorded, unknown - recorded
    if unknown:
        raise BadInput(
            f"{len(unknown)} of {len(wanted)} ids are not in {work.path}, first '{min(unknown)}'; nothing was purged"
        )
    return there, already


def _purged_for(work: Work, request: str | None, before: dict[str, Any]) -> int:
    """Return how many samples were purged for a request that forgets nobody any more, or for all."""
    entries = [one for one in before["purges"] if request is None or one["request"] in (request, None)]
    if not entries:
        raise BadInput(
            f"{f'request {request}' if request else work.path}: no sample is in role forget, so there is nothing to "
            "purge"
        )
    return sum(one["samples"] for one in entries)


def unlink_purged(work: Work) -> None:
    """Delete the key and the hashes of what was purged; the record keeps when, for which request, and how many."""
    journal = _journal(work.path)
    if journal["purges"]:
        purges = [{**entry, "ids": [], "contents": []} for entry in journal["purges"]]
        write_json(work.path / PURGES, {**journal, "key": None, "purges": purges})


def _hashed(key: str, text: str, *, kind: str = "") -> str:
    """Return the keyed hash of an id, or of what else stands in our records; a kind has hashes of its own."""
    said = f"{kind}\0{text}" if kind else text
    return hmac.new(bytes.fromhex(key), said.encode(), hashlib.blake2b).hexdigest()[:32]


def _journal(workspace: Path) -> dict[str, Any]:
    path = workspace / PURGES
    return json.loads(path.read_bytes()) if path.exists() else {"schema": 1, "key": None, "purges": []}


def _entry(
    doing: _Purge, before: dict[str, Any], request: str | None, answer: dict[str, Any]
) -> dict[str, Any]:
    """Return the record of all purges with this one: who asked, how many, and nobody's id."""
    workspace, ids = doing.work.path, doing.ids
    contents = {
        content for name, rows in doing.samples.items()
        for content in rows.filter(pl.Series(~doing.keep(name)))["content_hash"].drop_nulls()
    }  # fmt: skip
    key = before["key"] or secrets.token_hex(32)
    last = before["purges"][-1] if before["purges"] else {"report": "none", "content": False}
    unfinished = last["report"] == "pending"  # whoever made it was killed before its report stood again
    entry = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"), "request": request, "samples": len(ids),
        "removed": answer["removed"], "ids": sorted(_hashed(key, one) for one in ids),
        "contents": sorted(_hashed(key, one, kind="content") for one in contents),
        "report": "pending" if unfinished or (workspace / "report.html").exists() else "none",
        "content": bool(last["content"]) if unfinished else _shows_content(workspace),
    }  # fmt: skip
    return {**before, "key": key, "purges": [*before["purges"], entry]}


# --- states and runs


def _find_states(doing: _Purge) -> None:
    """Find the states of the dataset that lose samples, and what they are called without them."""
    catalog = doing.work.catalog
    for known in catalog.query("SELECT * FROM datasets ORDER BY seq").to_dicts():
        rows = catalog.query(
            "SELECT sample_row, sample_id, split, label, label_true, content_hash FROM samples "
            "WHERE dataset_id = ? ORDER BY sample_row",
            (known["dataset_id"],),
        )
        doing.samples[known["dataset_id"]] = rows
        keep = doing.keep(known["dataset_id"])
        if keep.all():
            continue
        if not keep.any():
            raise BadInput(
                f"all {len(rows)} samples of {known['name']} would be purged; delete {doing.work.path} instead"
            )
        fresh = _fingerprint_left(known, rows, keep)
        doing.states.append(State(dataset_id=known["dataset_id"], new_id=fresh[:16], fingerprint=fresh))
        doing.left[known["fingerprint"]] = int(keep.sum())
        doing.redaction.renamed |= {known["dataset_id"]: fresh[:16], known["fingerprint"]: fresh}


def _fingerprint_left(known: dict[str, Any], rows: pl.DataFrame, keep: np.ndarray) -> str:
    """Return the fingerprint of the remaining samples: that of a source without the others, wherever it has one."""
    options = json.loads(known["options"] or "{}")
    found = fingerprint_without(
        rows, keep, kind=str(known["kind"]), known=known["fingerprint"],
        features=[options["features"]] if options.get("features") else [],
        planted="plant_label_noise" in json.loads(known["transform"] or "{}") if known["transform"] else False,
    )  # fmt: skip
    if found is not None:
        return found
    left = rows.filter(pl.Series(keep)).with_columns(pl.col(pl.String).fill_null(""))
    return fingerprint(left, {"kind": known["kind"], "purged": known["name"]})


def _rename_runs(doing: _Purge) -> dict[str, str]:
    """Name the runs over these states by what is left; a run id goes over the fingerprint, and so over who is gone."""
    touched = {state.dataset_id: state for state in doing.states}
    runs = doing.work.catalog.query(
        "SELECT run_id, dataset_id, kind, model, seed, config FROM runs ORDER BY seq"
    )
    found = {row["run_id"]: row for row in runs.to_dicts()}
    for folder in _recordings(doing.work.path):
        run_id = folder.name.removeprefix("run=")
        if run_id not in found and (folder / "run.json").exists():
            record = json.loads((folder / "run.json").read_bytes())
            found[run_id] = {"dataset_id": record["dataset"]["dataset_id"], **record} | {
                "config": canonical_json(record.get("config")).decode()
            }
    renamed: dict[str, str] = {}
    combined = [run_id for run_id, row in found.items() if row.get("kind") == "combined"]
    for run_id in [*(one for one in found if one not in combined), *combined]:
        row = found[run_id]
        if row["dataset_id"] not in touched:
            continue
        made = {
            "purged": touched[row["dataset_id"]].fingerprint, "kind": row.get("kind"), "model": row.get("model"),
            "seed": row.get("seed"), "config": doing.redaction.text(row["config"] or ""),
        }  # fmt: skip
        taken = found.keys() | set(renamed.values())
        renamed[run_id] = next(
            name for number in count() if (name := digest({**made, "number": number})) not in taken
        )
        doing.redaction.renamed[run_id] = renamed[run_id]
    return renamed


def _twins(doing: _Purge) -> int:
    """Count the remaining samples that hold the very content of a purged one."""
    twins: set[str] = set()
    for dataset_id, rows in doing.samples.items():
        keep = pl.Series(doing.keep(dataset_id))
        gone = rows.filter(~keep)["content_hash"].drop_nulls()
        twins |= set(rows.filter(keep & rows["content_hash"].is_in(gone.implode()))["sample_id"])
    return len(twins)


# --- files


def _recordings(workspace: Path) -> list[Path]:
    return sorted(path for path in (workspace / "signals").glob("run=[!_]*") if path.is_dir())


def _write_recordings(doing: _Purge) -> None:
    """Write every recording that holds a sample; what cannot be finished, or is of a state unknown here, goes whole."""
    for folder in _recordings(doing.work.path):
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
        doing.removed.add(f"signals/{folder.name}")
        doing.gone["signal rows"] += rows
        doing.gone["checkpoints"] += (folder / "checkpoint.pt").exists()


def _run_record(doing: _Purge, record: dict[str, Any]) -> dict[str, Any]:
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


def _write_embeddings(doing: _Purge) -> dict[tuple[str, str], dict[str, Any] | None]:
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


def _write_manifests(
    doing: _Purge,
) -> tuple[dict[str, str], dict[tuple[str, int], dict[str, Any]]]:
    """Write every version of every manifest that names a sample or its state; return the new ids and catalog columns.

    In the order in which they were made, since one may say of which other it was selected. Copies of their folders
    elsewhere in the workspace are manifests as well.
    """
    recorded = doing.work.catalog.query(
        "SELECT name, version, subset_id, seq, params, scores, dataset_id FROM subset_records ORDER BY seq"
    ).to_dicts()
    order = {(row["name"], row["version"]): row["seq"] for row in recorded}
    places = _manifest_folders(doing)
    ids: dict[str, str] = {}
    columns: dict[tuple[str, int], dict[str, Any]] = {}
    for key in sorted(places, key=lambda key: (order.get(key[:2], len(order) + 1), key)):
        manifest = read_manifest(places[key][0])
        members = read_members(places[key][0], manifest)
        fresh, left = without_members(manifest, members, doing.ids, doing.redaction, doing.left)
        if fresh == manifest and left.equals(members):
            continue
        for place in places[key]:
            target = doing.folder / place.relative_to(doing.work.path)
            written = write_copy(target, fresh, left)
        doing.gone["manifest members"] += members.height - left.height
        ids[manifest.subset_id] = doing.redaction.renamed[manifest.subset_id] = written.subset_id
        doing.redaction.renamed[manifest.fingerprint] = written.fingerprint
        if not any(place.is_relative_to(doing.work.path / "manifests") for place in places[key]):
            continue
        columns[key[:2]] = {
            "subset_id": written.subset_id, "fingerprint": written.fingerprint, "num_members": left.height,
            "params": canonical_json(written.selector.params).decode(),
            "scores": canonical_json([score.as_dict() for score in written.scores]).decode(),
        }  # fmt: skip
    touched = {state.dataset_id for state in doing.states}
    for row in recorded:  # its files were deleted by hand: the name must not go over its members either
        if (row["name"], row["version"]) not in columns and row["dataset_id"] in touched:
            fresh_id = digest(
                {"purged": [row["name"], row["version"]], "params": doing.redaction.text(row["params"])}
            )
            columns[row["name"], row["version"]] = {"subset_id": fresh_id, "fingerprint": None}
            ids[row["subset_id"]] = doing.redaction.renamed[row["subset_id"]] = fresh_id
    return ids, columns


def _manifest_folders(doing: _Purge) -> dict[tuple[str, int, str], list[Path]]:
    """Return name, version and fingerprint of each manifest in the workspace -> the folders in which it lies."""
    root = doing.work.path
    places: dict[tuple[str, int, str], list[Path]] = {}
    for path in sorted(root.rglob(MANIFEST_FILE)):
        inside = path.relative_to(root)
        if inside.parts[0] in _OURS or any(part.startswith(".tmp-") for part in inside.parts):
            continue
        if _goes(doing, inside):
            continue
        try:
            found = read_manifest(path)
            read_members(path, found)
        except BadInput:
            if inside.parts[0] == "manifests":
                raise
            continue  # somebody's file that is called so, or a part of one of ours
        doing.manifests |= {inside.as_posix(), inside.with_name(MEMBERS_FILE).as_posix()}
        places.setdefault((found.name, found.version, found.fingerprint), []).append(path.parent)
    return places


def _drop_exports(doing: _Purge) -> None:
    """Let go the exports in the workspace that list a sample, or are of a state that held one.

    They are made again by one command. Cleaned, they would be others than their own hashes and shares say, and row
    numbers of the source cannot be cleaned without saying whose they were.
    """
    root = doing.work.path
    for path in sorted(root.glob(f"*/**/{RECORD}")):
        folder, inside = path.parent, path.parent.relative_to(root)
        record = None if inside.parts[0] in _OURS else export_record(folder)
        if record is None:
            continue
        listed = exported_samples(folder)
        of_such_a_state = record.get("dataset", {}).get("fingerprint") in doing.left
        if not of_such_a_state and listed is not None and not listed & doing.ids:
            continue
        written = {RECORD, *(one["file"] for one in record["files"])}
        there = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
        if there <= written:
            doing.removed.add(inside.as_posix())
        else:  # what somebody else put there is looked at like any other file
            doing.removed |= {(inside / name).as_posix() for name in there & written}
        doing.removed.add(note_name(folder))
        doing.gone["exports"] += 1
        doing.exports.append(_told_of_export(folder, record, removed=True))


def _told_of_export(folder: Path, record: Mapping[str, Any], *, removed: bool) -> dict[str, Any]:
    name = record["manifest"]["name"]
    return {"folder": str(folder), "format": record["format"], "manifest": name, "removed": removed}


def _goes(doing: _Purge, inside: Path) -> bool:
    """Tell whether a file, or a folder that it lies in, is removed."""
    return not doing.removed.isdisjoint({inside.as_posix(), *(one.as_posix() for one in inside.parents)})


def _exports_outside(work: Work, ids: Collection[str]) -> list[dict[str, Any]]:
    """Return the exports outside of the workspace that stand yet and list one of these samples, or a purged one."""
    root, found = work.path.resolve(), []
    for note in noted_exports(work.path):
        folder = Path(note["folder"])
        if folder.is_relative_to(root) or export_record(folder) is None:
            continue
        listed = exported_samples(folder)
        if listed is None or listed & set(ids) or was_purged(work, listed):
            found.append(_told_of_export(folder, note, removed=False))
    return found


def _write_others(doing: _Purge) -> None:
    """Take the samples out of whatever else lies in the workspace; remove what is made again when it is asked for."""
    root = doing.work.path
    for path in _other_files(doing):
        name = path.relative_to(root).as_posix()
        if name.startswith("records/"):
            # What was done already, by hashes of scores and members that are others now.
            doing.removed.add(name)
            doing.gone["records of steps"] += 1
        elif path.suffix in (".csv", ".tsv"):
            _write_csv(doing, path, doing.folder / name)
        elif path.name == GOLDFISH_FILE and path.with_name(MANIFEST_FILE).exists():
            _write_masks(doing, path, doing.folder / name)
        elif path.suffix == ".parquet":
            _write_table(doing, path, doing.folder / name)
        elif _names_any(doing, path):
            doing.unsure.append(str(path))
    if (root / "report.html").exists():
        doing.removed.add("report.html")


def _other_files(doing: _Purge) -> Iterator[Path]:
    root = doing.work.path
    sources = {Path(source).resolve() for source in _sources(doing.work)}
    for path in sorted(root.rglob("*")):
        if not sources.isdisjoint((path.resolve(), *path.resolve().parents)):
            continue  # the data themselves, which are told of
        inside = path.relative_to(root)
        name = inside.as_posix()
        known = inside.parts[0] in _OURS or name in doing.manifests or name.startswith(NOTES)
        if path.is_file() and not known and name not in _NOBODYS and not _goes(doing, inside):
            yield path


def _write_csv(doing: _Purge, path: Path, target: Path) -> None:
    """Write a table of samples, such as a worklist, without the samples and the pictures that it shows of them."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        doing.unsure.append(str(path))
        return
    delimiter = "\t" if path.suffix == ".tsv" else ","
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    if not rows or "sample_id" not in rows[0]:
        if _names_any(doing, path):
            doing.unsure.append(str(path))
        return
    column = rows[0].index("sample_id")
    sentences = [at for at, name in enumerate(rows[0]) if name == "reason"]
    kept = [rows[0]]
    for row in rows[1:]:
        if len(row) > column and unguard(row[column]) in doing.ids:
            _drop_pictures(doing, path, row)
            doing.gone[f"rows of {path.name}"] += 1
            continue
        kept.append([doing.redaction.text(cell) if at in sentences else cell for at, cell in enumerate(row)])
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerows(kept)
    if kept != rows:
        mark = b"\xef\xbb\xbf" if content.startswith(b"\xef\xbb\xbf") else b""
        write_bytes(target, mark + buffer.getvalue().encode())
    if _holds_any(doing, buffer.getvalue().encode()):
        doing.unsure.append(str(path))


def _drop_pictures(doing: _Purge, path: Path, row: Sequence[str]) -> None:
    for cell in row:
        picture = path.with_name(f"{path.stem}-images") / Path(unguard(cell)).name
        if cell.startswith(f"{path.stem}-images/") and picture.is_file():
            doing.removed.add(picture.relative_to(doing.work.path).as_posix())
            doing.gone["pictures of a worklist"] += 1


def _write_table(doing: _Purge, path: Path, target: Path) -> None:
    """Write a Parquet file without the samples' rows, where it has ids, and without their names in other cells."""
    frame = pl.read_parquet(path)
    ids = pl.Series(sorted(doing.ids), dtype=pl.String).implode()
    known = frame.schema.get("sample_id") == pl.String
    if not known and _frame_names_any(doing, frame.drop("reason", strict=False)):
        doing.unsure.append(str(path))  # whose row each is cannot be told
        return
    left = frame.filter(~pl.col("sample_id").is_in(ids)) if known else frame
    others = left.select(pl.selectors.string().exclude(["sample_id"] if known else [])).get_columns()
    told = left.with_columns([_without_names(doing, column, whole=known) for column in others])
    if not told.equals(frame):
        doing.gone[f"rows of {path.name}"] += frame.height - left.height
        write_parquet(told, target)
    if _frame_names_any(doing, told):
        doing.unsure.append(str(path))


def _without_names(doing: _Purge, texts: pl.Series, *, whole: bool) -> pl.Series:
    """Return a column without the ids in its sentences; with `whole`, also without cells that are one.

    Our own sentences are reasons; of what a remaining sample is, such as its label, nothing but such a cell is ours.
    """
    if whole:  # such as the sample that pulled another in
        named = texts.is_in(pl.Series(sorted(doing.ids), dtype=pl.String).implode())
        texts = texts.zip_with(~named.fill_null(value=False), pl.Series([None], dtype=pl.String))
    if texts.name in OF_OTHERS:
        return texts
    changed = doing.redaction.changes(texts, sentence=texts.name == "reason")
    return texts.replace(changed) if changed else texts


def _write_masks(doing: _Purge, path: Path, target: Path) -> None:
    """Write goldfish masks without the samples, for the manifest that has lost them; damaged ones go."""
    ids = pl.Series(sorted(doing.ids), dtype=pl.String)
    try:
        lost = without_samples(path, target, ids, doing.redaction.renamed)
    except BadInput:
        doing.removed.add(path.relative_to(doing.work.path).as_posix())
        doing.gone["damaged goldfish masks"] += 1
        return
    if lost:
        doing.gone[f"rows of {path.name}"] += lost


def _texts(doing: _Purge) -> list[str]:
    """Return how the texts of the samples begin, by which files are searched that nobody here made."""
    known = doing.work.catalog.newest_dataset()
    if known is None or known["kind"] != "text":
        return []
    try:
        dataset = doing.work.dataset
    except BadInput:  # the source has moved or lost them already
        dataset = None
    if dataset is None or not isinstance(dataset.inputs, list):
        say("the texts are not at hand, so other files in the workspace were searched for ids alone")
        return []
    rows = dataset.samples["sample_id"].is_in(pl.Series(sorted(doing.ids), dtype=pl.String).implode())
    texts = (dataset.inputs[row].strip() for row in rows.arg_true())
    return sorted({text[:_TEXT_SOUGHT] for text in texts if len(text) >= _LEAST_TEXT})


def _frame_names_any(doing: _Purge, frame: pl.DataFrame) -> bool:
    sought = [*filter(unmistakable, doing.ids), *doing.texts]
    columns = frame.select(pl.selectors.string()).get_columns()
    return bool(sought) and any(column.str.contains_any(sought).any() for column in columns)


def _names_any(doing: _Purge, path: Path) -> bool:
    """Tell whether a file that we do not know holds an id or a text; of one too large to look through, yes."""
    if path.suffix == ".duckdb" or path.stat().st_size > _LARGEST_SCANNED:
        return True
    return _holds_any(doing, path.read_bytes())


def _holds_any(doing: _Purge, content: bytes) -> bool:
    """Tell whether bytes hold an id or a text, as it stands or as JSON, CSV or HTML write it."""
    forms = {form for text in doing.texts for form in (
        text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], text.replace('"', '""'),
        html.escape(text),
    )}  # fmt: skip
    # Latin-1 gives every byte a character, so that any file can be searched.
    sought = [form.encode().decode("latin-1") for form in (*filter(unmistakable, doing.ids), *forms)]
    return bool(sought) and bool(pl.Series([content.decode("latin-1")]).str.contains_any(sought)[0])


# --- afterwards


def _shows_content(workspace: Path) -> bool:
    """Tell whether the report that stands shows pictures and texts."""
    path = workspace / "report.html"
    return path.exists() and "were left out on request" not in path.read_text(encoding="utf-8")


def _report_again(work: Work, journal: dict[str, Any]) -> str:
    """Make the report again where there was one before; say what became of it."""
    from tracesift.flows.publish import publish

    last = journal["purges"][-1] if journal["purges"] else {"report": "none"}
    if last["report"] != "pending":
        return "there was none" if last["report"] == "none" else "made again"
    try:
        publish(work, bool(last["content"]))
    except BadInput as error:
        say(f"the report was removed and cannot be made again: {error}")
        return f"removed: {error}"
    current = _journal(work.path)
    current["purges"][-1]["report"] = "made"
    write_json(work.path / PURGES, current)
    return "made again"


def _sources(work: Work) -> list[str]:
    """Return where the data came from, every place once: nothing here touches them."""
    found: dict[str, None] = {}
    for details, source in work.catalog.query(
        "SELECT details, source FROM datasets ORDER BY seq"
    ).iter_rows():
        where = json.loads(details or "{}").get("location") or {"source": source, "options": {}}
        parts = [where["source"], *((where.get("options") or {}).get(part) for part in ("val", "test"))]
        found |= {
            part: None for part in parts if isinstance(part, str) and not part.replace(".", "").isdigit()
        }
    return list(found)
