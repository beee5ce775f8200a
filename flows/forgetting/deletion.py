"""Deletion requests carried out: checked, made a forget-ready subset, and remembered.

Everything is decided before anything is written, so that a request that is refused changes nothing. What is
remembered holds no ids: a keyed hash of each sample (see `catalog.forgotten`), by which it is kept out of whatever is
made or trained later, and a row that says when, by whom and how many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from tracesift.catalog.forgotten import COPY, REQUESTED, UNTRAINED, read_key, request_key
from tracesift.catalog.manifest import SelectorBlock, manifest_path, read_manifest, verify_manifest
from tracesift.catalog.schema import BadInput
from tracesift.flows.forgetting.dividing import (
    as_members,
    forget_controls,
    forget_members,
    pulled_in,
    tell_copies,
)
from tracesift.flows.forgetting.plan import (
    COPIED,
    copies_of,
    forget_facts,
    modules,
    tell_overlap,
    write_facts,
)
from tracesift.flows.forgetting.requests import Request, entities, from_file, some
from tracesift.flows.progress import counted, say, stage
from tracesift.flows.purging.purge import purge, requested
from tracesift.flows.purging.purged import purges_of
from tracesift.flows.selecting.written import check_replaces, put
from tracesift.flows.work import Work
from tracesift.selectors.contract import find

_NOBODY = pl.DataFrame(schema={"sample_id": pl.String, "how": pl.String})

MOST = 0.5
"""Share of the training samples that one request may take without being asked again."""


@dataclass(frozen=True, kw_only=True)
class Handling:
    """How requests are handled."""

    name: str = "forget-ready"
    """Name of the subset."""
    seed: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    """Of the selector forget_ready."""
    embedding: str | None = None
    append: bool = False
    """Join the requests before it under the same name."""
    allow_empty_class: bool = False
    yes: bool = False
    """Forget more than half of the training samples."""
    trial: bool = False
    """Make the subset, and remember no deletion."""
    entity: str | None = None
    """Column that says whose each sample is, for a plan of batches by entity."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A request with what it comes to; nothing of it is written yet."""

    request: Request
    request_id: str
    asked: dict[str, Any]
    """What makes it this request: the same once more changes nothing."""
    known: dict[str, Any] | None = None
    """Its row, where it was done before; then there is nothing else."""
    members: pl.DataFrame = field(default_factory=pl.DataFrame)
    block: SelectorBlock | None = None
    """How the subset was selected; None where nothing was trained on, so that there is no subset."""
    overlap: dict[str, Any] | None = None
    """How much of what is forgotten stays in what is retained."""
    samples: pl.DataFrame = field(default_factory=pl.DataFrame)
    """Whom it concerns: sample_id, how, content_hash where there is one."""
    copies_outside: int = 0
    """How many samples outside train hold the very content of one of these, and are deleted as well."""


def handle(work: Work, requests: Sequence[Request], how: Handling) -> list[dict[str, Any]]:
    """Decide all requests, then carry them out one after the other; return an answer for each.

    A request that was done before changes nothing and gets its answer once more. One that a killed command left half
    done is done again, with the same result.

    Returns
    -------
    list of dict
        Per request what `answered` returns.

    Raises
    ------
    BadInput
        One of them is refused; then none is carried out.
    """
    manifest_path(work.path / "manifests", how.name)  # a name that cannot be one is refused before all else
    check_replaces(work, how.name, forgets=True)
    pending = work.forgotten
    known = {row["request_id"]: row for row in work.catalog.forget_requests()}
    for request in requests:  # before anything is compared, which takes long
        if request.refused is not None and not _same_request(work, request, how, pending, known):
            raise request.refused
    planned: list[Planned] = []
    for request in requests:
        try:
            planned.append(_plan(work, request, how, pending, planned))
        except BadInput as error:
            if len(requests) == 1 or error is request.refused:
                raise
            raise type(error)(f"{request.source}: {error}") from None
        rows = planned[-1].samples
        if rows.height:
            told = rows.select(
                "sample_id", request_id=pl.lit(planned[-1].request_id), subset=pl.lit(how.name), how="how",
                seq=pl.lit(2**62 + len(planned), pl.Int64),
            )  # fmt: skip
            pending = pl.concat([pending, told])
    answers = [_carried_out(work, plan, how) for plan in planned]
    work.content_vectors = None  # nothing after the search needs them
    return answers


