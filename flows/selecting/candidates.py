"""What a selector chooses from: a row per training sample with its scores, flags and what a person said of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import polars as pl

from tracesift.catalog.conditions import checked_condition
from tracesift.catalog.schema import SIGNALS, BadInput, nearest
from tracesift.flows.work import Work
from tracesift.scorers import contract as scorers
from tracesift.selectors.contract import columns_needed

CERTAIN = 9.0
"""`flag_doubt` of a sample whose label a person found wrong: more than all flags together can say."""

TRAINED = ("keep", "relabel", "retain", "neighbor")
"""Roles of the samples that a model trained on a subset sees."""


def training_frame(
    work: Work, where: str | None = None, *, forgotten: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Return a row per training sample: id, label, content hash, scores, flags, suggestion, confidence and doubt.

    What was asked to be deleted is no training sample any more and has no row; `put` says so of each.

    Parameters
    ----------
    where
        An SQL condition over `sample_scores` and `sample_flags`; `eligible` is false for samples that it leaves out.
    forgotten
        What counts as deleted, as `Work.forgotten` gives it; by default all of that.
    """
    gone = (work.forgotten if forgotten is None else forgotten)["sample_id"].unique()
    frame = work.catalog.query(
        "SELECT * FROM sample_scores LEFT JOIN (SELECT * EXCLUDE (split, label) FROM sample_flags) USING (sample_id) "
        "WHERE split = 'train' ORDER BY sample_id"
    ).filter(~pl.col("sample_id").is_in(gone.implode()))
    for flag in ("label_noise", "unlearnable"):
        if flag not in frame.columns:
            frame = frame.with_columns(pl.lit(None, dtype=pl.Boolean).alias(flag))
    details = work.catalog.query(
        "SELECT sample_id, suggestion, confidence FROM flags WHERE flag = 'label_noise' QUALIFY "
        "seq = max(seq) OVER (PARTITION BY sample_id)"
    )
    samples = work.dataset.samples
    extra = [name for name in ("content_hash", "group") if name in samples.columns]
    frame = frame.join(details, on="sample_id", how="left").join(
        samples.select("sample_id", *extra), on="sample_id", how="left"
    )
    frame = _with_doubt(work, frame)
    frame = _corrected(frame, work.catalog.query("SELECT sample_id, label AS verified_label FROM reviews"))
    if where is None:
        return frame.with_columns(eligible=pl.lit(value=True))
    fits = pl.Series(fitting(work, where), dtype=pl.String)
    ids = fits.filter(~fits.is_in(gone.implode()))
    if not len(ids):
        raise BadInput(f"--where {where}: no training sample fits; try it with `tracesift sql` first")
    return frame.with_columns(eligible=pl.col("sample_id").is_in(ids.implode()))


def check_scored(work: Work, frame: pl.DataFrame, selector: str, params: Mapping[str, Any]) -> None:
    """Refuse a selector that reads scores which nobody has made yet, and say by which commands they are.

    Where nothing at all is scored, or a name is no score's, the selector itself knows better what to say.
    """
    known = scorers.names()
    missing = [
        name for name in columns_needed(selector, dict(params)) if name in known and name not in frame.columns
    ]
    if not missing or not set(known).intersection(frame.columns):
        return
    from tracesift.flows.jobs import why_not_made  # torch, which most selectors do without

    signals = [one for name in missing for one in scorers.find(name).inputs if SIGNALS[one].job]
    said = f"{selector} reads {' and '.join(missing)}, not scored yet"
    if why := next((why for one in signals if (why := why_not_made(work, one))), None):
        raise BadInput(f"{said}, and nothing makes it for this recording ({why}); take another selector")
    made_by = [SIGNALS[one].source for one in signals]
    raise BadInput(
        f"{said}: "
        f"{''.join(f'{how} where you have not, then ' for how in dict.fromkeys(made_by))}"
        f"{'' if made_by else 'run '}`tracesift score {' '.join(missing)}`"
    )


