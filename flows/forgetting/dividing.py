"""All samples divided for unlearning: forget, retain, neighbor and holdout, of what is flagged or of what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.manifest import SelectorBlock
from tracesift.catalog.nearest_rows import unit_rows
from tracesift.flows.forgetting.requests import entities
from tracesift.flows.progress import counted, say, stage
from tracesift.flows.selecting.candidates import training_frame
from tracesift.flows.selecting.selector_arrays import content_vectors, stored_ids, stored_rows, texts_of
from tracesift.flows.selecting.written import block_of, controls, put, read_by
from tracesift.flows.work import Work
from tracesift.pipelines.embedding.stored_embeddings import stored_embedding
from tracesift.selectors.contract import select
from tracesift.selectors.decisions.forget_ready import least_cosine
from tracesift.selectors.decisions.overlap_report import overlap_report
from tracesift.selectors.flags.contract import names as flag_names

COPIES = {"exact": "exact", "near": "near by embedding", "words": "near by wording"}
"""How a copy was found, in words."""


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
    made = [put(work, name, members, block, read_by(*flag_names()))]
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

    Nothing is written. Copies and neighbours are looked for among the vectors of the content, of a table among its
    standardised rows (`table_directions`), or among those of the stored `embedding` that is named.

    Parameters
    ----------
    requested
        Samples to forget, of any split; None for what is flagged. Of one outside train there is nothing to unlearn,
        so it is no member, and what copies it is forgotten or no holdout.
    asked
        Which request it was, for the settings.
    forgotten
        What was deleted before and is not asked for here, by default all of that: no member unless it copies what is
        asked for, and what copies it is no holdout.
    """
    gone = work.forgotten if forgotten is None else forgotten
    everything = training_frame(work, forgotten=gone)
    settings = dict(params) if requested is None else {**params, "forget": sorted(requested)}
    beside = _beside(work, requested or (), gone["sample_id"].unique())
    # In the order of ids, as the selector works: the embedding is then taken as it lies, without a copy.
    frame = pl.concat([everything, beside], how="diagonal").sort("sample_id")
    group = settings.get("group")
    if group is not None and group not in frame.columns:
        values = entities(work, group, "--param group=").rename({"entity": group})
        frame = frame.join(values, on="sample_id", how="left", maintain_order="left")
    vectors = content_vectors(work, frame) if embedding is None else _stored_vectors(work, embedding, frame)
    if vectors is None:
        say(f"{work.dataset.name} is known without content: copies and neighbours are not looked for")
    texts, near, least = texts_of(work, frame), vectors, None
    if work.dataset.kind == "tabular" and embedding is None and vectors is not None:
        settings, near = {"near_duplicate": "dense", **settings}, _table_rows(work, frame)
        known = (frame["split"] == "train").to_numpy()
        least = least_cosine(frame, unit_rows(near), known, settings["near_duplicate"] or "dense", seed)
    members = select(
        "forget_ready",
        frame,
        budget=None,
        seed=seed,
        embedding=near,
        arrays=texts,
        **settings,
    )
    overlap = None
    if requested is not None:
        # Neither ids nor groups, which may be people: what a purge would have to find.
        overlap = overlap_report(members, frame, embedding=near, least_cosine=least, **texts)
        overlap["cannot_be_forgotten"] = len(overlap["cannot_be_forgotten"])
    # A test sample that is asked for, or copies a trained one, is no holdout, and it is no training sample either.
    trained = pl.col("sample_id").is_in(everything["sample_id"].implode())
    members = members.filter(trained | pl.col("role").is_in(("holdout", "forget")))
    if requested is not None:
        settings["forget"] = asked  # the ids stand in the members
    sources = {} if embedding is None else {"embedding": embedding}
    return members, block_of("forget_ready", settings, seed=seed, sources=sources), overlap


def as_members(members: pl.DataFrame) -> pl.DataFrame:
    """Return what a manifest holds of `forget_ready`'s answer: which pair made a copy stands in its reason."""
    return members.drop("pulled_by", "how", "similarity", strict=False)


def pulled_in(members: pl.DataFrame) -> pl.DataFrame:
    """Return what `select("forget_ready", ...)` found to be copies: `sample_id, role, pulled_by, how, similarity`.

    Of the role forget these are the samples that were pulled in, those of the role drop would be a holdout but for the
    trained or requested sample that they copy; `how` and `similarity` are those of `duplicate_closure`.
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


def _beside(work: Work, requested: Sequence[str], gone: pl.Series) -> pl.DataFrame:
    """Return, as rows for `forget_ready`, the test samples, what else outside train is requested, and what is gone."""
    samples = work.dataset.samples
    columns = [
        name for name in ("sample_id", "label", "split", "content_hash", "group") if name in samples.columns
    ]
    asked, deleted = pl.Series(requested, dtype=pl.String), pl.col("sample_id").is_in(gone.implode())
    wanted = (pl.col("split") == "test") | pl.col("sample_id").is_in(asked.implode())
    return samples.filter(deleted | ((pl.col("split") != "train") & wanted)).select(*columns, deleted=deleted)


def _table_rows(work: Work, frame: pl.DataFrame) -> np.ndarray:
    from tracesift.pipelines.embedding.embeddings import table_directions  # torch, which few selections need

    rows = work.dataset.samples["sample_id"].search_sorted(frame["sample_id"]).to_numpy()
    return table_directions(work.dataset, rows=rows)


def _stored_vectors(work: Work, name: str, frame: pl.DataFrame) -> np.ndarray:
    """Return the vectors of a stored embedding, (N, D); zeros, alike to nothing, of what was deleted before it."""
    stored = stored_embedding(work.path, name, work.dataset)
    there = pl.concat([stored_ids(work, stored, split) for split in stored.record["splits"]])
    lacking = (pl.col("deleted") & ~pl.col("sample_id").is_in(there.implode())).fill_null(value=False)
    known = frame.select(~lacking).to_series()
    vectors = stored_rows(work, name, frame.filter(known))
    if known.all():
        return vectors
    whole = np.zeros((len(frame), vectors.shape[1]), vectors.dtype)
    whole[known.to_numpy()] = vectors
    return whole
