"""Scores to subsets: every subset becomes a manifest, a catalog entry, and two controls of the same size."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.files import digest, frame_digest
from tracesift.catalog.manifest import (
    DatasetBlock,
    ScoreBlock,
    SelectorBlock,
    verify_manifest,
    write_manifest,
)
from tracesift.catalog.schema import BadInput
from tracesift.flows.options import AUTO, CurateJob
from tracesift.flows.progress import counted, say, stage, watched
from tracesift.flows.recordings import newest_runs
from tracesift.flows.reporting.stability import bootstrapped, combined, held_by, scores_of
from tracesift.flows.selecting.candidates import among, is_flagged, training_frame
from tracesift.flows.selecting.selector_arrays import arrays_for, stored_rows
from tracesift.flows.selecting.situation import chosen
from tracesift.flows.work import Work
from tracesift.pipelines.foreign.bare import KIND
from tracesift.selectors.advice import Choice
from tracesift.selectors.contract import columns_needed, find, select
from tracesift.selectors.decisions.denoise import left_standing
from tracesift.selectors.decisions.overlap_report import overlap_report
from tracesift.selectors.flags.label_noise import verified_as

VERSION = 4
"""Raised when the same scores and flags would give other subsets."""

OF_CONTENT = ("semdedup",)
"""Selectors that compare content unless told otherwise: to a trained model all samples of a class are copies."""


OUTSIDE, FORGOTTEN = "outside WHERE ", "forgotten by request "
"""How the reasons of samples begin that were no candidates."""

COPIES = {"exact": "exact", "near": "near by embedding", "words": "near by wording"}
"""How a copy was found, in words."""


def make_subsets(work: Work, job: CurateJob) -> dict[str, Any]:
    """Make the three subsets of `curate` with their controls: pruned, denoised, forget-ready; done once per input."""
    seed = job.training.seed
    # Rows, scores, flags and reviews decide, and nothing else but what was asked for.
    frame = training_frame(work)
    frame = frame.select(sorted(frame.columns))
    choice = decided(work, job.choosing.selector, job.choosing.keep)
    versions = {name: find(name).version for name in (choice.selector, "denoise", "forget_ready")}
    standing = _standing_request(work) if job.forget is None else "forget-ready"
    asked = [vars(job.choosing), asdict(choice), seed, standing, list(work.trainable.withheld_by)]
    key = digest([VERSION, work.dataset.fingerprint, frame.columns, frame_digest(frame), asked, versions])
    done = work.record("subsets", key)
    if done is not None and _still_there(work, done["subsets"]):
        return done
    params = {**choice.params, **unscored(work, choice, job.choosing.keep)}
    with watched("select"):
        made = [
            *pruned(
                work,
                choice.selector,
                budget=job.choosing.keep,
                seed=seed,
                params=params,
                because=choice.because,
            ),
            *denoised(work, max_drop=job.choosing.max_drop, seed=seed),
            *([] if standing else corrective(work, seed=seed)),
        ]
        _keep_stability(work, job, choice.selector, params)
    work.content_vectors = None  # the report does without
    return work.finish("subsets", key, {"subsets": made})


def _standing_request(work: Work) -> str | None:
    """Return the request that the newest forget-ready subset answers, in this state of the dataset: it stays.

    The corrective set would take its place, and what is still to be unlearned would no longer stand at the top.
    """
    newest = {row["name"]: row["subset_id"] for row in recorded_subsets(work)}.get("forget-ready")
    answered = {row["subset_id"]: row["request_id"] for row in work.catalog.forget_requests()}
    request = None if newest is None else answered.get(newest)
    known = (
        None
        if request is None
        else work.catalog.query("SELECT dataset_id FROM subsets WHERE subset_id = ?", (newest,))
    )
    return request if known is not None and known.item() == work.dataset.dataset_id else None


def decided(work: Work, selector: str, keep: float | int) -> Choice:
    """Return the selector that was asked for, or what `auto` takes, and say so."""
    if selector != AUTO:
        return Choice(selector=selector, because="")
    choice = chosen(work, keep)
    say(f"auto takes {choice.selector}: {choice.because}")
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
    size = max(1, round(job.choosing.keep * len(frame)))
    unflagged = frame.filter(~is_flagged())
    pool = unflagged if size <= len(unflagged) else frame  # as `pruned` chooses its candidates
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
        f"{len(missing)} of {len(frame)} training samples have no {' or '.join(columns)} (first "
        f"{missing['sample_id'][0]})"
    )
    if len(missing) > (round(keep * len(frame)) if isinstance(keep, float) else keep):
        raise BadInput(
            f"{without}, more than {keep:g} to keep leaves room for; where the model gave NaN or infinite logits, "
            "lower the lr of its RECIPE or name another with --model, else ask for a larger --keep"
        )
    say(f"{choice.selector}: {without} and are kept unjudged")
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
    size = max(1, round(budget * len(frame))) if isinstance(budget, float) else budget
    if size is not None and size > frame["eligible"].sum():
        raise BadInput(
            f"{size} samples were asked for and there are {frame['eligible'].sum()}"
            + _of_what(work, where, source)
            + "; ask for fewer (--count, --keep)"
        )
    if size is not None and size > len(pool):
        # Keeping more than is unflagged means keeping the least suspicious of the flagged as well.
        out, pool = frame.filter(~pl.col("eligible")), frame.filter("eligible")
    pool = pool.sort("sample_id")
    if selector in OF_CONTENT and embedding is None:
        arrays, read = _content(work, pool), {"embedding": "content"}
    else:
        arrays, read = arrays_for(work, pool, facts, params, embedding)
    sources |= read
    chosen = select(selector, pool, budget=size, seed=seed, arrays=arrays, **params)
    members = pl.concat([_as_in_source(chosen, pool), _left_out(out, where, source)], how="diagonal")
    block = _block(selector, params, seed=seed, budget=budget, where=where, sources=sources)
    made = [put(work, name, members, block, columns_needed(selector, params))]
    kept = int((members["role"] != "drop").sum())
    return made + controls(work, name, kept=kept, seed=seed, where=where, source=source)


def _of_what(work: Work, where: str | None, source: str | None) -> str:
    """Return in words which samples there are to choose from."""
    if where is None and source is None:
        return f" training samples in {work.dataset.name}"
    return (f" in {source}" if source else "") + (f" that fit --where {where}" if where else "")


def _as_in_source(chosen: pl.DataFrame, pool: pl.DataFrame) -> pl.DataFrame:
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


def _left_out(frame: pl.DataFrame, where: str | None, source: str | None = None) -> pl.DataFrame:
    """Return samples that were no candidates as members that are dropped, with the reason."""
    outside = pl.lit(f"{OUTSIDE}{where}")
    if source is not None:
        outside = pl.when(pl.col("weight").is_null()).then(pl.lit(f"not in {source}")).otherwise(outside)
    seen = pl.col("verified_label") != pl.col("label")
    flagged = pl.when(seen).then(verified_as(pl.col("verified_label"))).otherwise(pl.lit("flagged"))
    return frame.select(
        "sample_id",
        role=pl.lit("drop"),
        reason=pl.when("eligible").then(flagged).otherwise(outside),
        weight=pl.lit(0.0),
    )


def _block(
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


BY_FLAG = ("denoise", "depoison")
"""Selectors that divide all samples by what one flag says of them."""


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
    members = select(selector, frame.filter("eligible"), budget=None, seed=seed, **settings)
    members = pl.concat([members, _left_out(frame.filter(~pl.col("eligible")), where)], how="diagonal")
    scores = flag_scores(work) if selector == "denoise" else columns_needed(selector, settings)
    block = _block(selector, settings, seed=seed, where=where)
    made = [put(work, name, members, block, scores)]
    if said := told_of(selector, block.params, members):
        made[0]["told"] = said
    kept = int((members["role"] != "drop").sum())
    return made + controls(work, name, kept=kept, seed=seed, where=where)


def told_of(selector: str, params: Mapping[str, Any], members: pl.DataFrame) -> str | None:
    """Say of a denoised subset which doubtful labels it keeps and why; None of any other.

    Parameters
    ----------
    members
        `role`, `weight` and `reason`; what lay outside of a condition or is to be forgotten was not divided.
    """
    if selector != "denoise":
        return None
    outside = pl.any_horizontal(pl.col("reason").str.starts_with(start) for start in (OUTSIDE, FORGOTTEN))
    divided = members.filter(~outside.fill_null(value=False))
    said = left_standing(divided, mode=params["mode"], max_drop=params["max_drop"])
    more = "; --max-drop of curate and --param max_drop= of select set it"
    return said + more if said and said.endswith("(max_drop)") else said


def corrective(
    work: Work,
    *,
    seed: int,
    name: str = "forget-ready",
    params: Mapping[str, Any] | None = None,
    embedding: str | None = None,
) -> list[dict[str, Any]]:
    """Make forget / retain / neighbor / holdout from what is flagged; that is no deletion request."""
    stage(name)
    # A corrective set may hold a fifth of the data; the neighbours of its neighbours would be everything.
    settings = {"indirect_neighbors": 0, **(params or {})}
    members, block, _ = forget_members(work, None, seed=seed, params=settings, embedding=embedding)
    tell_copies(pulled_in(members))
    members = as_members(members)
    made = [put(work, name, members, block, flag_scores(work))]
    return made + forget_controls(work, name, members, seed=seed)


def forget_members(
    work: Work,
    requested: Sequence[str] | None,
    *,
    seed: int,
    params: Mapping[str, Any],
    asked: str = "",
    embedding: str | None = None,
    forgotten: pl.DataFrame | None = None,
) -> tuple[pl.DataFrame, SelectorBlock, dict[str, Any] | None]:
    """Divide the samples by `forget_ready`; say by which settings, and of a request how far it overlaps what stays.

    Nothing is written. Copies and neighbours are looked for among the vectors of the content, or of the stored
    `embedding` that is named.

    Parameters
    ----------
    requested
        Training samples to forget; None for what is flagged.
    asked
        Which request it was, for the settings.
    forgotten
        What was deleted before and is not asked for here, by default all of that: neither retained nor compared.
    """
    gone = work.forgotten if forgotten is None else forgotten
    everything = training_frame(work, forgotten=gone)
    settings = dict(params) if requested is None else {**params, "forget": sorted(requested)}
    held = _holdout(work).filter(~pl.col("sample_id").is_in(work.forgotten["sample_id"].implode()))
    # In the order of ids, as the selector works: the embedding is then taken as it lies, without a copy.
    frame = pl.concat([everything, held], how="diagonal").sort("sample_id")
    vectors = _embedding(work, frame) if embedding is None else stored_rows(work, embedding, frame)
    if vectors is None:
        say(f"{work.dataset.name} is known without content: copies and neighbours are not looked for")
    texts = _texts(work, frame)
    members = select(
        "forget_ready",
        frame,
        budget=None,
        seed=seed,
        embedding=vectors,
        arrays=texts,
        **settings,
    )
    overlap = None
    if requested is not None:
        # Neither ids nor groups, which may be people: what a purge would have to find.
        overlap = overlap_report(members, frame, embedding=vectors, **texts)
        overlap["cannot_be_forgotten"] = len(overlap["cannot_be_forgotten"])
    # A test sample that copies a trained one is no holdout, and it is no training sample either.
    trained = pl.col("sample_id").is_in(everything["sample_id"].implode())
    members = members.filter(trained | (pl.col("role") == "holdout"))
    if requested is not None:
        settings["forget"] = asked  # the ids stand in the members
    sources = {} if embedding is None else {"embedding": embedding}
    return members, _block("forget_ready", settings, seed=seed, sources=sources), overlap


def as_members(members: pl.DataFrame) -> pl.DataFrame:
    """Return what a manifest holds of `forget_ready`'s answer: which pair made a copy stands in its reason."""
    return members.drop("pulled_by", "how", "similarity", strict=False)


