"""Least confidence: how far the most probable class is from certain.

Of probabilities, never of logits: the largest logit grows with the size of all of them and says nothing of doubt.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="hard",
    per_sample=True,
    reference="Lewis, Gale, A sequential algorithm for training text classifiers, SIGIR 1994",
)
def least_confidence(probs_last: np.ndarray) -> np.ndarray:
    """Return 1 minus the largest class probability; high is unsure.

    Parameters
    ----------
    probs_last : array of shape (N, K)
        Class probabilities of a trained model, in eval mode; a row of NaN is a sample without a prediction.

    Returns
    -------
    array of shape (N,)
        From 0, certain, to 1 - 1/K, all classes alike. The given label plays no part: a confident mistake is 0 as
        well. NaN without a prediction.

    References
    ----------
    Lewis, Gale, SIGIR 1994; as a selection rule in DeepCore (Guo, Zhao, Bai, DEXA 2022), section 3.2.

    Examples
    --------
    >>> least_confidence(np.array([[0.875, 0.125], [0.25, 0.75]])).tolist()
    [0.125, 0.25]
    """
    return 1.0 - probs_last.max(axis=1).astype(np.float64)
