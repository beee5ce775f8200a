"""Keeping a workspace in order: are manifests still true, what differs, what can go, what is this machine."""

from __future__ import annotations

import importlib
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import polars as pl

from tracesift.catalog.connection import literal
from tracesift.catalog.deletions import deleted_among, workspace_around
from tracesift.catalog.files import canonical_json
from tracesift.catalog.forgotten import KEY_FILE
from tracesift.catalog.goldfish import masks_of
from tracesift.catalog.manifest import (
    MANIFEST_FILE,
    Manifest,
    diff_manifests,
    read_manifest,
    read_members,
    verify_manifest,
)
from tracesift.catalog.schema import BadInput, FingerprintMismatch, IncompleteRecording
from tracesift.catalog.store import Catalog
from tracesift.catalog.views import WORKSPACE_VARIABLE
from tracesift.flows.outdated import outdated
from tracesift.flows.progress import counted, runnable
from tracesift.flows.work import Work

REQUIRED = {
    "torch": "recording, scoring",
    "numpy": "everything",
    "polars": "everything",
    "duckdb": "the catalog",
    "pyarrow": "Parquet and Arrow files",
    "scikit-learn": "cross-fitting, mixtures, digits",
    "scipy": "flags, statistics",
    "datasets": "save_to_disk folders, hf: sources, applying manifests",
    "pillow": "images",
    "altair": "the report's charts",
    "prefect": "scheduled flows",
}
"""Distribution to what needs it."""

OPTIONAL = {
    "transformers": "text models hf_classifier:NAME, the Trainer mixin, goldfish",
    "lightning": "the Lightning callback",
    "pandas": "pandas frames as sources",
}

NEIGHBOURS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu12")
"""Distributions that provide faiss; two of them beside each other break each other."""


NAMED = 20
"""Forgotten samples that are named where they stand in a manifest; --json gives all."""


# --- verify


def verify(
    path: Path, source: str | None, options: Mapping[str, Any], workspace: Path | None = None
) -> dict[str, Any]:
    """Recompute a manifest's hashes, counts and fingerprint, and compare it with its data where these are there.

    With a workspace around it, or with the one that is given, it is also seen that nothing stands in it to be trained
    on, or as holdout, whose deletion was requested before it was made.

    Parameters
    ----------
    path
        A manifest.json or its folder.
    source
        The data; the manifest's own source where None.
    options
        How `source` is read, beside what the manifest says.
    workspace
        Where deletion requests are kept, for a manifest that lies outside; the workspace around it by default.

    Returns
    -------
    dict
        ``manifest``, ``name``, ``version``, ``matches``, ``purged`` members, ``checked`` and ``differences``
        (sentences), ``note``: that members were taken out, or why the data were not compared, or None; ``forgotten``:
        how many requests the workspace has ``known`` (also of what was purged since), how many of its samples were
        ``deleted``, by how many ``requests``, those that ``stand`` in it all the same, and
        how many it used because they were to be deleted only afterwards (``used_until``); None where no workspace knows
        its data.
    """
    differences = verify_manifest(path)
    checked = ["hash of the members", "schema, order, ids and roles", "counts", "fingerprint of the content"]
    manifest = read_manifest(path)
    if not differences:
        masked, wrong = _of_masks(path, manifest)
        checked += ["goldfish masks"] if masked else []
        differences += wrong
    where, note = _own_source(manifest) if source is None else (source, None)
    if not differences and where is not None:
        found = _compare_data(path, manifest, where, options, workspace_around(path) or workspace)
        differences += found
        checked.append(f"ids, labels and splits of {where}")
    elif differences:
        note = "the data were not compared, because the manifest itself differs"
    forgotten = None if differences else _forgotten_in(path, manifest, workspace_around(path) or workspace)
    if forgotten is not None and forgotten["known"]:
        checked.append("that no sample forgotten before it was made stands in it to be used")
        differences += _returned(forgotten["stand"])
    if manifest.purged:
        gone = counted(manifest.purged, "member")
        told = f"{gone} taken out since it was made (purged, or deleted before it was exported); the others are checked"
        note = told if note is None else f"{told}; {note}"
    return {
        "manifest": str(path), "name": manifest.name, "version": manifest.version, "matches": not differences,
        "purged": manifest.purged, "checked": checked, "differences": differences, "note": note, "forgotten": forgotten,
    }  # fmt: skip


