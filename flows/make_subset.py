"""Scores to subsets: which samples `curate` and `select` keep, and with which labels and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.files import digest, frame_digest
from tracesift.catalog.manifest import verify_manifest
from tracesift.catalog.schema import BadInput
from tracesift.flows.forgetting.dividing import corrective
from tracesift.flows.options import AUTO, CurateJob
from tracesift.flows.progress import counted, say, stage, watched
from tracesift.flows.recordings import newest_runs
from tracesift.flows.reporting.stability import bootstrapped, combined, held_by, scores_of
from tracesift.flows.selecting import queries
from tracesift.flows.selecting.candidates import among, check_scored, is_flagged, training_frame
from tracesift.flows.selecting.emptied import emptied
from tracesift.flows.selecting.selector_arrays import arrays_for, contents
from tracesift.flows.selecting.situation import chosen
from tracesift.flows.selecting.written import (
    DEPOISONED,
    FORGOTTEN,
    IS_FLAGGED,
    NOT_FLAGGED,
    OUTSIDE,
    as_in_source,
    block_of,
    controls,
    left_out,
    put,
    read_by,
    recorded_subsets,
)
from tracesift.flows.work import Work
from tracesift.selectors.advice import Choice
from tracesift.selectors.budget import resolve_size
from tracesift.selectors.contract import columns_needed, find, select
from tracesift.selectors.decisions.denoise import left_standing

VERSION = 7
"""Raised when the same scores and flags would give other subsets."""


OF_CONTENT = ("semdedup",)
"""Selectors that compare content unless told otherwise: to a trained model all samples of a class are copies."""


def make_subsets(work: Work, job: CurateJob) -> dict[str, Any]:
    """Make the subsets of `curate` with their controls: pruned, denoised, forget-ready; done once per input.

    Where samples carry a label-specific small signal, also one without these.
    """
    seed = job.training.seed
    # Rows, scores, flags and reviews decide, and nothing else but what was asked for.
    frame = training_frame(work)
    frame = frame.select(sorted(frame.columns))
    choice = decided(work, job.choosing.selector, job.choosing.keep)
    versions = {name: find(name).version for name in (choice.selector, "denoise", "depoison", "forget_ready")}
    standing = _standing_request(work) if job.forget is None else "forget-ready"
    asked = [vars(job.choosing), asdict(choice), seed, standing, list(work.trainable.withheld_by)]
    key = digest([VERSION, work.dataset.fingerprint, frame.columns, frame_digest(frame), asked, versions])
    done = work.record("subsets", key)
    if done is not None and _still_there(work, done["subsets"]):
        return done
    if standing and job.forget is None:
        say(
            f"forget-ready answers deletion request {standing} and stays; `tracesift select forget_ready --name NAME` "
            "makes the corrective set"
        )
    params = {**choice.params, **unscored(work, choice, job.choosing.keep)}
    with watched("select"):
        made = [
            *pruned(
                work,
                choice.selector,
                budget=job.choosing.keep,
                seed=seed,
                params=params,
                embedding=choice.embedding,
                because=choice.because,
            ),
            *denoised(work, max_drop=job.choosing.max_drop, seed=seed),
            *(divided(work, "depoison", seed=seed, name=DEPOISONED) if carries_signal(work) else []),
            *([] if standing else corrective(work, seed=seed)),
        ]
        _keep_stability(work, job, choice.selector, params)
    work.content_vectors = None  # the report does without
    return work.finish("subsets", key, {"subsets": made})


def carries_signal(work: Work) -> bool:
    """Tell whether some training sample is flagged as unlearnable: then there is a subset without these."""
    return bool(training_frame(work)["unlearnable"].any())


def _standing_request(work: Work) -> str | None:
    """Return the request that the newest forget-ready subset answers, if any: it stays, whatever the data are now.

    The corrective set would take its place, and what is still to be unlearned would no longer stand at the top.
    """
    newest = {row["name"]: row["subset_id"] for row in recorded_subsets(work)}.get("forget-ready")
    answered = {row["subset_id"]: row["request_id"] for row in work.catalog.forget_requests()}
    return None if newest is None else answered.get(newest)


def decided(work: Work, selector: str, keep: float | int, embedding: str | None = None) -> Choice:
    """Return the selector that was asked for, or what `auto` takes, and say so.

    An embedding that is named stands for the features; where `auto` takes a selector that reads none, it is not read.
    """
    if selector != AUTO:
        return Choice(selector=selector, because="", embedding=embedding)
    choice = chosen(work, keep, embedding)
    by = f" by '{choice.embedding}'" if choice.embedding else ""
    unread = f" (it reads no embedding, '{embedding}' neither)" if embedding and not by else ""
    say(f"auto takes {choice.selector}{by}: {choice.because}{unread}")
    return choice


def _keep_stability(work: Work, job: CurateJob, name: str, params: Mapping[str, Any]) -> None:
    """Remember how much of `pruned` stands when the seeds are drawn again, where there are several.

    Nothing is said of a selector that reads arrays beside the scores, which would be the same in each draw.
    """
    runs, selector = newest_runs(work), find(name)
    columns = columns_needed(selector.name, dict(params))
    if len(runs) < 2 or selector.arrays or not columns:
        return
    each = [scores_of(work, run, columns) for run in runs]
    if any(set(columns) - set(one.columns) for one in each):
        return  # only the first seed is embedded and cross-fitted: what rests on that has no seeds to compare
    stage("stability")
    frame = training_frame(work).sort("sample_id")
    size = resolve_size(job.choosing.keep, len(frame))
    pool = frame.filter(~is_flagged())
    if size > len(pool):
        return  # all that are not flagged stay, as `pruned` has it, whatever their scores
    ids = pool.select("sample_id")
    each = [ids.join(one, on="sample_id", how="left", maintain_order="left") for one in each]

    def choose(scores: pl.DataFrame) -> np.ndarray:
        drawn = pool.drop(scores.columns).with_columns(scores)
        members = select(selector.name, drawn, budget=size, seed=job.training.seed, **params)
        return (members["role"] == "keep").to_numpy()

    alone = [one.select(pl.exclude("sample_id")) for one in each]
    found = {
        "selector": selector.name, "seeds": len(runs), **held_by([choose(one) for one in alone]),
        "bootstrap": bootstrapped(alone, choose(combined(alone)), choose, seed=job.training.seed),
    }  # fmt: skip
    work.catalog.put_diagnostic(work.dataset.dataset_id, runs[0], "subset_stability", {"pruned": found})


def _still_there(work: Work, made: list[dict[str, Any]]) -> bool:
    """Tell whether these subsets are the newest of their names, in the catalog and as whole manifests."""
    newest = {row["name"]: row["subset_id"] for row in recorded_subsets(work)}
    return all(
        newest.get(row["name"]) == row["subset_id"]
        and Path(row["manifest"]).exists()
        and not verify_manifest(row["manifest"])
        for row in made
    )


def unscored(work: Work, choice: Choice, keep: float | int) -> dict[str, Any]:
    """Keep the samples that the selector's score says nothing of, where there are any, and say so.

    A class without validation samples has no CLD, and diverged samples have no margin: neither is a reason to leave
    them out. `tracesift select` with a selector's name asks instead.
    """
    if "nulls" not in find(choice.selector).defaults:
        return {}
    frame = training_frame(work)
    columns = [name for name in columns_needed(choice.selector, choice.params) if name in frame.columns]
    missing = frame.filter(
        pl.any_horizontal(pl.col(name).is_null() | pl.col(name).is_nan() for name in columns)
    )
    if not columns or missing.is_empty():
        return {}
    without = (
        f"no {' or '.join(columns)} for {len(missing)} of {len(frame)} training samples (first "
        f"{missing['sample_id'][0]})"
    )
    if len(missing) > (resolve_size(keep, len(frame)) if isinstance(keep, float) else keep):
        raise BadInput(
            f"{without}, more than {keep:g} to keep leaves room for; where the model gave NaN or infinite logits, "
            "lower the lr of its RECIPE or name another with --model, else ask for a larger --keep"
        )
    say(f"{choice.selector}: {without}, kept unjudged")
    return {"nulls": "keep"}


def pruned(
    work: Work,
    selector: str,
    *,
    budget: float | int | None,
    seed: int,
    name: str = "pruned",
    where: str | None = None,
    params: Mapping[str, Any] | None = None,
    embedding: str | None = None,
    source: str | None = None,
    target: str | None = None,
    because: str = "",
) -> list[dict[str, Any]]:
    """Select from the samples that are neither flagged nor excluded, and make the controls.

    Parameters
    ----------
    budget
        A count, a share of all training samples (so that it means the same whatever is flagged), or None for a
        selector that decides by itself.
    embedding
        Name of the stored embedding that the selector reads; the newest recording's own features where None, or
        the content for `OF_CONTENT`.
    source
        Name of a subset, such as ``"denoised"``: select from what it trains on, with its labels and weights, whatever
        is flagged, since it has decided that already.
    target
        Source of the domain to select towards, for a selector that reads one; the validation samples where None.
    because
        Why `auto` took this selector, where it did; the manifest says it.
    """
    stage(name)
    params = dict(params or {})
    frame = training_frame(work, where)
    sources: dict[str, Any] = {}
    if source is not None:
        frame, made_of = among(work, frame, source)
        sources["from"] = made_of
        if not frame["eligible"].any():
            raise BadInput(f"--from {source}: none of its samples fits --where {where}; ask for others")
    if because:
        sources |= {"chosen_by": AUTO, "because": because}
    facts = find(selector)
    if facts.chooses == "forget":
        raise BadInput(
            f"{selector} chooses what to forget, not what to train on; `tracesift select {selector}` makes its subset"
        )
    flagged = is_flagged() if source is None else pl.lit(value=False)
    out = frame.filter(flagged | ~pl.col("eligible"))
    pool = frame.filter(~flagged & pl.col("eligible"))
    size = resolve_size(budget, len(frame)) if isinstance(budget, float) else budget
    if size is not None and size > frame["eligible"].sum():
        raise BadInput(
            f"{size} samples were asked for and there are {frame['eligible'].sum()}"
            + _of_what(work, where, source)
            + "; ask for fewer (--count, --keep)"
        )
    kept_anyway = pool.clear()
    if size is not None and size > len(pool):
        # More are kept than are not flagged: those stay, whatever the selector, which fills up from the flagged.
        out, kept_anyway, pool = (
            frame.filter(~pl.col("eligible")),
            pool,
            frame.filter(flagged & pl.col("eligible")),
        )
        size -= len(kept_anyway)
    pool = pool.sort("sample_id")
    check_scored(work, frame, selector, params)
    if queries.asks(selector, params):
        assert size is not None  # as of every selector with a budget
        arrays, read = queries.asked_losses(
            work, pool, facts, params, embedding=embedding, size=size, seed=seed
        )
        params = queries.without(params)
    elif selector in OF_CONTENT and embedding is None:
        arrays, read = contents(work, pool), {"embedding": "content"}
    else:
        arrays, read = arrays_for(work, pool, facts, params, embedding, target)
    sources |= read
    chosen = select(selector, pool, budget=size, seed=seed, arrays=arrays, **params)
    stays = kept_anyway.select(
        "sample_id", role=pl.lit("keep"), weight=pl.lit(1.0), reason=pl.lit(NOT_FLAGGED)
    )
    members = pl.concat([as_in_source(chosen, pool), stays, left_out(out, where, source)], how="diagonal")
    block = block_of(selector, params, seed=seed, budget=budget, where=where, sources=sources)
    made = [put(work, name, members, block, columns_needed(selector, params))]
    candidates = pl.concat([pool["label"], kept_anyway["label"]])
    kept_labels = pl.concat([pool.filter(chosen["role"] == "keep")["label"], kept_anyway["label"]])
    _say_emptied(made[0], emptied(candidates, kept_labels, selector, params))
    kept = int((members["role"] != "drop").sum())
    return made + controls(work, name, kept=kept, seed=seed, where=where, source=source)


def _of_what(work: Work, where: str | None, source: str | None) -> str:
    """Return in words which samples there are to choose from."""
    if where is None and source is None:
        return f" training samples in {work.dataset.name}"
    return (f" in {source}" if source else "") + (f" that fit --where {where}" if where else "")


BY_FLAG = {"denoise": "label_noise", "depoison": "unlearnable"}
"""Selectors that divide all samples by what one flag says of them, and that flag."""


def denoised(work: Work, *, max_drop: float, seed: int) -> list[dict[str, Any]]:
    """Drop, relabel or down-weight what `label_noise` flags; the controls drop the same number at random."""
    return divided(work, "denoise", seed=seed, name="denoised", params={"max_drop": max_drop})


def divided(
    work: Work,
    selector: str,
    *,
    seed: int,
    name: str,
    where: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Divide the samples by a flag, with a selector of `BY_FLAG`; the controls drop the same number at random."""
    stage(name)
    settings = dict(params or {})
    frame = training_frame(work, where)
    pool = frame.filter("eligible").sort("sample_id")
    decided_of = select(selector, pool, budget=None, seed=seed, **settings)
    members = pl.concat([decided_of, left_out(frame.filter(~pl.col("eligible")), where)], how="diagonal")
    scores = [*columns_needed(selector, settings), *read_by(BY_FLAG[selector])]
    block = block_of(selector, settings, seed=seed, where=where)
    made = [put(work, name, members, block, scores)]
    if said := told_of(selector, block.params, members, work.dataset.kind):
        made[0]["told"] = said
    corrected = decided_of["new_label"] if "new_label" in decided_of.columns else pl.lit(None, pl.String)
    trained = pool.select(label=pl.coalesce(corrected, pl.col("label").cast(pl.String)))
    left = trained.filter(decided_of["role"] != "drop")["label"]
    _say_emptied(made[0], emptied(pool["label"], left, selector, settings))
    kept = int((members["role"] != "drop").sum())
    return made + controls(work, name, kept=kept, seed=seed, where=where)


