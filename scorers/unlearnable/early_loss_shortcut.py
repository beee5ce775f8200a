"""Samples that a weak model already gets right, compared with their class (ours).

The observation behind it (Zhu et al., AAAI 2024; Yu et al., arXiv 2408.08143): networks fit unlearnable
samples first. The probabilities are held out, without which a linear model on thousands of inputs would say
nothing. A baseline: where the class itself is learned early it hardly separates (AUROC 0.51 to 0.76 on
Fashion-MNIST mixtures).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="suspicious",
    reference="ours; after Zhu, Yu and Gao, AAAI 2024",
)
def early_loss_shortcut(
    probs_oos_weak: NDArray[np.float32], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Held-out probability of the given label under a weak model, minus the median of the class.

    High: easier to predict than the class usually is, as a sample with a shortcut would be.

    Parameters
    ----------
    probs_oos_weak : (N, K)
        Out-of-sample class probabilities of a weak model; a row of NaN is a sample without a prediction.
    labels : (N,) int
        Given labels.

    Returns
    -------
    (N,) float64
        Direction: suspicious. NaN where the probability is missing; the median leaves such samples out.

    References
    ----------
    Zhu, Yu and Gao, "Detection and Defense of Unlearnable Examples", AAAI 2024, for the observation.

    Examples
    --------
    >>> import numpy as np
    >>> probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5], [0.2, 0.8]])
    >>> early_loss_shortcut(probs, np.array([0, 0, 0, 1])).round(2).tolist()
    [0.3, 0.0, -0.1, 0.0]
    """
    probability = probs_oos_weak[np.arange(len(labels)), labels].astype(np.float64)
    score = np.full(len(labels), np.nan)
    for label in np.unique(labels):
        rows = np.flatnonzero((labels == label) & ~np.isnan(probability))
        if len(rows):
            score[rows] = probability[rows] - np.median(probability[rows])
    return score
