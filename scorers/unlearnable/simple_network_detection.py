"""Whether networks too simple for the task do well on held-out samples of the same data, as on a poisoned set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import diagnostic

BOUNDARY = 0.7
"""The paper's B."""


@diagnostic(
    mode=None,
    reference="Zhu, Yu, Gao, Detection and defense of unlearnable examples, AAAI 2024, algorithm 1",
)
def simple_network_detection(
    linear_correct: np.ndarray,
    two_layer_correct: np.ndarray,
    labels: np.ndarray,
    probs_oos: np.ndarray | None = None,
    *,
    boundary: float = BOUNDARY,
) -> dict[str, Any]:
    """Say how well a linear model and a network of two layers do on samples that they did not train on.

    Parameters
    ----------
    linear_correct, two_layer_correct : bool arrays of shape (N,)
        Of the job `simple_networks`: predicted as labelled, held out.
    labels : array of shape (N,)
    probs_oos : array of shape (N, K), optional
        Out-of-sample probabilities of the usual model, to hold the accuracies against.
    boundary
        The paper's B: an accuracy above it means poison.

    Returns
    -------
    dict
        ``samples``, ``boundary``; ``linear_accuracy``, ``two_layer_accuracy``, and ``above_boundary``, whether either
        exceeds it; ``usual_accuracy`` and ``share_of_usual``, the better of the two over the usual model's (None
        without `probs_oos`); and ``reading``, a sentence. Numbers rounded to 6 digits.

    Notes
    -----
    No verdict: B separates where the clean task is too hard for a simple network, as CIFAR-10 is; on easy data it
    is always exceeded (a linear model reaches 0.76 on clean Fashion-MNIST). The share of the usual accuracy says
    how much of the task is simple, and is to be compared with that of data one trusts.

    Blind to: a poisoned part of the data (clean samples set the accuracy then), perturbations that no simple network
    can separate (autoregressive ones), and poison that makes samples harder, such as noise that raises the Bayes error.

    References
    ----------
    Zhu, Yu, Gao, AAAI 2024, algorithm 1.

    Examples
    --------
    >>> right = np.array([True, True, True, False])
    >>> probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    >>> found = simple_network_detection(right, ~right, np.array([0, 0, 1, 1]), probs)
    >>> found["linear_accuracy"], found["two_layer_accuracy"], found["above_boundary"], found["share_of_usual"]
    (0.75, 0.25, True, 0.75)
    """
    right = {"linear": linear_correct, "two_layer": two_layer_correct}
    return held_against(right, labels, probs_oos, boundary, what="a linear or two-layer network")


def held_against(
    right: Mapping[str, np.ndarray],
    labels: np.ndarray,
    probs_oos: np.ndarray | None,
    boundary: float,
    *,
    what: str,
) -> dict[str, Any]:
    """Return the accuracies of `right`, bool (N,) by name, beside the boundary and the usual model's accuracy.

    Raises
    ------
    BadInput
        A boundary outside 0 to 1, or no samples.
    """
    if not 0 <= boundary <= 1 or not len(labels):
        raise BadInput(
            f"an accuracy boundary lies in 0 to 1, over at least one sample; got {boundary}, {len(labels)}"
        )
    accuracies = {name: float(values.mean()) for name, values in right.items()}
    best = max(accuracies.values())
    usual = None if probs_oos is None else _accuracy(probs_oos, labels)
    share = best / usual if usual else None
    side = "above" if best > boundary else "not above"
    compared = f", {share:.0%} of the usual model's {usual:.1%}" if share is not None else ""
    reading = (
        f"{what} is right on {best:.1%} of held-out samples{compared}; {side} the published "
        f"{boundary:g}, which easy clean data exceed as well: compare with data you trust"
    )
    return {
        "samples": len(labels),
        "boundary": boundary,
        **{f"{name}_accuracy": round(accuracy, 6) for name, accuracy in accuracies.items()},
        "above_boundary": best > boundary,
        "usual_accuracy": None if usual is None else round(usual, 6),
        "share_of_usual": None if share is None else round(share, 6),
        "reading": reading,
    }


def _accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the share of samples with a prediction that are predicted as labelled; None where none has one."""
    there = ~np.isnan(probabilities).any(axis=1)
    return float((probabilities[there].argmax(axis=1) == labels[there]).mean()) if there.any() else None
