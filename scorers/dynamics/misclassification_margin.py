"""The mean misclassification margin of the forgetting paper: the same number as `aum`, under its own name."""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import mean_and_count


@scorer(
    mode="in_training",
    direction="easy",
    per_sample=True,
    tensors=True,
    reference="Toneva et al., An empirical study of example forgetting, ICLR 2019",
)
def misclassification_margin(margin: np.ndarray) -> np.ndarray:
    """Return the mean over presentations of the label's logit minus the largest other; high is easy.

    Parameters
    ----------
    margin : array of shape (T, N)
        NaN where the sample was not presented.

    Returns
    -------
    array of shape (N,)
        In units of logits; negative for a sample that was wrong by more than it was right. NaN for a sample
        that was never presented.

    References
    ----------
    Toneva et al., ICLR 2019, section 5.1 (misclassification margin).

    Examples
    --------
    >>> misclassification_margin(np.array([[1.0, -2.0], [3.0, np.nan]])).tolist()
    [2.0, -2.0]
    """
    return mean_and_count(margin)[0]
