"""A recording made elsewhere comes in: matched to the workspace's dataset, completed, kept as a run like ours.

Scores that are finished already (AUM's `aum_values.csv`, a table of one row per sample) are kept as scores of
a run of kind ``import-scores`` with scorer version 0: they were computed by code that we have not seen, and no
signal can be taken back out of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.files import digest
from tracesift.catalog.schema import BadInput, nearest
from tracesift.flows.ingest import ingest
from tracesift.flows.options import Reading
from tracesift.flows.progress import counted, say, watched
from tracesift.flows.recordings import remember_run
from tracesift.flows.work import Work, open_source, tell
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.foreign.bare import from_recording
from tracesift.pipelines.foreign.imported import NAMED, write_imported
from tracesift.pipelines.foreign.matching import match
from tracesift.pipelines.foreign.reading import read_foreign
from tracesift.pipelines.foreign.recording import PER_CLASS, Finished, Foreign
from tracesift.pipelines.sources.guessing import NO_LABELS, UNLABELLED
from tracesift.scorers.contract import find, names

ELSEWHERE = 0
"""Version of a scorer whose values were computed by other code."""


@dataclass(frozen=True, kw_only=True)
class ImportJob:
    """What to import and how its samples and classes are named."""

    path: Path
    source: str | None = None
    """Open and ingest this dataset first."""
    reading: Reading = field(default_factory=Reading)
    mode: str | None = None
    ids: Path | None = None
    """File with the sample id of row 0, 1, ... one a line."""
    by_position: bool = False
    """Row 0, 1, ... of the file are the rows of `source`."""
    labels: Path | None = None
    """File with the label of each sample, one a line."""
    classes: Sequence[str] = ()
    """Class names in the order of the columns."""


def import_recording(work: Work, job: ImportJob) -> dict[str, Any]:
    """Import a file or folder into a workspace; the same again changes nothing.

    Returns
    -------
    dict
        ``run_id``, ``dataset``, ``samples`` (training samples), ``seen`` (of them observed at all), ``missing``,
        ``epochs``, ``mode``, ``given`` and ``computed`` fields; for finished scores ``scores`` in place of these.
    """
    dataset = _dataset(work, job)
    found = read_foreign(job.path, ids=_positions(job, dataset), labels=_lines(job.labels, "--labels"))
    if isinstance(found, Finished):
        return _keep_scores(work, found, dataset, fresh=job.source is not None)
    if job.classes:
        found = replace(found, classes=tuple(job.classes))
    for note in found.notes:
        say(note)
    mode = _mode(found, job.mode)
    fresh = job.source is not None or dataset is None
    if dataset is None:
        if job.reading.label == NO_LABELS:
            found = _unlabelled(found)
        dataset = _bare(found)
        say(
            f"{work.path} held no dataset: the recording's own ids and labels make one, without content; it can be "
            "scored and selected from"
        )
    matched = match(found, dataset)
    if matched.missing:
        say(
            f"{found.where} lacks {len(matched.missing)} of {len(matched.train.rows)} training samples, first "
            f"'{matched.missing[0]}'; what it lacks counts as not seen"
        )
    if matched.others:
        say(f"left out: {counted(matched.others, 'sample')} of {found.where} in neither train nor val")
    with watched("import") as report:
        run = write_imported(work.path, matched, mode=mode, report=report)
    if fresh:  # last, so that a recording that is refused leaves no dataset behind
        ingest(work, dataset)
    remember_run(work, run["run_id"])
    facts = run["imported"]
    if facts["nonfinite"]:
        hold = "holds" if facts["nonfinite"] == 1 else "hold"
        say(
            f"{counted(facts['nonfinite'], 'row')} of {found.where} {hold} infinities; their scalars are taken as "
            "they come"
        )
    _tell_nan(facts, found.where)
    _tell_columns(found, facts.get("columns", []))
    samples = len(matched.train.rows)
    seen = facts.get("observed", samples - len(matched.missing))  # an earlier record does not know of NaN
    return {
        "run_id": run["run_id"], "dataset": dataset.name, "samples": samples, "seen": seen, "missing": samples - seen,
        "validation": len(matched.val.rows) + (0 if found.val is None else len(found.val.ids)),
        "epochs": len(found.epochs), "mode": mode, "given": facts["given"],
        "computed": facts["computed"], "arrays": facts["arrays"],
    }  # fmt: skip


def _tell_nan(facts: Mapping[str, Any], where: str) -> None:
    """Say which samples hold NaN: such a row was not observed, whatever else it holds."""
    nan = facts.get("nan") or {"rows": 0}
    if not nan["rows"]:
        return
    never = nan["never"]
    say(
        f"{counted(nan['rows'], 'row')} of {where} hold{'s' * (nan['rows'] == 1)} NaN, of "
        f"{counted(nan['samples'], 'sample')} ({_first(nan['first'], nan['samples'])}): not observed there"
        + (f"; never observed: {', '.join(never)}" + " …" * (len(never) >= NAMED) if never else "")
    )


def _tell_columns(found: Foreign, classes: Sequence[str]) -> None:
    """Say which class each column was taken for, where nobody named them and their numbers are not their names."""
    if found.classes is None and list(classes) != [str(column) for column in range(len(classes))]:
        told = ", ".join(f"{column} is '{name}'" for column, name in enumerate(classes[:NAMED]))
        more = f", … ({len(classes)})" if len(classes) > NAMED else ""
        what = "columns" if set(found.fields) & set(PER_CLASS) or found.arrays else "class indices"
        say(f"{what} by the labels of the same samples: {told}{more}; --classes names them otherwise")


def _first(ids: Sequence[str], of: int) -> str:
    return ", ".join(ids) + (" …" if of > len(ids) else "")


def _dataset(work: Work, job: ImportJob) -> Dataset | None:
    """Return the dataset to match with: the source's, the workspace's, or None where there is neither."""
    if job.source is not None:
        dataset = open_source(job.source, job.reading)
        tell(dataset)
        return dataset
    if not work.catalog.path.exists() or work.catalog.newest_dataset() is None:
        return None
    return work.dataset


def _positions(job: ImportJob, dataset: Dataset | None) -> list[str] | None:
    if job.ids is not None and job.by_position:
        raise BadInput("give --ids or --by-position, not both")
    if not job.by_position:
        return _lines(job.ids, "--ids")
    if dataset is None or dataset.positions is None:
        raise BadInput("--by-position needs the data in their own order: name them with --source")
    return dataset.samples["sample_id"].gather(np.argsort(dataset.positions)).to_list()


def _lines(path: Path | None, option: str) -> list[str] | None:
    if path is None:
        return None
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise BadInput(f"{option} {path}: no such file; write one value a line") from None
    except UnicodeDecodeError:
        raise BadInput(f"{option} {path}: not text; write one value a line, in UTF-8") from None


def _mode(found: Foreign, asked: str | None) -> str:
    if found.mode is not None and asked not in (None, found.mode):
        raise BadInput(f"{found.where} says that its mode is {found.mode}, and --mode says {asked}")
    if asked is None and found.mode is None and found.epochs:
        say(
            "taken as recorded in training (weights moving); --mode epoch_end where one eval pass ended each epoch"
        )
    return asked or found.mode or "in_training"


def _unlabelled(found: Foreign) -> Foreign:
    """Return a recording of data without classes, every sample of one class."""
    if _num_columns(found):
        raise BadInput(
            f"{found.where}: holds a number per class, so its samples have labels; give --labels FILE"
        )
    labels = np.full(len(found.ids), UNLABELLED)
    val = None if found.val is None else replace(found.val, labels=np.full(len(found.val.ids), UNLABELLED))
    return replace(found, labels=labels, classes=(UNLABELLED,), val=val)


def _bare(found: Foreign) -> Dataset:
    """Make a dataset of the recording's own ids and labels."""
    if found.labels is None:
        raise BadInput(
            f"{found.where}: has no labels, and the workspace has no dataset; give --source DATA, --labels FILE with "
            f"one label a line, or --label {NO_LABELS} where the data have no classes"
        )
    ids, labels, split = list(found.ids), found.labels, ["train"] * len(found.ids)
    if found.val is not None:
        if found.val.labels is None or found.val.labels.dtype.kind != labels.dtype.kind:
            raise BadInput(f"{found.where}: val_labels are missing, or not written as the labels are")
        both = set(ids) & set(found.val.ids)
        if both:
            raise BadInput(
                f"{found.where}: train and val share {counted(len(both), 'id')}, such as '{min(both)}'"
            )
        ids, split = ids + found.val.ids, split + ["val"] * len(found.val.ids)
        labels = np.concatenate([labels, found.val.labels])
    columns = _num_columns(found)
    classes = found.classes or (
        [str(index) for index in range(columns)] if columns and labels.dtype.kind == "i" else None
    )
    return from_recording(Path(found.where).stem, found.where, ids, labels, classes, split)


