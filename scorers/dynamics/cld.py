"""Correlation of loss differences: whether a sample's loss falls when its class's validation loss does.

With d_i[t] = L[t+1, i] - L[t, i] and g_c[t] the same difference of the mean validation loss of class c,
cld_i = corr_t(d_i, g_{y_i}). As in the paper's code, the series starts after the first epoch, not at the
initial weights. Where losses are missing we correlate over the differences that exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import scorer
from tracesift.scorers.twins import twinned

if TYPE_CHECKING:
    from torch import Tensor


def validation_differences(val_loss: np.ndarray, val_labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return g_c[t] = v_c[t+1] - v_c[t], of shape (T - 1, C), and how far rounding may put each class off.

    v_c[t] is the mean validation loss of class c after epoch t + 1; NaN where the class has none.
    """
    classes = 1 + int(val_labels.max(initial=0))
    v = np.full((len(val_loss), classes), np.nan)
    for t, row in enumerate(val_loss):
        there = ~np.isnan(row)
        count = np.bincount(val_labels[there], minlength=classes)
        total = np.bincount(val_labels[there], weights=row[there], minlength=classes)
        np.divide(total, count, out=v[t], where=count > 0)
    with np.errstate(invalid="ignore"):  # the difference of two infinite losses is no observation
        g = np.diff(v, axis=0)
    largest = np.abs(np.where(np.isfinite(v), v, 0.0)).max(axis=0, initial=0.0)
    return np.where(np.isfinite(g), g, np.nan), 2 * float(np.finfo(val_loss.dtype).eps) * largest


