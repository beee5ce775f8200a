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
from tracesift.scorers.unlearnable.class_median import above_class_median


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

    Notes
    -----
    The same question to a recording, without a weak model, is `cartography_confidence` with ``burn_out=2``: the mean
    probability of the label over the first two epochs, to be compared within each class. It separated no better
    (AUROC 0.51 to 0.72 on the same mixtures).

    Blind to: a signal that all of a class carry, classes that are as easy as the shortcut, and poison that makes
    samples harder instead of easier, such as noise that raises the Bayes error.

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
    return above_class_median(probs_oos_weak[np.arange(len(labels)), labels], labels)