def _plan(
    work: Work, request: Request, how: Handling, pending: pl.DataFrame, before: Sequence[Planned]
) -> Planned:
    """Decide one request, as if those before it were done; writes nothing."""
    known = {row["request_id"]: row for row in work.catalog.forget_requests()}
    asked = _asked(request, how)
    row = None if how.trial else _same_request(work, request, how, pending, known)
    if request.refused is not None and (row is None or row["status"] != "done"):
        raise request.refused
    of_the_purged = request.refused is not None or request.gone > 0
    if row is not None and row["status"] == "done" and (of_the_purged or _stands(work, row)):
        return Planned(request=request, request_id=row["request_id"], asked=asked, known=row)
    nothing_left = request.gone and not request.ids and not request.untrained
    if nothing_left and request.request_id in known:  # of data that have changed since
        return Planned(
            request=request, request_id=str(request.request_id), asked=asked, known=known[request.request_id]
        )
    request_id = row["request_id"] if row is not None else _called(request, known, before)
    if nothing_left:
        return Planned(request=request, request_id=request_id, asked=asked, samples=_NOBODY)
    pending = pending.filter(pl.col("request_id") != request_id)  # of a command that was killed halfway
    joined = pending.clear()
    if how.append:
        joined = pending.filter(pl.col("subset") == how.name)
        joined = joined.unique("sample_id", keep="first", maintain_order=True)
    to_forget = sorted({*request.ids, *request.untrained, *joined["sample_id"]})
    sentence = f"{len(request.ids)} requested, "
    if request.untrained:
        sentence += f"and {len(request.untrained)} outside train, "
    sentence += "a trial" if how.trial else f"request {request_id}"
    if joined.height:
        sentence += f", joined to {', '.join(joined['request_id'].unique(maintain_order=True))}"
    members, block, overlap = forget_members(
        work, to_forget, seed=how.seed, params=how.params, asked=sentence, embedding=how.embedding,
        forgotten=pending.filter(~pl.col("sample_id").is_in(to_forget)),
    )  # fmt: skip
    earlier = joined.filter(~pl.col("sample_id").is_in(list(request.ids)))
    members = members.update(_came_in(work, earlier, how, known, before), on="sample_id", include_nulls=True)
    fresh = members.filter(
        (pl.col("role") == "forget") & ~pl.col("sample_id").is_in(earlier["sample_id"].implode())
    )
    unlearned = bool((members["role"] == "forget").any())
    if how.trial and not unlearned:
        raise BadInput(
            f"{_outside(request)}, so there is nothing to unlearn and nothing to try; without --trial they are deleted"
        )
    added = fresh.filter(~pl.col("sample_id").is_in(joined["sample_id"].implode()))
    _check_share(work, request, how, added.height)
    _check(work, request, how, members, fresh)
    untrained = pl.DataFrame({"sample_id": request.untrained}, schema={"sample_id": pl.String})
    samples = pl.concat(
        [
            fresh.select(
                "sample_id",
                how=pl.when(pl.col("sample_id").is_in(list(request.ids)))
                .then(pl.lit(REQUESTED))
                .otherwise(pl.lit(COPY)),
            ),
            untrained.with_columns(how=pl.lit(UNTRAINED)),
        ]
    )
    columns = [name for name in ("sample_id", "content_hash") if name in work.dataset.samples.columns]
    samples = samples.join(work.dataset.samples.select(columns), on="sample_id", how="left")
    return Planned(
        request=request, request_id=request_id, asked=asked, members=members, block=block if unlearned else None,
        overlap=overlap, samples=samples.clear() if how.trial else samples,
        copies_outside=0 if how.trial else _copies_outside(work, samples, pending),
    )  # fmt: skip


