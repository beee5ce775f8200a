"""Deletion requests: what was asked is resolved to samples, checked, made a forget-ready subset, and remembered.

Everything is resolved and decided before anything is written, so that a request that is refused changes nothing.
What is remembered holds no ids: a keyed hash of each sample (see `catalog.forgotten`), by which it is kept out of
whatever is made or trained later, and a row that says when, by whom and how many.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from tracesift.catalog.forgotten import COPY, REQUESTED, UNTRAINED, read_key, request_key
from tracesift.catalog.manifest import SelectorBlock, manifest_path, read_manifest, verify_manifest
from tracesift.catalog.schema import BadInput, nearest
from tracesift.flows.candidates import fitting
from tracesift.flows.make_subset import flag_scores, forget_controls, forget_members, put
from tracesift.flows.progress import say, stage
from tracesift.flows.work import Work
from tracesift.pipelines.dataset import Dataset
from tracesift.selectors.contract import find

OWNER_COLUMNS = ("owner", "subject", "contributor", "user")
"""Columns that say whose a record is, where none is named."""

WAYS = ("sample_id", "owner", "class", "group", "where")
"""Columns of a file of requests that say what to forget; each row uses one."""
COLUMNS = ("request_id", "requested_by", *WAYS)

MOST = 0.5
"""Share of the training samples that a request may take without being asked again."""
LISTED = 20
"""Ids that a refusal lists."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One deletion request, resolved."""

    ids: tuple[str, ...]
    """Training samples that are to be forgotten, sorted."""
    kind: str
    """ids, where, class, group, owner, or csv for several of them."""
    source: str
    """Who asked, or where it stands; without what would name a person."""
    untrained: tuple[str, ...] = ()
    """Samples outside train that are to be forgotten with them: there is nothing to unlearn of these."""
    request_id: str | None = None
    """What the asker calls it."""
    emptied: frozenset[str] = frozenset()
    """Classes that were asked for as a whole."""
    whole_groups: bool = False
    """Whether whole groups were asked for, by their name or by their owner's."""


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
    samples: pl.DataFrame = field(default_factory=pl.DataFrame)
    """Whom it concerns: sample_id, how, content_hash where there is one."""


# --- what is asked for


def asked_for(
    work: Work,
    *,
    file: Path | None = None,
    where: str | None = None,
    label: str | None = None,
    group: str | None = None,
    owner: str | None = None,
    owner_column: str | None = None,
) -> list[Request]:
    """Return the requests that the command line names in one way, resolved, in the order in which they are handled.

    Parameters
    ----------
    file
        One sample id a line, or a ``.csv`` of requests; see `read_table`.
    where
        Training samples that fit an SQL condition; see `candidates.fitting`.
    label
        A whole class.
    group
        ``COL=VALUE``, a column of the source.
    owner
        All records of one contributor, those outside train included.
    owner_column
        Where owners stand; by default the one column that is called so, see `OWNER_COLUMNS`.

    Raises
    ------
    BadInput
        Nothing, or something unknown, is asked for.
    """
    if file is not None:
        return from_file(work, file, owner_column)
    if owner is not None:
        return [_request(work, [("owner", owner, "--owner")], owner_column)]
    way, value = next(
        (way, value)
        for way, value in (("where", where), ("class", label), ("group", group))
        if value is not None
    )
    return [_request(work, [(way, value, f"--{way}")], owner_column)]


def from_file(work: Work, path: Path, owner_column: str | None = None) -> list[Request]:
    """Return the requests of a file: ids, one a line, or a table of requests."""
    lines = _lines(path)
    if path.suffix.lower() == ".csv" and not _is_list(lines, work.dataset):
        return read_table(work, path, owner_column)
    ids = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not ids:
        raise BadInput(f"{path} holds no ids; write one sample id a line")
    check_known(work.dataset, ids)
    return [Request(ids=tuple(sorted(ids)), kind="ids", source=path.name)]