def _of_masks(path: Path, manifest: Manifest) -> tuple[bool, list[str]]:
    """Return whether goldfish masks lie beside a manifest, and what is wrong with them."""
    try:
        found = masks_of(path if path.is_dir() else path.parent, manifest, read_members(path, manifest))
    except BadInput as error:
        return True, [str(error)]
    return found is not None, []


USED = ("keep", "relabel", "retain", "neighbor", "holdout")
"""Roles that a sample has no more after a request to delete it."""


def _forgotten_in(path: Path, manifest: Manifest, workspace: Path | None) -> dict[str, Any] | None:
    """Return what deletion requests say of a manifest's members; None where no workspace knows its data."""
    members = read_members(path, manifest).with_row_index("position")
    found = deleted_among(members, manifest, workspace)
    if found is None or workspace is None:
        return None
    catalog = Catalog(workspace)
    requests = {row["request_id"]: row for row in catalog.forget_requests()}
    written = catalog.query("SELECT seq FROM subset_records WHERE subset_id = ?", (manifest.subset_id,))
    seq = None if written.is_empty() else written.item()
    earlier = [
        name
        for name in found["request_id"].unique(maintain_order=True)
        if _came_before(requests[name], manifest, seq)
    ]
    before = found.filter(pl.col("request_id").is_in(earlier)).unique(
        "sample_id", keep="first", maintain_order=True
    )
    used = members.filter(pl.col("role").is_in(USED))
    standing = used.join(before, on="sample_id", how="inner").sort("position")
    return {
        "workspace": str(workspace),
        "known": len(requests),
        "deleted": found["sample_id"].n_unique(),
        "requests": found["request_id"].n_unique(),
        "stand": standing.select("sample_id", "position", "role", "request_id").to_dicts(),
        "used_until": used.join(found, on="sample_id", how="semi")
        .join(before, on="sample_id", how="anti")
        .height,
    }


def _came_before(request: Mapping[str, Any], manifest: Manifest, seq: int | None) -> bool:
    """Tell whether a request was made before a manifest: by the catalog's order, for a stranger by the clock."""
    if seq is not None and request["after_seq"] is not None:
        return bool(seq > request["after_seq"])
    return str(manifest.created_at)[:19] > str(request["created_at"])[:19]


def _returned(stand: Sequence[Mapping[str, Any]]) -> list[str]:
    if not stand:
        return []
    named = [
        f"'{one['sample_id']}' (row {one['position']}, {one['role']}, forgotten by request {one['request_id']})"
        for one in stand[:NAMED]
    ]
    more = ", …" if len(stand) > NAMED else ""
    return [f"{counted(len(stand), 'forgotten sample')} in it, to be used: {', '.join(named)}{more}"]


def _own_source(manifest: Manifest) -> tuple[str | None, str | None]:
    """Return the source that the manifest names where it can be opened from here, else why not."""
    source = manifest.dataset.source
    if manifest.dataset.options.get("recorded"):
        return None, f"it was selected from the recording {source} alone: there are no data to compare"
    if source == "digits" or Path(source).exists():
        return source, None
    return None, f"its source {source} is not found from here; give it as SOURCE to compare the data too"