def _copies_outside(work: Work, samples: pl.DataFrame, pending: pl.DataFrame) -> int:
    """Count who outside train has the very content of somebody to delete, and was not deleted before."""
    if "content_hash" not in samples.columns:
        return 0
    known = pl.concat([samples["sample_id"], pending["sample_id"]])
    content = samples["content_hash"].drop_nulls()
    return work.dataset.samples.filter(
        (pl.col("split") != "train")
        & pl.col("content_hash").is_in(content.implode())
        & ~pl.col("sample_id").is_in(known.implode())
    ).height


def _came_in(
    work: Work,
    earlier: pl.DataFrame,
    how: Handling,
    known: Mapping[str, dict[str, Any]],
    before: Sequence[Planned],
) -> pl.DataFrame:
    """Return how samples came in that are forgotten by requests before, as the subset that answered these says it.

    Parameters
    ----------
    earlier
        The first request of each, in the columns of `catalog.forgotten.KNOWN`.
    before
        Requests of the same file, of which nothing is written yet.

    Returns
    -------
    polars.DataFrame
        `sample_id`, `reason`, and of copies `how`, `pulled_by` and `similarity`; a copy of which no file tells any more
        is one of nobody.
    """
    planned = {plan.request_id: plan.members for plan in before if plan.known is None}
    found = [pl.DataFrame(schema={"request_id": pl.String, **COPIED})]
    for name in earlier["request_id"].unique(maintain_order=True):
        if name in planned:
            copies = planned[name].filter(pl.col("role") == "forget").select(*COPIED)
        else:
            copies = copies_of(work.path / "manifests" / how.name, known[name]["version"])
        found.append(copies.select(pl.lit(name).alias("request_id"), *COPIED))
    told = earlier.rename({"how": "came"}).join(
        pl.concat(found), on=["sample_id", "request_id"], how="left", maintain_order="left"
    )
    copied = pl.col("came") == COPY
    of_request = pl.format("forgotten by request {}", "request_id")
    return told.select(
        "sample_id",
        pl.when(copied & pl.col("how").is_not_null())
        .then(pl.format("{}: {}", of_request, "reason"))
        .otherwise(of_request)
        .alias("reason"),
        pl.when(copied).then(pl.col("how").fill_null(COPY)).alias("how"),
        *(pl.when(copied).then(name).alias(name) for name in ("pulled_by", "similarity")),
    )


def _outside(request: Request) -> str:
    return f"none of {counted(len(request.untrained), 'sample')} is in train, and no copy of them"


def _asked(request: Request, how: Handling) -> dict[str, Any]:
    """Return what makes a request this one: the same once more is no other.

    Its words, and not what they mean: that changes when a purge takes some of it.
    """
    return {
        "subset": how.name, "words": request.words or request.ids, "append": how.append, "seed": how.seed,
        "params": dict(how.params), "embedding": how.embedding, "selector": find("forget_ready").version,
        "request_id": request.request_id,
    }  # fmt: skip


def _same_request(
    work: Work, request: Request, how: Handling, forgotten: pl.DataFrame, known: Mapping[str, dict[str, Any]]
) -> dict[str, Any] | None:
    """Return the row of the same request, where it was made before of these data and all that it means is deleted.

    It is known by its keyed hash. A purge renames the state of the data, in its row as well.
    """
    key = read_key(work.path)
    if key is None:
        return None
    same, meant = request_key(key, _asked(request, how)), {*request.ids, *request.untrained}
    for name, row in reversed(list(known.items())):
        here = row["request_key"] == same and row["dataset_id"] == work.dataset.dataset_id
        if here and meant <= set(forgotten.filter(pl.col("request_id") == name)["sample_id"]):
            return row
    return None


def asked_before(work: Work, path: Path, how: Handling) -> list[str]:
    """Return the requests of a file that were made before, by their ids; none where the file cannot be read now."""
    known = {row["request_id"]: row for row in work.catalog.forget_requests()}
    if not known:
        return []
    try:
        forgotten = work.forgotten
        rows = [_same_request(work, request, how, forgotten, known) for request in from_file(work, path)]
    except BadInput:
        return []
    return [row["request_id"] for row in rows if row is not None]


