"""Self-influence by the last layer at the last checkpoint: how far a step on the sample moves its own loss.

It is one term of TracIn: that sums eta_c <g_c, g_c> over checkpoints c, with the gradient by all parameters or by the
last layer. A recording keeps the last layer's input of one checkpoint, so this is not TracIn and has another name.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer
from tracesift.scorers.influence.last_layer import squares


@scorer(
    mode=None,
    direction="suspicious",
    experimental=True,
    per_sample=True,
    reference="Pruthi, Liu, Kale, Sundararajan, Estimating training data influence by tracing gradient descent, "
    "NeurIPS 2020 (self-influence; here one checkpoint, without the learning rate)",
)
def last_layer_self_influence(
    probs_last: np.ndarray, labels: np.ndarray, embedding: np.ndarray
) -> np.ndarray:
    """Return the squared length of the last layer's gradient at the last checkpoint; high is suspicious.

    Parameters
    ----------
    probs_last : array of shape (N, K)
        Class probabilities of the trained model.
    labels : array of shape (N,)
    embedding : array of shape (N, D)
        What the same model's last layer reads, as `tracesift embed` records it. With vectors of another encoder the
        number means nothing.

    Returns
    -------
    array of shape (N,)
        |p - onehot(y)|^2 (1 + |h|^2), at least 0: to first order, what a step of length eta on the sample takes off
        its own loss, over eta. NaN without prediction or vector.

    Notes
    -----
    The square of GraNd of the last layer at this checkpoint. A wrong label that the model has come to fit by heart has
    a small gradient at the end, and is missed; TracIn's sum over early checkpoints sees it.

    References
    ----------
    Pruthi et al., NeurIPS 2020, sections 3 and 4.1 (self-influence of mislabeled samples), appendix (last layer).

    Examples
    --------
    >>> probs = np.array([[0.75, 0.25], [0.75, 0.25]])
    >>> last_layer_self_influence(probs, np.array([0, 1]), np.array([[2.0], [2.0]])).tolist()
    [0.625, 5.625]
    """
    score = squares((probs_last, labels, embedding))
    score[~np.isfinite(score)] = np.nan
    return score