def _compare_data(
    path: Path, manifest: Manifest, source: str, options: Mapping[str, Any], workspace: Path | None
) -> list[str]:
    from tracesift.flows.purging.purged import left_out
    from tracesift.pipelines.dataset import open_dataset
    from tracesift.pipelines.subset import load_manifest

    recorded = {name: value for name, value in manifest.dataset.options.items() if value is not None}
    try:
        dataset = open_dataset(source, **{**recorded, **options})
    except BadInput as error:
        if not Path(source).exists():
            raise
        return [f"{source} cannot be read as the data of this manifest: {error}"]
    try:
        if workspace is not None and (workspace / "catalog.duckdb").is_file():
            dataset = left_out(Work(workspace), dataset)
        load_manifest(path).verify(dataset)
    except FingerprintMismatch as error:
        return [str(error)]
    return []


# --- diff


def differing(workspace: Path, first: str, second: str) -> dict[str, Any]:
    """Return what changed between two manifests (paths, or subsets of the workspace by name) or two runs' scores.

    Returns
    -------
    dict
        ``kind`` ("manifests" or "runs"), then for manifests what `diff_manifests` says, for runs ``scorers``, a row
        each.
    """
    places = [manifest_at(workspace, name) for name in (first, second)]
    if all(places):
        return {"kind": "manifests", **diff_manifests(*places)}  # type: ignore[arg-type]
    if any(places):
        missing, other = (second, first) if places[0] else (first, second)
        catalog = Work(workspace).catalog
        if catalog.path.exists() and catalog.run(missing) is not None:
            raise BadInput(
                f"{missing} is a run and {other} a subset, and these cannot be compared; give two subsets or "
                "manifests, or two run ids"
            )
        raise BadInput(
            f"{missing}: no manifest and no subset of {workspace}; give two manifests, or two run ids"
        )
    catalog = Work(workspace).catalog
    if not catalog.path.exists():
        raise BadInput(f"{first}: no manifest, and {workspace} holds no runs to look for; give two manifests")
    rows = catalog.diff_runs(first, second)
    return {"kind": "runs", "first": first, "second": second, "scorers": rows.to_dicts()}


def manifest_at(workspace: Path, name: str | Path) -> Path | None:
    """Return where a manifest lies, given its path or the name of a subset of the workspace; None where nowhere."""
    given, made = Path(name), workspace / "manifests" / name / MANIFEST_FILE
    if given.exists():
        return given
    return made if made.exists() else None


# --- gc


