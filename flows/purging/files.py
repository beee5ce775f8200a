"""A purge of whatever else lies in the workspace: tables without the samples, and the files that name them still."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from tracesift.catalog.connection import CATALOG_FILE
from tracesift.catalog.files import write_bytes, write_parquet
from tracesift.catalog.forgotten import KEY_FILE
from tracesift.catalog.goldfish import GOLDFISH_FILE, without_samples
from tracesift.catalog.manifest import (
    MANIFEST_FILE,
)
from tracesift.catalog.redaction import unmistakable
from tracesift.catalog.schema import BadInput
from tracesift.catalog.swap import JOURNAL
from tracesift.flows.exports import NOTES
from tracesift.flows.progress import say
from tracesift.flows.purging.manifests import goes
from tracesift.flows.purging.plan import OURS, Purge, sources_of
from tracesift.flows.purging.purged import PURGES
from tracesift.flows.reporting.worklist import unguard

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
_LARGEST_SCANNED = 1 << 28
_LEAST_TEXT, _TEXT_SOUGHT = 16, 200
"""Characters of a text that cannot stand in a file by chance, and those that are sought of a longer one."""


def texts_of(doing: Purge) -> list[str]:
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


def write_others(doing: Purge) -> None:
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


def _other_files(doing: Purge) -> Iterator[Path]:
    root = doing.work.path
    sources = {Path(source).resolve() for source in sources_of(doing.work)}
    for path in sorted(root.rglob("*")):
        if not sources.isdisjoint((path.resolve(), *path.resolve().parents)):
            continue  # the data themselves, which are told of
        inside = path.relative_to(root)
        name = inside.as_posix()
        known = inside.parts[0] in OURS or name in doing.manifests or name.startswith(NOTES)
        if path.is_file() and not known and name not in _NOBODYS and not goes(doing, inside):
            yield path


def _write_csv(doing: Purge, path: Path, target: Path) -> None:
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


def _drop_pictures(doing: Purge, path: Path, row: Sequence[str]) -> None:
    for cell in row:
        picture = path.with_name(f"{path.stem}-images") / Path(unguard(cell)).name
        if cell.startswith(f"{path.stem}-images/") and picture.is_file():
            doing.removed.add(picture.relative_to(doing.work.path).as_posix())
            doing.gone["pictures of a worklist"] += 1


def _write_table(doing: Purge, path: Path, target: Path) -> None:
    """Write a Parquet file without the samples' rows, where it has ids, and without their names in other cells."""
    frame = pl.read_parquet(path)
    known = frame.schema.get("sample_id") == pl.String
    if not known and _frame_names_any(doing, frame.drop("reason", strict=False)):
        doing.unsure.append(str(path))  # whose row each is cannot be told
        return
    told = doing.redaction.frame(frame)
    if not told.equals(frame):
        doing.gone[f"rows of {path.name}"] += frame.height - told.height
        write_parquet(told, target)
    if _frame_names_any(doing, told):
        doing.unsure.append(str(path))


def _write_masks(doing: Purge, path: Path, target: Path) -> None:
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


def _frame_names_any(doing: Purge, frame: pl.DataFrame) -> bool:
    sought = [*filter(unmistakable, doing.ids), *doing.texts]
    columns = frame.select(pl.selectors.string()).get_columns()
    return bool(sought) and any(column.str.contains_any(sought).any() for column in columns)


def _names_any(doing: Purge, path: Path) -> bool:
    """Tell whether a file that we do not know holds an id or a text; of one too large to look through, yes."""
    if path.suffix == ".duckdb" or path.stat().st_size > _LARGEST_SCANNED:
        return True
    return _holds_any(doing, path.read_bytes())


def _holds_any(doing: Purge, content: bytes) -> bool:
    """Tell whether bytes hold an id or a text, as it stands or as JSON, CSV or HTML write it."""
    forms = {form for text in doing.texts for form in (
        text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], text.replace('"', '""'),
        html.escape(text),
    )}  # fmt: skip
    # Latin-1 gives every byte a character, so that any file can be searched.
    sought = [form.encode().decode("latin-1") for form in (*filter(unmistakable, doing.ids), *forms)]
    return bool(sought) and bool(pl.Series([content.decode("latin-1")]).str.contains_any(sought)[0])
