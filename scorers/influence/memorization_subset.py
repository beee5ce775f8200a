"""Memorization: how much likelier a sample is predicted as labelled by models that trained on it.

Read from the job `subset_training`. A model that would know the sample anyway gives 0; one that knows it by heart
alone gives 1. Rare and right samples have it as well as wrong labels: high memorization is no reason to leave out.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer
from tracesift.scorers.influence.subset_sides import Of, answers, in_and_out


@scorer(
    mode=None,
    direction="hard",
    per_sample=True,
    reference="Feldman, Zhang, What neural networks memorize and why, NeurIPS 2020",
)
def memorization_subset(
    subset_trained: np.ndarray,
    subset_correct: np.ndarray,
    subset_prob_label: np.ndarray,
    *,
    of: Of = "correct",
) -> np.ndarray:
    """Return the mean over the models that saw a sample minus the mean over those that did not.

    Parameters
    ----------
    subset_trained : bool array of shape (N, R)
        Whether each of R models trained on the sample.
    subset_correct : bool array of shape (N, R)
        Whether it predicts the sample's label.
    subset_prob_label : array of shape (N, R)
        The probability that it gives this label.
    of : {"correct", "prob_label", "margin"}
        The mean of what: correctness as in the paper; the probability, whose estimate varies less; or the margin
        log(p / (1 - p)), as datamodels have it.

    Returns
    -------
    array of shape (N,)
        In [-1, 1], but for margins; NaN for a sample that all the models saw, or none (the authors' code gives a
        number there). `memorization_subset_error` is its standard error.

    References
    ----------
    Feldman, Zhang, NeurIPS 2020, equation 3; Feldman, STOC 2020, for the definition.

    Examples
    --------
    >>> seen = np.array([[1, 1, 0, 0], [1, 1, 1, 1]], dtype=bool)
    >>> right = np.array([[1, 1, 1, 0], [1, 0, 1, 1]], dtype=bool)
    >>> memorization_subset(seen, right, right.astype(np.float32)).tolist()
    [0.5, nan]
    """
    inside, outside, _, _ = in_and_out(subset_trained, answers(of, subset_correct, subset_prob_label))
    return inside - outside
