"""The ranked list of samples that a person should look at, its CSV form, and the verified labels coming back.

A flag says yes, no or cannot tell. The worklist puts the yes first, by confidence, then those cannot-tell
samples that something speaks against, marked "worth a look". Confidence is the estimated probability
that the label is wrong, where a flag or a suggestion brings one; otherwise it is the share of samples that
look less suspicious, averaged over the detectors: an order, no probability. `confidence_from` says which it
is, and in each group those with a probability come first, because the two cannot be compared.

Some flags speak of the label, others of something else (a small signal in the picture). The former are those
that bring a suggestion, a confidence or a suspicion; where none does, all are taken as such. Only they can be
contradicted by a suggestion, and only their yes carries the probability that the label is wrong.

The CSV is made to be opened in a spreadsheet: cells that a spreadsheet would run as a formula get a leading
apostrophe, which the import takes off again.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import polars as pl
from PIL import Image

from tracesift.catalog.files import replacing, write_bytes
from tracesift.catalog.schema import BadInput, nearest
from tracesift.flows.reporting.previews import short
from tracesift.flows.selecting.candidates import beyond_threshold

WORKLIST_SCHEMA: dict[str, pl.DataType] = {
    "rank": pl.Int64(),
    "sample_id": pl.String(),
    "label": pl.String(),
    "suggestion": pl.String(),
    "confidence": pl.Float64(),
    "confidence_from": pl.String(),
    "status": pl.String(),
    "flag": pl.String(),
    "reason": pl.String(),
}
"""Columns of a worklist: `status` is FLAGGED or WORTH_A_LOOK, `flag` names the flags, joined by ", ",
`confidence_from` is "flag" or "suggestion" (a probability) or "rank" (an order)."""

FLAGGED = "flagged"
WORTH_A_LOOK = "worth a look"

SPEAKS_AGAINST = "something speaks against their label, but not enough to call it wrong"
"""Why samples are worth a look: all the evidence is against the label or some of it, and it proves nothing."""

UNTOLD = (
    "The flag cannot tell of any of them, so how well it does was not measured; `tracesift scorers` lists what ranks "
    "samples of other kinds, for texts `token_label_association`."
)
"""Said where the truth is known and the flag has no answer."""
OF_REVIEWED = (
    "reviewed samples are mostly suspects: recall and AUROC hold among them, not for the whole dataset"
)
"""What the figures on reviewed samples are worth."""

REVIEW_COLUMNS = (
    "rank", "sample_id", "content", "label", "suggestion", "verified_label", "confidence", "confidence_from",
    "status", "flag", "reason",
)  # fmt: skip
"""Columns of the CSV; the one to fill in stands beside what is suggested, before the long sentences."""

OF_CONTENT = "unlearnable"
"""The flag that says nothing of the label, whatever the others bring."""

_SUSPICION = {"suspicious": 1.0, "outlier": 1.0, "clean": -1.0}
UTF16 = (b"\xff\xfe", b"\xfe\xff")
"""How a file begins that a spreadsheet saved as Unicode text, which is text, if not the one that is read here."""

_TEXT_IN_CELL = 2_000


def worklist(
    flags: pl.DataFrame,
    scores: pl.DataFrame,
    suggestions: pl.DataFrame | None = None,
    *,
    directions: Mapping[str, str] | None = None,
    verified: Collection[str] = (),
    conflict_share: float = 0.05,
    max_conflicts: int = 100,
) -> pl.DataFrame:
    """Rank the samples that a person should look at.

    Parameters
    ----------
    flags : DataFrame
        Columns flag, sample_id, flagged (bool or null for cannot tell), reason; optionally suggestion (a
        label or null), confidence (probability in [0, 1] that the label is wrong) and suspicion (share in
        [0, 1] of the samples that look cleaner), score and threshold.
    scores : DataFrame
        One row per sample: sample_id, label and score columns.
    suggestions : DataFrame, optional
        Columns sample_id, suggestion and optionally confidence; asked where the flags bring none.
    directions : mapping of str to str, optional
        Score column -> direction. Columns that are `suspicious`, `clean` or `outlier` give the order where
        the flags bring none, and the evidence that can contradict a cannot tell.
    verified : collection of str
        Samples whose label a person has already verified, or that nobody is to look at; they are never listed.
    conflict_share : float
        A detector speaks against a sample when it ranks it among this share of the most suspicious.
    max_conflicts : int
        The most cannot-tell samples to list.

    Returns
    -------
    DataFrame
        Columns of `WORKLIST_SCHEMA`: flagged samples by confidence, high first, then samples worth a look, by
        confidence. Equal probabilities are ordered by suspicion, then by sample_id; a sample without any
        confidence comes last in its group, as one does that is flagged for something else than its label: these are
        ordered by how far the score lies beyond the threshold against others of the label.

    Raises
    ------
    BadInput
        Where a flag names a sample that `scores` does not hold, or `scores` holds one twice.

    Examples
    --------
    >>> flags = pl.DataFrame({"flag": ["mislabeled"] * 3, "sample_id": ["a", "b", "c"],
    ...                       "flagged": [True, False, True], "reason": ["r1", "r2", "r3"]})
    >>> scores = pl.DataFrame({"sample_id": ["a", "b", "c"], "label": ["0", "1", "1"],
    ...                        "aum": [0.1, 3.0, -2.0]})
    >>> worklist(flags, scores, directions={"aum": "clean"})["sample_id"].to_list()
    ['c', 'a']
    """
    _check(flags, scores)
    numbers = dict.fromkeys(("confidence", "suspicion", "score", "threshold"), pl.Float64())
    flags = _filled(flags, {"suggestion": pl.String(), **numbers})
    flags = flags.filter(~pl.col("sample_id").is_in(list(verified))).sort("flag", "sample_id")
    flags = _with_subject(flags)
    evidence = _percentiles(scores, directions or {})
    samples = _samples(scores, flags, suggestions).join(
        _mean_percentile(evidence), on="sample_id", how="left"
    )
    conflicting = _conflicting(flags, samples, evidence, conflict_share).head(max_conflicts)
    listed = pl.concat([_flagged(flags, samples), conflicting])
    return listed.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int64)).select(
        list(WORKLIST_SCHEMA)
    )


def _check(flags: pl.DataFrame, scores: pl.DataFrame) -> None:
    doubled = scores.filter(pl.col("sample_id").is_duplicated())
    if doubled.height:
        raise BadInput(
            f"scores hold sample {doubled['sample_id'][0]!r} more than once; pass one row per sample"
        )
    unknown = flags.join(scores, on="sample_id", how="anti")
    if unknown.height:
        raise BadInput(
            f"flags name {unknown.height} samples that the scores lack, first {unknown['sample_id'][0]!r}; "
            "score and flag the same state of the dataset"
        )


def _filled(frame: pl.DataFrame, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return the frame with each column there: null where it was missing, and NaN read as null."""
    for name, dtype in columns.items():
        column = (pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype)
        frame = frame.with_columns((column.fill_nan(None) if dtype.is_float() else column).alias(name))
    return frame


