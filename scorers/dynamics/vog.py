"""Variance of gradients: how much the pixels that speak for the label change while the model trains.

Read from the job `vog`. The published code takes the standard deviation at each pixel, not the variance of the
name, and so do we; its normalisation by class, commented out in the demonstration, is the paper's and is done.
"""

from __future__ import annotations

import math

import numpy as np

from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="hard",
    reference="Agarwal, D'souza, Hooker, Estimating example difficulty using variance of gradients, CVPR 2022",
)
def vog(input_gradient_variance: np.ndarray, labels: np.ndarray, *, by_class: bool = True) -> np.ndarray:
    """Return the mean over pixels of the gradient's standard deviation, standardised within the class; high is hard.

    Parameters
    ----------
    input_gradient_variance : array of shape (N, H, W)
        Population variance over checkpoints of the gradient of the label's logit at each pixel.
    labels : array of shape (N,)
    by_class
        Subtract the mean of the class and divide by its population standard deviation, as the paper does; in its
        code's demonstration that is commented out.

    Returns
    -------
    array of shape (N,)
        In standard deviations of the class; 0 for a class of one sample or without any spread. Without
        `by_class` in logits per standard deviation of a pixel, at least 0.

    Notes
    -----
    Of each pixel the standard deviation counts, as in the published code, and not the variance of the name.

    References
    ----------
    Agarwal, D'souza, Hooker, CVPR 2022, section 2, equations 1 to 4.

    Examples
    --------
    >>> variance = np.array([[[1.0, 9.0]], [[4.0, 4.0]], [[16.0, 16.0]], [[1.0, 1.0]]])
    >>> vog(variance, np.array([0, 0, 0, 1])).round(3).tolist()
    [-0.707, -0.707, 1.414, 0.0]
    """
    samples = len(input_gradient_variance)
    # row by row: a sample's value must not depend on how many samples are summed beside it
    pixels = input_gradient_variance.reshape(samples, math.prod(input_gradient_variance.shape[1:]))
    score = np.array([np.sqrt(row.astype(np.float64)).mean() for row in pixels], dtype=np.float64)
    if not by_class:
        return score
    standardised = np.zeros(samples)
    for label in np.unique(labels):
        own = labels == label
        values = score[own]
        mean = np.sort(values).mean()  # sorted, so that the order of rows leaves no trace
        spread = np.sqrt(np.sort((values - mean) ** 2).mean())
        if spread > 8 * np.finfo(np.float64).eps * np.abs(
            mean
        ):  # equal values differ from their mean by rounding
            standardised[own] = (values - mean) / spread
    return standardised
