"""Training-free detection of wrong labels, by the vote of the neighbourhood.

The paper takes the most common label of the neighbourhood and flags a sample whose own is another; repeated over
augmented views, a majority of the rounds decides. Here the lead of the others is the score, so that samples can be
ranked: above 0 is the paper's flag. Features of several views are scored one by one.
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
def simifeat_vote(
    embedding: np.ndarray, labels: np.ndarray, *, k: int = 10, min_similarity: float = 0.0
) -> np.ndarray:
    """Return how far another label leads over the given one in the soft vote of the neighbours; high is suspicious.

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
        Largest entry of another class minus that of the label, in a histogram of length 1; in [-1, 1] as long as
        cosines are not below `min_similarity`. Above 0 is the published flag, where a tie, here 0, goes to the
        smaller class. NaN without a vector, or where fewer than two others have one.

    References
    ----------
    Zhu, Dong, Liu, ICML 2022, section 3.2 (voting-based local detection).

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    >>> simifeat_vote(x, np.array([0, 1, 1]), k=3).round(3).tolist()
    [0.232, -0.574, -0.713]
    """
    score = np.full(len(labels), np.nan)
    for rows, histogram in label_histogram(embedding, labels, k=k, min_similarity=min_similarity):
        each = np.arange(len(rows))
        own = histogram[each, labels[rows]].copy()
        histogram[each, labels[rows]] = -np.inf
        # A class that nobody is labelled as has an entry of 0; it is what leads where there is one class alone.
        others = histogram.max(axis=1) if histogram.shape[1] > 1 else np.zeros(len(rows))
        score[rows] = others - own
    return score
