"""A subset is written: a manifest, a catalog entry, and two controls of the same size."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from tracesift.catalog.manifest import DatasetBlock, ScoreBlock, SelectorBlock, write_manifest
from tracesift.catalog.schema import BadInput
from tracesift.flows.progress import say, stage
from tracesift.flows.selecting.candidates import among, training_frame
from tracesift.flows.work import Work
from tracesift.selectors.contract import find, names, select
from tracesift.selectors.flags.contract import find as flag_facts
from tracesift.selectors.flags.label_noise import verified_as

CURATED = ("pruned", "denoised")
"""Subsets of `curate` that are worth a retraining; unlearning is what a forget-ready one is for."""
DEPOISONED = "depoisoned"
"""Another, where samples carry a label-specific small signal."""
FORGET_READY = "forget-ready"
"""The one that forgets."""

OUTSIDE, FORGOTTEN, ELSEWHERE, IS_FLAGGED = "outside WHERE ", "forgotten by request ", "not in ", "flagged"
"""How the reasons of samples begin that were no candidates; the last is the whole of one."""

NOT_FLAGGED = "not flagged, and more are kept than that"
"""Reason of samples that stay before a selector chooses among the flagged."""


def check_replaces(work: Work, name: str, *, forgets: bool) -> None:
    """Refuse a subset that would take the name of one of another kind: to train on, or to forget.

    Raises
    ------
    BadInput
        `curate` makes a subset of the other kind by this name, or the newest of this name is one.
    """
    kinds = {**dict.fromkeys((*CURATED, DEPOISONED), False), FORGET_READY: True}
    if name not in kinds:
        newest = {row["name"]: row["selector"] for row in recorded_subsets(work)}
        if newest.get(name) not in names():
            return
        facts = find(newest[name])
        kinds[name] = facts.name == "forget_ready" or facts.chooses == "forget"
    if kinds[name] != forgets:
        what = "forgets" if kinds[name] else "is there to train on"
        raise BadInput(f"--name {name}: a subset of this name {what}, and would be replaced; choose another")


def put(
    work: Work,
    name: str,
    members: pl.DataFrame,
    selector: SelectorBlock,
    scores: Collection[str],
    *,
    control_of: str | None = None,
) -> dict[str, Any]:
    """Write one subset as manifest and catalog entry; return its record for people.

    Whatever was decided, a sample that was asked to be deleted has the role `drop` here, or `forget`. Of `scores`, the
    names that are no scores, or of which no value is known, are left out of the manifest.
    """
    known = work.catalog.newest_dataset()
    assert known is not None
    members = _without_forgotten(work, members)
    labels = work.dataset.samples.select("sample_id", "label")
    whole = members.join(labels, on="sample_id", how="left")
    block = DatasetBlock(
        name=known["name"], source=known["source"], fingerprint=known["fingerprint"],
        num_samples=known["num_samples"], id_rule=known["id_rule"], options=known["options"] or {},
        transform=known["transform"], purged=int(known["details"].get("purged", 0)),
    )  # fmt: skip
    manifest = write_manifest(
        work.path / "manifests", name, whole, dataset=block, selector=selector,
        scores=_score_blocks(work, scores), control_of=control_of,
    )  # fmt: skip
    work.catalog.put_subset(manifest, whole)
    return {
        "subset_id": manifest.subset_id, "name": name, "version": manifest.version, "selector": selector.name,
        "control_of": control_of, "total": manifest.counts.total, **{
            role: manifest.counts.by_role[role] for role in manifest.counts.by_role
        }, "manifest": str(work.path / "manifests" / name / "manifest.json"),
    }  # fmt: skip


def controls(
    work: Work,
    name: str,
    *,
    kept: int,
    seed: int,
    where: str | None = None,
    source: str | None = None,
    roles: tuple[str, str] = ("keep", "drop"),
) -> list[dict[str, Any]]:
    """Make `<name>-random` and `<name>-random-balanced`: as many samples, chosen without looking at any score.

    Where a condition or another subset bounds the selection, it bounds its controls too: they show what choosing
    among these samples is worth, and not what the condition is.
    """
    frame, sources = training_frame(work, where), {}
    if source is not None:
        frame, sources["from"] = among(work, frame, source)
    made = []
    for control in ("random", "random_balanced"):
        called = f"{name}-{control.replace('_', '-')}"
        stage(called)
        pool = frame.filter("eligible")
        chosen = select(control, pool.select("sample_id", "label"), budget=kept, seed=seed)
        outside = left_out(frame.filter(~pl.col("eligible")), where, source)
        members = pl.concat([as_in_source(chosen, pool), outside], how="diagonal")
        renamed = pl.col("role").replace({"keep": roles[0], "drop": roles[1]})
        members = members.with_columns(
            role=renamed,
            weight=pl.when(renamed == "drop")
            .then(0.0)
            .when(pl.col("role") == "drop")
            .then(1.0)
            .otherwise("weight"),
        )
        block = block_of(control, {}, seed=seed, budget=kept, where=where, sources=sources)
        made.append(put(work, called, members, block, (), control_of=name))
    return made


def as_in_source(chosen: pl.DataFrame, pool: pl.DataFrame) -> pl.DataFrame:
    """Give chosen members the labels and weights that they have in the subset that was chosen from, where there is one.

    A corrected label makes the role `relabel`; weights multiply.
    """
    if "new_label" not in pool.columns:
        return chosen
    before = pool.select("sample_id", "new_label", had="weight")
    relabelled = (pl.col("role") == "keep") & pl.col("new_label").is_not_null()
    return chosen.join(before, on="sample_id", how="left", maintain_order="left").select(
        "sample_id",
        role=pl.when(relabelled).then(pl.lit("relabel")).otherwise("role"),
        weight=pl.col("weight") * pl.col("had"),
        new_label=pl.when(relabelled).then("new_label"),
        reason="reason",
    )


def left_out(frame: pl.DataFrame, where: str | None, source: str | None = None) -> pl.DataFrame:
    """Return samples that were no candidates as members that are dropped, with the reason."""
    outside = pl.lit(f"{OUTSIDE}{where}")
    if source is not None:
        outside = pl.when(pl.col("weight").is_null()).then(pl.lit(f"{ELSEWHERE}{source}")).otherwise(outside)
    seen = pl.col("verified_label") != pl.col("label")
    flagged = pl.when(seen).then(verified_as(pl.col("verified_label"))).otherwise(pl.lit(IS_FLAGGED))
    return frame.select(
        "sample_id",
        role=pl.lit("drop"),
        reason=pl.when("eligible").then(flagged).otherwise(outside),
        weight=pl.lit(0.0),
    )


def was_candidate() -> pl.Expr:
    """Whether the selector chose about a member, by its `reason`: `left_out` and the requests have their own words."""
    reason = pl.col("reason").fill_null("")
    begins = pl.any_horizontal(reason.str.starts_with(start) for start in (OUTSIDE, FORGOTTEN, ELSEWHERE))
    # A selector that decides about it goes on: "a person verified the label as 'x'; dropped".
    seen = reason.str.contains(r"(?s)^a person verified the label as '.*'$")
    return ~(begins | seen | (reason == IS_FLAGGED))


def block_of(
    selector: str,
    params: Mapping[str, Any],
    *,
    seed: int,
    budget: float | int | None = None,
    where: str | None = None,
    sources: Mapping[str, Any] | None = None,
) -> SelectorBlock:
    """Return what the manifest says of the selector: every setting that was in force, and whose arrays it read."""
    facts = find(selector)
    settings = {**facts.defaults, **params, **({"where": where} if where else {}), **(sources or {})}
    return SelectorBlock(name=selector, version=facts.version, params=settings, seed=seed, budget=budget)


def _without_forgotten(work: Work, members: pl.DataFrame) -> pl.DataFrame:
    """Drop from any subset what was asked to be deleted, with the earliest request as the reason."""
    gone = work.forgotten.unique("sample_id", keep="first", maintain_order=True)
    if gone.is_empty():
        return members
    trained = work.dataset.samples.filter(pl.col("split") == "train")["sample_id"]
    to_forget = members.filter(pl.col("role") == "forget")["sample_id"]
    dropped = gone.filter(
        pl.col("sample_id").is_in(trained.implode()) & ~pl.col("sample_id").is_in(to_forget.implode())
    ).select(
        "sample_id", role=pl.lit("drop"), weight=pl.lit(0.0),
        reason=pl.format(f"{FORGOTTEN}{{}}", pl.col("request_id")),
    )  # fmt: skip
    stays = ~pl.col("sample_id").is_in(gone["sample_id"].implode()) | (pl.col("role") == "forget")
    return pl.concat([members.filter(stays), dropped], how="diagonal")


def read_by(*flags: str) -> list[str]:
    """Return what these flags read; the scores among it are what a subset by these flags rests on."""
    return [column for name in flags for column in flag_facts(name).columns]


def _score_blocks(work: Work, scores: Collection[str]) -> list[ScoreBlock]:
    if not scores:
        return []
    rows = work.catalog.query(
        "SELECT scorer, scorer_version, run_id, direction, dataset_id FROM score_columns "
        "JOIN score_runs USING (run_key) WHERE column_name = scorer AND list_contains($names, scorer) "
        "QUALIFY seq = max(seq) OVER (PARTITION BY scorer)",
        {"names": list(scores)},
    )
    earlier = rows.filter(pl.col("dataset_id") != work.dataset.dataset_id)["scorer"].sort().to_list()
    if earlier:
        say(
            f"{', '.join(earlier[:3])}{' …' if len(earlier) > 3 else ''}: the newest scores are of an earlier state of "
            f"{work.dataset.name}; `tracesift record` and `tracesift score` look at this one"
        )
    return [
        ScoreBlock(
            scorer=row["scorer"],
            version=row["scorer_version"],
            run_id=row["run_id"],
            direction=row["direction"],
        )
        for row in rows.to_dicts()
    ]


def recorded_subsets(work: Work) -> list[dict[str, Any]]:
    """Return the newest version of every subset, controls after their subset."""
    rows = work.catalog.query(
        "SELECT * FROM subsets QUALIFY version = max(version) OVER (PARTITION BY name) "
        "ORDER BY coalesce(control_of, name), control_of IS NOT NULL, name"
    ).to_dicts()
    return [{**row, "params": json.loads(row["params"] or "{}")} for row in rows]