def pulled_in(members: pl.DataFrame) -> pl.DataFrame:
    """Return what `select("forget_ready", ...)` found to be copies: `sample_id, role, pulled_by, how, similarity`.

    Of the role forget these are the samples that were pulled in, those of the role drop would be a holdout but for the
    trained sample that they copy; `how` and `similarity` are those of `duplicate_closure`.
    """
    found = members.filter(pl.col("how").is_not_null())
    return found.select("sample_id", "role", "pulled_by", "how", "similarity").sort("sample_id")


def tell_copies(copies: pl.DataFrame) -> None:
    """Say how many copies of what is to be forgotten are forgotten as well, where there are any."""
    counts = dict(copies.filter(pl.col("role") == "forget").group_by("how").len().iter_rows())
    if counts:
        named = [f"{counts.get(how, 0)} {said}" for how, said in COPIES.items()]
        say(f"copies of what is to be forgotten are forgotten as well: {', '.join(named)}")


def forget_controls(work: Work, name: str, members: pl.DataFrame, *, seed: int) -> list[dict[str, Any]]:
    """Make the controls of a forget set: as many samples to forget, drawn at random from those that may be trained on.

    After a deletion request, what it deletes is not among these, in no control either.
    """
    forgotten, left = int((members["role"] == "forget").sum()), len(training_frame(work))
    if left <= forgotten:
        say(
            f"{name}: {counted(left, 'sample')} left, too few for a control that forgets {forgotten:,} others"
        )
        return []
    return controls(work, name, kept=left - forgotten, seed=seed, roles=("retain", "forget"))


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
        left_out = _left_out(frame.filter(~pl.col("eligible")), where, source)
        members = pl.concat([_as_in_source(chosen, pool), left_out], how="diagonal")
        renamed = pl.col("role").replace({"keep": roles[0], "drop": roles[1]})
        members = members.with_columns(
            role=renamed,
            weight=pl.when(renamed == "drop")
            .then(0.0)
            .when(pl.col("role") == "drop")
            .then(1.0)
            .otherwise("weight"),
        )
        block = _block(control, {}, seed=seed, budget=kept, where=where, sources=sources)
        made.append(put(work, called, members, block, (), control_of=name))
    return made


