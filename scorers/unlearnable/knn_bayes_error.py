"""How low the error of any classifier can be, by what nearest neighbours get wrong (Cover, Hart).

Poison that works by making classes overlap raises this number, where all detectors that look for what is learned
too easily stay silent.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Integers
from tracesift.scorers.contract import diagnostic
from tracesift.scorers.noise.neighbors.nearest_others import nearest_others


@diagnostic(
    mode=None,
    experimental=True,
    reference="Cover, Hart, Nearest neighbor pattern classification, IEEE Transactions on Information Theory 1967",
)
def knn_bayes_error(embedding: np.ndarray, labels: np.ndarray, *, k: int = 10) -> dict[str, Any]:
    """Bound the Bayes error of the labels, given the embedding, by the leave-one-out error of nearest neighbours.

    Parameters
    ----------
    embedding : array of shape (N, D)
        Of an encoder that has not seen these labels, compared by cosine. In the features of a model that was trained
        on them the labels are already there, and the bounds are far too low. A row that is all zero or not finite
        stands for no vector.
    labels : array of shape (N,)
    k
        Neighbours of the second vote; ties go to the class of the nearest among them.

    Returns
    -------
    dict
        ``samples`` with a vector, ``classes`` among them (K), ``k``; ``error_1nn`` and ``error_knn``, the shares whose
        nearest other, or most of the k nearest others, are labelled otherwise; ``lower`` and ``upper``, the bounds,
        rounded to 6 digits; and ``reading``, a sentence. The numbers are None where fewer than two have a vector.

    Raises
    ------
    BadInput
        For k below 1.

    Notes
    -----
    In the limit of many samples R* <= R_1 <= R* (2 - K/(K-1) R*) with R* the Bayes error and R_1 that of the nearest
    neighbour. So ``lower`` is (K-1)/K (1 - sqrt(max(0, 1 - K/(K-1) error_1nn))). ``upper`` is the smaller of the two
    errors: no rule errs less often than R*. With a finite set both are estimates, mostly too high, as neighbours are
    not yet near.

    It bounds what can be told *from this embedding*. Wrong labels raise it just as overlapping classes do. Blind to all
    poison that makes samples easier (error-minimising noise, class-wise patches, triggers), which lowers it if
    anything, and to poison that the encoder does not see; where samples lie it does not say.

    References
    ----------
    Cover, Hart 1967, theorem 1 and (45) for K classes; Zhang et al. 2025 for poison that raises the Bayes error.

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [1.0, 1.2]])
    >>> found = knn_bayes_error(x, np.array([0, 0, 1, 1, 0]), k=1)
    >>> found["error_1nn"], found["lower"], found["upper"]
    (0.2, 0.112702, 0.2)
    """
    if k < 1:
        raise BadInput(f"knn_bayes_error: k is a number of neighbours, at least 1, got {k}")
    near = nearest_others(embedding, k)
    samples, classes = len(near.rows), len(np.unique(labels[near.rows]))
    counts = {"samples": samples, "classes": classes, "k": int(near.nearest.shape[1])}
    if not near.nearest.shape[1]:
        reading = "fewer than two samples have a vector: there is no neighbour to judge by"
        return {
            **counts,
            "error_1nn": None,
            "error_knn": None,
            "lower": None,
            "upper": None,
            "reading": reading,
        }
    own, others = labels[near.rows], labels[near.nearest]
    one = float((others[:, 0] != own).mean())
    several = float((majority(others) != own).mean())
    lower, upper = cover_hart(one, classes), min(one, several)
    reading = (
        f"if the embedding never saw the labels, the best possible error from it lies between about {lower:.1%} and "
        f"{upper:.1%}; wrong labels and overlapping classes raise it alike, so compare with a trusted set"
    )
    errors = {"error_1nn": one, "error_knn": several, "lower": lower, "upper": upper}
    return {**counts, **{name: round(value, 6) for name, value in errors.items()}, "reading": reading}


def majority(votes: Integers) -> Integers:
    """Return the most frequent class of each row (n, k), of several the one that stands first.

    Examples
    --------
    >>> majority(np.array([[2, 0, 0], [1, 2, 0], [2, 1, 1]])).tolist()
    [0, 1, 1]
    """
    counts = np.stack([(votes == votes[:, [at]]).sum(axis=1) for at in range(votes.shape[1])], axis=1)
    return votes[np.arange(len(votes)), counts.argmax(axis=1)]


def cover_hart(error: float, classes: int) -> float:
    """Return the least Bayes error that fits a nearest neighbour's error, for so many classes.

    Examples
    --------
    >>> cover_hart(0.5, 2), round(cover_hart(0.18, 2), 9)
    (0.5, 0.1)
    """
    if classes < 2:
        return 0.0
    most = (classes - 1) / classes  # the error of a guess
    return most * (1 - math.sqrt(max(0.0, 1 - error / most)))
