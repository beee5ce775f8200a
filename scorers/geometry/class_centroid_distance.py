"""Distance to the centre of the own class, which moderate coresets are chosen by.

The paper speaks of the mean of a class; its code takes the median of each coordinate, which far-off samples do not
drag along. The code's is the default here.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Floats, row_blocks
from tracesift.scorers.contract import scorer
from tracesift.scorers.geometry.cal import finite_rows


@scorer(
    mode=None,
    direction="outlier",
    reference="Xia, Liu, Yu, Shen, Han, Liu, Moderate coreset, ICLR 2023",
)
def class_centroid_distance(
    embedding: np.ndarray, labels: np.ndarray, *, center: Literal["median", "mean"] = "median"
) -> np.ndarray:
    """Return the Euclidean distance to the centre of the sample's class; high is unlike the class.

    Parameters
    ----------
    embedding : array of shape (N, D)
        Of a model trained on the data, its penultimate layer, without augmentation. A row that is not finite
        stands for no vector and has no part in the centre.
    labels : array of shape (N,)
    center
        Coordinate by coordinate, the median (as in the authors' code) or the mean (as in their paper).

    Returns
    -------
    array of shape (N,)
        In units of the embedding, at least 0; 0 for the only sample of a class, which is its own centre. NaN
        without a vector.

    Raises
    ------
    BadInput
        For another centre.

    References
    ----------
    Xia et al., ICLR 2023, section 3.1.

    Examples
    --------
    >>> x = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [7.0, 0.0]])
    >>> class_centroid_distance(x, np.array([0, 0, 0, 1])).tolist()
    [0.0, 5.0, 0.0, 0.0]
    """
    if center not in ("median", "mean"):
        raise BadInput(f"class_centroid_distance: center is 'median' or 'mean', not {center!r}")
    score = np.full(len(labels), np.nan)
    there = finite_rows(embedding)
    for label in np.unique(labels[there]):
        rows = there[labels[there] == label]
        middle = centre(embedding[rows], center)
        for block in row_blocks(len(rows), embedding.shape[1]):
            apart = np.ascontiguousarray(embedding[rows[block]], dtype=np.float64) - middle
            score[rows[block]] = np.sqrt((apart**2).sum(axis=1))
    return score


def centre(vectors: np.ndarray, rule: Literal["median", "mean"]) -> Floats:
    """Return the median or mean of each column of `vectors` (n, D), float64 (D,), whatever the order of rows.

    Examples
    --------
    >>> centre(np.array([[0.0, 1.0], [1.0, 1.0], [8.0, 4.0]]), "mean").tolist()
    [3.0, 2.0]
    """
    middle = np.empty(vectors.shape[1])
    for columns in row_blocks(vectors.shape[1], len(vectors)):
        part = np.ascontiguousarray(vectors[:, columns], dtype=np.float64)
        middle[columns] = np.median(part, axis=0) if rule == "median" else np.sort(part, axis=0).mean(axis=0)
    return middle
