"""How densely a sample's surroundings are settled: the mean cosine with its nearest others."""

from __future__ import annotations

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import scorer
from tracesift.scorers.noise.neighbors.nearest_others import nearest_others


@scorer(
    mode=None,
    direction="redundant",
    experimental=True,
    reference="Zhu, Wang, Yao, Tsou, Active learning with sampling by uncertainty and density, COLING 2008",
)
def knn_density(embedding: np.ndarray, *, k: int = 20) -> np.ndarray:
    """Return the mean cosine with the k nearest others; high lies in a crowd, low is an outlier.

    Parameters
    ----------
    embedding : array of shape (N, D)
        A general-purpose embedding: in that of a model trained on the labels, every learned class is a crowd. A row
        that is all zero or not finite stands for no vector.
    k
        Neighbours, the sample itself not among them; 20 in the paper.

    Returns
    -------
    array of shape (N,)
        In [-1, 1]; 1 where k others point in the same direction. Over fewer where there are fewer; NaN without a
        vector or without any other.

    Raises
    ------
    BadInput
        For k below 1.

    References
    ----------
    Zhu et al., COLING 2008, section 4 (k-nearest-neighbour-based density).

    Examples
    --------
    >>> knn_density(np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), k=1).tolist()
    [0.6, 0.8, 0.8]
    """
    if k < 1:
        raise BadInput(f"knn_density: k is a number of neighbours, at least 1, got {k}")
    score = np.full(len(embedding), np.nan)
    found = nearest_others(embedding, k)
    if found.cosines.shape[1]:
        total = np.zeros(len(found.rows))
        for place in range(found.cosines.shape[1]):  # nearest first, so that the sum has one order
            total += found.cosines[:, place]
        score[found.rows] = (total / found.cosines.shape[1]).clip(-1.0, 1.0)
    return score
