"""Self-supervised prototypes: how far a sample is from the nearest cluster's centre.

Samples near a prototype are typical and easy, those far from all are hard. Which to keep depends on how many data there
are; the selector of the same name states its rule.
"""

from __future__ import annotations

import numpy as np

from tracesift.catalog.clusters import clusters
from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="hard",
    experimental=True,
    reference="Sorscher, Geirhos, Shekhar, Ganguli, Morcos, Beyond neural scaling laws, NeurIPS 2022",
)
def ssl_prototypes(
    embedding: np.ndarray, labels: np.ndarray, *, k: int | None = None, seed: int = 0
) -> np.ndarray:
    """Return 1 minus the cosine with the nearest centroid of k-means; high is hard.

    Parameters
    ----------
    embedding : array of shape (N, D)
        A self-supervised, general-purpose embedding (SwAV in the paper). In that of a model trained on the labels
        the prototypes are the classes. A row that is all zero or not finite stands for no vector.
    labels : array of shape (N,)
        Only their number of classes is read, and only for `k` None.
    k
        Clusters; as many as there are classes for None. The paper finds it of little account.
    seed
        Of the first centroids.

    Returns
    -------
    array of shape (N,)
        In [0, 2], rounded to 6 digits; NaN without a vector.

    Raises
    ------
    BadInput
        For k below 1.

    References
    ----------
    Sorscher et al., NeurIPS 2022, section 5.

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [0.8, 0.6], [0.8, -0.6]])
    >>> ssl_prototypes(x, np.zeros(3, dtype=int)).round(6).tolist()
    [0.0, 0.2, 0.2]
    """
    if k is not None and k < 1:
        raise BadInput(f"ssl_prototypes: k is a number of clusters, at least 1, got {k}")
    number = k if k is not None else int(labels.max(initial=0)) + 1
    return (1.0 - clusters(embedding, number, seed=seed).cosine).round(6)
