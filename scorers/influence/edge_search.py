"""The search for the strongest pairs of training and validation samples among sums of products, without their matrix.

The influence of i on v is w_i sum_c <e_ic, e_vc> (b + <h_ic, h_vc>), over checkpoints or models c. Each is summed in
one order, so blocks, threads and the order of the samples leave no trace.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Floats, Integers, row_blocks

Sides = tuple[np.ndarray, np.ndarray]
"""Outer vectors (n, C, K) and inner vectors (n, C, D) of the same samples."""

Errors = tuple[Floats, Floats] | None
"""Standard errors of the pairs above 0 and of those below."""

WIDTH = 512
"""Validation samples that are worked on at a time."""


@dataclass(frozen=True)
class Origins:
    """The training samples that matter most to each validation sample, strongest first, ties by the smaller row."""

    helping: Integers
    """(M, k) training rows on which a step lowers the validation sample's loss; -1 where there are fewer than k."""
    help: Floats
    """(M, k) the products, above 0; NaN where there are fewer."""
    harming: Integers
    """(M, k) training rows on which it raises that loss."""
    harm: Floats
    """(M, k) the products, below 0."""
    help_error: Floats | None = None
    """(M, k) standard errors of `help`, of a method that estimates; NaN where there is no edge."""
    harm_error: Floats | None = None
    """(M, k) those of `harm`."""

    def moved(self, by: int) -> Origins:
        """Return the same of training rows that begin at `by`."""
        rows = {
            name: np.where(getattr(self, name) < 0, -1, getattr(self, name) + by)
            for name in ("helping", "harming")
        }
        return replace(self, **rows)


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
    origins: Origins
    """The same pairs from the other end."""
    help_error: Floats | None = None
    """(N, k) standard errors of `help`, of a method that estimates; NaN where there is no edge."""
    harm_error: Floats | None = None
    """(N, k) those of `harm`."""


@dataclass(frozen=True)
class Kept:
    """The strongest pairs of those looked at so far, for each sample at one end."""

    rows: tuple[np.ndarray, np.ndarray]
    """Partners at the other end, of the pairs above 0 and of those below; -1 where none is kept yet."""
    values: tuple[np.ndarray, np.ndarray]
    """Those of the pairs; 0 where none is kept."""

    def only(self, columns: slice) -> Kept:
        """Return a view of some columns."""
        rows, values = ((one[:, columns], other[:, columns]) for one, other in (self.rows, self.values))
        return Kept(rows, values)


def nothing(*shape: int) -> Kept:
    """Return lists that hold no pair yet."""
    return Kept(
        (np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)), (np.zeros(shape), np.zeros(shape))
    )


def keep(products: Floats, partners: np.ndarray, these: np.ndarray, kept: Kept, origins: Kept) -> None:
    """Insert the strongest of a block of pairs into the lists of both ends.

    Parameters
    ----------
    products : array of shape (number of these, number of partners)
        Of training rows and validation rows, both ascending.
    kept
        Lists of all training samples, of shape (N, k).
    origins
        Lists of these partners, of shape (k, number of partners); they must have seen smaller training rows alone.
    """
    _keep(products, partners, these, *kept.rows, *kept.values, *origins.rows, *origins.values)


def gather(parts: Sequence[Kept], partners: np.ndarray, whole: Kept) -> None:
    """Write what several threads kept of the same partners into the lists (M, k) of all validation samples."""
    for side in (0, 1):
        rows = np.concatenate([part.rows[side] for part in parts]).T
        values = np.concatenate([part.values[side] for part in parts]).T
        order = _order(rows, values)[:, : whole.rows[side].shape[1]]
        whole.rows[side][partners] = np.take_along_axis(rows, order, axis=1)
        whole.values[side][partners] = np.take_along_axis(values, order, axis=1)


def edges_of(kept: Kept, origins: Kept, errors: Errors = None, origin_errors: Errors = None) -> Edges:
    """Return both lists as a method returns them."""
    (helped, harmed), (help_, harm) = kept.rows, (_or_nan(kept, side) for side in (0, 1))
    (helping, harming), (by_help, by_harm) = origins.rows, (_or_nan(origins, side) for side in (0, 1))
    return Edges(
        helped, help_, harmed, harm,
        Origins(helping, by_help, harming, by_harm, *(origin_errors or (None, None))), *(errors or (None, None)),
    )  # fmt: skip


