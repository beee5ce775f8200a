"""Sum of probability margins over training, which coverage-centric selection calls AUM.

A different number from `aum`: probabilities instead of logits, so it saturates, and a sum instead of a mean,
so it is comparable only between samples presented equally often.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import mean_and_count


@scorer(
    mode="in_training",
    direction="clean",
    per_sample=True,
    tensors=True,
    reference="Zheng et al., Coverage-centric coreset selection, ICLR 2023 (accumulated_margin of the code)",
)
def aum_prob_sum(prob_margin: np.ndarray) -> np.ndarray:
    """Return the sum of the probability margins over the recorded presentations; low is suspicious.

    Parameters
    ----------
    prob_margin : array of shape (T, N)
        Probability of the given label minus the largest other; NaN where the sample was not presented.

    Returns
    -------
    array of shape (N,)
        In [-T, T]; NaN for a sample that was never presented.

    Notes
    -----
    The "AUM" of CCS and D2 pruning; `aum` is that of Pleiss et al., a mean of logit margins.

    Examples
    --------
    >>> aum_prob_sum(np.array([[0.5, -0.5], [0.25, np.nan]])).tolist()
    [0.75, -0.5]
    """
    mean, count = mean_and_count(prob_margin)
    return mean * count
