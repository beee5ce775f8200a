"""Dataset cartography, second axis: the spread of that probability over training (the paper's sigma)."""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import first_epochs, mean_and_count, mean_square_around


@scorer(
    mode="in_training",
    direction="keep",
    per_sample=True,
    tensors=True,
    reference="Swayamdipta et al., Dataset cartography, EMNLP 2020",
)
def cartography_variability(
    prob_label: np.ndarray, *, burn_out: int | None = None, include_ci: bool = False
) -> np.ndarray:
    """Return the standard deviation of the label's probability over training; high is ambiguous, to keep.

    Parameters
    ----------
    prob_label : array of shape (T, N)
        Probability of the given label; NaN where the sample was not presented.
    burn_out
        Use the first that many epochs; all for None.
    include_ci
        Widen by the uncertainty of the variance: sqrt(var + var^2 / (presentations - 1)).

    Returns
    -------
    array of shape (N,)
        Population standard deviation (ddof 0), in [0, 0.5]; 0 after one presentation, where `include_ci`
        gives NaN; NaN for a sample that was never presented.

    References
    ----------
    Swayamdipta et al., EMNLP 2020, section 2.

    Examples
    --------
    >>> cartography_variability(np.array([[0.25, 0.5], [0.75, 0.5]])).tolist()
    [0.25, 0.0]
    """
    series = first_epochs(prob_label, burn_out, setting="cartography_variability: burn_out")
    mean, count = mean_and_count(series)
    variance = mean_square_around(series, mean)
    if include_ci:
        count[count < 2] = np.nan
        variance = variance + variance**2 / (count - 1.0)
    return variance**0.5
