"""The class that a model which never saw a sample would give it, and by how much: an opinion, not a score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def second_label(
    probs: NDArray[np.floating], labels: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the most probable class and the margin of the given label.

    Parameters
    ----------
    probs : (N, K)
        Class probabilities, out of sample.
    labels : (N,)
        Given labels.

    Returns
    -------
    predicted : (N,) int64
        The lowest index among equally probable classes.
    margin : (N,) float64 in [-1, 1]
        Probability of the label minus the largest other one; NaN where a probability is.

    Examples
    --------
    >>> predicted, margin = second_label(np.array([[0.25, 0.75], [0.5, 0.5]]), np.array([0, 1]))
    >>> predicted.tolist(), margin.tolist()
    ([1, 0], [-0.5, 0.0])
    """
    values = np.array(probs, dtype=np.float64)
    predicted = np.where(np.isnan(values), -np.inf, values).argmax(axis=1)
    rows = np.arange(len(values))
    given = values[rows, labels]
    values[rows, labels] = -np.inf
    return predicted, given - values.max(axis=1)
