"""Gradients of the cross-entropy by the last linear layer, kept as the two factors of which they are products.

The gradient of sample i by the weights and biases of the layer is the outer product of e_i = p_i - onehot(y_i) and
[1, h_i], where h_i is the layer's input. So <g_i, g_j> = <e_i, e_j> (1 + <h_i, h_j>), and no row of K (D + 1) numbers
is ever written down. Samples lie side by side, so that every sum runs over classes or dimensions in their order while
the inner loop runs over samples: the same bits on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput

TOGETHER = 8
"""Samples whose distances to all others are measured at a time, so that the others are read once for all of them."""


@dataclass(frozen=True)
class LastLayer:
    """The gradients of n samples."""

    error: np.ndarray
    """(K, n) float64, p - onehot(label)."""
    hidden: np.ndarray
    """(D, n), the last layer's input, one sample beside the other."""
    rows: np.ndarray
    """(n, D), the same, one sample after the other."""

    def products(self, error: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        """Return <g_i, g> (n,) with the gradient g whose factors are (K,) and (D,)."""
        wide = hidden.astype(np.float64)  # float32 by float32 would be rounded to float32
        return _products(self.error, self.hidden, error, wide)

    def column(self, j: int) -> np.ndarray:
        """Return <g_i, g_j> (n,) with one of the samples."""
        return self.products(self.error[:, j].copy(), self.hidden[:, j])

    def squares(self) -> np.ndarray:
        """Return |g_i|^2 (n,), summed in the order of `products`, so that equal samples are at distance 0."""
        return _squares(self.error, self.hidden)

    def distances(self, j: int, squares: np.ndarray) -> np.ndarray:
        """Return |g_i - g_j| (n,) from one of the samples."""
        return np.sqrt(np.maximum(squares + squares[j] - 2 * self.column(j), 0.0))

    def all_distances(self, squares: np.ndarray) -> np.ndarray:
        """Return |g_i - g_j| (n, n), the same numbers as `distances`."""
        samples = squares.size
        out = np.empty((samples, samples))
        for first in range(0, samples, TOGETHER):
            _distances(self.error, self.hidden, squares, first, min(first + TOGETHER, samples), out)
        return out

    def mean(self) -> np.ndarray:
        """Return the mean gradient (K, 1 + D), the biases' first."""
        return _sum(self.error, self.rows) / self.error.shape[1]

    def along(self, gradient: np.ndarray) -> np.ndarray:
        """Return <g_i, V> (n,) with a gradient V (K, 1 + D) that is no product."""
        return _along(self.error, self.hidden, gradient)


def last_layer(probs: np.ndarray, labels: np.ndarray, embedding: np.ndarray) -> LastLayer:
    """Return the gradients of samples with probabilities (n, K), labels (n,) and layer inputs (n, D).

    Examples
    --------
    >>> one = last_layer(np.array([[0.25, 0.75]]), np.array([1]), np.array([[2.0]]))
    >>> one.error.ravel().tolist(), one.column(0).tolist()  # |e|^2 (1 + h^2) = 0.125 * 5
    ([0.25, -0.25], [0.625])
    """
    error = np.array(probs.T, dtype=np.float64, order="C")
    error[labels, np.arange(labels.size)] -= 1.0
    rows = np.ascontiguousarray(embedding)
    rows = rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float64)
    return LastLayer(error, np.ascontiguousarray(rows.T), rows)