def read_table(work: Work, path: Path, owner_column: str | None = None) -> list[Request]:
    """Return the requests of a CSV file, in the order in which they first appear.

    Each row says in one way what to forget, in a column `sample_id`, `owner`, `class`, `group` (COL=VALUE) or
    `where`. Rows with the same `request_id` are one request; without that column the file is one. `requested_by` is
    kept as who asked.

    Raises
    ------
    BadInput
        No rows, an unknown column, a row that says nothing or says it twice, or something unknown; with the row.
    """
    table = list(csv.reader(_lines(path)))
    if not table or not any(map(str.strip, table[0])):
        raise BadInput(f"{path} is empty; its first line names columns of {', '.join(COLUMNS)}")
    names = [name.strip() for name in table[0]]
    for name in names:
        if name not in COLUMNS:
            raise BadInput(
                f"{path}: unknown column '{name}'{nearest(name, COLUMNS)}; there are {', '.join(COLUMNS)}"
            )
    if len(set(names)) < len(names):
        raise BadInput(f"{path}: a column stands twice in its first line")
    if not set(names) & set(WAYS):
        raise BadInput(f"{path} has none of the columns {', '.join(WAYS)}; one of them says what to forget")
    rows = [(number, row) for number, row in enumerate(table[1:], start=2) if any(map(str.strip, row))]
    if not rows:
        raise BadInput(f"{path} holds no requests; each row below its first line is one")
    parts: dict[str | None, list[tuple[str, str, str]]] = {}
    places: dict[str | None, list[int]] = {}
    askers: dict[str | None, str] = {}
    for number, row in rows:
        if len(row) > len(names):
            raise BadInput(f"{path}, row {number}: {len(row)} values for {len(names)} columns; quote a comma")
        values = {name: value.strip() for name, value in zip(names, row, strict=False) if value.strip()}
        said = [way for way in WAYS if way in values]
        if len(said) != 1:
            raise BadInput(
                f"{path}, row {number}: {' and '.join(said) or 'nothing'} is given; give one of {', '.join(WAYS)}"
            )
        request_id = values.get("request_id")
        if "request_id" in names and request_id is None:
            raise BadInput(f"{path}, row {number}: no request_id, and the file has that column; give one")
        parts.setdefault(request_id, []).append(
            (said[0], values[said[0]], f"{path}, row {number}: {said[0]}")
        )
        places.setdefault(request_id, []).append(number)
        askers.setdefault(request_id, values.get("requested_by", ""))
    check_known(
        work.dataset,
        [value for several in parts.values() for way, value, _ in several if way == "sample_id"],
    )
    found = []
    for request_id, several in parts.items():
        numbers = places[request_id]
        where = f"{path.name}, row {numbers[0]}" + (f" to {numbers[-1]}" if len(numbers) > 1 else "")
        asker = f", asked by {askers[request_id]}" if askers[request_id] else ""
        found.append(_request(work, several, owner_column, source=where + asker, request_id=request_id))
    return found


def _request(
    work: Work,
    parts: Sequence[tuple[str, str, str]],
    owner_column: str | None,
    *,
    source: str | None = None,
    request_id: str | None = None,
) -> Request:
    """Resolve what several rows, or one option, ask for: each a way, its value, and what a refusal calls it."""
    ids: set[str] = set()
    untrained: set[str] = set()
    for way, value, called in parts:
        found, beside = _resolved(work, way, value, called, owner_column)
        ids.update(found)
        untrained.update(beside)
    ways = {way for way, _, _ in parts}
    if not ids:
        raise BadInput(
            f"{parts[0][2]}: none of these {len(untrained)} samples is in train; no recorded model was trained on them"
        )
    return Request(
        ids=tuple(sorted(ids)), untrained=tuple(sorted(untrained - ids)), request_id=request_id,
        kind="csv" if source is not None else next(iter(ways)),
        source=_told(parts[0][0], parts[0][1]) if source is None else source,
        emptied=frozenset(value for way, value, _ in parts if way == "class"),
        whole_groups=ways <= {"owner", "group"},
    )  # fmt: skip


def _told(way: str, value: str) -> str:
    """Return an option for the records: texts in a condition, and the names of owners and groups, are left out."""
    if way == "where":
        return "--where " + re.sub(r"'(?:[^']|'')*'", "'…'", value)
    return (
        f"--class {value}"
        if way == "class"
        else f"--{way} " + (value.partition("=")[0] + "=…") * (way == "group")
    )


