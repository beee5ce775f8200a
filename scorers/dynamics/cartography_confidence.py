"""Dataset cartography, first axis: the mean probability of the given label over training (the paper's mu)."""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import first_epochs, mean_and_count


@scorer(
    mode="in_training",
    direction="easy",
    per_sample=True,
    tensors=True,
    reference="Swayamdipta et al., Dataset cartography, EMNLP 2020",
)
def cartography_confidence(prob_label: np.ndarray, *, burn_out: int | None = None) -> np.ndarray:
    """Return the mean probability of the given label over presentations; high is easy, low may be mislabeled.

    Parameters
    ----------
    prob_label : array of shape (T, N)
        Probability of the given label; NaN where the sample was not presented.
    burn_out
        Use the first that many epochs; all for None.

    Returns
    -------
    array of shape (N,)
        In [0, 1]; NaN for a sample that was never presented.

    References
    ----------
    Swayamdipta et al., EMNLP 2020, section 2.

    Examples
    --------
    >>> cartography_confidence(np.array([[0.25, 0.5], [0.75, np.nan]])).tolist()
    [0.5, 0.5]
    """
    return mean_and_count(first_epochs(prob_label, burn_out, setting="cartography_confidence: burn_out"))[0]
