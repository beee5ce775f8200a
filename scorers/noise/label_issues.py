"""Which labels confident learning calls wrong: the ways to turn the confident joint into a mask.

Follows the definitions of the paper and its library, in blocks: no copy of the probabilities is made. Equal
margins are taken in the order of the rows.
"""

from __future__ import annotations

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Flags, Floats, Integers, row_blocks
from tracesift.scorers.noise.confident_joint import SLACK, confident_class, confident_joint, rows_by_label
from tracesift.scorers.noise.confident_learning import confident_learning

FILTERS = (
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
    "low_normalized_margin",
    "low_self_confidence",
)


def find_label_issues(
    probs_oos: np.ndarray,
    labels: np.ndarray,
    *,
    filter_by: str = "prune_by_noise_rate",
    frac_noise: float = 1.0,
    min_examples_per_class: int = 1,
    joint: np.ndarray | None = None,
) -> np.ndarray:
    """Return which labels are probably wrong.

    Parameters
    ----------
    probs_oos : array of shape (N, K)
        Out-of-sample probabilities; a row of NaN is a sample without a prediction, left out and not flagged.
    labels : array of shape (N,)
    filter_by
        ``"prune_by_noise_rate"``: for each pair (given k, other j), the C[k, j] samples labelled k with the
        largest p[j] - p[k]. ``"prune_by_class"``: per class the lowest p[k], as many as are off the diagonal.
        ``"both"``: both of these. ``"confident_learning"``: the samples counted off the diagonal.
        ``"predicted_neq_given"``: the most probable class is another. ``"low_normalized_margin"``,
        ``"low_self_confidence"``: the lowest scores, as many as the samples off the diagonal. Except for the
        last two a sample whose given label is (almost) the most probable class is never flagged.
    frac_noise
        Flag only this part of the noise counts, most likely first; the first three filters only.
    min_examples_per_class
        Leave at least that many samples in each class; the first three filters only.
    joint : array of shape (K, K), optional
        Confident joint to prune by, instead of the calibrated one of these probabilities.

    Returns
    -------
    bool array of shape (N,)

    References
    ----------
    Northcutt, Jiang, Chuang, JAIR 2021, section 3.2, methods 1 to 5.

    Examples
    --------
    >>> probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7]])
    >>> find_label_issues(probs, np.array([0, 0, 0, 1])).tolist()
    [False, False, True, False]
    """
    if filter_by not in FILTERS:
        raise BadInput(f"find_label_issues: filter_by is one of {', '.join(FILTERS)}, not '{filter_by}'")
    labels = np.asarray(labels)
    predicted = ~np.isnan(probs_oos[:, 0])
    if not predicted.all():
        issues = np.zeros(len(labels), dtype=bool)
        issues[predicted] = find_label_issues(
            probs_oos[predicted], labels[predicted], filter_by=filter_by, frac_noise=frac_noise,
            min_examples_per_class=min_examples_per_class, joint=joint,
        )  # fmt: skip
        return issues
    supported = _supported(probs_oos, labels)
    if filter_by == "predicted_neq_given":
        return ~supported
    if filter_by in FILTERS[3:]:
        guess = confident_class(probs_oos, labels)
        off_diagonal = np.asarray((guess >= 0) & (guess != labels) & ~supported)
        if filter_by == "confident_learning":
            return off_diagonal
        quality = confident_learning(probs_oos, labels, score=filter_by.removeprefix("low_"))
        return _largest(-quality, int(off_diagonal.sum()))
    if joint is None:
        joint = confident_joint(probs_oos, labels)
    counts = _prune_counts(joint, frac_noise, min_examples_per_class)
    return ~supported & _pruned(probs_oos, labels, counts, filter_by, min_examples_per_class)


def _supported(probs: Floats, labels: Integers) -> Flags:
    """Return where the given label is the most probable class, or within rounding of it."""
    supported = np.empty(len(labels), dtype=bool)
    for rows in row_blocks(*probs.shape):
        block = probs[rows].copy()
        block[np.arange(len(block)), labels[rows]] += SLACK
        supported[rows] = block.argmax(axis=1) == labels[rows]
    return supported


def _prune_counts(joint: np.ndarray, frac_noise: float, at_least: int) -> np.ndarray:
    """Return how many samples to prune by given label (rows) and other class (columns); kept on the diagonal.

    A diagonal raised to `at_least` takes what it gains evenly from the row's other non-zero counts.
    """
    kept = np.maximum(joint.diagonal(), at_least)
    gained = kept - joint.diagonal()
    others = np.maximum((joint != 0).sum(axis=1) - 1.0, 1.0)
    counts = np.maximum(joint - (gained / others)[:, None], 0.0)
    np.fill_diagonal(counts, 0.0)
    pruned = counts * frac_noise
    np.fill_diagonal(pruned, kept + (counts - pruned).sum(axis=1))
    return np.asarray(pruned, dtype=np.int64)


def _pruned(probs: Floats, labels: Integers, counts: Integers, filter_by: str, at_least: int) -> Flags:
    issues = np.zeros(len(labels), dtype=bool)
    for k, rows in rows_by_label(labels):
        if len(rows) <= max(at_least, 1):
            continue
        own = probs[rows, k]
        flagged = np.ones(len(rows), dtype=bool)
        if filter_by != "prune_by_noise_rate":
            flagged &= _largest(-own, len(rows) - counts[k, k])
        if filter_by != "prune_by_class":
            by_pair = np.zeros(len(rows), dtype=bool)
            for j in np.flatnonzero(counts[k]):
                if j != k:
                    by_pair |= _largest(probs[rows, j] - own, counts[k, j])
            flagged &= by_pair
        issues[rows] = flagged
    return issues


def _largest(values: Floats, count: int) -> Flags:
    """Return a mask of the `count` largest values, the first rows among equal ones."""
    if count <= 0:
        return np.zeros(len(values), dtype=bool)
    if count >= len(values):
        return np.ones(len(values), dtype=bool)
    cut = np.partition(values, len(values) - count)[len(values) - count]
    mask = np.asarray(values > cut)
    mask[np.flatnonzero(values == cut)[: count - int(mask.sum())]] = True
    return mask
