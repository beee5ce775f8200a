"""Spectral signature: how far a sample lies along the direction in which its class varies most.

Backdoored samples of a class share a feature that the others lack, and if they are a minority whose mean is far
enough from the others', the class's first singular vector points at them.
"""

from __future__ import annotations

import math

import numpy as np

from tracesift.scorers.arrays import Floats
from tracesift.scorers.contract import scorer
from tracesift.scorers.geometry.cal import finite_rows
from tracesift.scorers.geometry.class_centroid_distance import centre

DIGITS = 9
"""Decimals that are kept of a projection, in units of about the class's largest number: the last bits of matrix
products differ from machine to machine."""


@scorer(
    mode=None,
    direction="suspicious",
    experimental=True,
    reference="Tran, Li, Madry, Spectral signatures in backdoor attacks, NeurIPS 2018",
)
def spectral_signature(embedding: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the squared projection on the class's top right singular vector; high lies with a spectral minority.

    Parameters
    ----------
    embedding : array of shape (N, D)
        Of the model trained on the suspected data, a late layer, as in the paper. A row that is not finite stands
        for no vector and has no part in mean and direction.
    labels : array of shape (N,)

    Returns
    -------
    array of shape (N,)
        tau_i = ((R_i - mean) v)^2 with v the first right singular vector of the centred features of the class; in
        squared units of the embedding, at least 0. 0 in a class of one, and where all of a class are the same; NaN
        without a vector.

    Notes
    -----
    The paper removes the 1.5 eps n highest of each class, eps being the share that is thought to be poisoned; of a
    score alone that decision cannot be read, since every class has its highest, a clean one too.

    Blind to: half of a class or more (the two sides then lie equally far from the mean, and beyond a half the clean
    ones lie farther), noise that differs from sample to sample, a signal that all of a class carry, any poison
    whose mean in this embedding is not far off, and whatever varies more than the poison: then the score ranks by that.
    Where a class's two largest singular values are equal, the direction between them is arbitrary.

    References
    ----------
    Tran, Li, Madry, NeurIPS 2018, algorithm 1.

    Examples
    --------
    >>> x = np.array([[0.0, 1.0], [0.0, -1.0], [0.0, 1.0], [0.0, -1.0], [10.0, 0.0], [5.0, 5.0]])
    >>> spectral_signature(x, np.array([0, 0, 0, 0, 0, 1])).tolist()
    [4.0, 4.0, 4.0, 4.0, 64.0, 0.0]
    """
    score = np.full(len(labels), np.nan)
    there = finite_rows(embedding)
    for label in np.unique(labels[there]):
        rows = there[labels[there] == label]
        residual = np.ascontiguousarray(embedding[rows], dtype=np.float64)
        residual -= centre(residual, "mean")
        # By a power of two that no bit of a product can move: exact, and rounding is then relative to the class.
        unit = 2.0 ** math.frexp(np.abs(residual).max(initial=0.0))[1]
        residual /= unit
        _, directions = principal(residual, 1)
        score[rows] = ((residual @ directions).sum(axis=1).round(DIGITS) * unit) ** 2
    return score


def principal(residual: Floats, count: int) -> tuple[Floats, Floats]:
    """Return the largest squared singular values (count,), falling, and their right singular vectors (D, count).

    By the smaller of the two Gram matrices of `residual` (n, D). Fewer than `count` where there are fewer; the vector
    of a singular value of 0 is all zero.

    Examples
    --------
    >>> values, directions = principal(np.array([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]), 1)
    >>> values.round(6).tolist(), np.abs(directions).round(6).tolist()
    ([16.0], [[0.0], [1.0]])
    """
    from scipy.linalg import eigh  # half a second of import that listing the scorers spares

    wide = residual.shape[1] > len(residual)
    gram = residual @ residual.T if wide else residual.T @ residual
    size = len(gram)
    values, vectors = eigh(gram, subset_by_index=(max(0, size - count), size - 1))
    values, vectors = values[::-1].clip(min=0.0), vectors[:, ::-1]
    if wide:
        vectors = residual.T @ vectors
    lengths = np.sqrt((vectors**2).sum(axis=0))
    return values, np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
