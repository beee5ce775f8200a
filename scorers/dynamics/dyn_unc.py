"""Dynamic uncertainty: how much the label's probability moves within windows of consecutive epochs."""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import first_epochs
from tracesift.scorers.windows import check_window, window_spreads


@scorer(
    mode="in_training",
    direction="keep",
    per_sample=True,
    tensors=True,
    reference="He et al., Large-scale dataset pruning with dynamic uncertainty, CVPR workshops 2024",
)
def dyn_unc(prob_label: np.ndarray, *, window: int = 10, epochs: int | None = None) -> np.ndarray:
    """Return the mean, over sliding windows, of the spread of the label's probability; high is to keep.

    Parameters
    ----------
    prob_label : array of shape (T, N)
        Probability of the given label, q; NaN where the sample was not presented. For a model with a loss
        alone, exp(-loss) is the same number.
    window
        Epochs of a window, the paper's J.
    epochs
        Use the first that many epochs; all for None, as in the paper.

    Returns
    -------
    array of shape (N,)
        Mean of the unbiased standard deviations (ddof 1) over the T - J + 1 windows, in [0, 0.71]; the
        published code has ten times that. NaN for a sample without a window of J presentations in a row.

    Raises
    ------
    BadInput
        A window longer than the recording, or shorter than two epochs.

    References
    ----------
    He, Yang, Huang, Zhao, CVPR workshops 2024 (arXiv 2306.05175), section 3.2, equations 2 and 3.

    Examples
    --------
    >>> q = np.array([[0.0, 0.5], [1.0, 0.5], [0.0, 0.5]])
    >>> dyn_unc(q, window=2).round(3).tolist()
    [0.707, 0.0]
    """
    q = first_epochs(prob_label, epochs, setting="dyn_unc: epochs")
    check_window(len(q), window, scorer="dyn_unc")
    return window_spreads(q, window, 0.0)