def fitting(work: Work, where: str, *, outside_train: bool = False) -> list[str]:
    """Return the training samples, deleted or not, that fit an SQL condition over what the catalog says of them.

    With `outside_train` those of the other splits as well, of which every score and flag is null. Columns are those of
    `sample_scores` and `sample_flags`, and of `samples` `label_true`, `content_hash`, `group_key` and `attributes`
    (JSON: the source's remaining columns).

    Raises
    ------
    BadInput
        It is not one condition, reads a file or no column, is neither true nor false, means something else each time,
        or DuckDB cannot run it.
    """
    condition = checked_condition(where)
    rows = (
        "(SELECT * FROM sample_scores LEFT JOIN (SELECT * EXCLUDE (split, label) FROM sample_flags) USING (sample_id) "
        "LEFT JOIN (SELECT sample_id, label_true, content_hash, group_key, attributes FROM samples WHERE dataset_id = "
        "(SELECT arg_max(dataset_id, seq) FROM datasets)) USING (sample_id))"
    )
    meant = "TRUE" if outside_train else "split = 'train'"
    try:
        kind = work.catalog.query(f"SELECT (\n{condition}\n) AS fits FROM {rows} LIMIT 0").schema["fits"]
        if kind != pl.Boolean:
            raise BadInput(f"it is no condition, but a value ({kind}); compare it with something")
        if _is_constant(work, condition):
            raise BadInput("it reads no column of the samples, so all fit or none; name a column")
        found = work.catalog.query(
            f"SELECT sample_id FROM {rows} WHERE {meant} AND (\n{condition}\n) ORDER BY sample_id"
        )
    except BadInput as error:
        raise BadInput(f"--where {where}: {_told(work, error)}") from error
    return found["sample_id"].to_list()


def _is_constant(work: Work, condition: str) -> bool:
    """Tell whether a condition can be read without any sample: then it says nothing of one."""
    try:
        work.catalog.query(f"SELECT (\n{condition}\n) LIMIT 0")
    except BadInput:
        return False
    return True


def _told(work: Work, error: BadInput) -> str:
    """Return why a condition cannot be run; where it names a column of the source, how that is written instead."""
    unknown = re.search(r'Referenced column "([^"]*)" not found', str(error))
    name = unknown[1] if unknown else None
    if name == (work.dataset.options or {}).get("group"):
        return f"'{name}' is the group of the samples; write group_key" if name else str(error)
    if name in attributes(work):
        return f"'{name}' is an attribute of the source; write attributes->>'{name}'"
    return f'{error}; `tracesift sql "DESCRIBE sample_scores"` lists the scores' if name else str(error)


def attributes(work: Work) -> list[str]:
    """Return the columns of the source that are no input, as the catalog keeps them; the group's by its own name."""
    found = work.catalog.query(
        "SELECT json_keys(attributes) AS names FROM samples WHERE dataset_id = ? AND attributes IS NOT NULL LIMIT 1",
        (work.dataset.dataset_id,),
    )
    names = [] if found.is_empty() else found["names"][0].to_list()
    group = (work.dataset.options or {}).get("group")
    return [*names, *([group] if group and group not in names else [])]


def beyond_threshold() -> pl.Expr:
    """Return how far a score lies beyond its threshold, in parts of it: how sure a flag is that says nothing else."""
    return ((pl.col("score") - pl.col("threshold")) / pl.col("threshold").abs()).fill_nan(None)


def _with_doubt(work: Work, frame: pl.DataFrame) -> pl.DataFrame:
    """Add `flag_doubt`, by which flagged samples come back first that least speaks against: 0 where no flag is.

    Per flag the share of its samples that it doubts no more, in (0, 1], summed over the flags: `label_noise` doubts by
    confidence and suspicion, as its worklist does, a flag without these by how far the score lies beyond the threshold.
    """
    flags = work.catalog.query(
        "SELECT sample_id, flag, score, threshold, coalesce(confidence, 0) + coalesce(suspicion, 0) AS stated, "
        "confidence IS NULL AND suspicion IS NULL AS unstated FROM flags "
        "QUALIFY seq = max(seq) OVER (PARTITION BY sample_id, flag) AND flagged"
    )
    by = pl.when("unstated").then(beyond_threshold().fill_null(0.0)).otherwise("stated")
    doubts = (
        flags.with_columns(by.alias("by"))
        .with_columns(share=pl.col("by").rank("max").over("flag") / pl.len().over("flag"))
        .group_by("sample_id")
        .agg(flag_doubt=pl.col("share").sum())
    )
    return frame.join(doubts, on="sample_id", how="left").with_columns(pl.col("flag_doubt").fill_null(0.0))


