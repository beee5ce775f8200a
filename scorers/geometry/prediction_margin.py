"""Margin of the prediction: how far the most probable class leads over the second, turned so that high is unsure.

What is selected by is the smallest gap; the scorer returns 1 minus the gap, so that it points as the two others
of uncertainty do. The margin of the *given label* over training is `aum` or `misclassification_margin`.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="hard",
    per_sample=True,
    reference="Scheffer, Decomain, Wrobel, Active hidden Markov models for information extraction, IDA 2001",
)
def prediction_margin(probs_last: np.ndarray) -> np.ndarray:
    """Return 1 minus the gap between the two largest class probabilities; high is unsure.

    Parameters
    ----------
    probs_last : array of shape (N, K)
        Class probabilities of a trained model, in eval mode; a row of NaN is a sample without a prediction.

    Returns
    -------
    array of shape (N,)
        1 - (p_(1) - p_(2)), from 0, certain, to 1, two classes alike. The only class of a single one leads over
        nothing, probability 0. NaN without a prediction.

    References
    ----------
    Scheffer, Decomain, Wrobel, IDA 2001; as a selection rule in DeepCore (Guo, Zhao, Bai, DEXA 2022).

    Examples
    --------
    >>> prediction_margin(np.array([[0.5, 0.25, 0.25], [0.0, 0.5, 0.5]])).tolist()
    [0.75, 1.0]
    """
    if probs_last.shape[1] == 1:
        return 1.0 - probs_last[:, 0].astype(np.float64)
    largest = np.partition(probs_last, -2, axis=1)[:, -2:].astype(np.float64)  # NaN comes last
    return np.asarray(1.0 - (largest[:, 1] - largest[:, 0]))
