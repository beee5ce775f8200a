"""The second witness of the label-noise flag: what rejects a label besides the training dynamics.

Preferred are models that never saw the sample (cross-fitting). They can speak about a class only if they
recognise it; where they do not, they are mute, with the reason. Without them the sign of the margin takes the
stand, and the early-learning target beside it; that is not independent, so the flag asks for more, and hears
nothing of a class that the network has not learned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput


@dataclass(frozen=True, kw_only=True)
class Witness:
    """Who is asked, and what it says of each of N samples."""

    name: str
    rejects: np.ndarray
    """(N,) bool."""
    surely: np.ndarray
    """(N,) bool: rejects, and is sure of it."""
    doubt: np.ndarray
    """(N,) its own number, high = suspicious."""
    observed: np.ndarray
    """(N,) bool."""
    mute: np.ndarray
    """(N,) str: why it cannot judge this label; empty where it can."""
    out_of_sample: bool


def numbers(frame: pl.DataFrame, column: str) -> np.ndarray:
    """Return a column as float64, null as NaN."""
    return frame[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def cross_fitted(frame: pl.DataFrame, min_class: int) -> Witness:
    """Ask models that never saw the sample (`oos_margin`, `oos_pred`).

    They are sure of another class when their margin against the label is at least the first quartile of their
    margins on the samples of that other class with which they agree.
    """
    if "oos_pred" not in frame.columns:
        raise BadInput(
            "label_noise: 'oos_margin' is there without 'oos_pred' (the class preferred out of sample)"
        )
    labels, margin = frame["label"].to_numpy(), numbers(frame, "oos_margin")
    preferred = frame["oos_pred"].cast(pl.String).fill_null("").to_numpy()
    observed = np.isfinite(margin) & (preferred != "")
    _, codes = np.unique(np.concatenate((labels, preferred)), return_inverse=True)
    given, called = codes[: labels.size], codes[labels.size :]
    rejects, agrees = observed & (given != called), observed & (given == called)
    kinds = int(codes.max()) + 1
    counts = [
        np.bincount(part, kept, kinds).astype(int) for part, kept in ((given, observed), (called, observed))
    ]
    agreed = np.bincount(given, agrees, kinds).astype(int)
    problems, sure_from = np.full(kinds, "", dtype=object), np.full(kinds, np.inf)
    for kind in np.unique(given):
        problem = _unrecognised(
            int(observed.sum()), int(counts[0][kind]), int(counts[1][kind]), int(agreed[kind]), min_class
        )
        problems[kind] = problem
        if not problem:
            sure_from[kind] = np.quantile(margin[agrees & (given == kind)], 0.25)
    return Witness(
        name="models that never saw it",
        rejects=rejects,
        surely=rejects & (-margin >= sure_from[called]),
        doubt=-margin,
        observed=observed,
        mute=problems[given],
        out_of_sample=True,
    )


def in_sample(frame: pl.DataFrame, min_class: int) -> Witness:
    """Ask the network that trained on the labels, for want of another.

    It rejects a label where on average over training it preferred another, which the sign of `aum` says; surely so
    where `elr_target_disagreement` (if there) is above one half, and `loss_gmm` (if there) below one half. Only
    without `aum` the loss stands in: a label that has less than half of the probability may still be the preferred
    one, and in the first epochs it is. The network cannot speak about a class that it has not learned, whose labels
    it prefers no more often than those of other classes; for want of its predictions, the labels that it rejects
    count as evenly spread over the others.
    """
    labels = frame["label"].to_numpy()
    if "aum" in frame.columns:
        heard, asked = numbers(frame, "aum"), "the sign of the margin"
        accepted = heard > 0
    else:
        # a geometric mean probability above one half is more than any other class can have
        heard, asked = numbers(frame, "mean_loss"), "the mean loss"
        accepted = heard < np.log(2)
    observed = np.isfinite(heard)
    rejects, doubt = observed & ~accepted, np.where(observed, ~accepted, np.nan)
    surely = rejects
    for column, sign in (("elr_target_disagreement", 1.0), ("loss_gmm", -1.0)):
        if column in frame.columns:
            value = sign * numbers(frame, column)
            surely, doubt, asked = surely & (value > sign * 0.5), value, f"{asked} and {column}"
    observed &= np.isfinite(doubt)
    return Witness(
        name=f"{asked} (in-sample evidence only)",
        rejects=rejects,
        surely=surely,
        doubt=doubt,
        observed=observed,
        mute=_unlearned(labels, observed, observed & accepted, min_class),
        out_of_sample=False,
    )


def _unlearned(labels: np.ndarray, observed: np.ndarray, accepted: np.ndarray, min_class: int) -> np.ndarray:
    """Return (N,) str: why the network that trained on a label cannot judge it; empty where it can."""
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    kinds, total = sizes.size, int(observed.sum())
    carried, agreed = (np.bincount(codes, mask, kinds).astype(int) for mask in (observed, accepted))
    rejected = carried - agreed
    problems = np.full(kinds, "", dtype=object)
    for kind in range(kinds):
        elsewhere = round((rejected.sum() - rejected[kind]) / max(kinds - 1, 1))
        if kinds == 1:
            problems[kind] = "there is only one label"
        elif sizes[kind] < min_class:
            problems[kind] = f"fewer than {min_class} samples carry this label"
        elif 0 < carried[kind] < total and not _told_apart(
            total, carried[kind], agreed[kind] + elsewhere, agreed[kind]
        ):
            problems[kind] = (
                f"training has not learned this label: it prefers it for {agreed[kind] / carried[kind]:.0%} of the "
                "samples that carry it, hardly more than by chance"
            )
    return problems[codes]


def _unrecognised(total: int, carried: int, called: int, agreed: int, min_class: int) -> str:
    """Return why out-of-sample predictions say nothing about a class, or an empty string.

    Of `total` samples, `carried` carry the label, `called` are predicted as it, `agreed` are both.
    """
    if carried < min_class:
        return f"only {carried} observed samples carry this label, fewer than {min_class}"
    if carried == total:
        return "there is only one label"
    if not _told_apart(total, carried, called, agreed):
        recall, false_alarms = agreed / carried, (called - agreed) / (total - carried)
        given = f"{recall:.0%} of the samples that carry it and to {false_alarms:.0%} of those that do not"
        return f"models that never saw these samples give this label to {given}"
    return ""


def _told_apart(total: int, carried: int, called: int, agreed: int) -> bool:
    """Return whether a class is recognised better than by chance, in size and in significance.

    Of `total` samples, `carried` carry the label, `called` are predicted as it, `agreed` are both.
    """
    from scipy.stats import hypergeom  # a second of import that whoever selects by a score is spared

    recall, false_alarms = agreed / carried, (called - agreed) / (total - carried)
    by_chance = float(hypergeom.sf(agreed - 1, total, carried, called))
    return recall - false_alarms >= 0.1 and by_chance <= 0.01
