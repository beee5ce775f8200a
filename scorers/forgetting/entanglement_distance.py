"""Distance to the centre of all samples, which forget sets of low and high entanglement are chosen by.

How entangled a forget set is with the rest is a number of two sets (`entanglement`), and no sample has one. The
authors of RUM therefore sort all samples by this distance and cut groups out of the order.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.arrays import row_blocks
from tracesift.scorers.contract import scorer
from tracesift.scorers.geometry.cal import finite_rows
from tracesift.scorers.geometry.class_centroid_distance import centre


@scorer(
    mode=None,
    direction="outlier",
    reference="Zhao, Kurmanji, Barbulescu, Triantafillou, Triantafillou, What makes unlearning hard and what to do "
    "about it, NeurIPS 2024 (their code)",
)
def entanglement_distance(embedding: np.ndarray) -> np.ndarray:
    """Return the Euclidean distance to the mean of all samples; high is far out, and in RUM's sets hard to forget.

    Parameters
    ----------
    embedding : array of shape (N, D)
        What the last layer of the model that is to forget reads, without augmentation. A row that is not finite stands
        for no vector and has no part in the mean.

    Returns
    -------
    array of shape (N,)
        In units of the embedding, at least 0. NaN without a vector.

    Notes
    -----
    The centre is that of all samples and not of the class; `class_centroid_distance` measures from that.

    References
    ----------
    Zhao et al., NeurIPS 2024, section 4 and appendix (sets of low, medium and high entanglement).

    Examples
    --------
    >>> entanglement_distance(np.array([[0.0, 0.0], [6.0, 8.0], [3.0, 4.0]])).tolist()
    [5.0, 5.0, 0.0]
    """
    score = np.full(len(embedding), np.nan)
    there = finite_rows(embedding)
    if not len(there):
        return score
    middle = centre(embedding[there], "mean")
    for block in row_blocks(len(there), embedding.shape[1]):
        apart = np.ascontiguousarray(embedding[there[block]], dtype=np.float64) - middle
        score[there[block]] = np.sqrt((apart**2).sum(axis=1))
    return score
