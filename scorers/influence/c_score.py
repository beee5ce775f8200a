"""Consistency: how often models that never saw a sample predict it as labelled.

Read from the job `subset_training`: the other side of `memorization_subset`, of one share of the data. The paper
averages over several shares: run the job with each, and average.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer
from tracesift.scorers.influence.subset_sides import in_and_out


@scorer(
    mode=None,
    direction="easy",
    per_sample=True,
    reference="Jiang, Zhang, Talwar, Mozer, Characterizing structural regularities of labeled data, ICML 2021",
)
def c_score(subset_trained: np.ndarray, subset_correct: np.ndarray) -> np.ndarray:
    """Return the share of the models that did not train on a sample and predict its label.

    Parameters
    ----------
    subset_trained, subset_correct : bool arrays of shape (N, R)
        Whether each of R models trained on the sample, and whether it predicts the sample's label.

    Returns
    -------
    array of shape (N,)
        In [0, 1]; NaN for a sample that all the models saw.

    References
    ----------
    Jiang et al., ICML 2021, section 2, at one subset ratio.

    Examples
    --------
    >>> seen = np.array([[1, 0, 0], [0, 1, 0]], dtype=bool)
    >>> right = np.array([[1, 1, 0], [1, 0, 1]], dtype=bool)
    >>> c_score(seen, right).tolist()
    [0.5, 1.0]
    """
    return in_and_out(subset_trained, subset_correct)[1]
