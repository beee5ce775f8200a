"""How far a sample belongs to the easiest forget set, read from the job `worst_case` with ``easiest=true``."""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="hard",
    per_sample=True,
    reference="Fan, Liu, Hero, Liu, Challenging forgets: unveiling the worst-case forget sets in machine unlearning, "
    "ECCV 2024 (reversed)",
)
def easiest_weight(easiest_weight: np.ndarray) -> np.ndarray:
    """Return the sample's share in the forget set that unlearning is best at; high is easy to forget.

    Parameters
    ----------
    easiest_weight : array of shape (N,)
        The job's weights, searched for with the opposite sign.

    Returns
    -------
    array of shape (N,)
        In [0, 1]; over the training samples they add up to the size that the job was asked for, with its setting ``by``
        over the classes or groups: each sample then has the weight of its own.

    Notes
    -----
    Samples of high weight lose most by unlearning: only they themselves teach the model their labels. They are hard to
    learn, wrongly labelled ones among them.

    References
    ----------
    Fan et al., ECCV 2024; the reversed mode of the authors' code.

    Examples
    --------
    >>> easiest_weight(np.array([0.25, 1.0])).tolist()
    [0.25, 1.0]
    """
    return np.asarray(easiest_weight, dtype=np.float64)