def _called(request: Request, known: Mapping[str, Any], before: Sequence[Planned]) -> str:
    """Return the request's own id, or the next number."""
    taken = {*known, *(plan.request_id for plan in before)}
    if request.request_id is not None:
        if request.request_id in taken:
            raise BadInput(
                f"request_id '{request.request_id}' was asked before, for other samples, another subset or other "
                "settings; `tracesift requests` lists them; give it an id of its own"
            )
        return request.request_id
    number = len(taken) + 1
    while f"r{number}" in taken:
        number += 1
    return f"r{number}"


def _check_share(work: Work, request: Request, how: Handling, new: int) -> None:
    """Refuse to take most of the training samples at once, or of the others; what requests before took does not count.

    Parameters
    ----------
    new
        How many training samples this request forgets that none it joins did, copies included.
    """
    trained = int((work.dataset.samples["split"] == "train").sum())
    if new > MOST * trained and not how.yes:
        raise BadInput(
            f"{new} of {trained} training samples would be forgotten, copies included: more than half; say --yes "
            "where that is meant (an inbox on a server: its parameter yes), or narrow the request"
        )
    outside = int((work.dataset.samples["split"] != "train").sum())
    if (
        len(request.untrained) > MOST * outside
        and any(way == "where" for way, *_ in request.words)
        and not how.yes
    ):
        raise BadInput(
            f"{len(request.untrained)} of {outside} records outside train would be deleted: more than half, and they "
            "have no scores and no flags; say --yes where that is meant, or add AND split = 'train' to the condition"
        )


def _check(work: Work, request: Request, how: Handling, members: pl.DataFrame, fresh: pl.DataFrame) -> None:
    """Refuse what takes more than was said: the last of a class or group."""
    if how.allow_empty_class:
        return
    named = [name for name in ("label", "group") if name in work.dataset.samples.columns]
    trained = members.filter(pl.col("role").is_in(("forget", "retain", "neighbor")))
    known = trained.select("sample_id", "role").join(
        work.dataset.samples.select("sample_id", *named), on="sample_id", how="left"
    )
    for name, what in (("label", "class"), ("group", "group")):
        if name not in named or (name == "group" and request.whole_groups):
            continue
        left = known.filter(pl.col("role") != "forget")[name].unique()
        touched = known.filter(pl.col("sample_id").is_in(fresh["sample_id"].implode()))[name].unique()
        emptied = touched.filter(~touched.is_in(left.implode())).drop_nulls().sort().to_list()
        emptied = [f"'{one}'" for one in emptied if name == "group" or one not in request.emptied]
        if emptied:
            raise BadInput(
                f"nothing of {what} {some(emptied)} would be left to train on; say "
                "--allow-empty-class where that is meant (an inbox on a server: its parameter allow_empty_class)"
            )


def _carried_out(work: Work, plan: Planned, how: Handling) -> dict[str, Any]:
    """Write the subset, then that it was asked for, then the controls; a repeated request is answered at once."""
    if plan.known is not None:
        say(f"request {plan.request_id} was done before; nothing changes")
        return answered(work, plan.known)
    stage(how.name)
    if not how.trial:
        _tell_outside(work, plan, how)
    if plan.request.gone:
        _tell_gone(plan)
    if plan.block is None:
        if plan.samples.height:
            say(
                f"request {plan.request_id}: {_outside(plan.request)}, so there is nothing to unlearn and no subset is "
                "made; they are deleted all the same: in no later subset, training or test, and a purge takes them"
            )
        _put(work, plan, how, {}, plan.samples.clear())
        return answered(work, work.catalog.finish_forget_request(plan.request_id, controls=[]))
    assert plan.overlap is not None
    tell_copies(pulled_in(plan.members))
    tell_overlap(plan.overlap)
    if not how.append and not how.trial:
        _tell_parted(work, plan, how)
    made = put(work, how.name, as_members(plan.members), plan.block, ())
    write_facts(
        Path(made["manifest"]), made["version"], forget_facts(work, plan.members),
        None if how.entity is None else modules(work, plan.members, entities(work, how.entity), seed=how.seed),
        plan.overlap,
    )  # fmt: skip
    if how.trial:
        return {
            **made,
            "controls": forget_controls(work, how.name, plan.members, seed=how.seed),
            "request": None,
        }
    pulled = plan.members.join(plan.samples.filter(pl.col("how") == COPY), on="sample_id", how="semi")
    _put(work, plan, how, made, pulled)
    controls = forget_controls(work, how.name, plan.members, seed=how.seed)
    names = [[one["name"], one["subset_id"]] for one in controls]
    row = work.catalog.finish_forget_request(plan.request_id, controls=names)
    return answered(work, row)


