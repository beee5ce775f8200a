"""Whether the dataset is still recognised by a model that was trained on shifted images, as a poisoned one is."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracesift.scorers.contract import diagnostic
from tracesift.scorers.unlearnable.simple_network_detection import BOUNDARY, held_against


@diagnostic(
    mode=None,
    reference="Zhu, Yu, Gao, Detection and defense of unlearnable examples, AAAI 2024, algorithm 2",
)
def bias_shift_detection(
    bias_shift_margin: np.ndarray,
    labels: np.ndarray,
    probs_oos: np.ndarray | None = None,
    *,
    boundary: float = BOUNDARY,
) -> dict[str, Any]:
    """Say how much of the data a model recognises that was trained on images moved by a constant.

    Parameters
    ----------
    bias_shift_margin : array of shape (N,)
        Of the job `bias_shift`: held-out margin of the label. NaN, a sample without one, is left out.
    labels : array of shape (N,)
    probs_oos : array of shape (N, K), optional
        Out-of-sample probabilities of the usual model, to hold the accuracy against.
    boundary
        The paper's B: an accuracy above it means poison.

    Returns
    -------
    dict
        ``samples``, ``boundary``, ``bias_shift_accuracy`` (the share with a margin above 0), ``above_boundary``,
        ``usual_accuracy`` and ``share_of_usual`` (the ratio of the two accuracies, None without `probs_oos`), and
        ``reading``, a sentence. Numbers rounded to 6 digits.

    Notes
    -----
    No verdict: B was chosen on CIFAR-10, where all or most samples were poisoned. Simple shapes survive the shift, so
    clean Fashion-MNIST reaches 0.64 to 0.76. The poisoned half of a mixture moved it by less than that range is wide.
    Blind to: a poisoned part of the data, and poison that makes samples harder.

    References
    ----------
    Zhu, Yu, Gao, AAAI 2024, algorithm 2.

    Examples
    --------
    >>> found = bias_shift_detection(np.array([1.0, 2.0, -1.0, 3.0]), np.array([0, 0, 1, 1]))
    >>> found["bias_shift_accuracy"], found["above_boundary"], found["share_of_usual"]
    (0.75, True, None)
    """
    there = ~np.isnan(bias_shift_margin)
    right = {"bias_shift": bias_shift_margin[there] > 0}
    usual = None if probs_oos is None else probs_oos[there]
    return held_against(right, labels[there], usual, boundary, what="a model trained on shifted images")
