"""Whom a gradient step on a sample would help and harm now, by the last layer: what the usual recording can say."""

from __future__ import annotations

import numpy as np

from tracesift.scorers.influence.edge_search import Edges
from tracesift.scorers.influence.edges.contract import edges
from tracesift.scorers.influence.top_edges import top_edges


@edges(reference="Pruthi et al., NeurIPS 2020, section 3, at the last checkpoint and of the last layer alone")
def last_layer(
    probs_last: np.ndarray,
    labels: np.ndarray,
    embedding: np.ndarray,
    val_probs_last: np.ndarray,
    val_labels: np.ndarray,
    val_embedding: np.ndarray,
    *,
    k: int = 10,
    bias: bool = True,
    rows: int = 256,
    threads: int | None = None,
) -> Edges:
    """Return the validation samples whose loss a step on each training sample lowers most, and raises most.

    Parameters
    ----------
    probs_last, labels, embedding : arrays of shape (N, K), (N,), (N, D)
        Probabilities of the trained model, class indices, input of its last layer.
    val_probs_last, val_labels, val_embedding : arrays of shape (M, K), (M,), (M, D)
        The same of the validation samples.
    k, bias, rows, threads
        As in `top_edges`.

    Returns
    -------
    Edges
        Products of gradients: a step of rate eta changes the loss by minus eta times as much.

    Examples
    --------
    >>> half, one = np.array([[0.5, 0.5]]), np.ones((1, 1))
    >>> last_layer(half, np.array([0]), one, half, np.array([0]), one, k=1).help.tolist()
    [[1.0]]
    """
    return top_edges(
        probs_last, labels, embedding, val_probs_last, val_labels, val_embedding,
        k=k, bias=bias, rows=rows, threads=threads,
    )  # fmt: skip
