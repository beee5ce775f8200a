"""What a deletion request asks for, resolved to samples: by ids, a condition, a class, a group, an owner, or a table.

Nothing is written here, and what cannot be resolved is refused with the place where it stands.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import polars as pl

from tracesift.catalog.schema import BadInput, nearest
from tracesift.flows.purging.purged import was_purged
from tracesift.flows.selecting.candidates import attributes, fitting
from tracesift.flows.work import Work
from tracesift.pipelines.dataset import Dataset

OWNER_COLUMNS = ("owner", "subject", "contributor", "user")
"""Columns that say whose a record is, where none is named."""

WAYS = ("sample_id", "owner", "class", "group", "where")
"""Columns of a file of requests that say what to forget; each row uses one."""
COLUMNS = ("request_id", "requested_by", *WAYS, "owner_column")

_MARKS = {",": "a comma", ";": "a semicolon", "\t": "a tab"}

LISTED = 20
"""Ids that a refusal lists."""

LISTING = '`tracesift sql "SELECT sample_id FROM samples"` lists the ids'
"""What a refusal advises where there is a workspace."""


Words: TypeAlias = tuple[tuple[str, str, str | None], ...]
"""What a request says, sorted: in which way, what, and where owners stand."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One deletion request, resolved."""

    ids: tuple[str, ...]
    """Training samples that are to be forgotten, sorted; there may be none."""
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
    words: Words = ()
    """What was said, whatever it means."""
    gone: int = 0
    """How many of its ids and words mean nothing any more, because what they meant was deleted before."""
    refused: BadInput | None = field(default=None, compare=False)
    """Why it means nothing here; it is refused, unless the same was done before and a purge has taken what it meant."""


def asked_for(
    work: Work,
    *,
    file: Path | None = None,
    where: str | None = None,
    label: str | None = None,
    group: str | None = None,
    owner: str | None = None,
    owner_column: str | None = None,
    trial: bool = False,
) -> list[Request]:
    """Return the requests that the command line names in one way, resolved, in the order in which they are handled.

    Parameters
    ----------
    file
        One sample id a line, or a ``.csv`` of requests; see `read_table`.
    where
        Records that fit an SQL condition; see `candidates.fitting`.
    label
        The training samples of a class: those outside train measure how well it was unlearned.
    group
        ``COL=VALUE``, a column of the source.
    owner
        All records of one contributor.
    owner_column
        Where owners stand; by default the one column that is called so, see `OWNER_COLUMNS`.
    trial
        Nothing is deleted: but for an owner's, records outside train are none of the request, and their ids are
        refused.

    Raises
    ------
    BadInput
        The file cannot be read as one of requests. What names nothing known is `Request.refused`.
    """
    if file is not None:
        return from_file(work, file, owner_column, trial=trial)
    way, value = next(
        (way, value)
        for way, value in (("owner", owner), ("where", where), ("class", label), ("group", group))
        if value is not None
    )
    part = _Part(way, value, f"--{way}", owner_column if way == "owner" else None)
    return [_resolve(work, [part], trial=trial)]


def from_file(
    work: Work, path: Path, owner_column: str | None = None, *, trial: bool = False
) -> list[Request]:
    """Return the requests of a file: ids, one a line, or a table of requests."""
    lines = _lines(path)
    if path.suffix.lower() == ".csv" and not _is_list(lines, work.dataset):
        first = lines[0].strip() if lines else ""
        if not was_purged(work, [first], returned=True):  # else a list all the same
            return read_table(work, path, owner_column, trial=trial)
    parts = [_Part("sample_id", one, path.name) for one in _ids(lines, path)]
    return [_resolve(work, parts, source=path.name, kind="ids", trial=trial)]


