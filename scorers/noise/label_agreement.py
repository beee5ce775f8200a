"""The family that most detectors of wrong labels belong to: agreement with the label, over checkpoints.

A detector is what agreement means, how checkpoints become one number, and whether the models were trained on the
sample. Well-known members, up to sign and scale:

    cross_entropy, mean, in_sample                  mean_loss, negated
    cross_entropy, last, in_sample                  last_loss, negated
    logit_margin, mean, in_sample                   aum
    prob_margin, mean, in_sample                    aum_prob_sum, divided by the number of presentations
    prob, mean, in_sample                           cartography_confidence
    correct, mean or any vote, in_sample            cartography_correctness, divided by the number of presentations
    prob, out_of_sample                             confident_learning (cleanlab's self-confidence)
    prob_margin, out_of_sample                      confident_learning by normalized_margin, as 2 s - 1
    logit_margin, average_probability, in_sample    best in the comparison that drew this scheme
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import SIGNALS, BadInput, MissingSignal
from tracesift.scorers.arrays import Floats
from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import ABSENT, RIGHT, last_presented, mean_and_count, outcomes
from tracesift.scorers.twins import twinned

if TYPE_CHECKING:
    from torch import Tensor

RECORDED = {
    "prob": "prob_label", "logit_margin": "margin", "prob_margin": "prob_margin", "cross_entropy": "loss",
    "correct": "correct",
}  # fmt: skip
"""The signal (T, N) that holds each agreement; the loss is the cross-entropy before it is negated."""

VOTES = ("logit_margin", "prob_margin", "correct")
"""Agreements with a point of their own, 0, above which they favour the label."""

AGGREGATIONS = ("mean", "last", "vote", "average_probability")
INFORMATION = ("in_sample", "out_of_sample")


@scorer(
    mode="in_training",
    direction="clean",
    per_sample=True,
    tensors=True,
    experimental=True,
    reference="Pickler, Kamassury, Silva, Benchmarking noisy label detection methods, 2025",
)
def label_agreement(
    labels: np.ndarray,
    prob_label: np.ndarray | None = None,
    margin: np.ndarray | None = None,
    prob_margin: np.ndarray | None = None,
    loss: np.ndarray | None = None,
    correct: np.ndarray | None = None,
    seen: np.ndarray | None = None,
    probs: np.ndarray | None = None,
    probs_oos: np.ndarray | None = None,
    *,
    agreement: str = "logit_margin",
    aggregation: str = "average_probability",
    information: str = "in_sample",
) -> np.ndarray:
    """Return how far predictions agree with the label, by a chosen agreement and aggregation; low is suspicious.

    The defaults are the best of the paper's comparison. They average the probabilities over checkpoints before
    the margin is taken, and so need `probs`, which a recording does not hold; every other member of the family
    is computed from what is recorded.

    Parameters
    ----------
    labels : array of shape (N,)
    prob_label, margin, prob_margin, loss, correct, seen : arrays of shape (T, N), optional
        As recorded; the one that `agreement` means is needed, except for averages and out-of-sample.
    probs : array of shape (T, N, K), optional
        Probabilities at every checkpoint, for ``"average_probability"``; NaN rows where a sample was not seen.
    probs_oos : array of shape (N, K), optional
        Out-of-sample probabilities, for ``"out_of_sample"``; NaN rows for samples without a prediction.
    agreement
        ``"prob"``, p[label]; ``"logit_margin"``, logit of the label minus the largest other one, which is the
        margin of the log-probabilities as well; ``"prob_margin"``; ``"cross_entropy"``, log p[label], negated so
        that high is agreement; or ``"correct"``, 1 where the label is predicted.
    aggregation
        ``"mean"`` over presentations; ``"last"``; ``"vote"``, the share of presentations at which the margin is
        above 0, or the label predicted; or ``"average_probability"``, the agreement of the mean probabilities.
        Out of sample there is one prediction, and the first two and the last are the same.
    information
        ``"in_sample"`` or ``"out_of_sample"``.

    Returns
    -------
    array of shape (N,)
        In units of the agreement; NaN for a sample that was never presented, or has no prediction. Probabilities
        of 0 give -inf, and a label without any other class a margin of inf (of 1 for ``"prob_margin"``).

    Raises
    ------
    BadInput
        A setting that does not exist, or a vote on an agreement that has no point of its own.
    MissingSignal
        The settings need a signal that is absent.

    References
    ----------
    Pickler, Kamassury, Silva, 2025 (the three components; the result as its abstract states it).

    Examples
    --------
    >>> probs = np.array([[[0.8, 0.2], [0.4, 0.6]], [[0.4, 0.6], [0.6, 0.4]]])
    >>> label_agreement(np.array([0, 1]), probs=probs).round(3).tolist()  # log 0.6/0.4, log 0.5/0.5
    [0.405, 0.0]
    >>> label_agreement(np.array([0]), margin=np.array([[1.0], [-2.0]]), aggregation="mean").tolist()
    [-0.5]
    """
    _check(agreement, aggregation, information)
    if information == "out_of_sample":
        values = _agreement(_needed("probs_oos", probs_oos, information)[None], labels, agreement)
        return _vote(values)[0] if aggregation == "vote" else values[0]
    if aggregation == "average_probability":
        average = _average(_needed("probs", probs, aggregation))
        return _agreement(average[None], labels, agreement)[0]
    recorded: Mapping[str, np.ndarray | None] = {
        "prob_label": prob_label, "margin": margin, "prob_margin": prob_margin, "loss": loss, "correct": correct,
    }  # fmt: skip
    name = RECORDED[agreement]
    series = _needed(name, recorded[name], agreement)
    if agreement == "correct":
        series = _as_numbers(outcomes(series, seen))
    return _aggregated(series, aggregation, negative=agreement == "cross_entropy")


def _check(agreement: str, aggregation: str, information: str) -> None:
    for setting, value, known in (
        ("agreement", agreement, tuple(RECORDED)),
        ("aggregation", aggregation, AGGREGATIONS),
        ("information", information, INFORMATION),
    ):
        if value not in known:
            raise BadInput(f"label_agreement: {setting} is one of {', '.join(known)}, not '{value}'")
    if aggregation == "vote" and agreement not in VOTES:
        raise BadInput(
            f"label_agreement: nothing says which {agreement} is a vote; vote on {', '.join(VOTES)}"
        )


def _needed(name: str, signal: np.ndarray | None, setting: str) -> np.ndarray:
    if signal is None:
        other = (
            "; or average the agreement itself, which needs no probabilities of every epoch: aggregation='mean' "
            "(--param aggregation=mean)"
        )
        raise MissingSignal(
            f"label_agreement needs the signal '{name}' for '{setting}'; {SIGNALS[name].source}"
            + other * (setting == "average_probability")
        )
    return signal


def _aggregated(series: np.ndarray, aggregation: str, *, negative: bool) -> Floats:
    if aggregation == "vote":
        series = _vote(series)
    value = last_presented(series) if aggregation == "last" else mean_and_count(series)[0]
    return -value if negative else value


def _vote(series: np.ndarray) -> Floats:
    votes = (series > 0) * 1.0
    votes[series != series] = np.nan
    return votes


def _as_numbers(outcome: np.ndarray) -> Floats:
    numbers = (outcome == RIGHT) * 1.0
    numbers[outcome == ABSENT] = np.nan
    return numbers


@twinned
def _agreement(probs: np.ndarray, labels: np.ndarray, agreement: str) -> Floats:
    """Return the agreement (T, N) of probabilities (T, N, K) with the labels."""
    probs = probs.astype(np.float64)
    each = np.arange(len(labels))
    own = probs[:, each, labels]
    if agreement == "prob":
        return own
    if agreement == "correct":
        return np.where(np.isnan(own), np.nan, probs.argmax(axis=2) == labels)
    with np.errstate(divide="ignore"):
        if agreement == "cross_entropy":
            return np.log(own)
        others = probs
        others[:, each, labels] = 0.0
        largest = others.max(axis=2)
        return own - largest if agreement == "prob_margin" else np.log(own) - np.log(largest)


@_agreement.on_tensors
def _(probs: Tensor, labels: Tensor, agreement: str) -> Tensor:
    probs = probs.double()
    place = labels.expand(len(probs), -1)[..., None]
    own = probs.gather(2, place)[..., 0]
    if agreement == "prob":
        return own
    if agreement == "correct":
        right = (probs.argmax(2) == labels).double()
        return right.masked_fill_(own.isnan(), np.nan)
    if agreement == "cross_entropy":
        return own.log()
    largest = probs.scatter(2, place, 0.0).amax(2)
    return own - largest if agreement == "prob_margin" else own.log() - largest.log()


@twinned
@loop
def _average(probs: np.ndarray) -> np.ndarray:
    epochs, samples, classes = probs.shape
    total, count = np.zeros((samples, classes)), np.zeros(samples)
    for t in range(epochs):
        for i in range(samples):
            if probs[t, i, 0] == probs[t, i, 0]:
                count[i] += 1.0
                for k in range(classes):
                    total[i, k] += np.float64(probs[t, i, k])
    for i in range(samples):
        for k in range(classes):
            total[i, k] /= count[i]
    return total


@_average.on_tensors
def _(probs: Tensor) -> Tensor:
    there = ~probs[..., 0].isnan()
    total = probs.double().masked_fill(~there[..., None], 0.0).sum(0)
    return total / there.sum(0)[:, None]
