"""An embedding is made from one source, kept by name with its graph of neighbours, and known to the catalog."""

from __future__ import annotations

from typing import Any

from tracesift.catalog.nearest_rows import Metric
from tracesift.catalog.neighbor_graph import EXACT_UP_TO, NEIGHBORS, RECALL
from tracesift.flows.kept_embeddings import keep_graph, remember_embedding, told
from tracesift.flows.progress import watched
from tracesift.flows.record import recorded_dataset
from tracesift.flows.work import Work
from tracesift.pipelines.embedding.sources import default_name, made_by, vectors_of
from tracesift.pipelines.embedding.stored_embeddings import (
    checked_name,
    is_made,
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
    neighbors: int = NEIGHBORS,
    metric: Metric = "cosine",
    exact_up_to: int = EXACT_UP_TO,
    least_recall: float = RECALL,
) -> dict[str, Any]:
    """Store the vectors of one source and the graph of their neighbours; what is there already is not made again.

    Returns
    -------
    dict
        ``embedding`` (its name), ``source``, ``run_id`` for the model's, ``samples`` by split, ``width``, ``graphs``
        with ``k``, ``metric``, ``approximate``, ``recall``, ``lists`` and ``probed`` of each, and the ``folder``.
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
        stored = keep_graph(work, stored, neighbors, metric, exact_up_to, least_recall)
    else:
        remember_embedding(work, stored)
    kept = stored.record["made"]
    return {
        "embedding": stored.name, "source": kept["source"], "run_id": kept.get("run_id"), **told(stored.record),
        "folder": str(stored.folder),
    }  # fmt: skip