def _resolved(
    work: Work, way: str, value: str, called: str, owner_column: str | None
) -> tuple[list[str], list[str]]:
    """Return the training samples that are meant, and those outside train that belong to them."""
    dataset = work.dataset
    if way == "sample_id":
        return [value], []
    if way == "where":
        found = fitting(work, value)
        if not found:
            raise BadInput(f"{called} {value}: no training sample fits; try it with `tracesift sql` first")
        return found, []
    trained = dataset.samples.filter(pl.col("split") == "train")
    if way == "class":
        if value not in dataset.classes:
            raise BadInput(
                f"{called} {value}: no such class{nearest(value, dataset.classes)}; there are {some(dataset.classes)}"
            )
        found = trained.filter(pl.col("label") == value)["sample_id"].to_list()
        if not found:
            raise BadInput(f"{called} {value}: no training sample has this label")
        return found, []
    if way == "group":
        column, mark, wanted = value.partition("=")
        known = sorted({*_attributes(work), *trained.columns})
        if not mark or column not in known:
            raise BadInput(
                f"{called} {value}: write COL=VALUE with a column that is no model input{nearest(column, known)}; "
                f"there are {some(known)}"
            )
        found = [name for name, split in _having(work, column, wanted) if split == "train"]
        if not found:
            raise BadInput(f"{called} {value}: no training sample has this value")
        return found, []
    column = owners_stand_in(work, owner_column)
    both = _having(work, column, value)
    if not both:
        raise BadInput(f"{called} {value}: no record has this value in column '{column}' (--owner-column)")
    return [name for name, split in both if split == "train"], [
        name for name, split in both if split != "train"
    ]


def owners_stand_in(work: Work, given: str | None) -> str:
    """Return the column that says whose a record is: the one that was named, or the only one that is called so."""
    known = _attributes(work)
    if given is not None:
        if given not in known:
            raise BadInput(
                f"--owner-column {given}: no such column{nearest(given, known)}; there are {some(known)}"
            )
        return given
    called_so = [name for name in known if name.lower() in OWNER_COLUMNS]
    if len(called_so) != 1:
        what = (
            f"several columns are ({', '.join(called_so)})"
            if called_so
            else f"no column is; there are {some(known)}"
        )
        raise BadInput(
            f"--owner: say where owners stand with --owner-column; of {', '.join(OWNER_COLUMNS)} {what}"
        )
    return called_so[0]


def _attributes(work: Work) -> list[str]:
    """Return the columns of the source that are no input, as the catalog keeps them; the group's by its own name."""
    found = work.catalog.query(
        "SELECT json_keys(attributes) AS names FROM samples WHERE dataset_id = ? AND attributes IS NOT NULL LIMIT 1",
        (work.dataset.dataset_id,),
    )
    names = [] if found.is_empty() else found["names"][0].to_list()
    group = (work.dataset.options or {}).get("group")
    return [*names, *([group] if group and group not in names else [])]


def _having(work: Work, column: str, value: str) -> list[tuple[str, str]]:
    """Return id and split of all samples with a value in a column of the source, or in one of `samples`."""
    own = {"group": "group_key"} | {
        name: name for name in ("label", "label_true", "content_hash", "split", "sample_id")
    }
    if column in _attributes(work) and column != (work.dataset.options or {}).get("group"):
        where, given = (
            "json_extract_string(attributes, ?) = ?",
            ['$."' + column.replace('"', '""') + '"', value],
        )
    else:
        where, given = f"{own.get(column, 'group_key')} = ?", [value]
    found = work.catalog.query(
        f"SELECT sample_id, split FROM samples WHERE dataset_id = ? AND {where} ORDER BY sample_id",
        [work.dataset.dataset_id, *given],
    )
    return [(str(name), str(split)) for name, split in found.iter_rows()]


def check_known(dataset: Dataset, wanted: Sequence[str]) -> None:
    """Refuse a request for samples that are unknown, or that no recorded model was trained on; they are listed."""
    splits = dict(dataset.samples.select("sample_id", "split").iter_rows())
    unknown = [f"'{sample_id}'" for sample_id in wanted if sample_id not in splits]
    if unknown:
        raise BadInput(
            f"{len(unknown)} of {len(wanted)} requested ids are not in {dataset.name}, first {some(unknown)}; "
            'tracesift sql "SELECT sample_id FROM samples" lists the ids'
        )
    untrained = [
        f"'{sample_id}' ({splits[sample_id]})" for sample_id in wanted if splits[sample_id] != "train"
    ]
    if untrained:
        raise BadInput(
            f"{len(untrained)} of {len(wanted)} requested ids are not in train, first {some(untrained)}; "
            "no recorded model was trained on them, so take them out of the request"
        )


