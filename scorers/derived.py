"""Scalar signals that follow exactly from `probs` (T, N, K) and `labels`, one epoch at a time.

Only what is exact: loss and margin are defined on logits, and probabilities have lost those to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Floats, Integers


def derive(name: str, probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the scalar signal `name` of shape (T, N) from probabilities.

    Parameters
    ----------
    name
        One of `DERIVABLE`.
    probs : array of shape (T, N, K)
        Rows of NaN are samples that were not seen at that epoch.
    labels : array of shape (N,)

    Examples
    --------
    >>> probs = np.array([[[0.7, 0.3], [0.5, 0.5]]])
    >>> derive("prob_margin", probs, np.array([1, 0])).round(2).tolist()
    [[-0.4, 0.0]]
    """
    epochs, samples, classes = probs.shape
    if len(labels) != samples:
        raise BadInput(f"'probs' has {samples} samples but 'labels' has {len(labels)}")
    if samples and labels.max() >= classes:
        raise BadInput(f"'labels' holds class {labels.max()} but 'probs' has {classes} classes")
    formula = DERIVABLE[name]
    return np.stack([formula(probs[t], labels) for t in range(epochs)])


def _prob_label(p: Floats, y: Integers) -> NDArray[Any]:
    return np.asarray(p[np.arange(len(y)), y])


def _prob_margin(p: Floats, y: Integers) -> NDArray[Any]:
    others = p.copy()
    others[np.arange(len(y)), y] = -np.inf
    return np.asarray(_prob_label(p, y) - others.max(axis=1))


def _error_norm(p: Floats, y: Integers) -> NDArray[Any]:
    error = p.astype(np.float64)
    error[np.arange(len(y)), y] -= 1
    return np.asarray(np.sqrt((error**2).sum(axis=1)))


def _entropy(p: Floats, y: Integers) -> NDArray[Any]:
    p = p.astype(np.float64)
    return np.asarray(-(p * np.log(np.where(p == 0, 1.0, p))).sum(axis=1))


def _pred(p: Floats, y: Integers) -> NDArray[Any]:
    return np.asarray(p.argmax(axis=1))


def _correct(p: Floats, y: Integers) -> NDArray[Any]:
    return np.asarray(_seen(p, y) & (p.argmax(axis=1) == y))


def _seen(p: Floats, y: Integers) -> NDArray[Any]:
    return np.asarray(~np.isnan(p).any(axis=1))


DERIVABLE: dict[str, Callable[[Floats, Integers], NDArray[Any]]] = {
    "prob_label": _prob_label,
    "prob_margin": _prob_margin,
    "error_norm": _error_norm,
    "entropy": _entropy,
    "pred": _pred,
    "correct": _correct,
    "seen": _seen,
}
