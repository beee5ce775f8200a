"""How many labels of a dataset are wrong, over all and by class, as far as the anchors can tell."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracesift.scorers.contract import diagnostic
from tracesift.scorers.noise.label_transition import FEWEST, estimate_transition
from tracesift.scorers.noise.true_label_posterior import noise_is_shown

MOST_CLASSES = 20
"""Classes listed, those with the highest rates."""


@diagnostic(version=3, mode=None, reference="ours, from Liu and Tao, TPAMI 2016 (anchors)")
def label_noise_rate(probs_oos: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Estimate the share of wrong labels where out-of-sample models are surest, over all and by class.

    Parameters
    ----------
    probs_oos : array of shape (N, K)
        Out-of-sample probabilities; NaN rows for samples without a prediction.
    labels : array of shape (N,)

    Returns
    -------
    dict
        `reading`, a sentence; `shown`, whether this is noise (true) rather than overlap of the classes (false), null
        where that is unclear; `rate` and `at_least` (a lower bound for every class at once, the one that
        `wrong_label_posterior` rests on), over the samples predicted as a class that can be told, null without any;
        `classes_told`, `classes_silent`; `classes`: for the classes with the highest rates the class index, its
        `anchors`, `rate`, `at_least` and the label `most_often` written instead, with its share of the wrong ones.
        Mislabeling of hard samples alone is not seen: there are none among the anchors.

    References
    ----------
    Liu, Tao, Classification with noisy labels by importance reweighting, TPAMI 2016, section 4.

    Examples
    --------
    >>> probs = np.tile([[0.9, 0.1], [0.1, 0.9]], (100, 1))
    >>> labels = np.tile([0, 1], 100)
    >>> labels[:40:2] = 1  # 20 of 100 samples of class 0
    >>> label_noise_rate(probs, labels)["reading"]
    'about 10.0% of the labels are wrong where models are surest, at least 7.0%'
    """
    there = ~np.isnan(probs_oos[:, 0])
    probs, given = probs_oos[there], labels[there]
    found = estimate_transition(probs, given)
    called = np.bincount(probs.argmax(axis=1), minlength=probs.shape[1]) if len(given) else found.told * 0
    anchors = found.counts.sum(axis=1)
    rate = np.where(found.told, 1 - found.counts.diagonal() / np.maximum(anchors, 1), 0.0)
    least = 1 - found.matrix.diagonal()
    weight = called * found.told
    told = int(found.told.sum())
    shown = noise_is_shown(probs, given, found.matrix) if found.noisy else False if told else None
    overall, bound = (float(weight @ rates / weight.sum()) if told else None for rates in (rate, least))
    listed = [k for k in np.lexsort((np.arange(len(rate)), -rate)) if rate[k] > 0][:MOST_CLASSES]
    return {
        "reading": _reading(overall, bound, shown=shown),
        "shown": shown,
        "rate": _rounded(overall),
        "at_least": _rounded(bound),
        "classes_told": told,
        "classes_silent": int(len(found.told) - told),
        "classes": [
            {
                "class": int(k), "anchors": int(anchors[k]), "rate": _rounded(rate[k]), "at_least": _rounded(least[k]),
                **_most_often(found.counts[k], int(k)),
            }
            for k in listed
        ],
    }  # fmt: skip


def _reading(rate: float | None, least: float | None, *, shown: bool | None) -> str:
    if rate is None or least is None:
        return f"cannot tell: no class has {FEWEST} anchors that mostly carry its label"
    if rate == 0:
        return "no wrong label is seen where models are surest"
    differ = f"{rate:.1%} of the labels differ where models are surest"
    if shown is None:
        return f"{differ}: wrong labels or classes that overlap, the samples do not show which"
    if not shown:
        return f"{differ}: no more than classes that overlap explain"
    return f"about {rate:.1%} of the labels are wrong where models are surest, at least {least:.1%}"


def _most_often(counts: np.ndarray, own: int) -> dict[str, Any]:
    wrong = counts.copy()
    wrong[own] = 0
    return {"most_often": int(wrong.argmax()), "share_of_wrong": _rounded(wrong.max() / wrong.sum())}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