def _with_subject(flags: pl.DataFrame) -> pl.DataFrame:
    """Add `of_label`: whether the flag of a row speaks of the label."""
    brings = pl.any_horizontal(pl.col("suggestion", "confidence", "suspicion").is_not_null())
    speaks = brings.any().over("flag") | ~brings.any()
    return flags.with_columns(of_label=speaks & (pl.col("flag") != OF_CONTENT))


def _percentiles(scores: pl.DataFrame, directions: Mapping[str, str]) -> pl.DataFrame:
    """Return sample_id and, per detector, the share of samples that look less suspicious (mid-rank)."""
    columns = [name for name in scores.columns if directions.get(name) in _SUSPICION]
    suspicion = [
        (pl.col(name).cast(pl.Float64) * _SUSPICION[directions[name]]).fill_nan(None).alias(name)
        for name in columns
    ]
    ranked = [(pl.col(name).rank("average") - 0.5) / pl.col(name).count() for name in columns]
    return scores.select("sample_id", *suspicion).with_columns(ranked)


def _mean_percentile(evidence: pl.DataFrame) -> pl.DataFrame:
    columns = [name for name in evidence.columns if name != "sample_id"]
    mean = pl.mean_horizontal(columns) if columns else pl.lit(None)
    return evidence.select("sample_id", percentile=mean.cast(pl.Float64))