def read_table(
    work: Work, path: Path, owner_column: str | None = None, *, trial: bool = False
) -> list[Request]:
    """Return the requests of a CSV file, by commas, semicolons or tabs, in the order in which they first appear.

    Each row says in one way what to forget, in a column `sample_id`, `owner`, `class`, `group` (COL=VALUE) or
    `where`; beside an owner, `owner_column` says where owners stand. Rows with the same `request_id` are one request;
    without that column the file is one. `requested_by` is kept as who asked.

    Raises
    ------
    BadInput
        No rows, an unknown column, a row that says nothing or says it twice; with the row.
    """
    lines = _lines(path)
    first = next(iter(lines), "")
    # The columns have none of these in their names.
    delimiter = next((mark for mark in _MARKS if mark in first), ",")
    table = list(csv.reader(lines, delimiter=delimiter))
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
    parts: dict[str | None, list[_Part]] = {}
    places: dict[str | None, list[int]] = {}
    askers: dict[str | None, str] = {}
    for number, row in rows:
        if len(row) > len(names):
            raise BadInput(
                f"{path}, row {number}: {len(row)} values for {len(names)} columns; quote {_MARKS[delimiter]}"
            )
        values = {name: value.strip() for name, value in zip(names, row, strict=False) if value.strip()}
        said = [way for way in WAYS if way in values]
        if len(said) != 1:
            given = f"{' and '.join(said)} are" if said else "nothing is"
            raise BadInput(f"{path}, row {number}: {given} given; give one of {', '.join(WAYS)}")
        if "owner_column" in values and said != ["owner"]:
            raise BadInput(
                f"{path}, row {number}: owner_column says where owners stand, and there is no owner; leave it out"
            )
        request_id = values.get("request_id")
        if "request_id" in names and request_id is None:
            raise BadInput(f"{path}, row {number}: no request_id, and the file has that column; give one")
        called, column = f"{path}, row {number}: {said[0]}", values.get("owner_column", owner_column)
        parts.setdefault(request_id, []).append(_Part(said[0], values[said[0]], called, column))
        places.setdefault(request_id, []).append(number)
        askers.setdefault(request_id, values.get("requested_by", ""))
    found = []
    for request_id, several in parts.items():
        numbers = places[request_id]
        rows_meant = f"row {numbers[0]}" if len(numbers) == 1 else f"rows {numbers[0]} to {numbers[-1]}"
        where = f"{path.name}, {rows_meant}"
        asker = f", asked by {askers[request_id]}" if askers[request_id] else ""
        found.append(_resolve(work, several, source=where + asker, request_id=request_id, trial=trial))
    return found


@dataclass(frozen=True)
class _Part:
    """What one row of a table asks for, or one option."""

    way: str
    value: str
    called: str
    """What a refusal calls it."""
    owner_column: str | None = None
    """Where owners stand, where it is said."""


