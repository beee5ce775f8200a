"""The manifest: an exported subset as two files, manifest.json and members.parquet, tied by a fingerprint.

`fingerprint` is BLAKE2b over the logical content: what the dataset held, which selector decided, on which
scores, and one canonical line per member. Addresses (names, source paths, how the source was read), times and
the tool's version are written down but do not enter it, so the same decision has the same fingerprint
everywhere; `sha256` of members.parquet only checks transport.

On disk every version is written whole to ``versions/NNNN/`` first; only then are the two files at the top
replaced, members before manifest. A reader that finds the new members beside the old manifest sees by the
sha256 that they do not belong together and takes the members of that manifest's version.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from tracesift.catalog.files import canonical_json, digest, replacing, sha256, write_json, write_parquet
from tracesift.catalog.frames import conform, distinct_ids
from tracesift.catalog.redaction import Redaction
from tracesift.catalog.schema import ID_RULE, MANIFEST_SCHEMA, ROLES, BadInput

MANIFEST_FILE = "manifest.json"
MEMBERS_FILE = "members.parquet"

MEMBERS: dict[str, pl.DataType] = {
    "sample_id": pl.String(),
    "role": pl.String(),
    "weight": pl.Float64(),
    "label": pl.String(),
    "new_label": pl.String(),
    "reason": pl.String(),
}
"""Columns of members.parquet, which is sorted by sample_id."""

_SUBSET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class DatasetBlock:
    """The dataset state that a manifest selects from, and how to open it again."""

    name: str
    source: str
    fingerprint: str
    num_samples: int
    id_rule: str = ID_RULE
    options: dict[str, Any] = field(default_factory=dict)
    transform: dict[str, Any] | None = None
    purged: int = 0
    """Samples that a purge had taken out of this state before; its source may hold them yet."""

    def as_dict(self) -> dict[str, Any]:
        """Return the block as JSON holds it."""
        return _without_none_purged(asdict(self))


@dataclass(frozen=True, kw_only=True)
class SelectorBlock:
    """The selector that decided, with all its parameters."""

    name: str
    version: int
    params: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    budget: float | int | None = None


@dataclass(frozen=True, kw_only=True)
class ScoreBlock:
    """One score column that the selector saw."""

    scorer: str
    version: int
    run_id: str
    direction: str

    def as_dict(self) -> dict[str, Any]:
        """Return the block as JSON holds it."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many members there are, by role and by given label."""

    total: int
    by_role: dict[str, int]
    by_label: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class MembersBlock:
    """The members' file: its name beside manifest.json, its hash and its number of rows."""

    file: str
    sha256: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What manifest.json holds."""

    name: str
    version: int
    created_at: str
    tool_version: str
    dataset: DatasetBlock
    selector: SelectorBlock
    scores: tuple[ScoreBlock, ...]
    counts: Counts
    control_of: str | None
    members: MembersBlock
    fingerprint: str
    schema_version: int = MANIFEST_SCHEMA
    purged: int = 0
    """Members that were taken out since it was made, by a purge, or by an export because they were asked to be deleted;
    it then lists and counts the others."""

    @property
    def subset_id(self) -> str:
        """The catalog's key of this version, 16 hex digits."""
        return digest({"name": self.name, "version": self.version, "fingerprint": self.fingerprint})

    def as_dict(self) -> dict[str, Any]:
        """Return the record as JSON holds it."""
        blocks = {"dataset": self.dataset.as_dict(), "scores": [score.as_dict() for score in self.scores]}
        return _without_none_purged(asdict(self) | blocks)


def _without_none_purged(record: dict[str, Any]) -> dict[str, Any]:
    return record if record["purged"] else {name: one for name, one in record.items() if name != "purged"}


def manifest_from(value: Mapping[str, Any], *, where: str) -> Manifest:
    """Read a manifest record from decoded JSON; `where` names its file in errors.

    Raises
    ------
    BadInput
        A field is missing or unknown, or the schema version is newer than this tracesift.
    """
    found = value.get("schema_version")
    if not isinstance(found, int):
        raise BadInput(f"{where} is no manifest: it has no schema_version")
    if found > MANIFEST_SCHEMA:
        raise BadInput(
            f"{where} has schema version {found}, this tracesift knows {MANIFEST_SCHEMA}: upgrade tracesift"
        )
    whole = dict(value)
    blocks = {"dataset": DatasetBlock, "selector": SelectorBlock, "counts": Counts, "members": MembersBlock}
    for name, kind in blocks.items():
        whole[name] = _block(kind, whole.get(name), f"{where}, {name}")
    scores = whole.get("scores")
    if not isinstance(scores, list):
        raise BadInput(f"{where}: 'scores' must be a list")
    whole["scores"] = tuple(_block(ScoreBlock, score, f"{where}, scores") for score in scores)
    return _block(Manifest, whole, where)