def _corrected(frame: pl.DataFrame, reviews: pl.DataFrame) -> pl.DataFrame:
    """Put a person's word over the flag's: a label found wrong is wrong with certainty, and its true one is known.

    `verified_label` is what that person said, null where nobody looked: the subsets' reasons give it.
    """
    frame = frame.join(reviews, on="sample_id", how="left")
    wrong = pl.col("verified_label").is_not_null() & (pl.col("verified_label") != pl.col("label"))
    return frame.with_columns(
        label_noise=pl.when(wrong).then(pl.lit(value=True)).otherwise("label_noise"),
        suggestion=pl.when(wrong).then("verified_label").otherwise("suggestion"),
        confidence=pl.when(wrong).then(1.0).otherwise("confidence"),
        flag_doubt=pl.when(wrong).then(CERTAIN).otherwise("flag_doubt"),
        preferred_label_posterior=pl.when(wrong).then(1.0).otherwise(_preferred(frame)),
    )


def _preferred(frame: pl.DataFrame) -> pl.Expr:
    """Return the probability that the suggestion is right, null where it was not scored."""
    known = "preferred_label_posterior" in frame.columns
    return pl.col("preferred_label_posterior") if known else pl.lit(None, pl.Float64)


def among(work: Work, frame: pl.DataFrame, subset: str) -> tuple[pl.DataFrame, str]:
    """Narrow the candidates to the samples that a subset trains on, with its labels and weights.

    A sample that it relabelled is a candidate under its new label; its scores were measured under the old one and
    are null.

    Parameters
    ----------
    frame
        What `training_frame` returned.
    subset
        Name of a subset; its newest version counts.

    Returns
    -------
    frame, source : polars.DataFrame, str
        The rows, with `eligible` narrowed, `label` corrected, and `new_label` and `weight` as the subset has them;
        and ``NAME@SUBSET_ID``, for the manifest.
    """
    members, made_of = members_of(work, subset, "make one with `tracesift select denoise`")
    members = members.filter(pl.col("role").is_in(TRAINED)).select("sample_id", "weight", "new_label")
    frame = frame.join(members, on="sample_id", how="left").with_columns(
        eligible=pl.col("eligible") & pl.col("weight").is_not_null()
    )
    kept = ("sample_id", "split", "label", "eligible", "weight", "new_label", "content_hash", "group")
    measured = [name for name, kind in frame.schema.items() if kind.is_numeric() and name not in kept]
    relabelled = pl.col("new_label").is_not_null()
    frame = frame.with_columns(
        pl.when(~relabelled).then(pl.col(name)).otherwise(None).alias(name) for name in measured
    ).with_columns(label=pl.coalesce("new_label", "label"))
    return frame, made_of


def members_of(work: Work, subset: str, otherwise: str) -> tuple[pl.DataFrame, str]:
    """Return `sample_id, role, weight, new_label, reason` of a subset's newest version, and ``NAME@SUBSET_ID``.

    Parameters
    ----------
    otherwise
        What to do where there is no subset at all, for the message.

    Raises
    ------
    BadInput
        No subset of this name.
    """
    known = work.catalog.query(
        "SELECT name, subset_id FROM subsets QUALIFY version = max(version) OVER (PARTITION BY name)"
    )
    ids = dict(known.iter_rows())
    if subset not in ids:
        raise BadInput(
            f"--from {subset}: no such subset{nearest(subset, sorted(ids))}; "
            + (f"there are {', '.join(sorted(ids))}" if ids else otherwise)
        )
    members = work.catalog.query(
        "SELECT sample_id, role, weight, new_label, reason FROM subset_members WHERE subset_id = ?",
        (ids[subset],),
    )
    return members, f"{subset}@{ids[subset]}"


def is_flagged() -> pl.Expr:
    return pl.any_horizontal(pl.col(flag).fill_null(value=False) for flag in ("label_noise", "unlearnable"))