def _num_columns(found: Foreign) -> int | None:
    """Return K as the file's first epoch or its arrays have it, or None where nothing is kept per class."""
    if set(found.fields) & set(PER_CLASS):
        values = next(found.read())
        return next(values[name].shape[1] for name in PER_CLASS if name in values)
    return next((values.shape[1] for name, values in found.arrays.items() if name.startswith("probs")), None)


def _keep_scores(work: Work, found: Finished, dataset: Dataset | None, *, fresh: bool) -> dict[str, Any]:
    """Put finished scores into the catalog, by the scorers' names, as they are."""
    known = [name for name in names() if name in found.frame.columns]
    if not known:
        columns = [name for name in found.frame.columns if name != "sample_id"]
        raise BadInput(
            f"{found.where}: holds no signals, and none of its columns ({', '.join(columns[:6])}) is a scorer's "
            f"name{nearest(columns[0], list(names()))}; `tracesift scorers` lists them, rename the column"
        )
    if dataset is None:
        raise BadInput(f"{found.where}: holds finished scores alone; name their data with --source DATA")
    train = dataset.samples.filter(pl.col("split") == "train").select("sample_id")
    frame = found.frame.select("sample_id", *known)
    unknown = frame.join(dataset.samples, on="sample_id", how="anti")
    if unknown.height:
        raise BadInput(
            f"{found.where}: {dataset.name} lacks {unknown.height} of {frame.height} ids, first "
            f"'{unknown['sample_id'][0]}'"
        )
    kept = frame.join(train, on="sample_id", how="semi")
    if fresh:
        ingest(work, dataset)
    run_id = digest({"import": found.content, "dataset": dataset.fingerprint, "scores": known})
    work.catalog.put_run(
        {"run_id": run_id, "dataset_id": dataset.dataset_id, "kind": "import-scores", "status": "done",
         "file": found.where, "form": found.form, "scores": known}
    )  # fmt: skip
    meta: list[dict[str, Any]] = [
        {"scorer": name, "version": ELSEWHERE, "params": {}, "inputs": [], "direction": find(name).direction}
        for name in known
    ]
    work.catalog.put_scores(run_id, dataset.dataset_id, kept, meta)
    say(
        f"{', '.join(known)}: finished scores, kept as they are (scorer version {ELSEWHERE}: computed elsewhere); the "
        "margins of every epoch would allow more, such as AUM's full_aum_records.csv (compressed=False)"
    )
    return {
        "run_id": run_id,
        "dataset": dataset.name,
        "samples": train.height,
        "seen": kept.height,
        "scores": known,
    }
