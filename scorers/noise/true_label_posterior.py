"""What the true label probably is, given the sample and the label it carries: Bayes with a noise transition.

Out-of-sample probabilities p are those of models trained on the given labels, and neither calibrated nor free of
the noise. The probabilities q of the true label are taken as q ~ (S^-T p)^b with S = (1 - l) I + l T: the share l of
the noise that the models have learned to imitate is taken out, and b sharpens or softens. Both are the ones under
which the given labels, which are draws from T^T q, are most likely. Then

    P(true j | x, given i) = q_j T[j, i] / sum_k q_k T[k, i].

Classes that overlap everywhere have no clean anchors, and T would call their overlap noise. So T is used only where
the data show noise: it must explain the given labels better than no noise does, or disagreement must be level; and
the anchors must be anchors, of their class more often than the noise is strong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from tracesift.scorers.arrays import Floats, Integers, row_blocks
from tracesift.scorers.noise.disagreement import disagreement_is_level
from tracesift.scorers.noise.label_transition import anchors_of, estimate_transition

LEAST = 1e-6
"""Floor of a probability."""
LEARNED = (0.0, 0.5, 1.0)
"""Shares of the noise that the models may have learned."""
SHARPEST = 12.0
"""Most, and inverse of the least, exponent."""
FIT_ROWS = 20_000
"""More rows than this are thinned, for the fit alone, to evenly spaced ones in the order of P(given label)."""
WORST_CONDITION = 1e3
"""A transition closer to singular is not taken out."""
DEVIATIONS, DOUBT = 3.0, 1.0
"""By so many standard errors noise must raise the mean log-likelihood of the labels to be shown, or be in doubt."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How probabilities of the given label become those of the true one."""

    exponent: float
    learned: float
    inverse: Floats
    """(K, K): multiplied from the right, takes the learned noise out."""

    def __call__(self, probs: np.ndarray) -> Floats:
        """Return the probabilities of the true label, (N, K)."""
        return _powered(_without_noise(probs, self.inverse), self.exponent)


def calibrate(probs_oos: np.ndarray, labels: np.ndarray, matrix: Floats) -> tuple[Calibration, Floats]:
    """Fit the share of the noise and the exponent that make the given labels most likely.

    Among shares that are equally good to four decimals of the mean log-likelihood, the smallest.

    Parameters
    ----------
    probs_oos : array of shape (N, K)
    labels : array of shape (N,)
    matrix : array of shape (K, K)
        Noise transition.

    Returns
    -------
    calibration : Calibration
    likelihood : array of shape (min(N, FIT_ROWS),)
        Log-likelihood of each given label that took part.
    """
    rows = _thinned(probs_oos, labels)
    probs, given = probs_oos[rows], labels[rows]
    likely = matrix[:, given].T  # P(given label | true label), (rows, K)
    best, highest = None, -np.inf
    for learned in LEARNED:
        imitated = (1 - learned) * np.eye(len(matrix)) + learned * matrix
        if np.linalg.cond(imitated) > WORST_CONDITION:
            continue
        inverse = np.linalg.inv(imitated)
        logs = _without_noise(probs, inverse)
        exponent = _sharpness(logs, likely)
        likelihood = _log_likelihood(logs, exponent, likely)
        if likelihood.mean() > highest + 1e-4:
            highest = float(likelihood.mean())
            best = Calibration(exponent=exponent, learned=learned, inverse=inverse), likelihood
    assert best is not None  # no noise learned means the identity, which is never singular
    return best


def noise_is_shown(probs_oos: np.ndarray, labels: np.ndarray, matrix: Floats) -> bool | None:
    """Return whether the given labels speak for this noise rather than for classes that overlap; None: unclear.

    They do where the noise makes them more likely, each side at its own best calibration, by `DEVIATIONS`
    standard errors. Models that have learned the noise by heart leave nothing to gain; then their disagreement
    with the labels must be level (`disagreement_is_level`). Between `DOUBT` and `DEVIATIONS` they may be either:
    few samples, or few wrong labels, show no more. Nor do models so unsure that, by the same calibration, more of
    their anchors are of another class than are mislabeled.
    """
    true, noisy = calibrate(probs_oos, labels, matrix)
    clean = calibrate(probs_oos, labels, np.eye(len(matrix)))[1]
    gain = noisy - clean
    error = gain.std() / np.sqrt(len(gain))
    if gain.mean() > DEVIATIONS * error or disagreement_is_level(probs_oos, labels):
        return None if _anchors_overlap(probs_oos, matrix, true) else True
    return None if gain.mean() > DOUBT * error else False


def _anchors_overlap(probs_oos: np.ndarray, matrix: Floats, true: Calibration) -> bool:
    """Return whether more of the anchors of noisy classes are of another class than are mislabeled."""
    anchors, rate = anchors_of(probs_oos), 1 - matrix.diagonal()
    noisy = [k for k in np.flatnonzero(rate) if anchors[k].size]
    others = sum((1 - true(probs_oos[anchors[k]])[:, k]).sum() for k in noisy)
    return bool(others > sum(rate[k] * anchors[k].size for k in noisy))


def true_label_posterior(
    probs_oos: np.ndarray, labels: np.ndarray
) -> Iterator[tuple[Integers, Floats | None]]:
    """Yield blocks of rows with P(true label | sample, given label), (rows, K).

    Rows without a prediction are left out. None stands for certainty on the given label, where no noise is shown.

    Parameters
    ----------
    probs_oos : array of shape (N, K)
    labels : array of shape (N,)
    """
    predicted = np.flatnonzero(~np.isnan(probs_oos[:, 0]))
    probs, given = probs_oos[predicted], labels[predicted]
    transition = estimate_transition(probs, given)
    if not (transition.noisy and noise_is_shown(probs, given, transition.matrix)):
        yield predicted, None
        return
    true, _ = calibrate(probs, given, transition.matrix)
    for rows in row_blocks(*probs.shape):
        joint = true(probs[rows]) * transition.matrix[:, given[rows]].T
        yield predicted[rows], joint / joint.sum(axis=1, keepdims=True)


def _sharpness(logs: Floats, likely: Floats) -> float:
    """Return the exponent under which the given labels are most likely."""

    def loss(log_exponent: float) -> float:
        return -float(_log_likelihood(logs, float(np.exp(log_exponent)), likely).mean())

    limit = float(np.log(SHARPEST))
    found = minimize_scalar(loss, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-3})
    return round(float(np.exp(found.x)), 3)


def _log_likelihood(logs: Floats, exponent: float, likely: Floats) -> Floats:
    given = (_powered(logs, exponent) * likely).sum(axis=1)
    logarithm: Floats = np.log(np.maximum(given, LEAST**2))
    return logarithm


def _without_noise(probs: np.ndarray, inverse: Floats) -> Floats:
    """Return the logarithms of the probabilities with the learned noise taken out, cut off below `LEAST`."""
    clean = np.maximum(probs.astype(np.float64) @ inverse, LEAST)
    logs: Floats = np.log(clean / clean.sum(axis=1, keepdims=True))
    return logs


def _powered(logs: Floats, exponent: float) -> Floats:
    raised = exponent * logs
    powers: Floats = np.exp(raised - raised.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def _thinned(probs_oos: np.ndarray, labels: np.ndarray) -> Integers:
    everyone = np.arange(len(labels))
    if len(labels) <= FIT_ROWS:
        return everyone
    order = np.argsort(probs_oos[everyone, labels], kind="stable")
    return order[np.linspace(0, len(order) - 1, FIT_ROWS).round().astype(np.int64)]