def put(
    work: Work,
    name: str,
    members: pl.DataFrame,
    selector: SelectorBlock,
    scores: Any,
    *,
    control_of: str | None = None,
) -> dict[str, Any]:
    """Write one subset as manifest and catalog entry; return its record for people.

    Whatever was decided, a sample that was asked to be deleted has the role `drop` here, or `forget`.
    """
    known = work.catalog.newest_dataset()
    assert known is not None
    members = _without_forgotten(work, members)
    labels = work.dataset.samples.select("sample_id", "label")
    whole = members.join(labels, on="sample_id", how="left")
    block = DatasetBlock(
        name=known["name"], source=known["source"], fingerprint=known["fingerprint"],
        num_samples=known["num_samples"], id_rule=known["id_rule"], options=known["options"] or {},
        transform=known["transform"],
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


def _holdout(work: Work) -> pl.DataFrame:
    """Return the samples that no recorded model was trained on, as rows for `forget_ready`."""
    samples = work.dataset.samples
    columns = [
        name for name in ("sample_id", "label", "split", "content_hash", "group") if name in samples.columns
    ]
    return samples.filter(pl.col("split") == "test").select(columns)


def _embedding(work: Work, frame: pl.DataFrame) -> np.ndarray | None:
    """Return the content embedding of a frame's rows, (N, D), made once and kept in memory; None without content.

    No subset asks for validation samples, so theirs are not kept; a frame of all others is answered without a copy.
    """
    if work.dataset.kind == KIND:
        return None
    if work.content_vectors is None:
        from tracesift.pipelines.embedding.embeddings import (
            content_embedding,  # loads torch, which few selections need
        )

        work.content_vectors = content_embedding(work.dataset, rows=_outside_val(work).to_numpy())
    ids = work.dataset.samples["sample_id"].gather(_outside_val(work))
    rows = ids.search_sorted(frame["sample_id"]).to_numpy()
    whole = len(rows) == len(work.content_vectors) and bool((np.diff(rows) == 1).all())
    return work.content_vectors if whole else work.content_vectors[rows]


def _content(work: Work, pool: pl.DataFrame) -> dict[str, Any]:
    vectors = _embedding(work, pool)
    return {} if vectors is None else {"embedding": vectors}


def _texts(work: Work, frame: pl.DataFrame) -> dict[str, Any]:
    """Return what the samples of a frame say, in its order, where they are texts."""
    if work.dataset.kind != "text":
        return {}
    rows = work.dataset.samples["sample_id"].search_sorted(frame["sample_id"]).to_numpy()
    return {"texts": work.dataset.content(rows)}


def _outside_val(work: Work) -> pl.Series:
    return (work.dataset.samples["split"] != "val").arg_true()


def flag_scores(work: Work) -> list[str]:
    """Return the scores that the flags rest on, as far as they are known."""
    return [
        name for name in ("aum", "elr_target_disagreement", "confident_learning") if name in _columns(work)
    ]


def _columns(work: Work) -> list[str]:
    return work.catalog.query("SELECT * FROM sample_scores LIMIT 0").columns


def _score_blocks(work: Work, scores: Any) -> list[ScoreBlock]:
    if not scores:
        return []
    rows = work.catalog.query(
        "SELECT scorer, scorer_version, run_id, direction FROM score_columns JOIN score_runs USING (run_key) "
        "WHERE column_name = scorer AND list_contains($names, scorer) "
        "QUALIFY seq = max(seq) OVER (PARTITION BY scorer)",
        {"names": list(scores)},
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