def check_file(dataset: Dataset, path: Path) -> None:
    """Refuse a file of ids before anything is written; a table of requests is looked at when there is a catalog."""
    lines = _lines(path)
    if path.suffix.lower() == ".csv" and not _is_list(lines, dataset):
        return
    ids = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not ids:
        raise BadInput(f"{path} holds no ids; write one sample id a line")
    check_known(dataset, ids)


def lines_in(path: Path) -> int:
    """Return how many lines a file of requests has, for the forecast."""
    return sum(bool(line.strip()) for line in _lines(path))


def some(names: Sequence[str]) -> str:
    """Return names with commas, the first `LISTED` of them and how many there are."""
    return ", ".join(names[:LISTED]) + (f", … ({len(names)})" if len(names) > LISTED else "")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; give a file with one sample id a line") from None
    except IsADirectoryError:
        raise BadInput(f"{path} is a folder; give a file with one sample id a line") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not text; write one sample id a line, in UTF-8") from None


def _is_list(lines: Sequence[str], dataset: Dataset) -> bool:
    """Tell whether a .csv is no table but a list: what stands on its first line is a sample."""
    first = next((line.strip() for line in lines if line.strip()), "")
    return first not in COLUMNS and first in dataset.samples["sample_id"]


# --- what it comes to


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
    pending = work.forgotten
    planned = []
    for request in requests:
        planned.append(_plan(work, request, how, pending, planned))
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
    asked = _asked(work, request, how)
    row = None if how.trial else _same_request(work, asked, known)
    if row is not None and row["status"] == "done" and _stands(work, row):
        return Planned(request=request, request_id=row["request_id"], asked=asked, known=row)
    request_id = row["request_id"] if row is not None else _called(request, known, before)
    pending = pending.filter(pl.col("request_id") != request_id)  # of a command that was killed halfway
    joined = pending.clear()
    if how.append:
        trained = work.dataset.samples.filter(pl.col("split") == "train")["sample_id"]
        joined = pending.filter((pl.col("subset") == how.name) & pl.col("sample_id").is_in(trained.implode()))
        joined = joined.unique("sample_id", keep="first", maintain_order=True)
    to_forget = sorted({*request.ids, *joined["sample_id"]})
    sentence = f"{len(request.ids)} requested, " + ("a trial" if how.trial else f"request {request_id}")
    if joined.height:
        sentence += f", joined to {', '.join(joined['request_id'].unique(maintain_order=True))}"
    members, block = forget_members(
        work, to_forget, seed=how.seed, params=how.params, asked=sentence, embedding=how.embedding,
        forgotten=pending.filter(~pl.col("sample_id").is_in(to_forget)),
    )  # fmt: skip
    earlier = joined.filter(~pl.col("sample_id").is_in(list(request.ids))).select(
        "sample_id", told=pl.format("forgotten by request {}", pl.col("request_id"))
    )
    members = members.join(earlier, on="sample_id", how="left", maintain_order="left")
    members = members.with_columns(reason=pl.coalesce("told", "reason")).drop("told")
    fresh = members.filter(
        (pl.col("role") == "forget") & ~pl.col("sample_id").is_in(earlier["sample_id"].implode())
    )
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
        request=request, request_id=request_id, asked=asked, members=members, block=block,
        samples=samples.clear() if how.trial else samples,
    )  # fmt: skip


def _asked(work: Work, request: Request, how: Handling) -> dict[str, Any]:
    """Return what makes a request this one: the same once more is no other."""
    return {
        "dataset": work.dataset.dataset_id, "subset": how.name, "ids": request.ids, "untrained": request.untrained,
        "append": how.append, "seed": how.seed, "params": dict(how.params), "embedding": how.embedding,
        "selector": find("forget_ready").version, "request_id": request.request_id,
    }  # fmt: skip


def _same_request(
    work: Work, asked: Mapping[str, Any], known: Mapping[str, dict[str, Any]]
) -> dict[str, Any] | None:
    """Return the row of the same request, where it was made before; it is known by its keyed hash."""
    key = read_key(work.path)
    if key is None:
        return None
    same = request_key(key, asked)
    return next((row for row in known.values() if row["request_key"] == same), None)


