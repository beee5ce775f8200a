"""Which validation samples a training sample helps most, and which it harms most, by the last layer's gradients.

A gradient step on training sample i lowers the loss of validation sample v by eta <g_i, g_v>, to first order. Of the
last layer that product is (e_i . e_v) (1 + <h_i, h_v>), the term that TracIn adds up over its checkpoints; here there
is one checkpoint. Of the N x M products only the few that matter for each training sample are ever kept.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Floats, Integers
from tracesift.scorers.influence.last_layer import with_gradient


@dataclass(frozen=True)
class Edges:
    """The strongest partners of each training sample, strongest first, ties by the smaller validation row."""

    helped: Integers
    """(N, k) validation rows whose loss a step on the sample lowers; -1 where there are fewer than k."""
    help: Floats
    """(N, k) the products, above 0; NaN where there are fewer."""
    harmed: Integers
    """(N, k) validation rows whose loss it raises."""
    harm: Floats
    """(N, k) the products, below 0."""
    help_error: Floats | None = None
    """(N, k) standard errors of `help`, of a method that estimates; NaN where there is no edge."""
    harm_error: Floats | None = None
    """(N, k) those of `harm`."""


def top_edges(
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
    """Return for every training sample the k validation samples it helps most and the k it harms most.

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
    N M (K + D) multiplications in float64, each product summed in one order; memory for 4 N k results, a copy of the
    validation samples, and `rows` samples for each thread.

    References
    ----------
    Pruthi et al., Estimating training data influence by tracing gradient descent, NeurIPS 2020, section 3
    (proponents and opponents).

    Examples
    --------
    >>> half, one = np.array([[0.5, 0.5]]), np.ones((1, 1))
    >>> found = top_edges(half, np.array([0]), one, np.repeat(half, 2, 0), np.array([1, 0]), np.ones((2, 1)), k=1)
    >>> found.helped.tolist(), found.help.tolist(), found.harmed.tolist(), found.harm.tolist()
    ([[1]], [[1.0]], [[0]], [[-1.0]])
    """
    if k < 1 or rows < 1:
        raise BadInput(f"top_edges: k and rows are at least 1, got {k} and {rows}")
    for what, ours, theirs in (
        ("classes", probs_last.shape[1], val_probs_last.shape[1]),
        ("dimensions", embedding.shape[1], val_embedding.shape[1]),
    ):
        if ours != theirs:
            raise BadInput(
                f"top_edges: samples have {ours} {what}, validation samples {theirs}; use one model"
            )
    there, partners = with_gradient(probs_last, embedding), with_gradient(val_probs_last, val_embedding)
    error = _errors(val_probs_last[partners], val_labels[partners])
    hidden = np.ascontiguousarray(val_embedding[partners].T, dtype=np.float64)
    shape = (len(labels), k)
    help_, harm = np.zeros(shape), np.zeros(shape)
    helped, harmed = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)

    def work(start: int) -> None:
        these = there[start : start + rows]
        ours = np.ascontiguousarray(_errors(probs_last[these], labels[these]).T)
        vectors = np.ascontiguousarray(embedding[these], dtype=np.float64)
        _keep(
            ours, vectors, error, hidden, 1.0 if bias else 0.0, partners, these, helped, help_, harmed, harm
        )

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for _ in pool.map(work, range(0, len(there), rows)):
            pass
    help_[helped < 0] = np.nan
    harm[harmed < 0] = np.nan
    return Edges(helped, help_, harmed, harm)


def _errors(probs: np.ndarray, labels: Integers) -> Floats:
    """Return p - onehot(y), one sample beside the other (K, n)."""
    error = np.array(probs.T, dtype=np.float64, order="C")
    error[labels, np.arange(len(labels))] -= 1.0
    return error


@loop
def _keep(
    ours: np.ndarray,
    vectors: np.ndarray,
    error: np.ndarray,
    hidden: np.ndarray,
    bias: float,
    partners: np.ndarray,
    these: np.ndarray,
    helped: np.ndarray,
    help_: np.ndarray,
    harmed: np.ndarray,
    harm: np.ndarray,
) -> None:
    """Measure all pairs of some samples, and insert the strongest into their rows of the results."""
    samples, k, width = error.shape[1], help_.shape[1], 512
    outer, inner = np.empty(width), np.empty(width)
    for start in range(0, samples, width):
        count = min(width, samples - start)
        for i in range(these.size):
            row = these[i]
            for at in range(count):
                inner[at] = bias
                outer[at] = 0.0
            for d in range(hidden.shape[0]):
                h = vectors[i, d]
                for at in range(count):
                    inner[at] += h * hidden[d, start + at]
            for c in range(error.shape[0]):
                e = ours[i, c]
                for at in range(count):
                    outer[at] += e * error[c, start + at]
            for at in range(count):
                value = outer[at] * inner[at]
                # Partners come by ascending row, so one that only equals what is kept stays behind it.
                if value > help_[row, k - 1]:
                    place = k - 1
                    while place > 0 and value > help_[row, place - 1]:
                        help_[row, place] = help_[row, place - 1]
                        helped[row, place] = helped[row, place - 1]
                        place -= 1
                    help_[row, place] = value
                    helped[row, place] = partners[start + at]
                elif value < harm[row, k - 1]:
                    place = k - 1
                    while place > 0 and value < harm[row, place - 1]:
                        harm[row, place] = harm[row, place - 1]
                        harmed[row, place] = harmed[row, place - 1]
                        place -= 1
                    harm[row, place] = value
                    harmed[row, place] = partners[start + at]
