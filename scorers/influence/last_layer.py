"""Gradients of the cross-entropy by the last linear layer, from recorded probabilities and the layer's inputs.

The gradient of sample i by weights and biases is the outer product of e_i = p_i - onehot(y_i) and [1, h_i], with h_i
the layer's input. So |g_i|^2 = |e_i|^2 (1 + |h_i|^2), and sums and products of gradients need no row of K (D + 1)
numbers per sample. Each sum runs over samples, classes and dimensions in their order: the same bits on every machine.
"""

from __future__ import annotations

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.scorers.arrays import Floats, Integers, row_blocks

Layer = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Probabilities (n, K), labels (n,) and inputs of the last layer (n, D) of the same samples."""


def with_gradient(probs: np.ndarray, embedding: np.ndarray) -> Integers:
    """Return the rows that have both a prediction and a finite vector, ascending.

    Examples
    --------
    >>> with_gradient(np.array([[0.5, 0.5], [np.nan, np.nan], [1, 0]]), np.array([[0.0], [1.0], [np.inf]])).tolist()
    [0]
    """
    there = np.empty(len(embedding), dtype=bool)
    for rows in row_blocks(len(embedding), embedding.shape[1] + probs.shape[1]):
        there[rows] = np.isfinite(embedding[rows]).all(axis=1) & np.isfinite(probs[rows]).all(axis=1)
    return np.flatnonzero(there)


def squares(layer: Layer) -> Floats:
    """Return |g_i|^2 (n,).

    Examples
    --------
    >>> one = np.array([[0.25, 0.75]]), np.array([1]), np.array([[2.0]])
    >>> squares(one).tolist()  # (1/16 + 1/16) (1 + 4)
    [0.625]
    """
    return _squares(*layer)


def weighted_sum(layer: Layer, weights: np.ndarray) -> Floats:
    """Return sum_i w_i g_i (K, 1 + D), the biases' column first."""
    return _weighted_sum(*layer, weights)


def products(layer: Layer, gradient: np.ndarray) -> Floats:
    """Return <g_i, V> (n,) with a gradient V (K, 1 + D)."""
    return _products(*layer, gradient)


@loop
def _squares(probs: np.ndarray, labels: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    out = np.empty(labels.size)
    for i in range(labels.size):
        outer, inner = 0.0, 1.0
        for k in range(probs.shape[1]):
            error = np.float64(probs[i, k])
            if k == labels[i]:
                error -= 1.0
            outer += error * error
        for d in range(hidden.shape[1]):
            inner += np.float64(hidden[i, d]) * np.float64(hidden[i, d])
        out[i] = outer * inner
    return out


@loop
def _weighted_sum(
    probs: np.ndarray, labels: np.ndarray, hidden: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    total = np.zeros((probs.shape[1], 1 + hidden.shape[1]))
    for i in range(labels.size):
        for k in range(probs.shape[1]):
            error = np.float64(probs[i, k])
            if k == labels[i]:
                error -= 1.0
            error *= weights[i]
            total[k, 0] += error
            for d in range(hidden.shape[1]):
                total[k, 1 + d] += error * np.float64(hidden[i, d])
    return total


@loop
def _products(probs: np.ndarray, labels: np.ndarray, hidden: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    out, along = np.empty(labels.size), np.empty(gradient.shape[1])
    for i in range(labels.size):
        along[:] = 0.0
        for k in range(probs.shape[1]):
            error = np.float64(probs[i, k])
            if k == labels[i]:
                error -= 1.0
            for d in range(gradient.shape[1]):
                along[d] += error * gradient[k, d]
        total = along[0]
        for d in range(hidden.shape[1]):
            total += along[1 + d] * np.float64(hidden[i, d])
        out[i] = total
    return out
