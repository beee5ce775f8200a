"""Sharpness: how much a sample's loss rises when the weights take a short step along its own gradient.

By the last layer this is closed: with h its input and e = p - onehot(y), the gradient is the outer product of e and
[1, h], and a step of length rho along it moves the logits by rho sqrt(1 + |h|^2) e / |e|.
"""

from __future__ import annotations

import math

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="hard",
    experimental=True,
    per_sample=True,
    reference="Kwon et al., CUPID, AAAI 2026 (shortcut unlearning); the step of Foret et al., Sharpness-aware "
    "minimization, ICLR 2021, per sample and by the last layer",
)
def sharpness(
    probs_last: np.ndarray, labels: np.ndarray, embedding: np.ndarray, *, rho: float = 0.05
) -> np.ndarray:
    """Return how much the sample's loss rises by a step of length `rho` along its gradient; high is sharp.

    Parameters
    ----------
    probs_last : array of shape (N, K)
        Class probabilities of the trained model.
    labels : array of shape (N,)
    embedding : array of shape (N, D)
        What the same model's last layer reads, as `tracesift embed` records it.
    rho : float
        Length of the step in the space of the last layer's weights and biases; 0.05 as in sharpness-aware minimization.

    Returns
    -------
    array of shape (N,)
        loss(theta + rho g / |g|) - loss(theta) in nats, at least rho |g|; 0 where the prediction is certain and right.
        NaN without prediction or vector.

    Raises
    ------
    BadInput
        A step that is not positive.

    Notes
    -----
    Samples that follow a shortcut are easily learned and hard to forget; CUPID divides a forget set by sharpness to
    tell them from the others. Which half is which, and its rho, are not known to us, so the halves of
    `sharpness_partition` are called flat and sharp and nothing else.

    References
    ----------
    Kwon et al., AAAI 2026; Foret et al., ICLR 2021, equation 2.

    Examples
    --------
    >>> probs = np.array([[0.5, 0.5], [0.9, 0.1], [1.0, 0.0]])
    >>> found = sharpness(probs, np.array([0, 0, 0]), np.zeros((3, 1)))
    >>> bool(found[0] > found[1] > found[2] == 0)
    True
    """
    if not rho > 0:
        raise BadInput(f"sharpness: rho is the length of a step, above 0, not {rho}")
    return _rise(probs_last, labels, embedding, float(rho))


@loop
def _rise(probs: np.ndarray, labels: np.ndarray, hidden: np.ndarray, rho: float) -> np.ndarray:
    out = np.empty(labels.size)
    moved = np.empty(probs.shape[1])
    for i in range(labels.size):
        inner, outer = 1.0, 0.0
        for d in range(hidden.shape[1]):
            inner += np.float64(hidden[i, d]) * np.float64(hidden[i, d])
        for k in range(probs.shape[1]):
            moved[k] = np.float64(probs[i, k]) - (1.0 if k == labels[i] else 0.0)
            outer += moved[k] * moved[k]
        if not (math.isfinite(inner) and math.isfinite(outer)):
            out[i] = np.nan
            continue
        if outer == 0.0:
            out[i] = 0.0
            continue
        by = rho * math.sqrt(inner / outer)
        largest = -np.inf
        own = by * moved[labels[i]]
        for k in range(probs.shape[1]):
            p = np.float64(probs[i, k])
            # a class of probability 0 stays at 0, and log p_y cancels between the two losses
            moved[k] = by * moved[k] + math.log(p) if p > 0.0 else -np.inf
            largest = max(largest, moved[k])
        total, before = 0.0, 0.0
        for k in range(probs.shape[1]):
            total += math.exp(moved[k] - largest)
            before += np.float64(probs[i, k])
        out[i] = largest + math.log(total) - math.log(before) - own
    return out