def collect(work: Work, keep: int, *, dry_run: bool = False) -> dict[str, Any]:
    """Drop the signals of old recordings; scores, flags, subsets and manifests stay, and so does their meaning.

    Recordings that differ by their seed alone count as one. The newest of the current dataset is always kept, and an
    unfinished one, because it can be resumed. Stored embeddings of an earlier state of the dataset fit no sample set
    any more and go as well.

    Parameters
    ----------
    keep
        How many recordings to keep, the newest first.
    dry_run
        Say what would go, and leave it.

    Returns
    -------
    dict
        ``dropped`` (run ids), ``kept``, ``unfinished``, ``embeddings`` (names of dropped ones), ``bytes`` freed,
        ``dry_run``.
    """
    from tracesift.pipelines.embedding.stored_embeddings import (
        drop_embedding,
        embeddings_folder,
        of_other_states,
    )
    from tracesift.pipelines.signals import drop_run, list_runs, run_folder

    if keep < 1:
        raise BadInput(f"--keep {keep}: at least 1; the newest recording is what scores can be computed from")
    newest = work.catalog.newest_dataset()
    ranks = dict(work.catalog.query("SELECT run_id, seq FROM runs").iter_rows())
    runs = sorted(
        list_runs(work.path), key=lambda run: (ranks.get(run["run_id"], -1), run["run_id"]), reverse=True
    )
    groups: dict[bytes, list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(_but_seed(run), []).append(run)
    kept = list(groups.values())[:keep]
    current = [
        runs
        for runs in groups.values()
        if newest and runs[0]["dataset"]["dataset_id"] == newest["dataset_id"]
    ]
    kept += [runs for runs in current[:1] if runs not in kept]
    saved = {run["run_id"] for runs in kept for run in runs}
    dropped = [run["run_id"] for run in runs if run["run_id"] not in saved]
    stale = of_other_states(work.path, newest["fingerprint"]) if newest else []
    folders = [run_folder(work.path, run_id) for run_id in dropped]
    freed = sum(map(_size, [*folders, *(embeddings_folder(work.path, name) for name in stale)]))
    for run_id in () if dry_run else dropped:
        # The status first: killed between the two, the next collection finds the files and goes on.
        if run_id in ranks:
            work.catalog.finish_run(run_id, status="collected")
        drop_run(work.path, run_id)
    for name in () if dry_run else stale:
        work.catalog.drop_artifact("embedding", name)
        drop_embedding(work.path, name)
    finished = {run["run_id"] for run in runs}
    begun = [path.name.removeprefix("run=") for path in sorted((work.path / "signals").glob("run=[!_]*"))]
    return {
        "dropped": dropped, "kept": sorted(saved), "embeddings": stale, "bytes": freed, "dry_run": dry_run,
        "unfinished": [run_id for run_id in begun if run_id not in finished],
    }  # fmt: skip


def _but_seed(run: Mapping[str, Any]) -> bytes:
    config = {name: value for name, value in run["config"].items() if name != "seed"}
    return canonical_json(
        [
            run["dataset"]["dataset_id"],
            run["dataset"]["transform"],
            run.get("model"),
            config,
            run["dataset"].get("withheld_by", []),
            run.get("purged", 0),
        ]
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# --- doctor


def examine(workspace: Path) -> list[dict[str, Any]]:
    """Return what this machine has, and what the workspace holds that is of before.

    Returns
    -------
    list of dict
        A row per thing: `name`, `state` (ok, missing, problem, outdated), `found`, and what needs it.
    """
    rows = [_python(), *(_installed(name, needed, required=True) for name, needed in REQUIRED.items())]
    rows += [_installed(name, needed, required=False) for name, needed in OPTIONAL.items()]
    rows += [_faiss(), *_torch(), _disk(workspace), *_place(workspace), *_recordings(workspace)]
    rows += _deletions(workspace)
    return rows + _of_before(workspace)


def _row(name: str, state: str, found: str, needed: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "state": state, "found": found, "needed_for": needed, "required": required}


def _python() -> dict[str, Any]:
    state = "ok" if sys.version_info >= (3, 11) else "problem"
    return _row(
        "python",
        state,
        f"{platform.python_version()} on {platform.platform()}",
        "3.11 or later",
        required=True,
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _installed(name: str, needed: str, *, required: bool) -> dict[str, Any]:
    found = _version(name)
    return _row(name, "missing" if found is None else "ok", found or "–", needed, required=required)


def _faiss() -> dict[str, Any]:
    needed = "approximate graphs of neighbours on large sets: embed --exact-up-to"
    there = [name for name in NEIGHBOURS if _version(name)]
    if len(there) > 1:
        return _row(
            "faiss", "problem", f"{' and '.join(there)} provide one module; uninstall all but one", needed
        )
    if not there:
        return _row("faiss", "missing", "pip install 'tracesift[cpu]' or 'tracesift[gpu]', not both", needed)
    try:
        importlib.import_module("faiss")
    except ImportError as error:
        return _row("faiss", "problem", f"{there[0]} cannot be imported: {error}", needed)
    return _row("faiss", "ok", f"{there[0]} {_version(there[0])}", needed)


def _torch() -> list[dict[str, Any]]:
    """Return the devices, threads and capability that torch sees; nothing where it is not installed."""
    needed = "the speed and the bits of a recording"
    if _version("torch") is None:
        return []
    try:
        import torch
    except (ImportError, OSError) as error:
        return [_row("torch device", "problem", f"torch cannot be imported: {error}", needed, required=True)]
    capability = torch.backends.cpu.get_cpu_capability()
    rows = [
        _row("cpu", "ok", f"{counted(torch.get_num_threads(), 'thread')}, capability {capability}", needed)
    ]
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return [*rows, _row("gpu", "ok", ", ".join(names), "large models")]
    return [
        *rows,
        _row("gpu", "missing", "none that torch can use; everything runs on the CPU", "large models"),
    ]


def _place(workspace: Path) -> list[dict[str, Any]]:
    """Return whether the catalog is whole and lies where it was last written; nothing where there is none."""
    needed = "trajectories in DuckDB clients of your own"
    catalog = Catalog(workspace)
    if not catalog.path.exists():
        return []
    try:
        written = catalog.query("SELECT path FROM workspace").item()
        read = catalog.read_through()
    except BadInput as error:
        return [_row("catalog", "problem", str(error), "everything")]
    here = str(catalog.workspace)
    whole = _row("catalog", "ok", f"{read:,} rows of all tables could be read", "everything")
    if written == here:
        return [whole, _row("workspace", "ok", here, needed)]
    return [
        whole,
        _row(
            "workspace",
            "problem",
            f"copied or moved from {written}; until the next command that writes, such as `tracesift score`, such a "
            f"client says SET VARIABLE {WORKSPACE_VARIABLE} = {literal(here)}",
            needed,
        ),
    ]


def _recordings(workspace: Path) -> list[dict[str, Any]]:
    """Return whether every finished recording is as it was made; nothing where there is none."""
    from tracesift.pipelines.signals import list_runs, read_run

    needed, found = "scores and selections of the recording", list_runs(workspace)
    changed = []
    for run in found:
        try:
            read_run(workspace, run["run_id"], verify=True)
        except IncompleteRecording as error:
            changed.append(str(error))
    if changed:
        return [_row("recordings", "problem", "; ".join(changed), needed)]
    return [_row("recordings", "ok", f"{len(found)} as recorded", needed)] if found else []


def _deletions(workspace: Path) -> list[dict[str, Any]]:
    """Return whether what was deleted and purged can still be recognised; nothing where nobody asked for it."""
    from tracesift.flows.purging.purged import PURGES, purges_of

    needed, work = "keeping what was deleted from coming back", Work(workspace)
    try:
        requests = work.catalog.forget_requests() if work.catalog.path.exists() else []
    except BadInput:  # a catalog that cannot be read has a row of its own
        return []
    linked = [row for row in requests if row["status"] in ("begun", "done")]
    nobody = pl.DataFrame(schema={"sample_id": pl.String})

    def of_requests() -> str:
        work.catalog.recognised(nobody)  # reads the key
        return counted(len(linked), "deletion request")

    def of_purges() -> str:
        return counted(len(purges_of(work)["purges"]), "purge")

    rows = []
    for name, told in ((KEY_FILE, of_requests), (PURGES, of_purges)):
        try:
            found = told()
        except BadInput as error:
            rows.append(_row(name, "problem", runnable(str(error)), needed, required=True))
        else:
            rows += [_row(name, "ok", found, needed)] if (workspace / name).exists() else []
    return rows


def _of_before(workspace: Path) -> list[dict[str, Any]]:
    """Return a row for what is of before, per reason; nothing where the catalog cannot be read, which has its own."""
    needed = "what `why`, the report and selectors read"
    try:
        found = outdated(workspace)
    except BadInput:
        return []
    return [_row(one.kind, "outdated", runnable(one.told), needed) for one in found]


def _disk(workspace: Path) -> dict[str, Any]:
    place = workspace.expanduser().absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    taken = f", {_size(workspace) / 1e6:,.0f} MB taken by {workspace}" if workspace.exists() else ""
    state = "ok" if free > 1e9 else "problem"
    return _row(
        "disk",
        state,
        f"{free / 1e9:,.1f} GB free at {place}{taken}",
        "signals, about 40 bytes per sample and epoch",
    )
