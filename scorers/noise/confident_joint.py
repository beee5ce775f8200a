"""The confident joint: how many samples given one label are confidently predicted as another.

The paper's C_{given, true}. A sample counts as class j when its probability of j reaches the class's own mean
self-confidence t_j. Everything goes by blocks of rows, so that beside the probabilities no array larger than
(N,) or (K, K) is held.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tracesift.scorers.arrays import Integers, row_blocks

SLACK = 1e-6
"""Within this of a threshold, or of the largest probability, counts as reaching it."""

LOWEST = 2e-6
"""Floor of a class threshold."""

UNREACHABLE = 2.0
"""Threshold of a class that no sample is labelled as."""


def rows_by_label(labels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each label that occurs, with its rows in ascending order."""
    order = np.argsort(labels, kind="stable")
    found, starts = np.unique(labels[order], return_index=True)
    ends = np.append(starts, len(order))[1:]
    for k, start, end in zip(found, starts, ends, strict=True):
        yield int(k), order[start:end]


def class_thresholds(probs_oos: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return t_k, the mean probability of class k over the samples labelled k, of shape (K,)."""
    thresholds = np.full(probs_oos.shape[1], UNREACHABLE)
    for k, rows in rows_by_label(labels):
        mean = math.fsum(probs_oos[rows, k].tolist()) / len(rows)  # exact, whatever the order of rows
        thresholds[k] = max(LOWEST, mean)
    return thresholds


def confident_class(probs_oos: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the class that each sample confidently belongs to, -1 for none, of shape (N,).

    Among several confident classes it is the most probable class of all.
    """
    thresholds = class_thresholds(probs_oos, labels)
    guess = np.full(len(labels), -1)
    for rows in row_blocks(*probs_oos.shape):
        block = probs_oos[rows]
        confident = block >= thresholds - SLACK  # (rows, K)
        number = confident.sum(axis=1)
        one = np.where(number > 1, block.argmax(axis=1), confident.argmax(axis=1))
        guess[rows] = np.where(number > 0, one, -1)
    return guess


def confident_joint(probs_oos: np.ndarray, labels: np.ndarray, *, calibrate: bool = True) -> np.ndarray:
    """Count samples by given label and confidently predicted class.

    Parameters
    ----------
    probs_oos : array of shape (N, K)
        Out-of-sample probabilities; in-sample ones of a model that has memorised its labels find nothing.
    labels : array of shape (N,)
    calibrate
        Scale rows to the number of samples with each label, then to N, and round keeping the row totals.

    Returns
    -------
    int64 array of shape (K, K)
        Rows are given labels, columns predicted ones. At least 1 on the diagonal before calibration.

    References
    ----------
    Northcutt, Jiang, Chuang, Confident learning, JAIR 2021, section 3.1, equation 1.

    Examples
    --------
    >>> probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7]])
    >>> confident_joint(probs, np.array([0, 0, 0, 1])).tolist()
    [[2, 1], [0, 1]]
    """
    classes = probs_oos.shape[1]
    guess = confident_class(probs_oos, labels)
    sure = guess >= 0
    pairs = np.bincount(labels[sure] * classes + guess[sure], minlength=classes * classes)
    joint = pairs.reshape(classes, classes)
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1))
    return _calibrated(joint, np.bincount(labels, minlength=classes)) if calibrate else joint


def _calibrated(joint: Integers, counts: Integers) -> Integers:
    """Scale each row to its label's count in whole numbers: what is left over goes to the largest remainders.

    Integer arithmetic throughout, because equal remainders are the rule in small counts and rounding errors
    must not decide between them; the last of equal ones is served first.
    """
    shares, remainders = np.divmod(joint * counts[:, None], joint.sum(axis=1)[:, None])
    for share, remainder, count in zip(shares, remainders, counts, strict=True):
        share[np.argsort(remainder, kind="stable")[::-1][: count - share.sum()]] += 1
    return shares
