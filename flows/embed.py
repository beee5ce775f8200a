"""An embedding is made from one source, kept by name with its graph of neighbours, and known to the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracesift.catalog.nearest_rows import Metric
from tracesift.catalog.neighbor_graph import EXACT_UP_TO, RECALL
from tracesift.catalog.schema import SPLITS
from tracesift.flows.progress import say, watched
from tracesift.flows.record import recorded_dataset
from tracesift.flows.work import Work
from tracesift.pipelines.embedding.sources import default_name, made_by, vectors_of
from tracesift.pipelines.embedding.stored_embeddings import (
    SHOWN,
    StoredEmbedding,
    checked_name,
    content_digest,
    is_made,
    store_graph,
    store_vectors,
    stored_embedding,
)


def embed_source(
    work: Work,
    source: str,
    *,
    name: str | None = None,
    run_id: str | None = None,
    order: str | None = None,
    device: str = "auto",
    neighbors: int = 10,
    metric: Metric = "cosine",
    exact_up_to: int = EXACT_UP_TO,
    least_recall: float = RECALL,
) -> dict[str, Any]:
    """Store the vectors of one source and the graph of their neighbours; what is there already is not made again.

    Returns
    -------
    dict
        ``embedding`` (its name), ``source``, ``run_id`` for the model's, ``samples`` by split, ``width``, ``graph``
        with ``k``, ``metric``, ``approximate``, ``recall``, ``lists`` and ``probed`` (or None), and the ``folder``.
    """
    called = checked_name(default_name(source) if name is None else name)
    made = made_by(work.dataset, source, order=order, run_id=run_id)
    if is_made(work.path, called, work.dataset, made):
        stored = stored_embedding(work.path, called, work.dataset)
    else:
        # A recorded model is asked about what it was recorded on; everything else, about what there is now.
        dataset = work.trainable if source != "model" else recorded_dataset(work, str(run_id))
        with watched(f"embed, {source}"):
            vectors = vectors_of(
                dataset, source, workspace=work.path, run_id=run_id, order=order, device=device,
                inputs=work.inputs_of(dataset) if source == "model" else None,
            )  # fmt: skip
            work.encodings = None
            stored = store_vectors(work.path, called, dataset, vectors, made)
    if neighbors:
        with watched("neighbours") as report:
            stored = store_graph(
                stored, neighbors, metric=metric, exact_up_to=exact_up_to, least_recall=least_recall,
                report=lambda done, total: report(done, total, "samples"),
            )  # fmt: skip
    remember_embedding(work, stored)
    graph = summary(stored)["graph"]
    if graph is not None and graph["recall"] is not None and graph["recall"] < least_recall:
        say(
            f"the graph of '{called}' holds {graph['recall']:.1%} of the true neighbours, of which "
            f"{least_recall:.1%} were asked for, with {graph['probed']} of its {graph['lists']} lists searched; "
            f"--exact-up-to {len(stored.vectors('train'))} makes it exact"
        )
    return summary(stored)


def summary(stored: StoredEmbedding) -> dict[str, Any]:
    """Return what a person wants to know of a stored embedding."""
    record = stored.record
    graph = record["graph"]
    return {
        "embedding": stored.name,
        "source": record["made"]["source"],
        "run_id": record["made"].get("run_id"),
        "samples": {split: record["splits"][split]["shape"][0] for split in SPLITS},
        "width": record["width"],
        "graph": None if graph is None else {key: graph.get(key) for key in SHOWN},
        "folder": str(stored.folder),
    }  # fmt: skip


def graph_in_words(graph: Mapping[str, Any] | None) -> str:
    """Say what a graph of neighbours is.

    Examples
    --------
    >>> found = {"approximate": True, "recall": 0.9731, "lists": 1600, "probed": 64}
    >>> graph_in_words({"k": 10, "metric": "cosine", **found})
    '10 nearest by cosine, approximate: 97.3% of the true ones found in 64 of 1600 lists'
    """
    if graph is None:
        return "none"
    how = "exact"
    if graph["approximate"]:
        how = f"approximate: {graph['recall']:.1%} of the true ones found"
        how += f" in {graph['probed']} of {graph['lists']} lists" if graph["lists"] else ""
    return f"{graph['k']} nearest by {graph['metric']}, {how}"


def remember_embedding(work: Work, stored: StoredEmbedding) -> None:
    """Put a stored embedding into the catalog's table of artifacts."""
    known = summary(stored)
    work.catalog.put_artifact(
        {
            "kind": "embedding", "name": stored.name, "dataset_id": work.dataset.dataset_id,
            "run_id": known["run_id"], "path": f"embeddings/{stored.name}",
            "digest": content_digest(stored.record), "config": stored.record["made"],
            "details": {key: known[key] for key in ("samples", "width", "graph")},
        }
    )  # fmt: skip
