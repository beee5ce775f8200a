"""Who was purged when: hashes of ids and contents under a key, so that they are known when they come back."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Collection
from typing import Any

import polars as pl

from tracesift.catalog.files import write_json
from tracesift.catalog.forgotten import how_to_go_on
from tracesift.catalog.schema import BadInput
from tracesift.flows.progress import counted, say
from tracesift.flows.work import Work
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.restricted import restricted

PURGES = "purges.json"
"""What was purged when: counts, and hashes of ids and contents under a key that stands beside and may be deleted."""

_NONE: dict[str, Any] = {"schema": 1, "key": None, "purges": [], "returned": []}


def was_purged(work: Work, ids: Collection[str], *, returned: bool = False) -> frozenset[str]:
    """Return those of these ids that were purged here before, as long as their hashes and the key are kept.

    Parameters
    ----------
    returned
        Those as well under which purged content was found in a source: who asks for one means that. It says nothing of
        who has the id later, in a source whose ids are numbers of rows.
    """
    if not ids:
        return frozenset()
    journal = purges_of(work)
    key = journal["key"]
    hashes = {one for entry in journal["purges"] for one in entry["ids"]}
    hashes |= set(journal["returned"]) if returned else set()
    return frozenset(one for one in ids if key and hashed(key, one) in hashes)


def left_out(work: Work, dataset: Dataset, *, remember: bool = False) -> Dataset:
    """Return a dataset without the samples that were purged here before, known by their id or by their very content.

    Its source may hold them still; what was purged does not come back by reading it again, nor under another id.

    Parameters
    ----------
    remember
        Keep the hashes of ids under which purged content came back, so that a request that names one is understood.
    """
    journal = purges_of(work)
    if not journal["purges"]:
        return dataset
    by_id = was_purged(work, dataset.samples["sample_id"].to_list())
    gone = by_id | _came_back(work, dataset, journal)
    if not gone:
        return dataset
    if remember and journal["key"]:
        returned = sorted({*journal["returned"], *(hashed(journal["key"], one) for one in gone - by_id)})
        if returned != journal["returned"]:
            write_json(work.path / PURGES, {**journal, "returned": returned})
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
        stayed = set(work.catalog.query("SELECT DISTINCT sample_id, content_hash FROM samples").iter_rows())
        found |= {
            name for name, content in samples.drop_nulls().iter_rows()
            if (name, content) not in stayed and hashed(key, content, kind="content") in hashes
        }  # fmt: skip
    return frozenset(found)


def purged_for(work: Work, request: str | None, before: dict[str, Any]) -> int:
    """Return how many samples were purged for a request that forgets nobody any more, or for all."""
    entries = [one for one in before["purges"] if request is None or one["request"] in (request, None)]
    if not entries:
        raise BadInput(
            f"{f'request {request}' if request else work.path}: no sample is in role forget, so there is nothing to "
            "purge"
        )
    return sum(one["samples"] for one in entries)


def unlink_purged(work: Work) -> None:
    """Delete the key and the hashes of what was purged; the record keeps when, for which request, and how many.

    A record that is lost is begun anew, which says that nobody is to be recognised any more.
    """
    try:
        journal = purges_of(work)
    except BadInput as error:
        say(f"{PURGES} is begun anew: {error}")
        journal = _NONE
        write_json(work.path / PURGES, journal)
        work.catalog.keep_purges(0)
    if journal["purges"]:
        purges = [{**entry, "ids": [], "contents": []} for entry in journal["purges"]]
        write_json(work.path / PURGES, {**journal, "key": None, "returned": [], "purges": purges})


def hashed(key: str, text: str, *, kind: str = "") -> str:
    """Return the keyed hash of an id, or of what else stands in our records; a kind has hashes of its own."""
    said = f"{kind}\0{text}" if kind else text
    return hmac.new(bytes.fromhex(key), said.encode(), hashlib.blake2b).hexdigest()[:32]


def purges_of(work: Work) -> dict[str, Any]:
    """Return the record of purges.

    Returns
    -------
    dict
        ``schema``; ``key``, None where it was deleted; ``purges``, a dict of each; and ``returned``, hashes of other
        ids under which purged content was found in a source.

    Raises
    ------
    BadInput
        The catalog knows of more purges than the record, or it is none: somebody could not be recognised, and would
        return with the next look at the source.
    """
    path, known = work.path / PURGES, work.catalog.purges()
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        if not known:
            return _NONE
        lost = "is gone"
    except ValueError:
        lost = "is no JSON"
    else:
        if isinstance(found, dict) and isinstance(purges := found.get("purges"), list):
            if len(purges) >= known:
                return _NONE | found
            lost = f"tells of {counted(len(purges), 'purge')} of {known}, so it is an earlier copy"
        else:
            lost = "is no record of purges"
    raise BadInput(
        f"{path} {lost}, and purged samples cannot be recognised and would return: {how_to_go_on(work.path)}"
    )
