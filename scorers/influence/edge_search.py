"""The search for the strongest pairs of training and validation samples among sums of products, without their matrix.

The influence of i on v is w_i sum_c <e_ic, e_vc> (b + <h_ic, h_vc>), over checkpoints or models c. Each is summed in
one order, so blocks, threads and the order of the samples leave no trace.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Floats, Integers, row_blocks

Sides = tuple[np.ndarray, np.ndarray]
"""Outer vectors (n, C, K) and inner vectors (n, C, D) of the same samples."""

WIDTH = 512
"""Validation samples that are worked on at a time."""


@dataclass(frozen=True)
class Edges:
    """The strongest partners of each training sample, strongest first, ties by the smaller validation row."""

    helped: Integers
    """(N, k) validation rows whose loss a step on the sample lowers; -1 where there are fewer than k."""
    help: Floats
    """(N, k) the products, above 0; NaN where there are fewer."""
    harmed: Integers
    """(N, k) validation rows whose loss it raises."""
    harm: Floats
    """(N, k) the products, below 0."""
    help_error: Floats | None = None
    """(N, k) standard errors of `help`, of a method that estimates; NaN where there is no edge."""
    harm_error: Floats | None = None
    """(N, k) those of `harm`."""


def strongest(
    train: Sides,
    val: Sides,
    weights: Floats,
    *,
    bias: float,
    k: int,
    rows: int,
    threads: int | None,
    name: str,
) -> Edges:
    """Return the k largest positive and the k smallest negative influences of each training sample.

    Parameters
    ----------
    train, val
        The vectors of N and of M samples. A sample with a missing value in them has no edge.
    weights : array of shape (N,)
        At least 0; NaN for no edge.
    bias
        b above.
    rows
        Training samples that are worked on at a time.

    Raises
    ------
    BadInput
        k or rows below 1, or vectors of different lengths; named after the function `name`.
    """
    if k < 1 or rows < 1:
        raise BadInput(f"{name}: k and rows are at least 1, got {k} and {rows}")
    for ours, theirs in zip(train, val, strict=True):
        if ours.shape[1:] != theirs.shape[1:]:
            raise BadInput(
                f"{name}: of a sample there are {ours.shape[1:]} numbers, of a validation sample {theirs.shape[1:]}; "
                "take both from one run of the job"
            )
    there = np.flatnonzero(_finite(train) & np.isfinite(weights))
    partners = np.flatnonzero(_finite(val))
    shape = (len(weights), k)
    help_, harm = np.zeros(shape), np.zeros(shape)
    helped, harmed = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)

    def work(start: int) -> None:
        these = there[start : start + rows]
        outer, inner = _taken(train, these, (0, 1, 2))
        _keep(
            outer,
            inner,
            val_outer,
            val_inner,
            weights[these],
            bias,
            others,
            these,
            helped,
            help_,
            harmed,
            harm,
        )

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for at in range(0, len(partners), WIDTH):
            others = partners[at : at + WIDTH]
            val_outer, val_inner = _taken(val, others, (1, 2, 0))  # samples side by side, for the inner loop
            for _ in pool.map(work, range(0, len(there), rows)):
                pass
    help_[helped < 0] = np.nan
    harm[harmed < 0] = np.nan
    return Edges(helped, help_, harmed, harm)


def _taken(sides: Sides, rows: np.ndarray, axes: tuple[int, int, int]) -> Sides:
    """Return both vectors of these samples in float64, with their axes in this order in memory."""
    outer, inner = (np.ascontiguousarray(part[rows].transpose(axes), dtype=np.float64) for part in sides)
    return outer, inner


def _finite(sides: Sides) -> np.ndarray:
    there = np.ones(len(sides[0]), dtype=bool)
    for part in sides:
        for rows in row_blocks(len(part), part.shape[1] * part.shape[2]):
            there[rows] &= np.isfinite(part[rows]).all(axis=(1, 2))
    return there


@loop
def _keep(
    outer: np.ndarray,
    inner: np.ndarray,
    val_outer: np.ndarray,
    val_inner: np.ndarray,
    weights: np.ndarray,
    bias: float,
    others: np.ndarray,
    these: np.ndarray,
    helped: np.ndarray,
    help_: np.ndarray,
    harmed: np.ndarray,
    harm: np.ndarray,
) -> None:
    """Sum up all pairs of some samples, and insert the strongest into their rows of the results."""
    count, k = others.size, help_.shape[1]
    total, left, right = np.empty(count), np.empty(count), np.empty(count)
    for i in range(these.size):
        row = these[i]
        total[:] = 0.0
        for c in range(outer.shape[1]):
            left[:] = 0.0
            right[:] = bias
            for e in range(outer.shape[2]):
                value = outer[i, c, e]
                for at in range(count):
                    left[at] += value * val_outer[c, e, at]
            for d in range(inner.shape[2]):
                value = inner[i, c, d]
                for at in range(count):
                    right[at] += value * val_inner[c, d, at]
            for at in range(count):
                total[at] += left[at] * right[at]
        for at in range(count):
            value = weights[i] * total[at]
            sign = 1.0 if value > 0 else -1.0
            kept = help_[row] if value > 0 else harm[row]
            found = helped[row] if value > 0 else harmed[row]
            place = k - 1
            if sign * value <= sign * kept[place]:
                continue
            # Partners come by ascending row, so one that only equals what is kept stays behind it.
            while place > 0 and sign * value > sign * kept[place - 1]:
                kept[place] = kept[place - 1]
                found[place] = found[place - 1]
                place -= 1
            kept[place] = value
            found[place] = others[at]
