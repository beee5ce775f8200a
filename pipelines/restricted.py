"""A dataset without some of its samples, in the state that its source would be in without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.pipelines import identity
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.sources import beside
from tracesift.pipelines.sources import inputs as model_inputs


def restricted(dataset: Dataset, keep: np.ndarray) -> Dataset:
    """Return the rows of `keep` (N,) bool alone; splits and classes stay as they are.

    The fingerprint is that of a source which never held the others, so that what is made of either fits both.

    Raises
    ------
    BadInput
        Nothing would be left, or the fingerprint is by another rule than that of `open_dataset`.
    """
    rows = np.flatnonzero(keep)
    if not len(rows):
        raise BadInput(f"{dataset.name}: none of its {len(dataset)} samples would be left")
    if len(rows) == len(dataset):
        return dataset
    fingerprint = fingerprint_without(
        dataset.samples, keep, kind=dataset.kind, known=dataset.fingerprint,
        features=[dataset.inputs.columns] if isinstance(dataset.inputs, pl.DataFrame) else [],
        planted="plant_label_noise" in (dataset.transform or {}),
    )  # fmt: skip
    if fingerprint is None:
        raise BadInput(f"{dataset.name}: its fingerprint is by another rule, so a part of it has none")
    samples = dataset.samples[rows].rechunk()
    return replace(
        dataset,
        samples=samples,
        inputs=model_inputs.take(dataset.inputs, rows),
        fingerprint=fingerprint,
        notes=_notes(dataset, samples, keep),
        originals=None if dataset.originals is None else dataset.originals.take(rows),
        positions=None if dataset.positions is None else dataset.positions[rows],
    )


def fingerprint_without(
    samples: pl.DataFrame,
    keep: np.ndarray,
    *,
    kind: str,
    known: str,
    features: Sequence[Sequence[str]] = (),
    planted: bool = False,
) -> str | None:
    """Return the fingerprint of the rows of `keep`, or None where that of all rows is not the `known` one.

    Parameters
    ----------
    samples
        sample_id, content_hash, label, split and label_true of all samples.
    features
        Names that the inputs of a table may have had.
    planted
        Whether label_true holds the source's own labels, where it is known.
    """
    own = samples.with_columns(label=pl.coalesce("label_true", "label")) if planted else samples
    if any(own[name].null_count() for name in ("sample_id", "content_hash", "label", "split")):
        return None
    guesses: dict[str, list[list[str]]] = {"image": [["image"]], "text": [["text"]]}
    for names in guesses.get(kind, [[], ["x"], *map(sorted, features)]):
        schema: dict[str, object] = {"kind": kind, "inputs": names}
        if identity.fingerprint(own, schema) == known:
            return identity.fingerprint(own.filter(pl.Series(keep)), schema)
    return None


def _notes(dataset: Dataset, samples: pl.DataFrame, keep: np.ndarray) -> tuple[str, ...]:
    """Return the notes with the findings of the remaining samples; none that names one that went."""
    found = {told[0].upper() + told[1:] for told in beside.findings(dataset.samples)}
    gone: list[Any] = dataset.samples.filter(pl.Series(~keep))["sample_id"].to_list()
    notes = [note for note in dataset.notes if note not in found and not any(one in note for one in gone)]
    return (*notes, *beside.findings(samples))
