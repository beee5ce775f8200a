"""Forget sets to evaluate unlearning on: chosen among all that the recorded model was trained on, with random controls.

These are no deletion requests. Nothing is closed over copies, nothing is remembered as forgotten, and flagged samples
are candidates like any other: the model was trained on them too, so they are forgotten or retained, never dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from tracesift.catalog.forgotten import KNOWN
from tracesift.catalog.manifest import SelectorBlock
from tracesift.catalog.schema import BadInput, nearest
from tracesift.flows.forgetting.requests import entities, some
from tracesift.flows.progress import stage
from tracesift.flows.selecting.candidates import attributes, check_scored, members_of, training_frame
from tracesift.flows.selecting.selector_arrays import arrays_for
from tracesift.flows.selecting.written import controls, put
from tracesift.flows.work import Work
from tracesift.selectors.contract import columns_needed, find, select

WITHIN = "mu_coreset"
"""The chooser that works inside the forget set of another subset."""


def make_forget_set(
    work: Work,
    selector: str,
    *,
    keep: float | None,
    count: int | None,
    seed: int,
    name: str,
    where: str | None,
    params: Mapping[str, Any],
    embedding: str | None,
    source: str | None,
) -> list[dict[str, Any]]:
    """Do what `tracesift select` was asked for with a chooser of forget sets; refuse what it cannot mean."""
    if selector == WITHIN:
        if source is None:
            raise BadInput(f"{WITHIN} thins out a forget set: say whose, --from SUBSET")
        if where is not None or embedding is not None:
            raise BadInput(
                f"{WITHIN} takes the forget set of --from as it is; leave out --where and --embedding"
            )
        budget = count if keep is None else keep
        assert budget is not None  # the command has asked for it
        return forget_coreset(work, source=source, budget=budget, seed=seed, name=name, params=params)
    if source is not None:
        raise BadInput(
            f"--from {source}: {selector} chooses among all that the recorded model was trained on; leave it out"
        )
    if keep is not None:
        raise BadInput(f"--keep {keep}: {selector} chooses what to forget; say how many with --count")
    return chosen_forget_set(
        work, selector, count=count, seed=seed, name=name, where=where, params=params, embedding=embedding
    )


def chosen_forget_set(
    work: Work,
    selector: str,
    *,
    count: int | None,
    seed: int,
    name: str,
    where: str | None = None,
    params: Mapping[str, Any] | None = None,
    embedding: str | None = None,
) -> list[dict[str, Any]]:
    """Choose a forget set, retain all others, and make random forget sets of the same size as controls.

    Parameters
    ----------
    count
        Samples to forget; None for a chooser that decides by itself.
    where
        Choose among samples that fit this condition; the others are retained.

    Raises
    ------
    BadInput
        More samples to forget than there are, or all of them.
    """
    stage(name)
    params = dict(params or {})
    facts = find(selector)
    frame = _with_column(work, training_frame(work, where), params.get("column"))
    check_scored(work, frame, selector, params)
    pool = frame.filter("eligible").sort("sample_id")
    if count is not None and count > len(pool):
        raise BadInput(f"--count {count}: there are {len(pool)} samples to choose from; ask for fewer")
    arrays, sources = arrays_for(work, pool, facts, params, embedding)
    members = select(selector, pool, budget=count, seed=seed, arrays=arrays, **params)
    outside = frame.filter(~pl.col("eligible")).select(
        "sample_id", role=pl.lit("retain"), weight=pl.lit(1.0), reason=pl.lit(f"outside WHERE {where}")
    )
    members = pl.concat([members, outside])
    forgotten = int((members["role"] == "forget").sum())
    if forgotten == len(frame):
        raise BadInput(
            f"{selector} would forget all {forgotten} training samples; retain some to unlearn with"
        )
    block = _block(selector, params, seed=seed, budget=count, where=where, sources=sources)
    made = [put(work, name, members, block, columns_needed(selector, params))]
    return made + controls(work, name, kept=forgotten, seed=seed, where=where, roles=("forget", "retain"))


def forget_coreset(
    work: Work,
    *,
    source: str,
    budget: float | int,
    seed: int,
    name: str,
    params: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Thin out the forget set of a subset with `mu_coreset`; the controls keep as many of it at random.

    Members with other roles stay as they are.

    Parameters
    ----------
    source
        Name of a subset with a forget set; its newest version counts.
    budget
        How many of the forget set are kept: a count, or a share of it.
    """
    stage(name)
    params = dict(params or {})
    members, made_of = members_of(work, source, "`tracesift forget` makes one")
    forget = members.filter(pl.col("role") == "forget")
    if forget.is_empty():
        raise BadInput(f"--from {source}: it forgets nothing; name a subset with a forget set")
    # Also what is to be deleted: the model knows it.
    everybody = training_frame(work, forgotten=pl.DataFrame(schema=KNOWN))
    pool = everybody.join(forget.select("sample_id", had="weight"), on="sample_id").sort("sample_id")
    if len(pool) < len(forget):
        raise BadInput(
            f"--from {source}: train no longer holds {len(forget) - len(pool)} of the {len(forget)} samples that it "
            "forgets; make it again"
        )
    rest = members.filter(pl.col("role") != "forget").select("sample_id", "role", "weight", "reason")
    made: list[dict[str, Any]] = []
    for control, called in (
        (None, name), ("random", f"{name}-random"), ("random_balanced", f"{name}-random-balanced"),
    ):  # fmt: skip
        if control is None:
            chosen = select(WITHIN, pool, budget=budget, seed=seed, **params)
        else:
            stage(called)
            chosen = select(control, pool.select("sample_id", "label"), budget=made[0]["kept"], seed=seed)
        chosen = chosen.join(pool.select("sample_id", "had"), on="sample_id").select(
            "sample_id",
            role=pl.col("role").replace({"keep": "forget"}),
            weight=pl.col("weight") * pl.col("had"),
            reason="reason",
        )
        block = _block(
            control or WITHIN,
            params if control is None else {},
            seed=seed,
            budget=budget,
            sources={"from": made_of},
        )
        scores = columns_needed(WITHIN, params) if control is None else ()
        one = put(work, called, pl.concat([chosen, rest]), block, scores, control_of=control and name)
        made.append({**one, "kept": int((chosen["role"] == "forget").sum())})
    return [{key: value for key, value in one.items() if key != "kept"} for one in made]


