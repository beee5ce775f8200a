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

import secrets
import shutil
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from tracesift.catalog.connection import CATALOG_FILE
from tracesift.catalog.files import write_json
from tracesift.catalog.rebuild import Rebuilding, rebuild, settle
from tracesift.catalog.redaction import Redaction
from tracesift.catalog.schema import BadInput, nearest
from tracesift.catalog.swap import JOURNAL, staged, swap
from tracesift.flows.progress import say, stage, watched
from tracesift.flows.purging.files import texts_of, write_others
from tracesift.flows.purging.manifests import drop_exports, exports_outside, write_manifests
from tracesift.flows.purging.plan import Purge, find_states, rename_runs, sources_of, twins_of
from tracesift.flows.purging.purged import PURGES, hashed, purged_for, purges_of, was_purged
from tracesift.flows.purging.signals import write_embeddings, write_recordings
from tracesift.flows.work import Work
from tracesift.pipelines.purged_signals import holds_samples


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
    before = purges_of(work)
    there, already = _known(work, wanted, before) if wanted else (wanted, wanted)
    if not there:
        number = len(already) if wanted else purged_for(work, request, before)
        answer = _answer(work, request, already=number, dry_run=dry_run)
        answer["exports"] = exports_outside(work, already)
        return answer | ({} if dry_run else {"report": _report_again(work, before)})
    settle(work.catalog.path)
    doing = Purge(work=work, ids=there, folder=staged(work.path), redaction=Redaction(there))
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
    doing: Purge, request: str | None, *, already: int, dry_run: bool, at: Callable[[str], None]
) -> dict[str, Any]:
    """Write everything anew into the stage and return what to tell of it."""
    work = doing.work
    stage("states")
    find_states(doing)
    runs = rename_runs(doing)
    twins = twins_of(doing)
    at("planned")
    stage("recordings")
    recorded = write_recordings(doing)
    at("recordings")
    stage("embeddings")
    artifacts = write_embeddings(doing)
    at("embeddings")
    stage("manifests")
    drop_exports(doing)
    subsets, columns = write_manifests(doing)
    at("manifests")
    stage("files")
    doing.texts = texts_of(doing)
    write_others(doing)
    at("files")
    stage("catalog")
    removed = rebuild(
        work.path, doing.folder,
        Rebuilding(
            states=doing.states, redaction=doing.redaction, runs=recorded, subsets=columns, artifacts=artifacts,
            purges=len(purges_of(work)["purges"]) + 1,
        ), at=at,
    )  # fmt: skip
    doing.removed.add(f"{CATALOG_FILE}.wal")
    return _answer(work, request, already=already, dry_run=dry_run) | {
        "purged": len(doing.ids),
        "removed": {f"catalog {name}": number for name, number in sorted(removed.items())}
        | {name: number for name, number in sorted(doing.gone.items()) if number},
        "datasets": {state.dataset_id: state.new_id for state in doing.states},
        "runs": runs, "subsets": subsets, "twins": twins, "left": sorted(doing.unsure),
        "exports": doing.exports + exports_outside(work, doing.ids),
    }  # fmt: skip


def _answer(work: Work, request: str | None, *, already: int, dry_run: bool) -> dict[str, Any]:
    return {
        "request": request, "purged": 0, "already": already, "removed": {}, "datasets": {}, "runs": {}, "subsets": {},
        "twins": 0, "left": [], "exports": [], "sources": sources_of(work), "report": None, "dry_run": dry_run,
    }  # fmt: skip


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
            f"{work.path} lacks {len(unknown)} of {len(wanted)} ids, first '{min(unknown)}'; nothing was purged"
        )
    return there, already


def _entry(
    doing: Purge, before: dict[str, Any], request: str | None, answer: dict[str, Any]
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
        "removed": answer["removed"], "ids": sorted(hashed(key, one) for one in ids),
        "contents": sorted(hashed(key, one, kind="content") for one in contents),
        "report": "pending" if unfinished or (workspace / "report.html").exists() else "none",
        "content": bool(last["content"]) if unfinished else _shows_content(workspace),
    }  # fmt: skip
    return {**before, "key": key, "purges": [*before["purges"], entry]}


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
    current = purges_of(work)
    current["purges"][-1]["report"] = "made"
    write_json(work.path / PURGES, current)
    return "made again"
