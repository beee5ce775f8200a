"""How many labels are wrong by the confident joint: what out-of-sample models confidently call another class."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracesift.scorers.contract import diagnostic
from tracesift.scorers.noise.confident_joint import confident_joint


@diagnostic(mode=None, reference="Northcutt, Jiang, Chuang, Confident learning, JAIR 2021")
def confident_joint_rate(probs_oos: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Estimate the share of wrong labels as the mass of the calibrated confident joint off its diagonal.

    Parameters
    ----------
    probs_oos : array of shape (N, K)
        Out-of-sample probabilities; NaN rows for samples without a prediction, which are left out.
    labels : array of shape (N,)

    Returns
    -------
    dict
        `rate`, null without a prediction, and `assumes`, a sentence. Classes that overlap count as noise: on
        clean but hard data the rate is about the error rate of the models.

    References
    ----------
    Northcutt, Jiang, Chuang, JAIR 2021, section 3.1.

    Examples
    --------
    >>> probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7]])
    >>> confident_joint_rate(probs, np.array([0, 0, 0, 1]))["rate"]
    0.25
    """
    there = ~np.isnan(probs_oos[:, 0])
    assumes = "whatever out-of-sample models confidently call another class is wrong; overlap counts as noise"
    if not there.any():
        return {"rate": None, "assumes": assumes}
    joint = confident_joint(probs_oos[there], labels[there])
    return {"rate": round(float(1 - joint.diagonal().sum() / joint.sum()), 6), "assumes": assumes}
