"""What survives when the training images are moved by a constant: shortcuts do, most of what is seen does not.

Read from the job `bias_shift`. The paper asks it of a whole dataset (`bias_shift_detection`); the form per sample,
and the comparison within the class, are ours.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer
from tracesift.scorers.unlearnable.class_median import above_class_median


@scorer(
    mode=None,
    direction="suspicious",
    reference="ours per sample; after Zhu, Yu, Gao, Detection and defense of unlearnable examples, AAAI 2024",
)
def bias_shift(bias_shift_margin: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the margin of the label under a model trained on shifted images, minus the class median.

    High: recognised as labelled although the model saw neither the sample nor any image of this brightness.

    Parameters
    ----------
    bias_shift_margin : array of shape (N,)
        Logit of the label minus the largest other, held out.
    labels : array of shape (N,)
        A model that is shown another brightness prefers some classes throughout, hence the median of each.

    Returns
    -------
    array of shape (N,)
        In units of logits; NaN where the margin is.

    Notes
    -----
    A weak witness in a mixture: AUROC 0.50 to 0.63 for bounded noise at 10 to 75 % of Fashion-MNIST, 0.73 for single
    pixels. Blind to: a signal that all of a class carry, shapes that survive the shift as well as the shortcut does,
    and poison that makes samples harder, such as noise that raises the Bayes error.

    References
    ----------
    Zhu, Yu, Gao, AAAI 2024, algorithm 2.

    Examples
    --------
    >>> bias_shift(np.array([1.0, -1.0, 4.0, -3.0]), np.array([0, 0, 0, 1])).tolist()
    [0.0, -2.0, 3.0, 0.0]
    """
    return above_class_median(bias_shift_margin, labels)
