"""A manifest's members written out for other people's tools: a folder that is whole or not there.

    DIR/export.json              what this is: manifest, dataset, counts, shares, and each file with its hash
    DIR/manifest/                the manifest, its members, and what lies beside them; without what was deleted since
    DIR/…                        the data, as the format has them

Nothing is written outside of DIR but a `.tmp-` folder beside it while it is made. An earlier export of the same
manifest in the same format is replaced if nobody has touched it; any other folder that holds something is refused.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from tracesift.catalog.deletions import copy_without, without_deleted
from tracesift.catalog.files import check_can_be_made, sha256, write_json
from tracesift.catalog.goldfish import GOLDFISH_FILE, masks_of, masks_path, without_samples
from tracesift.catalog.manifest import (
    MANIFEST_FILE,
    MEMBERS_FILE,
    Manifest,
    members_path,
    write_copy,
)
from tracesift.catalog.schema import BadInput, UnknownName, nearest
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.handover.export_record import EXPORT_SCHEMA, MANIFEST, RECORD, export_record
from tracesift.pipelines.handover.index_files import write_indices
from tracesift.pipelines.handover.open_unlearning import write_open_unlearning
from tracesift.pipelines.handover.role_files import write_role_files
from tracesift.pipelines.subset import Subset


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way to write members out."""

    write: Callable[[Subset, Dataset, Path, Path], Mapping[str, Any]]
    """Called with the manifest, its data, the folder to write into and the one it will be; returns what the record
    says beside the rest, with ``rows`` of each file by its name."""
    needs: tuple[str, ...] = ()
    """Roles without which there is nothing to hand over."""


FORMATS: Mapping[str, Format] = {
    "open-unlearning": Format(write=write_open_unlearning, needs=("forget",)),
    "parquet": Format(write=write_role_files),
    "indices": Format(write=write_indices),
}


