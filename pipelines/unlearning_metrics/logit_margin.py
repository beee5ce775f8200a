"""The confidence in the label on a scale on which it is about normal over models."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearning_metrics.given import Floats, classes, numbers


def logit_margin(logits: np.ndarray, labels: np.ndarray) -> Floats:
    """Return the logit of the label minus the log-sum-exp of the others, which is log(p_y / (1 - p_y)).

    Parameters
    ----------
    logits : array of shape (n, K)
        Not probabilities: those lose the large margins to rounding.
    labels : array of shape (n,)

    Returns
    -------
    array of shape (n,)
        In nats; above 0 where the label has more than half of the probability.

    Raises
    ------
    BadInput
        Fewer than two classes, a label without a logit, or a value that is not finite.

    References
    ----------
    Carlini et al., Membership inference attacks from first principles, S&P 2022 (the logit scaling).

    Examples
    --------
    >>> logit_margin(np.array([[2.0, 0.0, 0.0]]), np.array([0])).round(4).tolist()  # 2 - log 2
    [1.3069]
    """
    values, truth = numbers("logits", logits, "samples, classes"), classes("labels", labels)
    if values.shape[1] < 2 or len(values) != len(truth) or truth.max() >= values.shape[1]:
        raise BadInput(f"logits of shape {values.shape} for {len(truth)} labels up to class {truth.max()}")
    rows = np.arange(len(truth))
    others = values.copy()
    others[rows, truth] = -np.inf
    return np.asarray(values[rows, truth] - logsumexp(others, axis=1))