def check_classes(
    selector: str, probs: np.ndarray, labels: np.ndarray, frame: pl.DataFrame | None, *, signal: str
) -> None:
    """Raise where `signal` holds no probabilities, or the labels are no classes of it or not those of the frame."""
    if probs.shape[1] < 2 or np.abs(probs.sum(axis=1, dtype=np.float64) - 1).max(initial=0) > 0.02:
        raise BadInput(f"{selector}: {signal} holds rows that are no probabilities; pass softmax(logits)")
    if labels.dtype.kind not in "iu" or not ((labels >= 0) & (labels < probs.shape[1])).all():
        raise BadInput(
            f"{selector}: labels must be class indices from 0 to {probs.shape[1] - 1}, the columns of {signal}"
        )
    if frame is not None:
        pairs = pl.DataFrame({"label": frame["label"], "index": labels}).unique()
        doubled = pairs.filter(pl.col("label").is_duplicated() | pl.col("index").is_duplicated()).sort(
            pl.all()
        )
        if len(doubled):
            raise BadInput(
                f"{selector}: labels and the frame's column 'label' disagree (label '{doubled['label'][0]}' is class "
                f"{doubled['index'][0]} in one row and not in another); bring both into the same order"
            )


@loop
def _products(error: np.ndarray, hidden: np.ndarray, e: np.ndarray, h: np.ndarray) -> np.ndarray:
    samples = error.shape[1]
    out, inner = np.empty(samples), np.empty(512)
    for start in range(0, samples, 512):
        width = min(512, samples - start)
        for i in range(width):
            inner[i] = 1.0
        for d in range(h.size):
            for i in range(width):
                inner[i] += h[d] * hidden[d, start + i]
        for i in range(width):
            out[start + i] = 0.0
        for k in range(e.size):
            for i in range(width):
                out[start + i] += e[k] * error[k, start + i]
        for i in range(width):
            out[start + i] *= inner[i]
    return out


@loop
def _distances(
    error: np.ndarray, hidden: np.ndarray, squares: np.ndarray, first: int, last: int, out: np.ndarray
) -> None:
    """Fill the rows `first` to `last` from the diagonal on, and the columns of the same numbers."""
    samples = squares.size
    outer, inner = np.empty((last - first, 512)), np.empty((last - first, 512))
    for start in range(first, samples, 512):
        width = min(512, samples - start)
        outer[:] = 0.0
        inner[:] = 1.0
        for d in range(hidden.shape[0]):
            for b in range(last - first):
                h = np.float64(hidden[d, first + b])
                for i in range(width):
                    inner[b, i] += h * hidden[d, start + i]
        for k in range(error.shape[0]):
            for b in range(last - first):
                e = error[k, first + b]
                for i in range(width):
                    outer[b, i] += e * error[k, start + i]
        for b in range(last - first):
            j = first + b
            for i in range(width):
                squared = squares[start + i] + squares[j] - 2 * (outer[b, i] * inner[b, i])
                out[j, start + i] = np.sqrt(max(squared, 0.0))
            for i in range(width):
                out[start + i, j] = out[j, start + i]


@loop
def _squares(error: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    samples = error.shape[1]
    inner, out = np.ones(samples), np.zeros(samples)
    for d in range(hidden.shape[0]):
        for i in range(samples):
            inner[i] += np.float64(hidden[d, i]) * hidden[d, i]
    for k in range(error.shape[0]):
        for i in range(samples):
            out[i] += error[k, i] * error[k, i]
    for i in range(samples):
        out[i] *= inner[i]
    return out


@loop
def _sum(error: np.ndarray, rows: np.ndarray) -> np.ndarray:
    classes, dimensions = error.shape[0], rows.shape[1]
    total = np.zeros((classes, 1 + dimensions))
    for i in range(rows.shape[0]):
        for k in range(classes):
            e = error[k, i]
            total[k, 0] += e
            for d in range(dimensions):
                total[k, 1 + d] += e * rows[i, d]
    return total


@loop
def _along(error: np.ndarray, hidden: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    samples = error.shape[1]
    out, inner = np.zeros(samples), np.empty(512)
    for start in range(0, samples, 512):
        width = min(512, samples - start)
        for k in range(error.shape[0]):
            for i in range(width):
                inner[i] = gradient[k, 0]
            for d in range(hidden.shape[0]):
                for i in range(width):
                    inner[i] += gradient[k, 1 + d] * hidden[d, start + i]
            for i in range(width):
                out[start + i] += error[k, start + i] * inner[i]
    return out
