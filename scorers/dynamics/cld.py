"""Correlation of loss differences: whether a sample's loss falls when its class's validation loss does.

With d_i[t] = L[t+1, i] - L[t, i] and g_c[t] the same difference of the mean validation loss of class c,
cld_i = corr_t(d_i, g_{y_i}). As in the paper's code, the series starts after the first epoch, not at the
initial weights. Where losses are missing we correlate over the differences that exist.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import scorer


@scorer(
    mode="epoch_end",
    direction="keep",
    reference="Nagaraj, Ravikumar, Roy, Coresets from trajectories, TMLR 2025",
)
def cld(loss: np.ndarray, labels: np.ndarray, val_loss: np.ndarray, val_labels: np.ndarray) -> np.ndarray:
    """Correlate each sample's loss differences with those of its class's validation loss; high is to keep.

    Parameters
    ----------
    loss : array of shape (T, N)
        Loss of each training sample after each epoch, at least three epochs.
    labels : array of shape (N,)
    val_loss : array of shape (T, M)
        Loss of the validation samples after the same epochs.
    val_labels : array of shape (M,)

    Returns
    -------
    array of shape (N,)
        In [-1, 1]; 0 where either series of differences is constant; NaN where validation has no sample of
        the class, or fewer than two differences are recorded.

    Raises
    ------
    BadInput
        Fewer than three epochs.

    References
    ----------
    Nagaraj, Ravikumar, Roy, TMLR 2025, section 3.

    Examples
    --------
    >>> loss = np.array([[3.0, 3.0], [2.0, 2.8], [1.5, 2.0], [1.4, 0.5]])
    >>> cld(loss, np.array([0, 0]), loss[:, :1], np.array([0])).round(3).tolist()
    [1.0, -0.994]
    """
    epochs, samples = loss.shape
    if epochs < 3:
        raise BadInput(f"cld needs losses of at least 3 epochs, got {epochs}; record more epochs")
    classes = 1 + int(max(labels.max(initial=0), val_labels.max(initial=0)))
    validation = _class_means(val_loss, val_labels, classes)  # v, (T, C)
    n, sum_d, sum_g = np.zeros((3, samples))
    for d, g, there in _differences(loss, validation, labels):
        n += there
        sum_d += np.where(there, d, 0.0)
        sum_g += np.where(there, g, 0.0)
    mean_d, mean_g = sum_d / np.maximum(n, 1), sum_g / np.maximum(n, 1)
    dd, gg, dg = np.zeros((3, samples))
    for d, g, there in _differences(loss, validation, labels):
        d, g = np.where(there, d - mean_d, 0.0), np.where(there, g - mean_g, 0.0)
        dd += d * d
        gg += g * g
        dg += d * g
    # A constant series of differences varies by rounding alone, seldom by exactly zero.
    flat_d = dd <= n * _rounding(loss, loss.dtype) ** 2
    flat_g = gg <= n * _rounding(validation, val_loss.dtype)[labels] ** 2
    flat = flat_d | flat_g
    score = np.where(flat, 0.0, dg / np.where(flat, 1.0, np.sqrt(dd) * np.sqrt(gg)))
    return np.where(n < 2, np.nan, np.clip(score, -1.0, 1.0))


def _differences(
    loss: np.ndarray, validation: np.ndarray, labels: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield d[t], g_y[t] and where both exist, each of shape (N,)."""
    for t in range(len(loss) - 1):
        with np.errstate(invalid="ignore"):  # the difference of two infinite losses is no observation
            d = np.subtract(loss[t + 1], loss[t], dtype=np.float64)
            g = (validation[t + 1] - validation[t])[labels]
        yield d, g, np.isfinite(d) & np.isfinite(g)


def _rounding(series: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return, per column, how far a difference of two of its values may be off by their rounding."""
    largest = np.zeros(series.shape[1])
    for row in series:
        np.fmax(largest, np.where(np.isfinite(row), np.abs(row), 0.0), out=largest)
    return 2 * float(np.finfo(dtype).eps) * largest


def _class_means(val_loss: np.ndarray, val_labels: np.ndarray, classes: int) -> np.ndarray:
    """Return v_c[t], of shape (T, C); NaN where a class has no loss at an epoch."""
    means = np.full((len(val_loss), classes), np.nan)
    for t, row in enumerate(val_loss):
        there = ~np.isnan(row)
        count = np.bincount(val_labels[there], minlength=classes)
        total = np.bincount(val_labels[there], weights=row[there], minlength=classes)
        np.divide(total, count, out=means[t], where=count > 0)
    return means
