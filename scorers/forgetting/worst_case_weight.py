"""How far a sample belongs to the worst-case forget set, read from the job `worst_case`."""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="redundant",
    per_sample=True,
    reference="Fan, Liu, Hero, Liu, Challenging forgets: unveiling the worst-case forget sets in machine unlearning, "
    "ECCV 2024",
)
def worst_case_weight(worst_case_weight: np.ndarray) -> np.ndarray:
    """Return the sample's share in the forget set that unlearning is worst at; high is hard to forget.

    Parameters
    ----------
    worst_case_weight : array of shape (N,)
        The job's weights.

    Returns
    -------
    array of shape (N,)
        In [0, 1]; over the training samples they add up to the size that the job was asked for, with its setting ``by``
        over the classes or groups: each sample then has the weight of its own.

    Notes
    -----
    Samples of high weight keep a low loss after unlearning, because the rest of the data says the same: a model
    retrained without them predicts them as well. So high means redundant, and memorization is low.

    References
    ----------
    Fan et al., ECCV 2024, section 4.

    Examples
    --------
    >>> worst_case_weight(np.array([0.25, 1.0])).tolist()
    [0.25, 1.0]
    """
    return np.asarray(worst_case_weight, dtype=np.float64)
