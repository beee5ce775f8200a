"""What `select semdedup` says beside its subset: how many duplicates there are, and which cross the splits.

The numbers, without ids, are kept as the diagnostic `duplicates`, which the report shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.earlier_twins import earlier_twins
from tracesift.flows.progress import counted, say, stage
from tracesift.flows.selecting.selector_arrays import stored_content, stored_rows
from tracesift.flows.work import Work
from tracesift.pipelines.foreign.bare import KIND
from tracesift.selectors.contract import find
from tracesift.selectors.geometry.duplicate_rates import duplicate_rates
from tracesift.selectors.geometry.leakage_report import leakage_report

SHOWN = 5
"""Leaking pairs that are named."""


def vectors_of_all(work: Work, embedding: str | None) -> np.ndarray | None:
    """Return the vectors of every sample of every split, (len(dataset), D); None for a dataset without content.

    They are those of the stored embedding that is named, else of the content, which the selection is then spared.
    """
    if embedding is not None:
        return stored_rows(work, embedding, work.dataset.samples.select("sample_id"))
    if work.dataset.kind == KIND:
        return None
    stored = stored_content(work)
    if stored is None:
        from tracesift.pipelines.embedding.embeddings import (
            content_embedding,  # loads torch, which few selections need
        )

        vectors = content_embedding(work.dataset)
    else:
        vectors = stored_rows(work, stored, work.dataset.samples.select("sample_id"))
    work.content_vectors = vectors[(work.dataset.samples["split"] != "val").to_numpy()]
    return vectors


def tell_duplicates(work: Work, vectors: np.ndarray, params: Mapping[str, Any], seed: int) -> None:
    """Say and keep how many training samples duplicate another, for several eps, and what is in val or test too."""
    settings = {**find("semdedup").defaults, **params}
    samples = work.dataset.samples
    stage("duplicates, and what lies in val or test too")
    train, other = (
        np.flatnonzero((samples["split"] == "train").to_numpy() == inside) for inside in (True, False)
    )
    found = earlier_twins(vectors[train], number=settings["clusters"], order=settings["order"], seed=seed)
    rates = {f"{eps:g}": round(rate, 4) for eps, rate in duplicate_rates(found.cosine).items()}
    leaks = leakage_report(vectors[train], vectors[other], settings["eps"])
    twins = samples["split"].gather(other[leaks["other_row"].unique().to_numpy()])
    reading = _reading(len(leaks), len(twins), settings["eps"])
    numbers = {
        "reading": reading,
        "rates": [{"eps": eps, "share": rate} for eps, rate in rates.items()],
        "train_in_other_splits": len(leaks),
        "leaked_into": [
            {"split": split, "samples": int((twins == split).sum()), "of": int((samples["split"] == split).sum())}
            for split in ("val", "test")
        ],
    }  # fmt: skip
    run = work.catalog.newest_run() or {
        "run_id": ""
    }  # the samples alone are compared: no recording is needed
    work.catalog.put_diagnostic(work.dataset.dataset_id, run["run_id"], "duplicates", numbers)
    told = ", ".join(f"{rate:.2%} at {eps}" for eps, rate in rates.items())
    say(f"of the {len(train)} training samples this share duplicates an earlier one, by eps: {told}")
    say(reading + _examples(leaks, samples, train, other))


def _reading(leaks: int, twins: int, eps: float) -> str:
    if not leaks:
        return f"no training sample duplicates a val or test sample (eps={eps:g})"
    return (
        f"{counted(leaks, 'training sample')} and {counted(twins, 'val or test sample')} are duplicates of each other "
        f"(eps={eps:g}), and what a model gets right there may be memory"
    )


def _examples(leaks: pl.DataFrame, samples: pl.DataFrame, train: np.ndarray, other: np.ndarray) -> str:
    """Return the first pairs, with how many there are beside them."""
    ids, splits = samples["sample_id"], samples["split"]
    pairs = [
        f"{ids[int(train[row])]} = {ids[int(other[twin])]} ({splits[int(other[twin])]}, cosine {cosine:g})"
        for row, twin, cosine in leaks.head(SHOWN).rows()
    ]
    more = f", and {len(leaks) - SHOWN} more" if len(leaks) > SHOWN else ""
    return f": {'; '.join(pairs)}{more}" if pairs else ""
