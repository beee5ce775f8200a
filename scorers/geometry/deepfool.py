"""DeepFool: the smallest change of the input, to first order, that makes the model predict another class.

Read from the job `deepfool`, which follows the gradients. The score is the square of that distance, as in DeepCore.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="easy",
    reference="Ducoffe, Precioso, Adversarial active learning for deep networks, 2018; Moosavi-Dezfooli, Fawzi, "
    "Frossard, DeepFool, CVPR 2016",
)
def deepfool(boundary_distance: np.ndarray) -> np.ndarray:
    """Return the squared distance to the nearest decision boundary, as DeepFool estimates it; high is easy.

    Parameters
    ----------
    boundary_distance : array of shape (N,)
        L2 norm of the accumulated perturbation, in units of the model's input; see the job `deepfool`.

    Returns
    -------
    array of shape (N,)
        At least 0. The distance is from where the model puts the sample, not from its label: a confident mistake
        is far from the boundary too. NaN where no step could be taken.

    References
    ----------
    Ducoffe, Precioso 2018 (arXiv 1802.09841), section 3; as a selection rule in DeepCore (Guo, Zhao, Bai, DEXA 2022).

    Examples
    --------
    >>> deepfool(np.array([0.5, 3.0])).tolist()
    [0.25, 9.0]
    """
    return np.asarray(boundary_distance.astype(np.float64) ** 2)
