"""The soft label histogram of a sample's neighbourhood, as SimiFeat votes and ranks by it.

Each of the k nearest, the sample itself among them, adds its cosine to the class it is labelled as. A sample's cosine
with itself is 1 whatever its neighbourhood; the definition puts 2 s_1 - s_2 in its place, as far above the nearest
other as that is above the second. The histogram is scaled to length 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Floats, Integers, row_blocks
from tracesift.scorers.noise.neighbors.nearest_others import nearest_others


def label_histogram(
    embedding: np.ndarray, labels: np.ndarray, *, k: int, min_similarity: float
) -> Iterator[tuple[Integers, Floats]]:
    """Yield blocks of rows with their histograms (rows, K), of Euclidean length 1, or 0 where all weights are 0.

    Samples without a vector are left out, and all are where fewer than two others have one.

    Parameters
    ----------
    embedding : array of shape (N, D)
        A row that is all zero or not finite stands for no vector.
    labels : array of shape (N,)
    k
        Size of the neighbourhood, the sample itself included; at least 3.
    min_similarity
        Taken off every cosine.

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    >>> _, histogram = next(label_histogram(x, np.array([0, 1, 1]), k=3, min_similarity=0.0))
    >>> histogram[0].round(3).tolist()  # 2 * 0.8 - 0.6 for itself, 0.8 + 0.6 for the others
    [0.581, 0.814]
    """
    if k < 3:
        raise BadInput(f"k counts the sample itself and at least two others, so it is 3 or more, got {k}")
    found = nearest_others(embedding, k - 1)
    if found.nearest.shape[1] < 2:
        return
    similar = np.column_stack([2 * found.cosines[:, 0] - found.cosines[:, 1], found.cosines]) - min_similarity
    members = np.column_stack([found.rows, found.nearest])
    classes = int(labels.max()) + 1
    for block in row_blocks(len(members), max(classes, k)):
        histogram = np.zeros((len(members[block]), classes))
        each = np.arange(len(histogram))
        for place in range(members.shape[1]):  # nearest first, so that sums do not depend on the block
            histogram[each, labels[members[block, place]]] += similar[block, place]
        length = np.sqrt((histogram**2).sum(axis=1, keepdims=True))
        yield found.rows[block], histogram / np.maximum(length, 1e-12)
