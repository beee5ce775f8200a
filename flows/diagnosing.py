"""What a diagnostic finds, with what only the records know of its inputs: a scorer sees arrays, not who made them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracesift.pipelines.embedding.stored_embeddings import StoredEmbedding
from tracesift.scorers.contract import diagnose

SAW_LABELS = (
    "; this embedding is of the recorded network, which saw the labels, so both are far too low: name another with "
    "--embedding, such as content (`tracesift embed --source content` makes it)"
)


def diagnosed(
    name: str,
    signals: Any,
    run: Mapping[str, Any],
    params: Mapping[str, Any] | None = None,
    embedding: StoredEmbedding | None = None,
) -> dict[str, Any]:
    """Run the diagnostic `name`, and let its reading say what the records know.

    Parameters
    ----------
    signals
        What the diagnostic reads.
    run
        The record of the recording that the signals are of.
    embedding
        The stored embedding that stands in the place of the recording's own.
    """
    found = diagnose(name, signals, params=params)
    if name == "knn_bayes_error" and _saw_labels(run, embedding):
        found["reading"] += SAW_LABELS
    return found


def _saw_labels(run: Mapping[str, Any], embedding: StoredEmbedding | None) -> bool:
    """Whether vectors are known to be features of a network that was trained on the labels."""
    if embedding is not None:
        return bool(embedding.record["made"]["source"] == "model")
    return "layer" in run.get("arrays", {}).get("embedding", {})