def asked_before(work: Work, path: Path, how: Handling) -> list[str]:
    """Return the requests of a file that were made before, by their ids; none where the file cannot be read now."""
    known = {row["request_id"]: row for row in work.catalog.forget_requests()}
    if not known:
        return []
    try:
        rows = [_same_request(work, _asked(work, request, how), known) for request in from_file(work, path)]
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


def _check(work: Work, request: Request, how: Handling, members: pl.DataFrame, fresh: pl.DataFrame) -> None:
    """Refuse what takes more than was said: most of the data, or the last of a class or group."""
    trained = members.filter(pl.col("role").is_in(("forget", "retain", "neighbor")))
    forgotten = int((trained["role"] == "forget").sum())
    if forgotten > MOST * len(trained) and not how.yes:
        raise BadInput(
            f"{forgotten} of {len(trained)} training samples would be forgotten, copies included: more than half; say "
            "--yes where that is meant, or narrow the request"
        )
    if how.allow_empty_class:
        return
    named = [name for name in ("label", "group") if name in work.dataset.samples.columns]
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
                "--allow-empty-class where that is meant"
            )


# --- done and remembered


def _carried_out(work: Work, plan: Planned, how: Handling) -> dict[str, Any]:
    """Write the subset, then that it was asked for, then the controls; a repeated request is answered at once."""
    if plan.known is not None:
        say(f"request {plan.request_id} was done before; nothing changes")
        return answered(work, plan.known)
    assert plan.block is not None
    stage(how.name)
    made = put(work, how.name, plan.members, plan.block, flag_scores(work))
    if how.trial:
        return {
            **made,
            "controls": forget_controls(work, how.name, plan.members, seed=how.seed),
            "request": None,
        }
    roles = dict(plan.members.group_by("role").len().iter_rows())
    pulled = plan.members.join(plan.samples.filter(pl.col("how") == COPY), on="sample_id", how="semi")
    exact = int(pulled["reason"].str.contains("exact", literal=True).sum())
    work.catalog.put_forget_request(
        {
            "request_id": plan.request_id, "dataset_id": work.dataset.dataset_id, "subset": how.name,
            "source": plan.request.source, "kind": plan.request.kind, "num_requested": len(plan.request.ids),
            "num_found": int((plan.samples["how"] != UNTRAINED).sum()), "num_exact": exact,
            "num_near": pulled.height - exact,
            "num_retained": roles.get("retain", 0) + roles.get("neighbor", 0),
            "num_holdout": roles.get("holdout", 0), "subset_id": made["subset_id"], "version": made["version"],
            "tool_version": version("tracesift"), "status": "begun",
            "num_untrained": len(plan.request.untrained), "append": how.append,
        },
        plan.samples,
        plan.asked,
    )  # fmt: skip
    controls = forget_controls(work, how.name, plan.members, seed=how.seed)
    names = [[one["name"], one["subset_id"]] for one in controls]
    row = work.catalog.finish_forget_request(plan.request_id, controls=names)
    return answered(work, row)


def _stands(work: Work, row: Mapping[str, Any]) -> bool:
    """Tell whether the manifest that answered a request, and those of its controls, are there and whole."""
    there = dict(work.catalog.query("SELECT subset_id, manifest_path FROM subsets").iter_rows())
    controls = [subset_id for _, subset_id in (row["details"] or {}).get("controls", [])]
    return all(
        subset_id in there and Path(there[subset_id]).exists() and not verify_manifest(there[subset_id])
        for subset_id in (row["subset_id"], *controls)
    )


def answered(work: Work, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to a request that was done: its subset, the controls, and its row; the same whenever asked.

    Returns
    -------
    dict
        ``subset_id``, ``name``, ``version``, ``selector``, ``total``, a count per role, ``manifest``, ``controls`` (the
        same of each), ``request`` (its row of `forget_requests`, without the keyed hash).
    """
    controls = (row["details"] or {}).get("controls", [])
    return {
        **_told_of(work, row["subset_id"]),
        "controls": [_told_of(work, subset_id) for _, subset_id in controls],
        "request": {name: value for name, value in row.items() if name not in ("request_key", "after_seq", "details")},
    }  # fmt: skip


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
        {name: value for name, value in row.items() if name not in ("request_key", "after_seq")}
        for row in work.catalog.forget_requests()
    ]
