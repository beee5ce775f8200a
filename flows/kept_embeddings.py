"""Stored embeddings as the workspace tells of them, and the graphs of neighbours that are kept with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracesift.catalog.nearest_rows import Metric
from tracesift.catalog.neighbor_graph import EXACT_UP_TO, RECALL
from tracesift.catalog.schema import SPLITS
from tracesift.flows.progress import say, watched
from tracesift.flows.work import Work
from tracesift.pipelines.embedding.stored_embeddings import (
    SHOWN,
    StoredEmbedding,
    content_digest,
    store_graph,
)


def keep_graph(
    work: Work,
    stored: StoredEmbedding,
    neighbors: int,
    metric: Metric = "cosine",
    exact_up_to: int = EXACT_UP_TO,
    least_recall: float = RECALL,
) -> StoredEmbedding:
    """Search the graph of a stored embedding by a metric where it is not there yet; the catalog hears of it."""
    with watched("neighbours") as report:
        stored = store_graph(
            stored, neighbors, metric=metric, exact_up_to=exact_up_to, least_recall=least_recall,
            report=lambda done, total: report(done, total, "samples"),
        )  # fmt: skip
    remember_embedding(work, stored)
    found = stored.graph(metric)
    if found is not None and found.recall is not None and found.recall < least_recall:
        say(
            f"the graph of '{stored.name}' holds {found.recall:.1%} of the true neighbours, of which "
            f"{least_recall:.1%} were asked for, with {found.probed} of its {found.lists} lists searched; "
            f"`tracesift embed --exact-up-to {len(stored.vectors('train'))}` makes it exact"
        )
    return stored


def remember_embedding(work: Work, stored: StoredEmbedding) -> None:
    """Put a stored embedding into the catalog's table of artifacts."""
    work.catalog.put_artifact(
        {
            "kind": "embedding", "name": stored.name, "dataset_id": work.dataset.dataset_id,
            "run_id": stored.record["made"].get("run_id"), "path": f"embeddings/{stored.name}",
            "digest": content_digest(stored.record), "config": stored.record["made"],
            "details": told(stored.record),
        }
    )  # fmt: skip


def told(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person wants to know of an embedding: ``samples`` by split, ``width`` and ``graphs``."""
    return {
        "samples": {split: record["splits"][split]["shape"][0] for split in SPLITS},
        "width": record["width"],
        "graphs": [{key: graph.get(key) for key in SHOWN} for _, graph in sorted(record["graphs"].items())],
    }


def graph_in_words(graph: Mapping[str, Any]) -> str:
    """Say what a graph of neighbours is.

    Examples
    --------
    >>> found = {"approximate": True, "recall": 0.9731, "lists": 1600, "probed": 64}
    >>> graph_in_words({"k": 10, "metric": "cosine", **found})
    '10 nearest by cosine, approximate: 97.3% of the true ones found in 64 of 1600 lists'
    """
    how = "exact"
    if graph["approximate"]:
        how = f"approximate: {graph['recall']:.1%} of the true ones found"
        how += f" in {graph['probed']} of {graph['lists']} lists" if graph["lists"] else ""
    return f"{graph['k']} nearest by {graph['metric']}, {how}"
