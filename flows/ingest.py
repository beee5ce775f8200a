"""A dataset goes in: its samples, labels and splits are written into the catalog."""

from __future__ import annotations

from typing import Any

from tracesift.flows.purging.purged import left_out
from tracesift.flows.work import Work, location
from tracesift.pipelines.dataset import Dataset


def ingest(work: Work, dataset: Dataset) -> dict[str, Any]:
    """Put a dataset into the catalog as its newest state; the same dataset again changes nothing.

    What was purged from the workspace stays out of it, also where the source still holds it.
    """
    held = len(dataset)
    work.opened = dataset = left_out(work, dataset, remember=True)
    work.catalog.put_dataset(
        {
            "dataset_id": dataset.dataset_id, "name": dataset.name, "source": dataset.source, "kind": dataset.kind,
            "fingerprint": dataset.fingerprint, "classes": list(dataset.classes), "options": dataset.options,
            "transform": dataset.transform, "notes": list(dataset.notes), "skipped": list(dataset.skipped),
            "location": location(dataset), **({"purged": held - len(dataset)} if len(dataset) < held else {}),
        },
        dataset.samples,
    )  # fmt: skip
    splits = dict(dataset.samples.group_by("split").len().sort("split").iter_rows())
    return {"dataset_id": dataset.dataset_id, "name": dataset.name, "samples": len(dataset), **splits}
