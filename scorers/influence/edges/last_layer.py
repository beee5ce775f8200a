"""Which validation samples a training sample helps most, and which it harms most, by the last layer's gradients.

A gradient step on training sample i lowers the loss of validation sample v by eta <g_i, g_v>, to first order. Of the
last layer that product is (e_i . e_v) (1 + <h_i, h_v>), the term that TracIn adds up over its checkpoints; here there
is one checkpoint. Of the N x M products only the few that matter for each training sample are ever kept.
"""

from __future__ import annotations

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Floats, Integers
from tracesift.scorers.influence.edge_search import Edges, strongest
from tracesift.scorers.influence.edges.contract import edges


@edges(
    version=2,
    reference="Pruthi et al., NeurIPS 2020, section 3, at the last checkpoint and of the last layer alone",
)
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
    """Return the k strongest partners of either kind of every training and every validation sample.

    Parameters
    ----------
    probs_last, labels, embedding : arrays of shape (N, K), (N,), (N, D)
        Probabilities of the trained model, class indices, input of its last layer.
    val_probs_last, val_labels, val_embedding : arrays of shape (M, K), (M,), (M, D)
        The same of the validation samples, or of those of a test set.
    k
        Partners of either kind.
    bias
        Whether the layer has biases; without, the product is (e . e') <h, h'>.
    rows
        Training samples that are worked on at a time; it leaves no trace in the result, nor does `threads`.
    threads
        As many as there are processors where None.

    Returns
    -------
    Edges
        Nothing for a sample without prediction or vector, nor to such a validation sample. A product of 0 is no edge.

    Raises
    ------
    BadInput
        k or rows below 1, or samples and validation samples of different classes or dimensions.

    Notes
    -----
    N M (K + D) multiplications in float64, each product summed in one order; memory for 4 (N + M) k results, N K
    errors, and blocks of both kinds of samples.

    References
    ----------
    Pruthi et al., Estimating training data influence by tracing gradient descent, NeurIPS 2020, section 3
    (proponents and opponents).

    Examples
    --------
    >>> half, one = np.array([[0.5, 0.5]]), np.ones((1, 1))
    >>> found = last_layer(half, np.array([0]), one, np.repeat(half, 2, 0), np.array([1, 0]), np.ones((2, 1)), k=1)
    >>> found.helped.tolist(), found.help.tolist(), found.harmed.tolist(), found.harm.tolist()
    ([[1]], [[1.0]], [[0]], [[-1.0]])
    """
    for what, ours, theirs in (
        ("classes", probs_last.shape[1], val_probs_last.shape[1]),
        ("dimensions", embedding.shape[1], val_embedding.shape[1]),
    ):
        if ours != theirs:
            raise BadInput(
                f"last_layer: samples have {ours} {what}, validation samples {theirs}; use one model"
            )
    train = _errors(probs_last, labels), embedding[:, None]
    val = _errors(val_probs_last, val_labels), val_embedding[:, None]
    return strongest(
        train, val, np.ones(len(labels)), bias=1.0 if bias else 0.0, k=k, rows=rows, threads=threads, name="last_layer",
    )  # fmt: skip


def _errors(probs: np.ndarray, labels: Integers) -> Floats:
    """Return p - onehot(y), float64 (n, 1, K)."""
    error = np.array(probs, dtype=np.float64)
    error[np.arange(len(labels)), labels] -= 1.0
    return error[:, None]