def merged(first: Origins, second: Origins) -> Origins:
    """Return the strongest of two parts of the training samples, in one order whatever the parts were."""
    found: dict[str, Any] = {}
    for rows, values, errors in (
        ("helping", "help", "help_error"),
        ("harming", "harm", "harm_error"),
    ):
        there = [name for name in (rows, values, errors) if getattr(first, name) is not None]
        both = {name: np.concatenate([getattr(first, name), getattr(second, name)], axis=1) for name in there}
        order = _order(both[rows], both[values])[:, : first.help.shape[1]]
        found |= {name: np.take_along_axis(both[name], order, axis=1) for name in there}
    return Origins(**found)


def _order(rows: Integers, values: Floats) -> Integers:
    """Return where each line's pairs stand by strength, equal ones by their row, and what is none at the end."""
    return np.lexsort((rows, np.where(rows < 0, np.inf, -np.abs(values))), axis=1)


def _or_nan(kept: Kept, side: int) -> Floats:
    return np.where(kept.rows[side] < 0, np.nan, kept.values[side])


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
    """Return the k largest positive and the k smallest negative influences, of each training and validation sample.

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
    kept, origins = nothing(len(weights), k), nothing(len(val[0]), k)
    workers = threads or os.cpu_count() or 1

    def work(first: int) -> Kept:
        """Go through every so many blocks of training samples, in the order of their rows."""
        from_here = nothing(k, len(others))
        for start in range(first * rows, len(there), workers * rows):
            these = there[start : start + rows]
            outer, inner = _taken(train, these, (0, 1, 2))
            products = np.empty((len(these), len(others)))
            _multiply(outer, inner, val_outer, val_inner, weights[these], bias, products)
            keep(products, others, these, kept, from_here)
        return from_here

    with ThreadPoolExecutor(workers) as pool:
        for at in range(0, len(partners), WIDTH):
            others = partners[at : at + WIDTH]
            val_outer, val_inner = _taken(val, others, (1, 2, 0))  # samples side by side, for the inner loop
            gather(list(pool.map(work, range(workers))), others, origins)
    return edges_of(kept, origins)


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
def _multiply(
    outer: np.ndarray,
    inner: np.ndarray,
    val_outer: np.ndarray,
    val_inner: np.ndarray,
    weights: np.ndarray,
    bias: float,
    products: np.ndarray,
) -> None:
    """Sum up all pairs of some samples, each in one order."""
    count = products.shape[1]
    total, left, right = np.empty(count), np.empty(count), np.empty(count)
    for i in range(products.shape[0]):
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
            products[i, at] = weights[i] * total[at]


@loop
def _keep(
    products: np.ndarray,
    partners: np.ndarray,
    these: np.ndarray,
    helped: np.ndarray,
    harmed: np.ndarray,
    help_: np.ndarray,
    harm: np.ndarray,
    helping: np.ndarray,
    harming: np.ndarray,
    by_help: np.ndarray,
    by_harm: np.ndarray,
) -> None:
    """Insert each pair into the list of its training row and into that of its partner."""
    last = help_.shape[1] - 1
    for i in range(these.size):
        row = these[i]
        for at in range(partners.size):
            value = products[i, at]
            # Partners come by ascending row, so one that only equals what is kept stays behind it.
            if value > help_[row, last]:
                place = last
                while place > 0 and value > help_[row, place - 1]:
                    help_[row, place] = help_[row, place - 1]
                    helped[row, place] = helped[row, place - 1]
                    place -= 1
                help_[row, place] = value
                helped[row, place] = partners[at]
            elif value < harm[row, last]:
                place = last
                while place > 0 and value < harm[row, place - 1]:
                    harm[row, place] = harm[row, place - 1]
                    harmed[row, place] = harmed[row, place - 1]
                    place -= 1
                harm[row, place] = value
                harmed[row, place] = partners[at]
        for at in range(partners.size):
            value = products[i, at]
            if value > by_help[last, at]:  # training rows ascend as well
                place = last
                while place > 0 and value > by_help[place - 1, at]:
                    by_help[place, at] = by_help[place - 1, at]
                    helping[place, at] = helping[place - 1, at]
                    place -= 1
                by_help[place, at] = value
                helping[place, at] = row
            elif value < by_harm[last, at]:
                place = last
                while place > 0 and value < by_harm[place - 1, at]:
                    by_harm[place, at] = by_harm[place - 1, at]
                    harming[place, at] = harming[place - 1, at]
                    place -= 1
                by_harm[place, at] = value
                harming[place, at] = row