def _block(
    selector: str,
    params: Mapping[str, Any],
    *,
    seed: int,
    budget: float | int | None,
    where: str | None = None,
    sources: Mapping[str, Any],
) -> SelectorBlock:
    """Return what the manifest says of the choice: every setting that was in force, and what it read."""
    facts = find(selector)
    settings = {**facts.defaults, **params, **({"where": where} if where else {}), **sources}
    return SelectorBlock(name=selector, version=facts.version, params=settings, seed=seed, budget=budget)


def _with_column(work: Work, frame: pl.DataFrame, column: Any) -> pl.DataFrame:
    """Add a column of the source that the frame of scores lacks, or refuse what is no column of either."""
    if column is None or column in frame.columns:
        return frame
    samples, inputs, kept = work.dataset.samples, work.dataset.inputs, attributes(work)
    if column in samples.columns:
        values = samples.select("sample_id", column)
    elif isinstance(inputs, pl.DataFrame) and column in inputs.columns:
        values = samples.select("sample_id").with_columns(inputs[column])
    elif column in kept:  # of data that were handed over in Python the catalog alone knows
        values = entities(work, column).rename({"entity": column})
    else:
        features = inputs.columns if isinstance(inputs, pl.DataFrame) else []
        raise BadInput(
            f"there is no column '{column}'{nearest(str(column), [*kept, *features, *frame.columns])}; of the source "
            f"{some([*kept, *features]) or 'none'} can be named, and scores and flags"
        )
    return frame.join(values, on="sample_id", how="left")