def _tell_gone(plan: Planned) -> None:
    """Say that some or all of what is asked for was deleted before and is in the data no more."""
    gone, left = plan.request.gone, plan.samples.height
    told = (
        "all that it names was" if not left else f"{gone:,} of what it names {'was' if gone == 1 else 'were'}"
    )
    say(
        f"request {plan.request_id}: {told} deleted before, and no longer in the data"
        + ("" if left else "; nothing is left to do, and the request is on record")
    )


def _tell_parted(work: Work, plan: Planned, how: Handling) -> None:
    """Say where the version before forgot what this one, which stands alone, does not: that is dropped in it."""
    before = [
        row
        for row in work.catalog.forget_requests()
        if row["subset"] == how.name and row["version"] is not None and row["request_id"] != plan.request_id
    ]
    if before and not (before[-1]["details"] or {}).get("append"):
        before = before[-1:]
    names = [row["request_id"] for row in before]
    gone = work.forgotten.filter(pl.col("request_id").is_in(names) & (pl.col("how") != UNTRAINED))
    trained = work.dataset.samples.filter(pl.col("split") == "train")["sample_id"]
    known = gone.filter(pl.col("sample_id").is_in(trained.implode()))["sample_id"].unique()
    kept = plan.members.filter(pl.col("role") == "forget")["sample_id"]
    left = int((~known.is_in(kept.implode())).sum())
    if left:
        requests = f"request{'s' * (len(names) > 1)} {', '.join(names)}"
        say(
            f"{how.name}: the version before forgot {counted(len(known), 'sample')} by {requests}; they stay deleted, "
            f"and this version forgets {left:,} of them no more, for it stands alone; --append joins them"
        )


def _tell_outside(work: Work, plan: Planned, how: Handling) -> None:
    """Say how many records outside train a request deletes too, and how many of a class it leaves to measure with."""
    copies = plan.copies_outside
    if count := copies + len(plan.request.untrained) * (plan.block is not None):
        how_many = f", {copies:,} of them as exact copies" if copies else ""
        say(
            f"request {plan.request_id}: {counted(count, 'record')} outside train deleted as well{how_many}; there is "
            "nothing to unlearn of them"
        )
    outside = work.dataset.samples.filter(pl.col("split") != "train")
    gone = [*work.forgotten["sample_id"], *plan.request.untrained]
    for label in sorted(plan.request.emptied):
        left = outside.filter((pl.col("label") == label) & ~pl.col("sample_id").is_in(gone)).height
        if left:
            quoted = label.replace("'", "''")
            options = f" --name {how.name}" if how.name != Handling.name else ""
            options += " --yes" if left > MOST * outside.height else ""
            say(
                f"{counted(left, 'record')} of class '{label}' outside train stay, to measure with how well it was "
                "unlearned; this deletes them as well: "
                f"`tracesift forget --append{options} --where \"label = '{quoted}' AND split <> 'train'\"`"
            )