def _block(kind: type[_T], value: Any, where: str) -> _T:
    if not isinstance(value, Mapping):
        raise BadInput(f"{where}: this part of the manifest is missing")
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(value.keys() - known)
    if unknown:
        raise BadInput(f"{where}: unknown field '{unknown[0]}'")
    try:
        return kind(**value)
    except TypeError as error:
        raise BadInput(f"{where}: {str(error).removeprefix(kind.__name__ + '.__init__() ')}") from error


def version_folder(path: str | Path, manifest: Manifest) -> Path:
    """Return where what belongs to this version alone lies: its own folder, or where there is none beside it."""
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    own = _version_folder(folder, manifest.version)
    return own if (own / MANIFEST_FILE).is_file() else folder


def canonical_members(members: pl.DataFrame, *, what: str = "members") -> pl.DataFrame:
    """Return members as the manifest holds them: six typed columns, sorted by sample_id, one chunk.

    Raises
    ------
    BadInput
        An id stands twice, a role is unknown, a weight is negative or not finite, or `new_label` is missing
        for a `relabel` or given for another role.
    """
    given = members if "weight" in members.columns else members.with_columns(weight=pl.lit(1.0))
    whole = conform(given, MEMBERS, what=what, required=["sample_id", "role", "weight"])
    distinct_ids(whole, what=what)
    rules = {
        f"the role must be one of {', '.join(ROLES)}": pl.col("role").is_in(ROLES),
        "weights must be finite and not negative": pl.col("weight").is_finite() & (pl.col("weight") >= 0),
        "new_label goes with the role relabel, and only with it": pl.col("new_label").is_not_null()
        == (pl.col("role") == "relabel"),
    }
    for rule, holds in rules.items():
        broken = whole.filter(~holds)
        if broken.height:
            raise BadInput(
                f"{what}: {rule}; {broken.height} rows do not hold to it, first '{broken['sample_id'][0]}'"
            )
    return whole.with_columns(pl.col("weight") + 0.0).sort("sample_id").rechunk()  # + 0.0 turns -0.0 into 0.0


def member_lines(members: pl.DataFrame) -> bytes:
    r"""Return the canonical lines of canonical members, the part of the fingerprint that lists them.

    Each of the six columns in order is ``<bytes in UTF-8>:<text>``, or ``-`` for null; a weight's text is the
    shortest one that reads back as the same float64; a line ends in a line feed.

    Examples
    --------
    >>> members = pl.DataFrame({"sample_id": ["b", "a"], "role": ["drop", "keep"], "label": "x"})
    >>> member_lines(canonical_members(members))
    b'1:a4:keep3:1.01:x--\n1:b4:drop3:1.01:x--\n'
    """
    weights = members["weight"].unique()
    texts = pl.DataFrame(
        {"weight": weights, "text": pl.Series([repr(weight) for weight in weights], dtype=pl.String)}
    )
    columns = members.join(texts, on="weight", how="left", maintain_order="left").with_columns(
        weight=pl.col("text")
    )
    parts = [
        pl.when(pl.col(name).is_null())
        .then(pl.lit("-"))
        .otherwise(pl.concat_str(pl.col(name).str.len_bytes().cast(pl.String), pl.lit(":"), pl.col(name)))
        for name in MEMBERS
    ]
    lines = columns.select(pl.concat_str(*parts, pl.lit("\n")).alias("line"))["line"]
    return "".join(lines.to_list()).encode()


def fingerprint_of(
    members: pl.DataFrame, *, dataset: DatasetBlock, selector: SelectorBlock, scores: Sequence[ScoreBlock]
) -> str:
    """Return the fingerprint of a subset's logical content, 64 hex digits; `members` are canonical."""
    head = {
        "manifest": MANIFEST_SCHEMA,
        "dataset": {
            name: getattr(dataset, name) for name in ("fingerprint", "num_samples", "id_rule", "transform")
        },
        "selector": asdict(selector),
        "scores": [score.as_dict() for score in scores],
    }
    whole = hashlib.blake2b(canonical_json(head) + b"\n", digest_size=32)
    whole.update(member_lines(members))
    return whole.hexdigest()


