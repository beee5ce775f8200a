"""A person's verdict on the suspects: the worklist goes out as CSV, verified labels come back and are kept.

What a detector said of a sample is noted beside the verdict when it comes in, because afterwards the sample is
verified and no longer flagged: so the detectors can be measured at any later time, over all reviews so far.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from tracesift.catalog.files import canonical_json
from tracesift.catalog.schema import BadInput
from tracesift.flows.progress import say
from tracesift.flows.publish import LEAST_CONFLICTS, newest_flags, suspects
from tracesift.flows.reporting.tables import status_counts
from tracesift.flows.reporting.truth import reviewed_truth
from tracesift.flows.reporting.worklist import export_review, import_review
from tracesift.flows.work import Work
from tracesift.pipelines.foreign.bare import KIND
from tracesift.selectors.flags.label_noise import with_verified


def export(work: Work, out: Path | None, count: int | None) -> dict[str, Any]:
    """Write the worklist as CSV, the most suspicious first; return its path, how many it lists and how many there are.

    Parameters
    ----------
    out
        The file to write; ``review.csv`` in the workspace where None.
    count
        At most so many samples; where it is more than the worklist of the report has, more are listed.
    """
    if count is not None and count < 1:
        raise BadInput(f"--count {count}: at least 1")
    path = out or work.path / "review.csv"
    work.catalog.check_output(path)
    scores, flags = _scores(work), newest_flags(work)
    if flags.is_empty():
        raise BadInput(f"{work.path} holds no flags; run `tracesift score --workspace {work.path}` first")
    listed, worth_a_look = suspects(work, scores, flags, max(count or 0, LEAST_CONFLICTS))
    shown = listed if count is None else listed.head(count)
    content = None
    if work.dataset.kind == KIND:
        say(f"{work.dataset.name} came without content, so the column stays empty; the ids must do")
    else:
        rows = work.dataset.samples["sample_id"].search_sorted(shown["sample_id"]).to_list()
        content = dict(zip(shown["sample_id"], work.dataset.content(rows), strict=True))
    export_review(shown, content, path)
    return {
        "file": str(path),
        "listed": shown.height,
        "suspects": status_counts(listed)[0] + worth_a_look,
        "worth_a_look": worth_a_look,
    }


def take(work: Work, file: Path) -> dict[str, Any]:
    """Take verified labels from a filled-in worklist: keep them, unflag their samples, measure the detectors.

    Returns
    -------
    dict
        ``verified`` (rows of this file), ``changed`` (of them with another label than given), ``reviews`` (all so far)
        and ``measured``: what `reviewed_truth` says over all reviewed training samples, or None.
    """
    samples = work.dataset.samples
    read = import_review(file, sample_ids=samples["sample_id"].to_list(), labels=work.dataset.classes)
    if read.is_empty():
        raise BadInput(
            f"{file}: no row has a verified_label; fill in the column for the samples you looked at"
        )
    verified = read.join(samples.select("sample_id", "label"), on="sample_id", how="left")
    flags = newest_flags(work)
    notes = _notes(work, verified, flags)
    work.catalog.put_reviews(notes.select("sample_id", label="verified_label", note="note"))
    _unflag(work, flags, verified)
    return {
        "file": str(file),
        "verified": verified.height,
        "changed": int((verified["verified_label"] != verified["label"]).sum()),
        "reviews": work.catalog.query("SELECT sample_id FROM reviews").height,
        "measured": reviewed_truth(work, _scores(work)),
    }


def _scores(work: Work) -> pl.DataFrame:
    return work.catalog.query("SELECT * FROM sample_scores WHERE split = 'train' ORDER BY sample_id")


def _notes(work: Work, verified: pl.DataFrame, flags: pl.DataFrame) -> pl.DataFrame:
    """Return the verified rows with what each flag said before the verdict; an earlier note stays as it was."""
    earlier = dict(work.catalog.query("SELECT sample_id, note FROM reviews").iter_rows())
    answers: dict[str, dict[str, Any]] = {}
    wanted = flags.join(verified, on="sample_id", how="semi")
    for flag, sample_id, flagged in wanted.select("flag", "sample_id", "flagged").iter_rows():
        answers.setdefault(sample_id, {})[flag] = flagged
    notes = [
        earlier.get(row["sample_id"])
        or canonical_json({"given": row["label"], **answers.get(row["sample_id"], {})}).decode()
        for row in verified.to_dicts()
    ]
    return verified.with_columns(pl.Series("note", notes, dtype=pl.String))


def _unflag(work: Work, flags: pl.DataFrame, verified: pl.DataFrame) -> None:
    """Put a person's word over the newest label_noise flags; the rule does so itself from now on."""
    own = flags.filter(pl.col("flag") == "label_noise").drop("flag")
    if own.join(verified, on="sample_id", how="semi").is_empty():
        return
    newest = work.catalog.query(
        "SELECT run_id, dataset_id FROM flag_sets WHERE flag = 'label_noise' ORDER BY seq DESC LIMIT 1"
    ).row(0)
    work.catalog.put_flags(newest[0], newest[1], "label_noise", with_verified(own, verified))
