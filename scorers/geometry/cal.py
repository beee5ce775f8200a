"""CAL: samples that lie together and are predicted apart.

Where a sample's neighbours get other probabilities than it does, the decision boundary runs between them.

The paper keeps the highest divergence; DeepCore's code sorts the other way round and keeps the lowest. The score is the
same, and the selector `cal` offers both sides. The paper takes the divergence from the neighbours to the sample
only; we take half of each direction, as DeepCore does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from tracesift.catalog.known_graphs import known_graph
from tracesift.catalog.neighbor_graph import neighbor_graph
from tracesift.catalog.schema import BadInput, MissingSignal
from tracesift.scorers.arrays import Floats, Integers, row_blocks
from tracesift.scorers.contract import scorer
from tracesift.scorers.noise.neighbors.nearest_others import with_vector

LEAST = 1e-12
"""Probabilities are clipped here, so that the logarithm of a zero is a number."""
DIGITS = 9
"""Decimals that are kept: the last bits of a logarithm differ from processor to processor."""


@scorer(
    mode=None,
    direction="hard",
    experimental=True,
    reference="Margatina, Vernikos, Barrault, Aletras, Active learning by acquiring contrastive examples, EMNLP 2021",
)
def cal(
    embedding: np.ndarray,
    probs_last: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    k: int = 10,
    per_class: bool = False,
    metric: Literal["euclidean", "cosine"] = "euclidean",
) -> np.ndarray:
    """Return the mean symmetric KL divergence from the k nearest neighbours' probabilities; high is contrastive.

    Parameters
    ----------
    embedding : array of shape (N, D)
        Features for finding neighbours, of a general-purpose encoder as in DeepCore (an ImageNet ResNet-18), or of the
        model itself as in the paper. A row that is not finite, or for the cosine all zero, stands for no vector.
    probs_last : array of shape (N, K)
        Class probabilities of the trained model; clipped at 1e-12.
    labels : array of shape (N,), optional
        Read for `per_class` alone.
    k
        Neighbours, the sample itself never among them, even where it has exact copies.
    per_class
        Look for neighbours within the class of the given label only.
    metric
        Distance between embeddings.

    Returns
    -------
    array of shape (N,)
        1/k sum over neighbours j of (KL(p_i | p_j) + KL(p_j | p_i)) / 2, in nats, at least 0, rounded to 9
        decimals. Over fewer neighbours where there are fewer than k; NaN for a sample without vector or
        prediction, or without any neighbour.

    Raises
    ------
    BadInput
        For k below 1 or an unknown metric.
    MissingSignal
        `per_class` without labels.

    References
    ----------
    Margatina et al., EMNLP 2021, algorithm 1; DeepCore (Guo, Zhao, Bai, DEXA 2022) for k and the symmetric form.

    Examples
    --------
    >>> x = np.array([[0.0], [0.1], [9.0], [9.1]])
    >>> p = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]])
    >>> cal(x, p, k=1).round(3).tolist()
    [0.0, 0.0, 1.758, 1.758]
    """
    if k < 1:
        raise BadInput(f"cal: k is a number of neighbours, at least 1, got {k}")
    if metric not in ("euclidean", "cosine"):
        raise BadInput(f"cal: metric is 'euclidean' or 'cosine', not {metric!r}")
    if per_class and labels is None:
        raise MissingSignal("cal needs the signal 'labels' for per_class: it comes with the dataset")
    there = with_vector(embedding) if metric == "cosine" else finite_rows(embedding)
    there = there[~np.isnan(probs_last[there]).any(axis=1)]
    score = np.full(len(embedding), np.nan)
    search = neighbor_graph if per_class else known_graph
    for rows in _groups(there, labels if per_class else None):
        vectors = embedding if len(rows) == len(embedding) else embedding[rows]
        near = search(vectors, k, metric=metric).index
        for block in row_blocks(len(rows), probs_last.shape[1]):
            own = _clipped(probs_last[rows[block]])
            total = np.zeros(len(own))
            for place in range(near.shape[1]):  # neighbour after neighbour, so that the sum has one order
                other = _clipped(probs_last[rows[near[block, place]]])
                total += ((own - other) * (np.log(own) - np.log(other))).sum(axis=1) / 2
            score[rows[block]] = (total / near.shape[1]).round(DIGITS)
    return score


def finite_rows(embedding: np.ndarray) -> Integers:
    """Return the rows without NaN and infinity, ascending; a row of zeros is a place like any other."""
    there = np.empty(len(embedding), dtype=bool)
    for rows in row_blocks(*embedding.shape):
        there[rows] = np.isfinite(embedding[rows]).all(axis=1)
    return np.flatnonzero(there)


def _groups(rows: Integers, labels: Integers | None) -> Iterator[Integers]:
    """Yield the rows of each class, or all, where there are at least two."""
    parts = [rows] if labels is None else [rows[labels[rows] == label] for label in np.unique(labels[rows])]
    yield from (part for part in parts if len(part) > 1)


def _clipped(probabilities: np.ndarray) -> Floats:
    return np.ascontiguousarray(probabilities, dtype=np.float64).clip(min=LEAST)
