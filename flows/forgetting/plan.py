"""What is known of each sample that a request forgets, in files beside its manifest.

`forget.parquet`: how a sample came into the forget set, how hard it is to forget along every axis that was scored, and
the weight that loreun gives it. `batches.parquet`, where it is known whose each sample is: a plan of batches, module by
module, for modular unlearning. `overlap.json`: how much of what is forgotten stays in what is retained. They lie in the
folder of the manifest's version and, of the newest, beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from tracesift.catalog.files import write_json, write_parquet
from tracesift.catalog.forgotten import KNOWN, REQUESTED
from tracesift.catalog.manifest import MEMBERS_FILE
from tracesift.flows.progress import say
from tracesift.flows.selecting.candidates import training_frame
from tracesift.flows.work import Work
from tracesift.scorers.forgetting.loreun_weights import weights_of
from tracesift.selectors.decisions.forget_difficulty import AXES, difficulty, strata
from tracesift.selectors.decisions.melu import batch_plan

FORGET_FILE, BATCHES_FILE, OVERLAP_FILE = "forget.parquet", "batches.parquet", "overlap.json"

COPIED: dict[str, pl.DataType] = {
    **dict.fromkeys(("sample_id", "reason", "how", "pulled_by"), pl.String()), "similarity": pl.Float64()
}  # fmt: skip
"""Columns of what `copies_of` returns."""


def forget_facts(work: Work, members: pl.DataFrame) -> pl.DataFrame:
    """Return what is known of each sample to forget.

    Parameters
    ----------
    members
        What `forget_members` returned.

    Returns
    -------
    polars.DataFrame
        A row per sample in role forget, by `sample_id`: `how` (requested, exact, near, words, or copy where no file
        tells any more whose), `pulled_by` and `similarity` of a copy; `loreun_weight`, from the last recorded loss,
        with mean 1; and for each axis of `forget_difficulty.AXES` that was scored ``hard_by_<axis>``, its percentile
        among all training samples, and ``stratum_<axis>``, low, medium or high among those to forget (null where all
        are equal). What was not scored has no column.
    """
    asked = members.filter(pl.col("role") == "forget").sort("sample_id")
    facts = asked.select("sample_id", pl.col("how").fill_null(REQUESTED), "pulled_by", "similarity")
    scores = training_frame(work, forgotten=pl.DataFrame(schema=KNOWN))
    if "last_loss" in scores.columns:
        losses = facts.join(scores.select("sample_id", "last_loss"), on="sample_id", how="left")["last_loss"]
        known = losses.is_not_null() & losses.is_not_nan()
        weights = pl.Series("loreun_weight", [None] * len(losses), dtype=pl.Float64)
        if known.any():
            weights = weights.scatter(known.arg_true(), weights_of(losses.filter(known).to_numpy()))
        facts = facts.with_columns(weights)
    if not set(AXES) & set(scores.columns):
        return facts
    facts = facts.join(difficulty(scores), on="sample_id", how="left", maintain_order="left")
    return facts.with_columns(
        strata(facts["sample_id"].to_list(), facts[name]).alias(name.replace("hard_by_", "stratum_"))
        for name in facts.columns
        if name.startswith("hard_by_")
    )


def copies_of(folder: Path, version: int | None) -> pl.DataFrame:
    """Return what a version of a subset says of the copies that it forgets, in the columns of `COPIED`.

    There are none where its files are gone, or there is no version.
    """
    own = folder / "versions" / f"{version or 0:04d}"
    if not all((own / name).is_file() for name in (FORGET_FILE, MEMBERS_FILE)):
        return pl.DataFrame(schema=COPIED)
    reasons = pl.read_parquet(own / MEMBERS_FILE, columns=["sample_id", "reason"])
    facts = pl.read_parquet(own / FORGET_FILE).filter(pl.col("how") != REQUESTED)
    return facts.join(reasons, on="sample_id").select(*COPIED)


def modules(work: Work, members: pl.DataFrame, entity: pl.DataFrame, *, seed: int) -> pl.DataFrame | None:
    """Return a plan of batches for what is forgotten, with the neighbours that its reasons name, or None.

    There is none where it is not known whose each forgotten sample is.

    Parameters
    ----------
    entity
        `sample_id` and `entity` of all training samples: whose each one is.
    """
    kept = members.filter(pl.col("role").is_in(("forget", "retain", "neighbor")))
    forget = kept.filter(pl.col("role") == "forget")["sample_id"].to_list()
    frame = kept.select("sample_id").join(entity, on="sample_id", how="left")
    nameless = frame.filter(pl.col("sample_id").is_in(forget) & pl.col("entity").is_null())
    if nameless.height:
        say(f"no plan of batches: of {nameless.height} samples to forget it is not known whose they are")
        return None
    near = kept.filter(pl.col("role") == "neighbor").select("sample_id", "reason")
    direct, indirect = (
        near.select(
            pl.col("reason").str.extract(rf"^{kind} '(.*)': cosine").alias("sample_id"),
            neighbor=pl.col("sample_id"),
        ).drop_nulls()
        for kind in ("direct neighbour of forgotten", "indirect neighbour, near direct neighbour")
    )
    through = direct.rename({"sample_id": "forgotten", "neighbor": "sample_id"})
    indirect = indirect.join(through, on="sample_id").select(sample_id="forgotten", neighbor="neighbor")
    general = min(4, kept.filter(pl.col("role") == "retain").height)
    return batch_plan(frame, forget, direct, indirect, general=general, seed=seed)


def tell_overlap(overlap: Mapping[str, Any]) -> None:
    """Say how near the retained samples come to the forgotten, where that is known and they come near."""
    near = []
    for name, loosest, measure in (
        ("share_above", min, "at cosine {} or more"),
        ("share_within", max, "within {} times the distance of a near copy"),
        ("share_of_words_above", min, "at Jaccard similarity of wording {} or more"),
    ):
        shares = overlap[name] or {}
        bound = loosest(shares, key=float, default=None)
        if bound is not None and shares[bound]:
            near.append(f"{shares[bound]:.0%} have one {measure.format(bound)}")
    if near:
        say(
            f"of the forgotten, {' and '.join(near)} among the retained: a retrained model may still know these"
        )


def write_facts(
    manifest: Path, version: int, facts: pl.DataFrame, plan: pl.DataFrame | None, overlap: Mapping[str, Any]
) -> None:
    """Write the files into the version's folder and beside the manifest; a plan of an earlier version goes."""
    for folder in (manifest.parent / "versions" / f"{version:04d}", manifest.parent):
        write_parquet(facts, folder / FORGET_FILE)
        write_json(folder / OVERLAP_FILE, overlap)
        if plan is None:
            (folder / BATCHES_FILE).unlink(missing_ok=True)
        else:
            write_parquet(plan, folder / BATCHES_FILE)