def counts_of(members: pl.DataFrame) -> Counts:
    """Return how many members there are, by role and by given label (null labels are in the total only)."""

    def by(column: str) -> dict[str, int]:
        counted = members.filter(pl.col(column).is_not_null()).group_by(column).len().sort(column)
        return dict(counted.iter_rows())

    return Counts(total=members.height, by_role=by("role"), by_label=by("label"))


def manifest_path(root: Path, name: str) -> Path:
    """Return where the manifest of subset `name` stands under `root`, a workspace's manifests folder.

    Raises
    ------
    BadInput
        The name would not be one plain folder.
    """
    if not _SUBSET_NAME.fullmatch(name):
        raise BadInput(
            f"'{name}' cannot name a subset: use letters, digits, '.', '_' and '-', no leading sign"
        )
    return root / name / MANIFEST_FILE


def write_manifest(
    root: Path,
    name: str,
    members: pl.DataFrame,
    *,
    dataset: DatasetBlock,
    selector: SelectorBlock,
    scores: Sequence[ScoreBlock] = (),
    control_of: str | None = None,
) -> Manifest:
    """Write a subset under ``root/name`` as a new version, or leave it untouched where nothing has changed.

    Parameters
    ----------
    root : a workspace's manifests folder.
    members : sample_id and role, and where they matter weight (1.0), label, new_label, reason; in any order.
    dataset, selector, scores, control_of : what the manifest says of them; scores are sorted here.

    Returns
    -------
    Manifest
        The record as it now stands on disk.

    Raises
    ------
    BadInput
        The name, the members or a parameter cannot be written.
    """
    folder = manifest_path(Path(root), name).parent
    whole = canonical_members(members, what=f"members of {name}")
    dataset, selector = _plain(dataset, name), _plain(selector, name)
    ordered = tuple(sorted(scores, key=lambda score: (score.scorer, score.run_id, score.version)))
    fresh = Manifest(
        name=name,
        version=0,
        created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        tool_version=installed_version("tracesift"),
        dataset=dataset,
        selector=selector,
        scores=ordered,
        counts=counts_of(whole),
        control_of=control_of,
        members=MembersBlock(file=MEMBERS_FILE, sha256="", rows=whole.height),
        fingerprint=fingerprint_of(whole, dataset=dataset, selector=selector, scores=ordered),
    )
    _clean(folder)
    current = read_manifest(folder / MANIFEST_FILE) if (folder / MANIFEST_FILE).exists() else None
    last = _last_version(folder)
    # A version whole in its folder but not at the top was interrupted: it is this one, or it goes.
    if last is not None and (current is None or last.version > current.version):
        if _same(last, fresh):
            return _promote(folder, last)
        if current is not None:
            shutil.rmtree(_version_folder(folder, last.version))
    if current is not None and _same(current, fresh):
        if not _version_folder(folder, current.version).exists():
            fresh = replace(fresh, created_at=current.created_at)
            current = _write_version(folder, fresh, whole, current.version)
        return _promote(folder, current)
    before = current or last
    return _promote(folder, _write_version(folder, fresh, whole, 1 + (before.version if before else 0)))


def _plain(block: _T, name: str) -> _T:
    """Return a block with its parameters as JSON gives them back, so that written and read ones are equal."""
    try:
        return type(block)(**json.loads(canonical_json(asdict(block))))  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise BadInput(f"manifest {name}: a parameter has no JSON form ({error})") from error


def _same(one: Manifest, other: Manifest) -> bool:
    """Whether two records differ in nothing but version, time, tool and file hash."""

    def lasting(manifest: Manifest) -> dict[str, Any]:
        whole = manifest.as_dict()
        return {
            key: value
            for key, value in whole.items()
            if key not in ("version", "created_at", "tool_version", "members")
        }

    return lasting(one) == lasting(other)


def _version_folder(folder: Path, version: int) -> Path:
    return folder / "versions" / f"{version:04d}"


def _clean(folder: Path) -> None:
    """Remove what a killed writer left: temporary files, and version folders never given their name."""
    for leftover in [*folder.glob(".tmp-*"), *(folder / "versions").glob(".tmp-*")]:
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def _last_version(folder: Path) -> Manifest | None:
    numbers = [int(found.name) for found in (folder / "versions").glob("[0-9]*") if found.name.isdigit()]
    return read_manifest(_version_folder(folder, max(numbers)) / MANIFEST_FILE) if numbers else None


