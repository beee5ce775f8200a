"""Training-free detection of wrong labels, by how little the neighbourhood supports the given one.

The paper flags, class by class, the top of this ranking: as many as the transition matrix of `noise_transition_hoc`
expects wrong, moved by a random jitter. The score needs neither.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer
from tracesift.scorers.noise.neighbors.label_histogram import label_histogram


@scorer(
    mode=None,
    direction="suspicious",
    experimental=True,
    reference="Zhu, Dong, Liu, Detecting corrupted labels without training a model to predict, ICML 2022",
)
def simifeat_rank(
    embedding: np.ndarray, labels: np.ndarray, *, k: int = 10, min_similarity: float = 0.0
) -> np.ndarray:
    """Return the negative logarithm of the given label's entry in the neighbours' soft histogram; high is suspicious.

    Parameters
    ----------
    embedding : array of shape (N, D)
        Features of a model that has not seen these labels, compared by cosine: one trained on them has put
        wrong labels that it remembers among their own. A row that is all zero or not finite stands for no vector.
    labels : array of shape (N,)
    k
        Size of the neighbourhood, the sample itself included, which counts with 2 c_1 - c_2, where c_1 and c_2 are its
        two largest cosines with others: its own of 1 would outvote them.
    min_similarity
        Taken off every cosine before it is counted.

    Returns
    -------
    array of shape (N,)
        -log(h[label] + 1e-8) with h of length 1: from 0 to 18.4, the value where the label has no support or,
        by cosines below `min_similarity`, less than none. NaN without a vector, or where fewer than two others
        have one.

    References
    ----------
    Zhu, Dong, Liu, ICML 2022, section 3.3 (ranking-based global detection).

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    >>> simifeat_rank(x, np.array([0, 1, 1]), k=3).round(3).tolist()
    [0.543, 0.069, 0.033]
    """
    score = np.full(len(labels), np.nan)
    for rows, histogram in label_histogram(embedding, labels, k=k, min_similarity=min_similarity):
        own = histogram[np.arange(len(rows)), labels[rows]]
        score[rows] = -np.log(np.maximum(own, 0.0) + 1e-8)
    return score