def _samples(scores: pl.DataFrame, flags: pl.DataFrame, suggestions: pl.DataFrame | None) -> pl.DataFrame:
    """Return one row per sample: its label, the label suggested instead, and what the flags know of it."""
    said = flags.group_by("sample_id").agg(
        pl.col("suggestion").drop_nulls().first(),
        stated=pl.col("confidence").filter(pl.col("flagged").fill_null(value=True)).max(),
        suspicion=pl.col("suspicion").max(),
    )
    given = suggestions if suggestions is not None else pl.DataFrame(schema={"sample_id": pl.String})
    given = _filled(given, {"suggestion": pl.String(), "confidence": pl.Float64()})
    given = given.select("sample_id", other="suggestion", probability="confidence")
    samples = scores.select("sample_id", pl.col("label").cast(pl.String))
    samples = samples.join(said, on="sample_id", how="left").join(given, on="sample_id", how="left")
    preferred = pl.coalesce("suggestion", "other")
    return samples.with_columns(suggestion=pl.when(preferred != pl.col("label")).then(preferred)).drop(
        "other"
    )


def _ranked(listed: pl.DataFrame, status: str) -> pl.DataFrame:
    probability, order = pl.coalesce("stated", "probability"), pl.coalesce("suspicion", "percentile")
    source = (
        pl.when(pl.col("stated").is_not_null())
        .then(pl.lit("flag"))
        .when(pl.col("probability").is_not_null())
        .then(pl.lit("suggestion"))
        .when(order.is_not_null())
        .then(pl.lit("rank"))
    )
    known = listed.with_columns(
        confidence=pl.coalesce(probability, order), confidence_from=source, status=pl.lit(status)
    )
    by = [probability.is_not_null(), pl.col("confidence"), order, pl.col("beyond"), pl.col("sample_id")]
    return known.sort(by, descending=[True, True, True, True, False], nulls_last=True).select(
        [name for name in WORKLIST_SCHEMA if name != "rank"]
    )