def _write_version(folder: Path, fresh: Manifest, members: pl.DataFrame, version: int) -> Manifest:
    """Write both files of a version to a folder that gets its name only when they are whole."""
    target = _version_folder(folder, version)
    temporary = target.with_name(f".tmp-{target.name}")
    write_parquet(members, temporary / MEMBERS_FILE)
    block = MembersBlock(file=MEMBERS_FILE, sha256=sha256(temporary / MEMBERS_FILE), rows=members.height)
    written = replace(fresh, version=version, members=block)
    write_json(temporary / MANIFEST_FILE, written.as_dict())
    temporary.rename(target)
    return written


def _promote(folder: Path, manifest: Manifest) -> Manifest:
    """Make a version the one at the top: its members first, then its manifest; equal files stay untouched."""
    version = _version_folder(folder, manifest.version)
    for name in (MEMBERS_FILE, MANIFEST_FILE):
        source, target = version / name, folder / name
        if target.exists() and sha256(target) == sha256(source):
            continue
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
    return manifest


def read_manifest(path: str | Path) -> Manifest:
    """Read manifest.json, given itself or its folder.

    Raises
    ------
    BadInput
        There is no such file, it is no manifest, or it comes from a newer tracesift.
    """
    file = Path(path)
    if file.is_dir():
        file = file / MANIFEST_FILE
    if not file.is_file():
        raise BadInput(f"no manifest at {file}: give the path of a manifest.json or of its folder")
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{file} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadInput(f"{file} is no manifest: it holds no JSON object")
    return manifest_from(value, where=str(file))


def members_path(path: str | Path, manifest: Manifest) -> Path:
    """Return the members' file that belongs to this manifest, told by its sha256.

    Raises
    ------
    BadInput
        Neither the file beside the manifest nor its version's copy is the one that was written.
    """
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    for candidate in (folder / MEMBERS_FILE, _version_folder(folder, manifest.version) / MEMBERS_FILE):
        if candidate.is_file() and sha256(candidate) == manifest.members.sha256:
            return candidate
    raise BadInput(
        f"{folder / MEMBERS_FILE} is missing or is not the file that manifest.json lists (sha256 differs): "
        "copy the folder again, or make the subset anew"
    )


def read_members(path: str | Path, manifest: Manifest) -> pl.DataFrame:
    """Read the members of a manifest; raises BadInput where the file is not the one that was written."""
    return pl.read_parquet(members_path(path, manifest))


def verify_manifest(path: str | Path) -> list[str]:
    """Recompute what a manifest says of itself and return the differences, one sentence each; none is good.

    Checks the members file's hash, its schema, order, roles and ids, the counts, and the fingerprint. Whether
    the manifest belongs to a dataset is asked with `tracesift.pipelines.subset`.

    Raises
    ------
    BadInput
        manifest.json cannot be read at all, or comes from a newer tracesift.
    """
    manifest = read_manifest(path)
    file = (Path(path) if Path(path).is_dir() else Path(path).parent) / MEMBERS_FILE
    if not file.is_file():
        return [f"{file} is missing"]
    differences = []
    if sha256(file) != manifest.members.sha256:
        differences.append(
            f"{file} has not the sha256 that manifest.json lists: it was changed, damaged or replaced"
        )
    try:
        members = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        return [*differences, f"{file} is no readable Parquet file: {str(error).splitlines()[0]}"]
    if dict(members.schema) != MEMBERS:
        return [*differences, f"{file} has the columns {dict(members.schema)}, expected {MEMBERS}"]
    if not members["sample_id"].is_sorted():
        differences.append(f"{file} is not sorted by sample_id")
    try:
        members = canonical_members(members)
    except BadInput as error:
        return [*differences, str(error)]
    return differences + _content_differences(manifest, members)


def _content_differences(manifest: Manifest, members: pl.DataFrame) -> list[str]:
    differences = []
    if manifest.members.rows != members.height:
        differences.append(
            f"manifest.json lists {manifest.members.rows} members, the file holds {members.height}"
        )
    counts = counts_of(members)
    for name in ("total", "by_role", "by_label"):
        said, found = getattr(manifest.counts, name), getattr(counts, name)
        if said != found:
            differences.append(f"counts.{name} is {said} in manifest.json and {found} in the members")
    fingerprint = fingerprint_of(
        members, dataset=manifest.dataset, selector=manifest.selector, scores=manifest.scores
    )
    if fingerprint != manifest.fingerprint:
        differences.append(
            f"the fingerprint of the content is {fingerprint}, manifest.json says {manifest.fingerprint}"
        )
    return differences