@scorer(
    mode="epoch_end",
    direction="keep",
    per_sample=True,
    tensors=True,
    once=validation_differences,
    reference="Nagaraj, Ravikumar, Roy, Coresets from trajectories, TMLR 2025",
)
def cld(
    loss: np.ndarray,
    labels: np.ndarray,
    val_loss: np.ndarray,
    val_labels: np.ndarray,
    *,
    once: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Correlate each sample's loss differences with those of its class's validation loss; high is to keep.

    Parameters
    ----------
    loss : array of shape (T, N)
        Loss of each training sample after each epoch, at least three epochs.
    labels : array of shape (N,)
    val_loss : array of shape (T, M)
        Loss of the validation samples after the same epochs.
    val_labels : array of shape (M,)
    once
        What `validation_differences` returns for the validation arrays; computed from them where None.

    Returns
    -------
    array of shape (N,)
        In [-1, 1]; 0 where either series of differences is constant; NaN where validation has no sample of
        the class, or fewer than two differences are recorded.

    Raises
    ------
    BadInput
        Fewer than three epochs.

    Notes
    -----
    The paper's series begins at the initial weights, its code's after the first epoch; a recording does as the code.

    References
    ----------
    Nagaraj, Ravikumar, Roy, TMLR 2025, section 3.

    Examples
    --------
    >>> loss = np.array([[3.0, 3.0], [2.0, 2.8], [1.5, 2.0], [1.4, 0.5]])
    >>> cld(loss, np.array([0, 0]), loss[:, :1], np.array([0])).round(3).tolist()
    [1.0, -0.994]
    """
    if len(loss) < 3:
        raise BadInput(f"cld needs losses of at least 3 epochs, got {len(loss)}; record more epochs")
    g, rounding_g = once if once is not None else validation_differences(val_loss, val_labels)
    known = labels < g.shape[1]
    score = _correlation(loss, labels * known, g, rounding_g)
    score[~known] = np.nan
    return score


@twinned
def _correlation(loss: np.ndarray, labels: np.ndarray, g: np.ndarray, rounding_g: np.ndarray) -> np.ndarray:
    rounding = 2 * float(np.finfo(loss.dtype).eps)
    centred = g - g.mean(axis=0)
    score = _correlate(loss, labels, centred, (centred**2).sum(axis=0), rounding_g, rounding)
    apart = np.flatnonzero(np.isinf(score))
    if apart.size:
        some = np.ascontiguousarray(loss[:, apart])
        score[apart] = _correlate_with_care(some, labels[apart], g, rounding_g, rounding)
    return score


@_correlation.on_tensors
def _(loss: Tensor, labels: Tensor, g: Tensor, rounding_g: Tensor) -> Tensor:
    from torch import finfo

    d, h = loss.double().diff(dim=0), g[:, labels]
    there = d.isfinite() & h.isfinite()
    n = there.sum(0)

    def centred(series: Tensor) -> Tensor:
        mean = series.masked_fill(~there, 0.0).sum(0) / n
        return (series - mean).masked_fill_(~there, 0.0)

    d, h = centred(d), centred(h)
    dd, gg, dg = d.square().sum(0), h.square().sum(0), (d * h).sum(0)
    largest = loss.abs().masked_fill(~loss.isfinite(), 0.0).amax(0).double()
    moves = (dd > n * (2 * finfo(loss.dtype).eps * largest) ** 2) & (gg > n * rounding_g[labels] ** 2)
    score = (dg / (dd.sqrt() * gg.sqrt())).clamp(-1.0, 1.0).masked_fill_(~moves, 0.0)
    score[n < 2] = np.nan
    return score


@loop
def _correlate(
    loss: np.ndarray,
    labels: np.ndarray,
    g: np.ndarray,
    gg: np.ndarray,
    rounding_g: np.ndarray,
    rounding: float,
) -> np.ndarray:
    """Return the correlation of d[t] and the centred g_y[t]; `rounding` is that of a difference of losses near 1.

    Every difference is first taken to be there, in short loops over few arrays that the compiler turns into
    vector instructions. Infinity for a sample where one is missing, or where rounding might be all that varies.
    """
    epochs, samples = loss.shape
    mean, h = np.empty(samples), np.empty((4, samples))
    for i in range(samples):
        mean[i] = (np.float64(loss[epochs - 1, i]) - np.float64(loss[0, i])) / (epochs - 1)
    dd, dg = np.zeros(samples), np.zeros(samples)
    # Four differences in a loop, one after the other, read and write a sum once.
    fours = (epochs - 1) // 4 * 4
    for t in range(0, fours, 4):
        for i in range(samples):
            c = labels[i]
            h[0, i], h[1, i], h[2, i], h[3, i] = g[t, c], g[t + 1, c], g[t + 2, c], g[t + 3, c]
        for i in range(samples):
            e0 = np.float64(loss[t + 1, i]) - np.float64(loss[t, i]) - mean[i]
            e1 = np.float64(loss[t + 2, i]) - np.float64(loss[t + 1, i]) - mean[i]
            e2 = np.float64(loss[t + 3, i]) - np.float64(loss[t + 2, i]) - mean[i]
            e3 = np.float64(loss[t + 4, i]) - np.float64(loss[t + 3, i]) - mean[i]
            dd[i] = dd[i] + e0 * e0 + e1 * e1 + e2 * e2 + e3 * e3
            dg[i] = dg[i] + e0 * h[0, i] + e1 * h[1, i] + e2 * h[2, i] + e3 * h[3, i]
    for t in range(fours, epochs - 1):
        for i in range(samples):
            e = np.float64(loss[t + 1, i]) - np.float64(loss[t, i]) - mean[i]
            dd[i] += e * e
            dg[i] += e * g[t, labels[i]]
    score = np.empty(samples)
    n = epochs - 1.0
    for i in range(samples):
        c = labels[i]
        r = dg[i] / (np.sqrt(dd[i]) * np.sqrt(gg[c]))
        # no loss is larger than the first one plus all changes, by Cauchy and Schwarz at most this
        largest = abs(loss[0, i]) + np.sqrt(n * (dd[i] + n * mean[i] * mean[i]))
        if dd[i] > n * (rounding * largest) ** 2 and gg[c] > n * rounding_g[c] ** 2 and r == r:
            score[i] = min(1.0, max(-1.0, r))
        else:
            score[i] = np.inf
    return score


@loop
def _correlate_with_care(
    loss: np.ndarray, labels: np.ndarray, g: np.ndarray, rounding_g: np.ndarray, rounding: float
) -> np.ndarray:
    """Return the same over those t at which both differences exist; 0 where one of the series is constant."""
    epochs, samples = loss.shape
    score = np.empty(samples)
    for i in range(samples):
        n, mean_d, mean_g, dd, gg, dg, largest = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for centred in range(2):
            for t in range(epochs - 1):
                d, h = np.float64(loss[t + 1, i]) - np.float64(loss[t, i]), g[t, labels[i]]
                if not (np.isfinite(d) and np.isfinite(h)):
                    continue
                if centred:
                    d, h = d - mean_d, h - mean_g
                    dd, gg, dg = dd + d * d, gg + h * h, dg + d * h
                else:
                    n, mean_d, mean_g = n + 1.0, mean_d + d, mean_g + h
            if not centred:
                mean_d, mean_g = mean_d / n, mean_g / n
        for t in range(epochs):
            if np.isfinite(loss[t, i]):
                largest = max(largest, abs(np.float64(loss[t, i])))
        # a constant series of differences varies by rounding alone, seldom by exactly zero
        flat = dd <= n * (rounding * largest) ** 2 or gg <= n * rounding_g[labels[i]] ** 2
        r = 0.0 if flat else dg / (np.sqrt(dd) * np.sqrt(gg))
        score[i] = min(1.0, max(-1.0, r)) if n >= 2 else np.nan
    return score
