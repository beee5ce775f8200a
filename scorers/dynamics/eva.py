"""EVA: how much the size of a sample's error wavers in an early and in a late window of training.

The published code's arithmetic: the variance within each window is divided by its sum over all samples, so that
both windows weigh the same although errors move far more in the early one. The published windows are epochs 0 to
10 and 100 to 110 of 200; of a shorter training we take the same shares, at least two epochs each.
"""

from __future__ import annotations

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import scorer


@scorer(
    mode="in_training",
    direction="keep",
    reference="Hong et al., Evolution-aware variance (EVA) coreset selection, ACM MM 2024",
    experimental=True,
)
def eva(
    error_norm: np.ndarray,
    *,
    early_start: int = 0,
    early_end: int | None = None,
    late_start: int | None = None,
    late_end: int | None = None,
    early_weight: float = 0.5,
) -> np.ndarray:
    """Return the weighted sum of each sample's share of the error's variance in two windows; high is to keep.

    Parameters
    ----------
    error_norm : array of shape (T, N)
        L2 norm of p - onehot(label); NaN where the sample was not presented.
    early_start, early_end, late_start, late_end
        The windows' epochs, counted from 0, ends excluded. By default both hold a twentieth of the epochs, and the
        late one begins in the middle.
    early_weight
        Weight of the early window; the late one has the rest.

    Returns
    -------
    array of shape (N,)
        At least 0, with sum 1: within a window the unbiased variance (ddof 1) over its sum, or 0 where nothing
        varies. NaN for a sample with fewer than two presentations in a window.

    Raises
    ------
    BadInput
        Windows that overlap, hold fewer than two epochs, or end after the recording; a weight outside [0, 1].

    References
    ----------
    Hong, Zhang, Zhang, Zhou, ACM MM 2024 (arXiv 2406.05677), section 3; windows and weights as in their code.

    Examples
    --------
    >>> errors = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.5], [1.0, 0.7]])
    >>> eva(errors).tolist()
    [0.5, 0.5]
    """
    if not 0 <= early_weight <= 1:
        raise BadInput(f"eva: early_weight is a share, from 0 to 1, got {early_weight}")
    epochs, length = len(error_norm), max(2, round(len(error_norm) / 20))
    early_end = early_start + length if early_end is None else early_end
    late_start = max(epochs // 2, early_end) if late_start is None else late_start
    late_end = late_start + length if late_end is None else late_end
    if not 0 <= early_start <= early_end - 2 < early_end <= late_start <= late_end - 2:
        raise BadInput(
            f"eva: windows {early_start} to {early_end} and {late_start} to {late_end}: each has two epochs or more, "
            "and the late one begins where the early one has ended"
        )
    if late_end > epochs:
        raise BadInput(
            f"eva: the late window ends with epoch {late_end}, but {epochs} epochs were recorded; pass windows "
            "that fit or record more epochs"
        )
    early = _shares(error_norm[early_start:early_end])
    late = _shares(error_norm[late_start:late_end])
    return early_weight * early + (1 - early_weight) * late


def _shares(errors: np.ndarray) -> np.ndarray:
    """Return each sample's unbiased variance over the epochs, as a share of the sum over all samples."""
    count, mean, squares = (np.zeros(errors.shape[1]) for _ in range(3))
    for row in errors.astype(np.float64):
        there = ~np.isnan(row)
        count += there
        mean += np.where(there, row, 0.0)
    mean = np.divide(mean, count, out=np.full(len(mean), np.nan), where=count > 0)
    for row in errors.astype(np.float64):
        squares += np.where(np.isnan(row), 0.0, (row - mean) ** 2)
    variance = np.divide(squares, count - 1, out=np.full(len(mean), np.nan), where=count > 1)
    total = np.sort(variance[~np.isnan(variance)]).sum()  # sorted, so that the order of rows leaves no trace
    return variance / total if total > 0 else variance