def _told(who: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Return the names of the flags that `who` selects, joined, and their distinct reasons."""
    names = pl.col("flag").filter(who).unique(maintain_order=True).str.join(", ")
    reasons = (
        pl.col("reason").filter(who & (pl.col("reason") != "")).unique(maintain_order=True).str.join("; ")
    )
    return names, reasons


def _flagged(flags: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    per_sample = flags.group_by("sample_id", maintain_order=True).agg(
        *_told(pl.col("flagged")),
        wrong=(pl.col("flagged") & pl.col("of_label")).any(),
        beyond=beyond_threshold().filter(pl.col("flagged") & ~pl.col("of_label")).max(),
    )
    listed = per_sample.filter(pl.col("flag") != "").join(samples, on="sample_id", how="left")
    about_label = pl.col("stated", "probability", "suspicion", "suggestion", "percentile")
    # thresholds are each label's own, so that labels take turns: else the first page may be of one alone
    turn = (pl.col("beyond").rank("max") / pl.col("beyond").count()).over("label")
    return _ranked(listed.with_columns(pl.when(pl.col("wrong")).then(about_label), beyond=turn), FLAGGED)


def _conflicting(
    flags: pl.DataFrame, samples: pl.DataFrame, evidence: pl.DataFrame, share: float
) -> pl.DataFrame:
    """Return cannot-tell samples that a suggestion or a detector speaks against, with both sides named."""
    unknown = pl.col("flagged").is_null() & pl.col("of_label")
    undecided = (
        flags.with_columns(pl.col("reason").str.strip_prefix("cannot tell: "))
        .group_by("sample_id", maintain_order=True)
        .agg(*_told(unknown), yes=pl.col("flagged").any(), undecided=unknown.any())
        .filter(pl.col("undecided") & ~pl.col("yes").fill_null(value=False))
    )
    detectors = [name for name in evidence.columns if name != "sample_id"]
    speaking = [pl.when(pl.col(name) >= 1 - share).then(pl.lit(name)) for name in detectors]
    named = pl.concat_list(speaking or [pl.lit(None, pl.String)]).list.drop_nulls()
    every = pl.lit(f"all {len(detectors)} detectors")
    unanimous = (named.list.len() == len(detectors)) & (len(detectors) > 1)
    against = pl.when(unanimous).then(every).otherwise(named.list.join(", "))
    both = undecided.join(samples, on="sample_id", how="left")
    both = both.join(evidence.select("sample_id", against=against), on="sample_id", how="left")
    both = both.filter((pl.col("against") != "") | pl.col("suggestion").is_not_null())
    sides = pl.concat_str(
        pl.lit("cannot tell"),
        pl.when(pl.col("reason") != "").then(pl.format(": {}", "reason")).otherwise(pl.lit("")),
        pl.when(pl.col("against") != "")
        .then(pl.format(f"; among the {100 * share:.3g} % most suspicious by {{}}", "against"))
        .otherwise(pl.lit("")),
    )
    return _ranked(both.with_columns(reason=sides, beyond=pl.lit(None, pl.Float64)), WORTH_A_LOOK)


def export_review(listed: pl.DataFrame, content: Mapping[str, Any] | None, path: Path) -> Path:
    """Write the worklist as CSV with an empty column `verified_label` to fill in.

    Parameters
    ----------
    listed : DataFrame
        A worklist; `status` and `flag` may be missing.
    content : mapping of sample_id to str, Path, dict or PIL image, or None
        What a person needs to see. Text is cut at 2,000 characters; an image file stands by its path; an
        image that is no file is written as PNG into ``<name>-images/`` beside the CSV. None leaves the column
        empty.
    path : Path
        The CSV to write, atomically, UTF-8 with a byte order mark so that spreadsheets read it as such.

    Returns
    -------
    Path
        `path`.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(REVIEW_COLUMNS)
    for row in listed.iter_rows(named=True):
        shown = None if content is None else content.get(row["sample_id"])
        cells = {**row, "content": _cell(shown, path, row), "verified_label": ""}
        cells["confidence"] = estimate(row)  # the order is what `rank` says
        if cells["confidence"] is not None:
            cells["confidence"] = f"{min(cells['confidence'], 0.9999):.4f}"  # an estimate is never certain
        writer.writerow([guard(cells.get(column)) for column in REVIEW_COLUMNS])
    write_bytes(path, b"\xef\xbb\xbf" + buffer.getvalue().encode())
    return path


def estimate(row: Mapping[str, Any]) -> float | None:
    """Return the estimated probability that the label of a listed sample is wrong, None where there is only an order.

    Examples
    --------
    >>> estimate({"confidence": 0.9, "confidence_from": "flag"})
    0.9
    >>> estimate({"confidence": 0.9, "confidence_from": "rank"})
    """
    confidence: float | None = row["confidence"]
    return None if row.get("confidence_from") == "rank" else confidence


def excerpt(shown: Any, length: int = 120) -> str | None:
    r"""Return one line that lets a person recognise a sample: its text, its file or its values; None without any.

    Examples
    --------
    >>> excerpt("two\nlines"), excerpt({"age": 39, "work": "state", "f0": -4.245239226800175}), excerpt(None)
    ('two lines', 'age 39, work state, f0 -4.24524', None)
    """
    if isinstance(shown, Image.Image):
        return str(getattr(shown, "filename", "")) or None
    if isinstance(shown, Mapping):
        shown = ", ".join(f"{name} {short(value)}" for name, value in shown.items())
    if shown is None:
        return None
    text = " ".join(str(shown).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def _cell(shown: Any, path: Path, row: Mapping[str, Any]) -> str:
    if shown is None:
        return ""
    if isinstance(shown, Image.Image):
        name = getattr(shown, "filename", "")
        return str(name) if name else _picture(shown, path, row)
    text = json.dumps(shown, ensure_ascii=False, default=str) if isinstance(shown, Mapping) else str(shown)
    return text if len(text) <= _TEXT_IN_CELL else text[:_TEXT_IN_CELL] + " […]"


def _picture(image: Image.Image, path: Path, row: Mapping[str, Any]) -> str:
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "_", row["sample_id"])[:60].strip(".") or "sample"
    target = path.with_name(f"{path.stem}-images") / f"{row['rank']:05d}-{readable}.png"
    with replacing(target) as temporary:
        image.save(temporary, format="PNG")
    return f"{target.parent.name}/{target.name}"


def guard(value: Any) -> str:
    """Return the cell text of `value`, with an apostrophe before what a spreadsheet would run as a formula.

    A value that already begins with an apostrophe gets one more, so that `unguard` is exact.

    Examples
    --------
    >>> guard("=SUM(A1)"), guard("-3"), guard("'x"), guard(None), guard("plain")
    ("'=SUM(A1)", "'-3", "''x", '', 'plain')
    """
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "'", "|", "%")) else text


