"""What a diagnostic finds, with what only the records know of its inputs: a scorer sees arrays, not who made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tracesift.catalog.schema import SIGNALS
from tracesift.flows.progress import counted
from tracesift.pipelines.embedding.stored_embeddings import StoredEmbedding
from tracesift.pipelines.signals import Signals
from tracesift.scorers.contract import diagnose, find_diagnostic

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
    if found.get("share_of_usual") is not None:
        found["reading"] += _trained_otherwise(name, run.get("arrays", {}))
    return found


def over_models(name: str) -> bool:
    """Whether a diagnostic counts over models alone, so that those of several seeds are as good as more of one."""
    return all("R" in SIGNALS[one].axes for one in find_diagnostic(name).inputs)


def diagnosed_together(
    name: str, runs: Sequence[Signals], params: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Run a diagnostic `over_models` on those of several recordings of the same samples; its reading says so."""
    inputs = find_diagnostic(name).inputs
    each = [run.in_mode(run.modes[0]) for run in runs]
    together = {
        one: np.concatenate([of[one] for of in each], axis=SIGNALS[one].axes.index("R")) for one in inputs
    }
    found = diagnose(name, together, params=params)
    return {**found, "seeds": len(runs), "reading": f"{len(runs)} seeds together: {found['reading']}"}


def _saw_labels(run: Mapping[str, Any], embedding: StoredEmbedding | None) -> bool:
    """Whether vectors are known to be features of a network that was trained on the labels."""
    if embedding is not None:
        return bool(embedding.record["made"]["source"] == "model")
    return "layer" in run.get("arrays", {}).get("embedding", {})


def _trained_otherwise(name: str, arrays: Mapping[str, Any]) -> str:
    """Return in words how the models of a job and the usual, cross-fitted ones differ in epochs or folds, if they do.

    Examples
    --------
    >>> job = {"epochs": 10, "settings": {"epochs": 3, "folds": 5}}
    >>> usual = {"epochs": 6, "folds": 3}
    >>> _trained_otherwise("bias_shift_detection", {"bias_shift_margin": job, "probs_oos": usual})
    '; not trained alike: it took 3 epochs in 5 folds, the usual model 6 epochs in 3 folds'
    """
    job = next((arrays[signal] for signal in find_diagnostic(name).inputs if signal in arrays), None)
    usual = arrays.get("probs_oos")
    if job is None or usual is None or "settings" not in job:
        return ""
    settings = job["settings"]
    took = {"epochs": settings["epochs"] or job["epochs"], "folds": settings["folds"]}
    against = {name: usual[name] for name in took}
    if took == against:
        return ""
    it, other = (
        f"{counted(of['epochs'], 'epoch')} in {counted(of['folds'], 'fold')}" for of in (took, against)
    )
    return f"; not trained alike: it took {it}, the usual model {other}"