def export(
    subset: Subset,
    dataset: Dataset,
    folder: str | Path,
    *,
    format: str,
    made: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Write the members of a manifest into a folder, whole or not at all, and return its record.

    Parameters
    ----------
    subset : Subset
        As `load_manifest` gives it.
    dataset : Dataset
        Its data, opened; checked first.
    folder : str or Path
        A new or empty folder, or an earlier export of the same manifest in the same format.
    format : {"open-unlearning", "parquet", "indices"}
        ``"open-unlearning"``: JSON lines named as those of TOFU, with the data configurations of open-unlearning.
        ``"parquet"``: a Parquet file for each role. ``"indices"``: rows of the source, as npy files.
    made
        Called when all is written, before it is put in place.

    Returns
    -------
    dict
        What export.json holds: ``schema_version, tool_version, format, manifest, dataset, counts, files``, and what
        the format adds.

    Raises
    ------
    FingerprintMismatch
        The data are not in the state that the manifest was made for.
    BadInput
        The folder is not free or cannot be written, the format has no place for these members, or the goldfish masks
        beside the manifest are not those that were written.

    Examples
    --------
    >>> export(load_manifest("forget-ready"), open_dataset("digits"), "out", format="parquet")  # doctest: +SKIP
    """
    if format not in FORMATS:
        raise UnknownName(
            f"no format '{format}'{nearest(format, tuple(FORMATS))}; there are {', '.join(FORMATS)}"
        )
    chosen, manifest = FORMATS[format], subset.manifest
    for role in chosen.needs:
        if role not in manifest.counts.by_role:
            raise BadInput(
                f"manifest {manifest.name} has no member with role {role}, so there is nothing to hand over as "
                f"{format}: export a forget-ready subset (`tracesift forget`), or use --format parquet"
            )
    target = Path(folder).expanduser().resolve()
    _check_free(target, folder, manifest.name, format)
    subset.verify(dataset)
    masks_of(_folder(subset), manifest, subset.members)  # damaged ones are not handed over
    with _whole(target, folder) as making:
        said = dict(chosen.write(subset, dataset, making, target))
        given = _copy_manifest(subset, making / MANIFEST)
        rows = said.pop("rows")
        files = sorted(path for path in making.rglob("*") if path.is_file())
        names = [path.relative_to(making).as_posix() for path in files]
        record = {
            "schema_version": EXPORT_SCHEMA, "tool_version": version("tracesift"), "format": format,
            "manifest": {"name": manifest.name, "version": manifest.version, "fingerprint": given.fingerprint},
            "dataset": {"name": manifest.dataset.name, "fingerprint": manifest.dataset.fingerprint},
            "counts": given.counts.by_role, **said,
            "files": [
                {"file": name, "sha256": sha256(path), "bytes": path.stat().st_size, "rows": rows.get(name)}
                for name, path in zip(names, files, strict=True)
            ],
        }  # fmt: skip
        write_json(making / RECORD, record)
        made()
    return record


def _folder(subset: Subset) -> Path:
    return subset.path if subset.path.is_dir() else subset.path.parent


def _copy_manifest(subset: Subset, folder: Path) -> Manifest:
    """Copy the manifest and what lies beside it in a folder of the workspace; return the record that was written.

    Where members were asked to be deleted it is the manifest without them, as a purge would leave it: it verifies, and
    says how many it has lost.
    """
    top = _folder(subset)
    own = top / "versions" / f"{subset.manifest.version:04d}"
    folder.mkdir()
    if (top / "versions").is_dir():  # else manifest.json lies among files of any sort
        for held in (top, own):
            for path in held.iterdir() if held.is_dir() else ():
                if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                    copy_without(path, folder / path.name, subset.deleted)
    masks = masks_path(top, subset.manifest.version)
    if not subset.deleted:
        write_json(folder / MANIFEST_FILE, subset.manifest.as_dict())
        shutil.copyfile(members_path(subset.path, subset.manifest), folder / MEMBERS_FILE)
        if masks is not None:  # also those of a manifest that was copied, or exported, without its versions
            shutil.copyfile(masks, folder / GOLDFISH_FILE)
        return subset.manifest
    given, left = without_deleted(subset.manifest, subset.members, subset.deleted)
    if masks is not None:
        gone = pl.Series(sorted(subset.deleted), dtype=pl.String)
        without_samples(masks, folder / GOLDFISH_FILE, gone, {subset.manifest.fingerprint: given.fingerprint})
    return write_copy(folder, given, left)


def _check_free(target: Path, folder: str | Path, name: str, format: str) -> None:
    """Refuse a folder that holds anything but an earlier export of the same, as it was written."""
    above = next((parent for parent in target.parents if parent.exists()), target)
    if (target.exists() and not target.is_dir()) or not above.is_dir():
        raise BadInput(f"--to {folder}: {target if target.exists() else above} is a file; name a folder")
    check_can_be_made(target, "--to")
    if not target.exists() or not any(target.iterdir()):
        return
    record = export_record(target)
    if record is None:
        raise BadInput(
            f"--to {folder}: holds something that is no export; name a new folder, or remove it first"
        )
    known = {one["file"]: one.get("sha256") for one in record["files"]}
    if (record["manifest"]["name"], record["format"]) != (name, format):
        raise BadInput(f"--to {folder}: holds another export; name a new folder, or remove it first")
    for path in sorted(target.rglob("*")):
        file = path.relative_to(target).as_posix()
        foreign = path.is_symlink() or (path.is_file() and file != RECORD and known.get(file) != sha256(path))
        if foreign:
            raise BadInput(
                f"--to {folder}: {file} was added or changed since the export; move it away, or name a new folder"
            )


@contextmanager
def _whole(target: Path, folder: str | Path) -> Iterator[Path]:
    """Yield a folder to write into, which becomes `target` when the block ends well and is gone when it does not."""
    making = before = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=".tmp-", dir=target.parent))
        making.chmod(0o755)
        yield making
        if target.exists() and any(target.iterdir()):
            before = Path(tempfile.mkdtemp(prefix=".tmp-", dir=target.parent))
            target.replace(before)
        making.replace(target)
    except OSError as error:
        if error.errno not in (
            errno.EACCES,
            errno.EPERM,
            errno.EROFS,
            errno.ENOSPC,
            errno.EDQUOT,
            errno.ENOTDIR,
        ):
            raise
        raise BadInput(
            f"--to {folder}: cannot be written ({os.strerror(error.errno)}); name another folder, or mend it"
        ) from error
    finally:
        if before is not None and not target.exists():
            before.replace(target)
        for left in (making, before):
            if left is not None:
                shutil.rmtree(left, ignore_errors=True)
