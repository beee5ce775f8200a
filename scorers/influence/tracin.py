"""TracIn: how far the steps on a sample moved the loss of the validation samples, over several checkpoints.

Read from the job `tracin`. Its sign is that of the paper, a help counts as positive; `datainf` has the other.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="keep",
    per_sample=True,
    reference="Pruthi, Liu, Kale, Sundararajan, Estimating training data influence by tracing gradient descent, "
    "NeurIPS 2020",
)
def tracin(tracin_val: np.ndarray) -> np.ndarray:
    """Return how far steps on the sample lower the mean validation loss; negative harms.

    Parameters
    ----------
    tracin_val : array of shape (N, C)
        eta_c <g_c, v_c> at each of C checkpoints: the learning rate, the gradient of the sample's loss, and that of the
        mean loss of the validation samples.

    Returns
    -------
    array of shape (N,)
        Their sum, in units of the loss. Above 0 where a step on the sample lowers the validation loss (the paper's
        proponents), below where it raises it (opponents). NaN where a checkpoint gave no finite gradient.

    References
    ----------
    Pruthi et al., NeurIPS 2020, section 3 (TracInCP), with the mean over the validation samples.

    Examples
    --------
    >>> tracin(np.array([[0.5, 0.25], [-2.0, 1.0]])).tolist()
    [0.75, -1.0]
    """
    total = np.zeros(len(tracin_val))
    for checkpoint in tracin_val.T:
        total += checkpoint
    return np.where(np.isfinite(total), total, np.nan)