def without_members(
    manifest: Manifest,
    members: pl.DataFrame,
    ids: Collection[str],
    redaction: Redaction,
    states: Mapping[str, int],
) -> tuple[Manifest, pl.DataFrame]:
    """Return a manifest and its members without some samples, named nowhere any more.

    Its content is another one now, and so is its fingerprint: the old one went over what is gone.

    Parameters
    ----------
    redaction
        Also renames what the manifest refers to.
    states
        Fingerprint of each state of a dataset that loses samples -> how many it has left.
    """
    left = members.filter(~pl.col("sample_id").is_in(pl.Series(sorted(ids), dtype=pl.String).implode()))
    reasons = left["reason"].unique().drop_nulls().to_list()
    changed = {old: new for old in reasons if (new := redaction.text(old)) != old}
    left = canonical_members(left.with_columns(pl.col("reason").replace(changed)) if changed else left)
    count = states.get(manifest.dataset.fingerprint, manifest.dataset.num_samples)
    where = redaction.value(asdict(manifest.dataset)) | {"num_samples": count}
    dataset = DatasetBlock(**where)
    selector = SelectorBlock(**redaction.value(asdict(manifest.selector)))
    scores = tuple(ScoreBlock(**redaction.value(score.as_dict())) for score in manifest.scores)
    rest = replace(
        manifest, dataset=dataset, selector=selector, scores=scores, counts=counts_of(left),
        purged=manifest.purged + members.height - left.height,
        fingerprint=fingerprint_of(left, dataset=dataset, selector=selector, scores=scores),
    )  # fmt: skip
    return rest, left


def write_copy(folder: Path, manifest: Manifest, members: pl.DataFrame) -> Manifest:
    """Write both files of a manifest to a folder that nobody reads yet, and return the record as written."""
    write_parquet(members, folder / MEMBERS_FILE)
    block = MembersBlock(file=MEMBERS_FILE, sha256=sha256(folder / MEMBERS_FILE), rows=members.height)
    written = replace(manifest, members=block)
    write_json(folder / MANIFEST_FILE, written.as_dict())
    return written


def diff_manifests(first: str | Path, second: str | Path) -> dict[str, Any]:
    """Return what changed between two manifests, as a dict that JSON can hold.

    Its keys: `same` (equal fingerprints), `fields` (name -> [first, second] where they differ), `added` and
    `removed` (ids in one only), `changed` (ids with another role, weight, label or new label, with both), and
    `roles` (``"keep -> drop"`` -> count).
    """
    records = [read_manifest(path) for path in (first, second)]
    frames = [read_members(path, record) for path, record in zip((first, second), records, strict=True)]
    ours, theirs = (record.as_dict() for record in records)
    differing = {
        name: [ours[name], theirs[name]]
        for name in (
            "name",
            "version",
            "dataset",
            "selector",
            "scores",
            "counts",
            "control_of",
            "fingerprint",
        )
        if ours[name] != theirs[name]
    }
    both = frames[0].join(frames[1], on="sample_id", how="inner", suffix="_second")
    compared = ("role", "weight", "label", "new_label")
    moved = both.filter(
        pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_second")) for name in compared)
    )
    moved = moved.sort("sample_id")
    changed = [
        {"sample_id": row["sample_id"]}
        | {
            name: [row[name], row[f"{name}_second"]]
            for name in compared
            if row[name] != row[f"{name}_second"]
        }
        for row in moved.iter_rows(named=True)
    ]
    roles = moved.filter(pl.col("role") != pl.col("role_second")).group_by("role", "role_second").len()
    return {
        "same": records[0].fingerprint == records[1].fingerprint,
        "fields": differing,
        "added": frames[1].join(frames[0], on="sample_id", how="anti")["sample_id"].sort().to_list(),
        "removed": frames[0].join(frames[1], on="sample_id", how="anti")["sample_id"].sort().to_list(),
        "changed": changed,
        "roles": {
            f"{old} -> {new}": count for old, new, count in roles.sort("role", "role_second").iter_rows()
        },
    }
