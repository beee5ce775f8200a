"""Loss curvature: how much the loss bends around a sample, on average over a training; a proxy of memorization.

Read from the job `loss_curvature`: one training instead of the hundreds of `memorization_subset`.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="hard",
    per_sample=True,
    reference="Moosavi-Dezfooli, Fawzi, Uesato, Frossard, Robustness via curvature regularization, and vice versa, "
    "CVPR 2019; Zhao, Triantafillou, Scalability of memorization-based machine unlearning, NeurIPS 2024 workshop",
)
def loss_curvature(input_curvature: np.ndarray) -> np.ndarray:
    """Return the mean over epochs of how much the loss's gradient by the input changes a step away; high is hard.

    Parameters
    ----------
    input_curvature : array of shape (N, E)
        |grad_x l(x + z) - grad_x l(x)| after each of E epochs, z a short step along the signs of the gradient.

    Returns
    -------
    array of shape (N,)
        At least 0; comparable within one recording alone, because it grows with the job's step and with the scale of
        the inputs. NaN where an epoch gave no finite gradient.

    References
    ----------
    Zhao and Triantafillou 2024, for the average over epochs.

    Examples
    --------
    >>> loss_curvature(np.array([[0.5, 0.25], [0.0, 0.0]])).tolist()
    [0.375, 0.0]
    """
    total = np.zeros(len(input_curvature))
    for epoch in input_curvature.T:
        total += epoch
    return np.where(np.isfinite(total), total / input_curvature.shape[1], np.nan)
