"""What is known of a workspace's samples before a selection, and the selector that `auto` takes for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.flows.recordings import newest_runs
from tracesift.flows.selecting.candidates import is_flagged, training_frame
from tracesift.flows.selecting.selector_arrays import at_epoch_ends
from tracesift.flows.work import Work
from tracesift.pipelines.embedding.stored_embeddings import names, of_other_states, stored_embedding
from tracesift.pipelines.signals import ModeSignals
from tracesift.selectors.advice import DOUBT, Choice, Situation, choose
from tracesift.selectors.budget import resolve_size
from tracesift.selectors.contract import find

ENOUGH = 0.95
"""Share of the samples that a score must be there for; the few without are kept unjudged."""
BLOCK = 16384
"""Rows of an embedding that are looked through at a time."""


def situation(work: Work, keep: float | int, embedding: str | None = None) -> Situation:
    """Return what is known of the training samples before as many are selected.

    Parameters
    ----------
    keep
        A share of all training samples, or a count.
    embedding
        Name of a stored embedding to take for the features; by default those of `features_of`.
    """
    frame = training_frame(work)
    pool = frame.filter(~is_flagged())
    sizes = pool["label"].value_counts()["count"].to_numpy() if len(pool) else np.ones(1)
    signals = recorded(work)
    rate = work.catalog.diagnostic(work.dataset.dataset_id, "label_noise_rate") or {}
    flagged = float(frame["label_noise"].fill_null(value=False).mean() or 0.0)  # type: ignore[arg-type]
    estimated = float(rate.get("rate") or 0.0)
    # where it may be noise or overlap: a choice that stands noise costs less there than one that does not
    doubted = rate.get("shown") is None and estimated > flagged
    noise = estimated if rate.get("shown") or doubted else flagged
    judged = work.catalog.diagnostic(work.dataset.dataset_id, "label_noise") or {}
    scores = [name for name, kind in pool.schema.items() if kind.is_float() and name != DOUBT]
    known = frozenset(name for name in scores if _share_finite(pool[name]) >= ENOUGH)
    featured = _share_featured(signals) if features_of(work, embedding) is None else 1.0
    if featured is not None and featured < ENOUGH:
        raise BadInput(
            f"auto: {1 - featured:.0%} of the samples have NaN or infinite features; where the model gave NaN or "
            "infinite logits, lower the lr of its RECIPE or name another with --model, else name a --selector"
        )
    return Situation(
        samples=len(frame),
        unflagged=len(pool),
        kept=resolve_size(keep, len(frame)) if isinstance(keep, float) else keep,
        classes=frame["label"].n_unique(),
        imbalance=float(sizes.max() / sizes.min()),
        largest_class=int(sizes.max()),
        noise=noise,
        found=min(1.0, flagged / noise) if noise > 0 else 1.0,
        judged=bool(rate) or frame["label_noise"].null_count() < len(frame),
        doubted=doubted,
        apart=not rate.get("shown") and not doubted and flagged > 0 and judged.get("set_apart", 0) > 0,
        columns=known,
        embedded=featured == 1,
    )


def _share_finite(values: pl.Series) -> float:
    return int(values.is_finite().fill_null(value=False).sum()) / max(1, len(values))


def _share_featured(signals: ModeSignals | None) -> float | None:
    """Return the share of the samples that have finite features; None where the recording has no features."""
    if signals is None or "embedding" not in signals:
        return None
    vectors = signals["embedding"]
    finite = sum(
        int(np.isfinite(vectors[at : at + BLOCK]).all(axis=1).sum()) for at in range(0, len(vectors), BLOCK)
    )
    return finite / len(vectors)


def chosen(work: Work, keep: float | int, embedding: str | None = None) -> Choice:
    """Return what `auto` takes, and of which stored embedding its features are."""
    choice = choose(situation(work, keep, embedding))
    reads = {"embedding"} & {*find(choice.selector).arrays, *find(choice.selector).optional_arrays}
    return replace(choice, embedding=features_of(work, embedding)) if reads else choice


def features_of(work: Work, embedding: str | None) -> str | None:
    """Return the stored embedding that stands for the features: the named one, or the only one where no model has any.

    None stands for the features of the newest recording. Stored vectors are finite.

    Raises
    ------
    BadInput
        There is no embedding of that name, or it is of another state of the dataset.
    """
    if embedding is not None:
        return stored_embedding(work.path, embedding, work.dataset).name
    if _share_featured(recorded(work)) is not None:
        return None
    other = of_other_states(work.path, work.dataset.fingerprint)
    stored = [name for name in names(work.path) if name not in other]
    return stored[0] if len(stored) == 1 else None


def recorded(work: Work) -> ModeSignals | None:
    """Return the newest recording as it was at the ends of epochs, or None where there is none.

    Of several that differ by their seed, one that has features: seeds after the first are recorded without.
    """
    try:
        runs = newest_runs(work)
    except BadInput:
        return None
    found = [at_epoch_ends(work.path, run) for run in runs]
    return next((signals for signals in found if "embedding" in signals), found[0])