def unguard(cell: str) -> str:
    """Return what `guard` was given; a cell without the apostrophe is returned as it is."""
    return cell[1:] if cell.startswith("'") else cell


def import_review(path: Path, *, sample_ids: Collection[str], labels: Collection[str]) -> pl.DataFrame:
    """Read the verified labels of a reviewed CSV.

    Rows with an empty `verified_label` were not reviewed and are left out. Commas, semicolons and tabs are
    accepted as separators, because spreadsheets change them.

    Parameters
    ----------
    path : Path
        The CSV written by `export_review`, filled in.
    sample_ids : collection of str
        The ids of the dataset.
    labels : collection of str
        The labels that may be verified.

    Returns
    -------
    DataFrame
        Columns sample_id, verified_label (both str), sorted by sample_id, one row per reviewed sample.

    Raises
    ------
    BadInput
        Where the file is no such CSV, or a line names an unknown id, an unknown label, or contradicts
        another line; the message holds the line's number.
    """
    known_ids, known_labels = frozenset(sample_ids), tuple(dict.fromkeys(labels))
    verified: dict[str, tuple[str, int]] = {}
    for line, raw_id, raw_label in _reviewed_rows(path):
        sample_id = _resolve(raw_id, known_ids)
        if sample_id is None:
            raise BadInput(
                f"{path}, line {line}: no sample {raw_id!r} in this dataset; leave the ids as exported"
            )
        label = _resolve(raw_label, known_labels)
        if label is None:
            hint = nearest(raw_label.strip(), known_labels)
            shown = ", ".join(map(repr, known_labels[:12])) + (" …" if len(known_labels) > 12 else "")
            raise BadInput(f"{path}, line {line}: {raw_label!r} is not a label{hint}; use one of {shown}")
        earlier = verified.setdefault(sample_id, (label, line))
        if earlier[0] != label:
            raise BadInput(
                f"{path}, line {line}: sample {sample_id!r} is {label!r} here and {earlier[0]!r} in line "
                f"{earlier[1]}; keep one of them"
            )
    rows = sorted((sample_id, label) for sample_id, (label, _) in verified.items())
    return pl.DataFrame(rows, schema={"sample_id": pl.String, "verified_label": pl.String}, orient="row")


def _resolve(cell: str, known: Collection[str]) -> str | None:
    """Return the known name that a cell means; the guarded reading first, since that is what we write."""
    readings = (unguard(cell), cell, unguard(cell).strip(), cell.strip())
    return next((reading for reading in readings if reading in known), None)


def _reviewed_rows(path: Path) -> list[tuple[int, str, str]]:
    try:
        data = path.read_bytes()
        if not data.strip():
            raise BadInput(f"{path} is empty; fill in the file of `tracesift review export`")
        if b"\0" in data and data[:2] not in UTF16:
            raise BadInput(
                f"{path} is no text; it must be a CSV: the file of `tracesift review export`, filled in and saved as "
                "'CSV UTF-8'"
            )
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; write one with `tracesift review export`") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}, line {line}: not UTF-8; save the sheet as 'CSV UTF-8'") from None
    header = text.split("\n", 1)[0]
    delimiter = max((",", ";", "\t"), key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = next(reader, [])
    missing = [name for name in ("sample_id", "verified_label") if name not in names]
    if missing:
        raise BadInput(
            f"{path}, line 1: column {missing[0]!r} is missing; fill in the file of `review export`"
        )
    id_at, label_at = names.index("sample_id"), names.index("verified_label")
    rows, line = [], reader.line_num + 1
    try:
        for row in reader:
            if len(row) > max(id_at, label_at) and row[label_at].strip():
                rows.append((line, row[id_at], row[label_at]))
            line = reader.line_num + 1
    except csv.Error as error:
        raise BadInput(f"{path}, line {reader.line_num}: not readable as CSV ({error})") from None
    return rows