def _say_emptied(made: dict[str, Any], sentence: str | None) -> None:
    """Say which classes a subset empties, and keep it in what is answered."""
    if sentence:
        made["emptied"] = sentence
        say(f"{made['name']}: {sentence}")


OF_TEXTS = (
    "; of texts, `tracesift score token_label_association` ranks those whose tokens give the label away, and "
    "`tracesift select bottom_k --param score=token_label_association --keep 0.9` leaves the highest out"
)
"""The way on where `depoison` cannot tell: the flag looks at images alone."""


def told_of(selector: str, params: Mapping[str, Any], members: pl.DataFrame, kind: str) -> str | None:
    """Say what the numbers of a subset do not: which samples were no candidates, and where a flag has nothing to say.

    That is: how many flagged samples were left out before a selector chose, which doubtful labels a denoised subset
    keeps and why, and where `depoison` had nothing to go by. None where there is nothing to say.

    Parameters
    ----------
    members
        `role`, `weight` and `reason`; what lay outside of a condition or is to be forgotten was not divided.
    kind
        Of the dataset: image, text or tabular.
    """
    if selector == "depoison":
        unknown = members["reason"].str.contains(" is null: cannot tell, so kept", literal=True).sum()
        if unknown < len(members):
            return None
        nothing = f"the flag '{params['flag']}' cannot tell of any sample, so none is left out"
        return nothing + (OF_TEXTS if kind == "text" and params["flag"] == BY_FLAG["depoison"] else "")
    if selector != "denoise":
        flagged = int((members["reason"] == IS_FLAGGED).sum())
        return f"{counted(flagged, 'flagged sample')} left out before {selector} chose" if flagged else None
    outside = pl.any_horizontal(pl.col("reason").str.starts_with(start) for start in (OUTSIDE, FORGOTTEN))
    divided = members.filter(~outside.fill_null(value=False))
    said = left_standing(divided, mode=params["mode"], max_drop=params["max_drop"])
    more = "; --max-drop of curate and --param max_drop= of select set it"
    return said + more if said and said.endswith("(max_drop)") else said
