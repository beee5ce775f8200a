"""Tug of war: forgetting, keeping and generalising as one number, relative to retraining."""

from __future__ import annotations

from collections.abc import Mapping

from tracesift.pipelines.unlearning_metrics.accuracies import gaps


def tow(unlearned: Mapping[str, float], retrained: Mapping[str, float]) -> float:
    """Return how near an unlearned model is to retraining on the forget, the retain and the test set at once.

    Parameters
    ----------
    unlearned, retrained
        ``ua``, ``ra`` and ``ta`` of `accuracies`, in [0, 1].

    Returns
    -------
    float
        (1 - |da_S|) (1 - |da_R|) (1 - |da_T|), with da the difference in accuracy on the forget set S, the retain set R
        and the test set T; in [0, 1], 1 is what retraining gives. UA is 1 - accuracy, so its distance is that of a_S.

    Raises
    ------
    BadInput
        One of the three is missing or outside [0, 1].

    References
    ----------
    Zhao et al., What makes unlearning hard and what to do about it, NeurIPS 2024.

    Examples
    --------
    >>> tow(dict(ua=0.5, ra=1.0, ta=0.75), dict(ua=0.0, ra=0.5, ta=0.75))
    0.25
    """
    return _product(gaps(unlearned, retrained, ("ua", "ra", "ta")))


def tow_mia(unlearned: Mapping[str, float], retrained: Mapping[str, float]) -> float:
    """Return `tow` with the distance between two membership attacks in place of that on the forget set.

    Parameters
    ----------
    unlearned, retrained
        ``mia``, the efficacy of an attack such as `svc_mia`, ``ra`` and ``ta``, in [0, 1].

    Returns
    -------
    float
        (1 - |dMIA|) (1 - |da_R|) (1 - |da_T|) in [0, 1]; 1 is what retraining gives.

    Raises
    ------
    BadInput
        One of the three is missing or outside [0, 1].

    References
    ----------
    Zhao et al., What makes unlearning hard and what to do about it, NeurIPS 2024.

    Examples
    --------
    >>> tow_mia(dict(mia=0.5, ra=1.0, ta=0.75), dict(mia=1.0, ra=1.0, ta=0.75))
    0.5
    """
    return _product(gaps(unlearned, retrained, ("mia", "ra", "ta")))


def _product(distances: Mapping[str, float]) -> float:
    result = 1.0
    for distance in distances.values():
        result *= 1.0 - distance
    return result
