"""The probability that the label which out-of-sample models prefer to the given one is the true one.

What relabelling needs: a wrong label does not make the suggestion right.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer
from tracesift.scorers.noise.true_label_posterior import true_label_posterior


@scorer(
    version=3,
    mode=None,
    direction="suspicious",
    reference="ours, from Liu and Tao, TPAMI 2016 (anchors) and Patrini et al., CVPR 2017 (transition matrix)",
)
def preferred_label_posterior(probs_oos: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the probability that the most probable class, where it is not the given one, is the true one.

    Parameters
    ----------
    probs_oos : array of shape (N, K)
        Out-of-sample probabilities; NaN rows for samples without a prediction.
    labels : array of shape (N,)

    Returns
    -------
    array of shape (N,)
        In [0, 1], never above `wrong_label_posterior`; 0 where the given label is the most probable class (the
        first of equal ones), NaN without a prediction.

    References
    ----------
    As `wrong_label_posterior`.

    Examples
    --------
    >>> probs = np.tile([[0.9, 0.1], [0.1, 0.9]], (100, 1))
    >>> labels = np.tile([0, 1], 100)
    >>> labels[:40:2] = 1  # 20 of 100 samples of class 0
    >>> preferred_label_posterior(probs, labels)[[0, 1, 40]].round(2).tolist()
    [1.0, 0.0, 0.0]
    """
    score = np.full(len(labels), np.nan)
    for rows, posterior in true_label_posterior(probs_oos, labels):
        if posterior is None:
            score[rows] = 0.0
            continue
        preferred = probs_oos[rows].argmax(axis=1)
        chosen = posterior[np.arange(len(rows)), preferred]
        score[rows] = np.where(preferred == labels[rows], 0.0, chosen)
    return score
