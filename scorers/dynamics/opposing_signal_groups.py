"""Opposing signals: samples whose loss goes up when others' goes down, to and fro between epochs.

The paper looks at pairs of consecutive steps where the whole loss jumps, and finds two small groups that pull in
opposite directions. On trajectories by epoch we measure the same thing on each sample: consecutive changes of an
oscillating loss have opposite signs, so their correlation is negative, and their range says how far it swings.
"""

from __future__ import annotations

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import scorer


@scorer(
    mode="epoch_end",
    direction="outlier",
    reference="Rosenfeld, Risteski, Outliers with opposing signals, ICLR 2024; the score by epochs is our derivation",
)
def opposing_signal_groups(loss: np.ndarray, *, signed: bool = False) -> np.ndarray:
    """Return minus the correlation of consecutive loss changes, times their range; high swings to and fro.

    Parameters
    ----------
    loss : array of shape (T, N)
        Loss of each sample after each epoch, at least four epochs.
    signed
        Give the number the sign of the sample's change at the spike, the step at which the mean loss of all
        samples rises most: the two opposing groups are then the two ends of the order. The order as outliers is
        that of the absolute values.

    Returns
    -------
    array of shape (N,)
        In units of loss, unbounded; 0 where the changes do not vary. NaN for a sample with fewer than three
        changes, a change having a finite loss at both its ends.

    Raises
    ------
    BadInput
        Fewer than four epochs.

    Notes
    -----
    With d[t] = loss[t + 1] - loss[t] it is -corr(d[t], d[t + 1]) (max d - min d), over the t at which both are
    there. Zero or more where changes alternate, negative where they go on in the same direction.

    References
    ----------
    Rosenfeld, Risteski, ICLR 2024, section 2, for the groups; the correlation and its range are ours.

    Examples
    --------
    >>> loss = np.array([[1.0, 4.0], [3.0, 3.0], [1.0, 2.0], [3.0, 1.5], [1.0, 1.4]])
    >>> opposing_signal_groups(loss).round(2).tolist()
    [4.0, -0.75]
    """
    if len(loss) < 4:
        raise BadInput(
            f"opposing_signal_groups needs losses of at least 4 epochs, got {len(loss)}; record more epochs"
        )
    finite = np.where(np.isfinite(loss), loss, np.nan).astype(np.float64)
    d = np.diff(finite, axis=0)  # (T - 1, N)
    before, after = d[:-1], d[1:]
    there = ~np.isnan(before) & ~np.isnan(after)
    count = there.sum(axis=0)
    rounding = 2 * float(np.finfo(loss.dtype).eps) * _largest(np.abs(finite))
    swing = -_correlation(before, after, there, count, rounding) * (_largest(d) + _largest(-d))
    swing[(~np.isnan(d)).sum(axis=0) < 3] = np.nan
    return swing * _sign_at_spike(d) if signed else swing


def _correlation(
    before: np.ndarray, after: np.ndarray, there: np.ndarray, count: np.ndarray, rounding: np.ndarray
) -> np.ndarray:
    """Return the correlation of two series of changes, 0 where one of them moves by no more than rounding does."""

    def total(values: np.ndarray) -> np.ndarray:
        summed = np.zeros(values.shape[1])
        for row in np.where(there, values, 0.0):  # in the order of epochs
            summed += row
        return summed

    n = np.maximum(count, 1)
    x, y = before - total(before) / n, after - total(after) / n
    xx, yy, xy = total(x * x), total(y * y), total(x * y)
    moves = np.minimum(xx, yy) > n * rounding**2
    return np.divide(xy, np.sqrt(xx * yy), out=np.zeros(len(xx)), where=moves).clip(-1.0, 1.0)


def _largest(values: np.ndarray) -> np.ndarray:
    """Return the largest number of each column, NaN left out, 0 where there is nothing else."""
    return np.where(
        np.isnan(values).all(axis=0), 0.0, np.where(np.isnan(values), -np.inf, values).max(axis=0)
    )


def _sign_at_spike(d: np.ndarray) -> np.ndarray:
    """Return the sign of each sample's change at the step at which the mean loss rises most."""
    counts = (~np.isnan(d)).sum(axis=1)
    sums = np.array(
        [np.sort(row[~np.isnan(row)]).sum() for row in d]
    )  # sorted: the order of rows leaves no trace
    means = np.divide(sums, counts, out=np.full(len(d), -np.inf), where=counts > 0)
    return np.asarray(np.sign(d[int(means.argmax())]))