def _resolve(
    work: Work,
    parts: Sequence[_Part],
    *,
    source: str | None = None,
    request_id: str | None = None,
    kind: str | None = None,
    trial: bool = False,
) -> Request:
    """Resolve what several rows, one option or a list of ids ask for; keep the refusal of what means nothing."""
    ids: set[str] = set()
    untrained: set[str] = set()
    gone: set[str] = set()
    refused = None
    try:
        named = [part.value for part in parts if part.way == "sample_id"]
        splits = dict(work.dataset.samples.select("sample_id", "split").iter_rows())
        deleted = deleted_before(work, work.dataset, named)
        try:
            check_known(work.dataset, named, before=deleted)
        except BadInput as error:
            known = {*splits, *deleted}
            first = next(part for part in parts if part.way == "sample_id" and part.value not in known)
            raise BadInput(f"{first.called}: {error}") from None
        if trial:
            check_trained(work.dataset, [one for one in named if one not in deleted])
        for part in parts:
            if part.way == "sample_id" and part.value in deleted:
                gone.add(part.value)
                continue
            both, why_none = _resolved(work, part)
            if not both:
                if work.catalog.asked_by(part.way, part.value) is None:
                    raise BadInput(f"{part.called} {part.value}: {why_none}")
                gone.add(f"{part.way} {part.value}")
                continue
            found = [name for name in both if splits[name] == "train"]
            beside = [name for name in both if splits[name] != "train"]
            if trial and part.way != "owner":
                beside = []
                if not found:
                    raise BadInput(
                        f"{part.called} {part.value}: nothing of it is in train, so there is nothing to try"
                    )
            ids.update(found)
            untrained.update(beside)
        if trial and not ids | untrained:
            raise BadInput("all that is asked for was deleted before, so there is nothing to try")
    except BadInput as error:
        ids, untrained, gone, refused = set(), set(), set(), error
    ways = {part.way for part in parts}
    words = {(part.way, part.value, part.owner_column) for part in parts}
    return Request(
        ids=tuple(sorted(ids)), untrained=tuple(sorted(untrained - ids)), request_id=request_id,
        kind=kind or ("csv" if source is not None else next(iter(ways))),
        source=_told(parts[0].way, parts[0].value) if source is None else source,
        emptied=frozenset(part.value for part in parts if part.way == "class"),
        whole_groups=ways <= {"owner", "group"}, words=tuple(sorted(words, key=str)), gone=len(gone),
        refused=refused,
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


def deleted_before(work: Work, dataset: Dataset, ids: Sequence[str]) -> frozenset[str]:
    """Return which of these ids are none of the data any more because they were deleted here: known by their hashes."""
    unknown = sorted(set(ids) - set(dataset.samples["sample_id"]))
    if not unknown:
        return frozenset()
    asked = work.catalog.recognised(pl.DataFrame({"sample_id": unknown}))
    return frozenset(asked["sample_id"]) | was_purged(work, unknown, returned=True)


def _resolved(work: Work, part: _Part) -> tuple[list[str], str]:
    """Return the records that are meant, of all splits, of a class those in train; and what to say where none is."""
    dataset, way, value, called = work.dataset, part.way, part.value, part.called
    if way == "sample_id":
        return [value], ""
    if way == "where":
        found = fitting(work, value, outside_train=True)
        return found, "no record fits; try it with `tracesift sql` first"
    trained = dataset.samples.filter(pl.col("split") == "train")
    if way == "class":
        if value not in dataset.classes:
            raise BadInput(
                f"{called} {value}: no such class{nearest(value, dataset.classes)}; there are {some(dataset.classes)}"
            )
        found = trained.filter(pl.col("label") == value)["sample_id"].to_list()
        return found, "no training sample has this label"
    if way == "group":
        column, mark, wanted = value.partition("=")
        known = sorted({*attributes(work), *trained.columns})
        if not mark:
            raise BadInput(
                f"{called} {value}: which value? say {'--group ' * (called == '--group')}COL=VALUE"
            )
        if column not in known:
            raise BadInput(
                f"{called} {value}: write COL=VALUE with a column that is no model input{nearest(column, known)}; "
                f"there are {some(known)}"
            )
        return _having(work, column, wanted), "no record has this value"
    column = owners_stand_in(work, part)
    return _having(work, column, value), f"no record has this value in column '{column}' (--owner-column)"


def _columns_known(work: Work, known: Sequence[str]) -> str:
    """Name the columns that are no input; of a table without any, say how one is kept from being read as a feature."""
    if known:
        return f"there are {some(known)}"
    if work.dataset.kind == "tabular":
        return (
            "the data have no column that is neither a feature nor the id or the label; `tracesift ingest SOURCE "
            "--metadata OWNER` keeps a column beside the samples that no model reads"
        )
    return "the data have no other column"


def owners_stand_in(work: Work, part: _Part) -> str:
    """Return the column that says whose a record is: the one that was named, or the only one that is called so."""
    known, given = attributes(work), part.owner_column
    if given is not None:
        if given not in known:
            raise BadInput(
                f"{part.called}: no column '{given}' where owners could stand{nearest(given, known)}; "
                f"{_columns_known(work, known)}"
            )
        return given
    called_so = [name for name in known if name.lower() in OWNER_COLUMNS]
    if len(called_so) != 1:
        what = (
            f"several columns are ({', '.join(called_so)})"
            if called_so
            else f"no column is; {_columns_known(work, known)}"
        )
        raise BadInput(
            f"{part.called}: say where owners stand, with --owner-column or, in a table, a column owner_column; of "
            f"{', '.join(OWNER_COLUMNS)} {what}"
        )
    return called_so[0]


def _having(work: Work, column: str, value: str) -> list[str]:
    """Return the ids of all samples with a value in a column of the source, or in one of `samples`.

    In a column of floats 1001 is 1001.0: a single missing number turns a column of whole ones into that.
    """
    read, given = _read(work, column)
    same, values = f"{read} = ?", [*given, value]
    if given:
        same += (
            f" OR json_type(attributes, ?) = 'DOUBLE' AND TRY_CAST({read} AS DOUBLE) = TRY_CAST(? AS DOUBLE)"
        )
        values += [*given, *given, value]
    found = work.catalog.query(
        f"SELECT sample_id FROM samples WHERE ({same}) AND dataset_id = ? ORDER BY sample_id",
        [*values, work.dataset.dataset_id],
    )
    return found["sample_id"].to_list()


def entities(work: Work, column: str, called: str = "--entity ") -> pl.DataFrame:
    """Return `sample_id` and `entity` of all samples: their value in a column of the source, or of `samples`.

    Raises
    ------
    BadInput
        There is no such column; `called` is what the refusal calls the option.
    """
    own = [name for name in ("label", "group") if name in work.dataset.samples.columns]
    known = list(dict.fromkeys([*attributes(work), *own]))
    if column not in known:
        raise BadInput(f"{called}{column}: no such column{nearest(column, known)}; there are {some(known)}")
    read, given = _read(work, column)
    return work.catalog.query(
        f"SELECT sample_id, {read} AS entity FROM samples WHERE dataset_id = ? ORDER BY sample_id",
        [*given, work.dataset.dataset_id],
    )


def _read(work: Work, column: str) -> tuple[str, list[str]]:
    """Return how SQL reads a column of the source, or one of `samples`, and the parameters of that."""
    if column in attributes(work) and column != (work.dataset.options or {}).get("group"):
        return "json_extract_string(attributes, ?)", ['$."' + column.replace('"', '""') + '"']
    own = ("label", "label_true", "content_hash", "split", "sample_id")
    return column if column in own else "group_key", []


def check_known(
    dataset: Dataset, wanted: Sequence[str], listing: str = LISTING, *, before: Collection[str] = ()
) -> None:
    """Refuse a request for samples that are unknown; they are listed.

    Parameters
    ----------
    dataset
        The data.
    wanted
        The ids that are asked for.
    listing
        What lists the known ids.
    before
        What is known because it was deleted before.
    """
    known = {*dataset.samples["sample_id"], *before}
    unknown = [f"'{sample_id}'" for sample_id in wanted if sample_id not in known]
    if unknown:
        others = f" ({len(before)} of the others deleted before)" if before else ""
        raise BadInput(
            f"{dataset.name} lacks {len(unknown)} of {len(wanted)} requested ids{others}, first {some(unknown)}; "
            f"{listing}"
        )


def check_trained(dataset: Dataset, wanted: Sequence[str]) -> None:
    """Refuse, of known samples, those that no recorded model was trained on where that is what is asked; listed."""
    splits = dict(dataset.samples.select("sample_id", "split").iter_rows())
    untrained = [
        f"'{sample_id}' ({splits[sample_id]})" for sample_id in wanted if splits[sample_id] != "train"
    ]
    if untrained:
        raise BadInput(
            f"train lacks {len(untrained)} of {len(wanted)} requested ids, first {some(untrained)}; "
            "no recorded model was trained on them, so take them out; `tracesift forget` without --trial deletes them"
        )


def check_file(work: Work, dataset: Dataset, path: Path) -> None:
    """Refuse a file of ids before anything is written; a table of requests is looked at when there is a catalog."""
    lines = _lines(path)
    if path.suffix.lower() == ".csv" and not _is_list(lines, dataset):
        return
    ids, listing = _ids(lines, path), f"`tracesift ingest SOURCE` takes the data in, then {LISTING}"
    check_known(dataset, ids, listing, before=deleted_before(work, dataset, ids))


def read_ids(path: Path) -> list[str]:
    """Return the ids of a file, one a line; blank lines are skipped, doubled ids count once."""
    return _ids(_lines(path), path)


def _ids(lines: Sequence[str], path: Path) -> list[str]:
    ids = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not ids:
        raise BadInput(f"{path} holds no ids; write one sample id a line")
    return ids


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
        raise BadInput(
            f"{path} is not text in UTF-8; save it as that: in a spreadsheet 'CSV UTF-8', else iconv -f LATIN1 -t UTF-8"
        ) from None


def _is_list(lines: Sequence[str], dataset: Dataset) -> bool:
    """Tell whether a .csv is no table but a list: what stands on its first line is a sample."""
    first = next((line.strip() for line in lines if line.strip()), "")
    return first not in COLUMNS and first in dataset.samples["sample_id"]
