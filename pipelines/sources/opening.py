"""From what the user named to one `Loaded` source: the only place that knows every reader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.sources import tables
from tracesift.pipelines.sources.arrays import digits, idx_files, read_idx_folder
from tracesift.pipelines.sources.huggingface import is_saved, read_hub, read_saved
from tracesift.pipelines.sources.images import (
    has_class_folders,
    is_image,
    read_class_folders,
    read_unlabelled,
)
from tracesift.pipelines.sources.loaded import Loaded
from tracesift.pipelines.sources.objects import from_object

FORMS = (
    "'digits', a file or folder of parquet, csv, tsv, jsonl, json, arrow or npz (--format names it), a "
    "folder of class folders with images, a folder of IDX files, a save_to_disk folder, or hf:NAME[:CONFIG]"
)


def load(
    source: Any,
    *,
    format: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    ids: Sequence[Any] | None = None,
    unlabelled: bool = False,
) -> Loaded:
    """Read any supported source; what it is called and where it lies decides how.

    With `unlabelled`, images may lie in the folder itself: no classes are looked for.
    """
    if not isinstance(source, (str, Path)):
        return from_object(source, ids)
    if ids is not None:
        raise BadInput("ids= is for torch datasets; name the column of a file with id= (--id) instead")
    if source == "digits":
        return digits()
    if isinstance(source, str) and source.startswith("hf:"):
        return read_hub(source)
    path = Path(source).expanduser()
    if not source or not path.exists():
        raise BadInput(f"{source or 'an empty name'}: no such file or folder; a source is {FORMS}")
    try:
        return _load_path(path, format=format, delimiter=delimiter, encoding=encoding, unlabelled=unlabelled)
    except PermissionError as error:
        raise BadInput(
            f"{error.filename or source}: no permission to read it; grant it or copy it"
        ) from error


def _load_path(
    path: Path, *, format: str | None, delimiter: str | None, encoding: str | None, unlabelled: bool
) -> Loaded:
    if path.is_dir():
        return _load_folder(
            path, format=format, delimiter=delimiter, encoding=encoding, unlabelled=unlabelled
        )
    if is_image(path):
        raise BadInput(f"{path}: one image is no dataset; name the folder of its class folders")
    return tables.read_file(path, format=format, delimiter=delimiter, encoding=encoding)


def _load_folder(
    path: Path, *, format: str | None, delimiter: str | None, encoding: str | None, unlabelled: bool
) -> Loaded:
    if is_saved(path):
        return read_saved(path)
    if format is None and idx_files(path):
        return read_idx_folder(path)
    files = tables.table_files(path, format)
    images = format is None and has_class_folders(path)
    images = images or (unlabelled and format is None and any(map(is_image, path.iterdir())))
    if files and images:
        raise BadInput(
            f"{path}: holds {files[0].name} beside folders of images; name the file, or move it away"
        )
    if files:
        return tables.read_folder(path, format=format, delimiter=delimiter, encoding=encoding)
    if images:
        return read_unlabelled(path) if unlabelled else read_class_folders(path)
    if any(is_image(child) for child in path.iterdir()):
        raise BadInput(
            f"{path}: images without class folders; put each class's images in a folder of its name"
        )
    held = ", ".join(sorted(child.name for child in path.iterdir())[:5]) or "nothing"
    raise BadInput(f"{path}: no dataset found in this folder (it holds {held}); a source is {FORMS}")
