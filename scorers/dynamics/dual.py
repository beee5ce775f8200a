"""DUAL: difficulty times uncertainty, so that the samples worth keeping show after a few epochs already.

Dynamic uncertainty finds the ambiguous samples late in training; weighing each window by how wrong the model
is within it finds them early. The paper scores after 30 of 200 epochs on CIFAR and 60 of 90 on ImageNet.
"""

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
    reference="Cho, Shin, Kang, Yun, Lightweight dataset pruning without full training, ICML 2025",
)
def dual(prob_label: np.ndarray, *, window: int = 10, epochs: int | None = None) -> np.ndarray:
    """Return the mean, over sliding windows, of s (1 - m) of the label's probability; high is to keep.

    Parameters
    ----------
    prob_label : array of shape (T, N)
        Probability of the given label; m and s are its mean and unbiased standard deviation (ddof 1) within
        a window. NaN where the sample was not presented.
    window
        Epochs of a window, the paper's J.
    epochs
        Use the first that many epochs, the paper's T: 30 of 200 on CIFAR and 60 of 90 on ImageNet; all for None.

    Returns
    -------
    array of shape (N,)
        In [0, 0.71]; the published code has ten times that. NaN for a sample without a window of J
        presentations in a row.

    Raises
    ------
    BadInput
        A window longer than the recording, or shorter than two epochs.

    References
    ----------
    Cho, Shin, Kang, Yun, ICML 2025 (arXiv 2502.06905), section 3.2, equation 4.

    Examples
    --------
    >>> q = np.array([[0.0, 0.5], [1.0, 0.5], [0.0, 0.5]])
    >>> dual(q, window=2).round(3).tolist()
    [0.354, 0.0]
    """
    q = first_epochs(prob_label, epochs, setting="dual: epochs")
    check_window(len(q), window, scorer="dual")
    return window_spreads(q, window, 1.0)
