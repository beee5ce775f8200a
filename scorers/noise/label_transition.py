"""How often labels of one class are written as another: the transition matrix from anchors.

The matrix is T[j, i] = P(given label i | true label j). Anchors of class j are the samples of which models that
never saw them are surest that they are j. Hard samples are not among them, so what other labels they still carry
is noise: classes that merely overlap have clean anchors. Everything errs to the side of no noise. The rate of a
class is a lower confidence bound, and a class whose anchors are few, mostly carry other labels, or carry it no
more often than chance gets no noise at all. The anchors of a class may mostly carry other labels where noise is
heavy, and there alone: its own must surely be the most frequent, and disagreement level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, gammaln

from tracesift.scorers.arrays import Flags, Floats, Integers, row_blocks
from tracesift.scorers.noise.disagreement import heavy_disagreement_is_level

ANCHOR_SHARE, ANCHORS = 0.1, 50
"""Anchors of a class: this share of the samples predicted as it, at least so many, but never more than half."""
FEWEST = 20
"""Fewer anchors than this say nothing."""
BOUND = 0.05
"""Level of the one-sided bounds."""
CONCENTRATIONS = 10.0 ** np.linspace(-2, 2, 41)
"""From noise that favours few wrong labels to noise that takes any."""


@dataclass(frozen=True, kw_only=True)
class Transition:
    """What the anchors say about K classes."""

    matrix: Floats
    """(K, K), rows true labels, columns given ones; rows add up to 1."""
    counts: Integers
    """(K, K), anchors of the row's class by given label."""
    told: Flags
    """(K,): the class has anchors that say something; where not, its row is that of no noise."""

    @property
    def noisy(self) -> bool:
        """Whether any wrong label is to be expected."""
        return bool((self.matrix.diagonal() < 1).any())


def estimate_transition(probs_oos: np.ndarray, labels: np.ndarray) -> Transition:
    """Estimate the noise transition matrix from the samples that out-of-sample models are surest of.

    Parameters
    ----------
    probs_oos : array of shape (N, K)
        Out-of-sample probabilities, without missing rows.
    labels : array of shape (N,)

    Returns
    -------
    Transition

    References
    ----------
    Liu, Tao, Classification with noisy labels by importance reweighting, TPAMI 2016, section 4 (anchor points);
    Patrini et al., Making deep neural networks robust to label noise, CVPR 2017, section 4.2. Ours: several anchors
    per class and their given labels instead of one probability, and the bounds.

    Examples
    --------
    >>> probs = np.tile([[0.9, 0.1], [0.1, 0.9]], (100, 1))
    >>> labels = np.tile([0, 1], 100)
    >>> labels[:40:2] = 1  # 20 of 100 samples of class 0
    >>> estimate_transition(probs, labels).matrix.round(2).tolist()
    [[0.86, 0.14], [0.0, 1.0]]
    """
    counts = anchor_counts(probs_oos, labels)
    anchors, agreeing = counts.sum(axis=1), counts.diagonal()
    differing = anchors - agreeing
    prevalence = np.bincount(labels, minlength=len(counts)) / max(len(labels), 1)
    told = (anchors >= FEWEST) & (_lower(agreeing, differing) > prevalence)
    mostly = 2 * agreeing >= anchors
    if (told & ~mostly).any() and heavy_disagreement_is_level(probs_oos, labels):
        others = np.where(np.eye(len(counts), dtype=bool), 0, counts).max(axis=1)
        mostly |= _lower(agreeing, others) > 0.5
    told &= mostly
    rate = np.where(told, _lower(differing, agreeing), 0.0)
    matrix = rate[:, None] * wrong_label_shares(np.where(told[:, None], counts, 0))
    np.fill_diagonal(matrix, 1 - rate)
    return Transition(matrix=matrix, counts=counts, told=told)


def anchor_counts(probs_oos: np.ndarray, labels: np.ndarray) -> Integers:
    """Return the anchors of each class by given label, (K, K)."""
    classes = probs_oos.shape[1]
    return np.array([np.bincount(labels[rows], minlength=classes) for rows in anchors_of(probs_oos)])


def anchors_of(probs_oos: np.ndarray) -> list[Integers]:
    """Return the rows that are anchors of each class; ties with the last anchor are anchors too."""
    predicted = np.empty(len(probs_oos), dtype=np.int64)
    for rows in row_blocks(*probs_oos.shape):
        predicted[rows] = probs_oos[rows].argmax(axis=1)
    found = []
    for k in range(probs_oos.shape[1]):
        called = np.flatnonzero(predicted == k)
        number = min(max(ANCHORS, int(np.ceil(ANCHOR_SHARE * called.size))), called.size // 2)
        sureness = probs_oos[called, k]
        found.append(called[sureness >= np.sort(sureness)[-number]] if number else called[:0])
    return found


def wrong_label_shares(counts: Integers) -> Floats:
    """Return how the wrong labels of each class spread over the others, (K, K), zero on the diagonal.

    The posterior mean under a symmetric Dirichlet prior, whose concentration is the one of greatest evidence over
    all classes: noise that always goes from cat to dog is told from noise that goes anywhere.
    """
    classes = len(counts)
    if classes < 2:
        return np.zeros((classes, classes))
    off = counts[~np.eye(classes, dtype=bool)].reshape(classes, classes - 1)
    total = off.sum(axis=1)
    evidence = [
        (gammaln(c * (classes - 1)) - gammaln(c * (classes - 1) + total)).sum()
        + (gammaln(off + c) - gammaln(c)).sum()
        for c in CONCENTRATIONS
    ]
    shares = counts + CONCENTRATIONS[int(np.argmax(evidence))]
    np.fill_diagonal(shares, 0)
    result: Floats = shares / shares.sum(axis=1, keepdims=True)
    return result


def _lower(hits: Integers, misses: Integers) -> Floats:
    """Return Jeffreys' one-sided lower bound of a share; 0 where there is no hit."""
    bound: Floats = np.where(hits > 0, betaincinv(hits + 0.5, misses + 0.5, BOUND), 0.0)
    return bound
