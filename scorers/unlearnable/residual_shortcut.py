"""Samples that carry a small label-specific signal below the amplitude of object edges (ours).

Unlearnable-example noise, a class-wise watermark or a camera tied to one class: what they share is a
pattern of a few grey levels that predicts the label. Early-learning detectors miss it wherever the class
itself is learned as early; small residuals, where the objects are not, show it. Works on images alone,
without training a network.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracesift.scorers.contract import scorer
from tracesift.scorers.unlearnable.residual_analysis import residual_analysis


@scorer(
    version=5,
    mode=None,
    direction="suspicious",
    reference="ours; the premise (shortcuts are linearly separable) from Yu et al., KDD 2022",
)
def residual_shortcut(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Position of each image between the two groups of its class in the small residuals.

    High: the image lies with those of its class whose residual predicts the label, or has the single pixel that is the
    sign of its class. Any clean set has high
    values too (two halves of a bell curve): a value means nothing before `residual_verdict` says
    "poisoned".

    Parameters
    ----------
    images : (N, H, W, C) uint8
        Grey levels over the full range 0 to 255; of more than 3,072 values the central window counts, and the whole for
        single pixels.
    labels : (N,) int
        Class indices.

    Returns
    -------
    (N,) float64
        Direction: suspicious. NaN for classes under two distinct images a fold (six in all), and for all
        samples of a set with a single class. Row order and thread count do not matter; the value of one
        image depends on the whole set.

    Raises
    ------
    BadInput
        Images that are not uint8 of four axes, or labels of another length.

    References
    ----------
    Yu, Zhang, Chen, Yin and Liu, "Availability Attacks Create Shortcuts", KDD 2022, for the premise. The
    cored residual, the within-class split and the weights are ours.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.zeros((5, 8, 8, 1), dtype=np.uint8)
    >>> residual_shortcut(images, np.array([0, 0, 0, 1, 1])).tolist()  # classes too small to judge
    [nan, nan, nan, nan, nan]
    """
    return residual_analysis(images, labels).score
