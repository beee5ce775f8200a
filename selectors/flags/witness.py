"""The second witness of the label-noise flag: what rejects a label besides the training dynamics.

Preferred are models that never saw the sample (cross-fitting). They can speak about a class only if they
recognise it; where they do not, they are mute, with the reason. Without them the early-learning target, or
the sign of the margin itself, takes the stand; that is not independent, so the flag asks for more.
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


def in_sample(frame: pl.DataFrame, accepted: np.ndarray, min_class: int) -> Witness:
    """Ask the network that trained on the labels, for want of another.

    Parameters
    ----------
    accepted : ndarray (N,) bool
        On average over training the network preferred the label.

    It rejects a label that it did not prefer; surely so where `elr_target_disagreement` (if there) is above
    one half, and `loss_gmm` (if there) below one half.
    """
    labels = frame["label"].to_numpy()
    rejects, surely, doubt, asked = (
        ~accepted,
        ~accepted,
        (~accepted).astype(np.float64),
        "the sign of the margin",
    )
    for column, sign in (("elr_target_disagreement", 1.0), ("loss_gmm", -1.0)):
        if column in frame.columns:
            value = sign * numbers(frame, column)
            surely, doubt, asked = surely & (value > sign * 0.5), value, f"{asked} and {column}"
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    mute = np.where(sizes[codes] < min_class, f"fewer than {min_class} samples carry this label", "").astype(
        object
    )
    if sizes.size == 1:
        mute[:] = "there is only one label"
    return Witness(
        name=f"{asked} (in-sample evidence only)",
        rejects=rejects,
        surely=surely,
        doubt=doubt,
        observed=np.isfinite(doubt),
        mute=mute,
        out_of_sample=False,
    )


def _unrecognised(total: int, carried: int, called: int, agreed: int, min_class: int) -> str:
    """Return why out-of-sample predictions say nothing about a class, or an empty string.

    Of `total` samples, `carried` carry the label, `called` are predicted as it, `agreed` are both.
    """
    if carried < min_class:
        return f"only {carried} observed samples carry this label, fewer than {min_class}"
    if carried == total:
        return "there is only one label"
    from scipy.stats import hypergeom  # a second of import that whoever selects by a score is spared

    recall, false_alarms = agreed / carried, (called - agreed) / (total - carried)
    by_chance = float(hypergeom.sf(agreed - 1, total, carried, called))
    if recall - false_alarms < 0.1 or by_chance > 0.01:
        given = f"{recall:.0%} of the samples that carry it and to {false_alarms:.0%} of those that do not"
        return f"models that never saw these samples give this label to {given}"
    return ""