def _put(work: Work, plan: Planned, how: Handling, made: Mapping[str, Any], pulled: pl.DataFrame) -> None:
    """Write that a request was made, which subset answers it if any, and how its copies were found."""
    roles = dict(plan.members.group_by("role").len().iter_rows()) if made else {}
    exact = int((pulled["how"] == "exact").sum())
    work.catalog.put_forget_request(
        {
            "request_id": plan.request_id, "dataset_id": work.dataset.dataset_id, "subset": how.name,
            "source": plan.request.source, "kind": plan.request.kind, "num_requested": len(plan.request.ids),
            "num_found": int((plan.samples["how"] != UNTRAINED).sum()), "num_exact": exact,
            "num_near": pulled.height - exact,
            "num_retained": roles.get("retain", 0) + roles.get("neighbor", 0),
            "num_holdout": roles.get("holdout", 0), "subset_id": made.get("subset_id"), "version": made.get("version"),
            "tool_version": version("tracesift"), "status": "begun",
            "num_untrained": len(plan.request.untrained) + plan.copies_outside, "num_gone": plan.request.gone,
            "append": how.append,
        },
        plan.samples,
        plan.asked,
        [(way, value) for way, value, _ in plan.request.words if way != "sample_id"],
    )  # fmt: skip


def purge_answered(
    work: Work, answers: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Purge what each answered request forgets, or finish its purge.

    Returns
    -------
    tuple
        The answers as they stand after it, since a purge makes the subsets anew, without the purged; and what was
        removed, of each request that had any.
    """
    told = []
    for name in (answer["request"]["request_id"] for answer in answers):
        begun = any(entry["request"] == name for entry in purges_of(work)["purges"])
        if (found := requested(work, name)) or begun:
            told.append(purge(work, found, request=name))
    rows = {row["request_id"]: row for row in work.catalog.forget_requests()}
    return [answered(work, rows[answer["request"]["request_id"]]) for answer in answers], told


def _stands(work: Work, row: Mapping[str, Any]) -> bool:
    """Tell whether the manifest that answered a request, if any, and those of its controls are there and whole."""
    there = dict(work.catalog.query("SELECT subset_id, manifest_path FROM subsets").iter_rows())
    made = [subset_id for _, subset_id in (row["details"] or {}).get("controls", [])]
    made += [] if row["subset_id"] is None else [row["subset_id"]]
    return all(
        subset_id in there and Path(there[subset_id]).exists() and not verify_manifest(there[subset_id])
        for subset_id in made
    )


def answered(work: Work, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to a request that was done: its subset, the controls, and its row; the same whenever asked.

    Returns
    -------
    dict
        ``subset_id``, ``name``, ``version``, ``selector``, ``total``, a count per role, ``manifest``, ``controls`` (the
        same of each), ``request`` (its row of `forget_requests`, without keyed hashes, `num_untrained`, how many
        records outside train it deletes, and `num_gone`, how many of its ids and words mean what was deleted
        before). Where nothing was to be unlearned there is no subset: its name is the one that requests to come would
        join.
    """
    controls = (row["details"] or {}).get("controls", [])
    none = {
        "subset_id": None,
        "name": row["subset"],
        "version": None,
        "selector": None,
        "total": 0,
        "manifest": None,
    }
    return {
        **(none if row["subset_id"] is None else _told_of(work, row["subset_id"])),
        "controls": [_told_of(work, subset_id) for _, subset_id in controls],
        "request": {name: value for name, value in row.items() if name not in (*_INTERNAL, "details")} | _counts(row),
    }  # fmt: skip


_INTERNAL = ("request_key", "word_keys", "after_seq")


def _counts(row: Mapping[str, Any]) -> dict[str, int]:
    return {name: int((row["details"] or {}).get(name, 0)) for name in ("num_untrained", "num_gone")}


def _told_of(work: Work, subset_id: str) -> dict[str, Any]:
    """Return the record of a subset for people, as `put` does."""
    known = work.catalog.query("SELECT * FROM subsets WHERE subset_id = ?", (subset_id,)).to_dicts()[0]
    manifest = read_manifest(known["manifest_path"])
    return {
        "subset_id": subset_id, "name": known["name"], "version": known["version"], "selector": known["selector"],
        "control_of": known["control_of"], "total": manifest.counts.total, **manifest.counts.by_role,
        "manifest": known["manifest_path"],
    }  # fmt: skip


def told_requests(work: Work) -> list[dict[str, Any]]:
    """Return the deletion requests for people, earliest first, without keyed hashes."""
    return [
        {name: value for name, value in row.items() if name not in _INTERNAL} | _counts(row)
        for row in work.catalog.forget_requests()
    ]
