"""AUM against threshold samples: how far a sample's margin stands above what certainly wrong labels reach.

Read from the job `threshold_aum`. The number is no verdict; its zero is the paper's rule.
"""

from __future__ import annotations

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="clean",
    reference="Pleiss et al., Identifying mislabeled data using the area under the margin, NeurIPS 2020",
)
def threshold_aum(
    threshold_margin: np.ndarray, threshold_sample: np.ndarray, *, percentile: float = 99.0
) -> np.ndarray:
    """Return the mean margin less a high percentile of the threshold samples' margins; negative is suspicious.

    Parameters
    ----------
    threshold_margin : array of shape (N, R)
        Area under the margin in each run, for the label that the run trained with.
    threshold_sample : bool array of shape (N, R)
        Whether that label was the extra class that does not exist.
    percentile
        Of the margins of a run's threshold samples, interpolated between neighbours.

    Returns
    -------
    array of shape (N,)
        In units of logits, the mean over the runs in which the sample kept its label. Below 0: the margin is
        strictly less than the percentile, the paper's rule for a mislabelled sample. NaN for a sample that kept
        its label in no run, and where a run has no threshold sample.

    Raises
    ------
    BadInput
        A percentile outside 0 to 100.

    References
    ----------
    Pleiss, Zhang, Elenberg, Weinberger, NeurIPS 2020, section 3.2.

    Examples
    --------
    >>> margin = np.array([[1.0], [3.0], [-2.0], [0.5]])
    >>> moved = np.array([[False], [False], [True], [True]])
    >>> threshold_aum(margin, moved, percentile=100).tolist()
    [0.5, 2.5, nan, nan]
    """
    if not 0 <= percentile <= 100:
        raise BadInput(f"threshold_aum: percentile lies in 0 to 100, got {percentile}")
    total, runs = np.zeros(len(threshold_margin)), np.zeros(len(threshold_margin))
    for margin, moved in zip(threshold_margin.T.astype(np.float64), threshold_sample.T, strict=True):
        reached = np.percentile(margin[moved], percentile) if moved.any() else np.nan
        total += np.where(moved, 0.0, margin - reached)
        runs += ~moved
    return np.divide(total, runs, out=np.full(len(total), np.nan), where=runs > 0)
