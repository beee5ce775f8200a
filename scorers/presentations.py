"""Sums over the recorded presentations of each sample; NaN is a presentation that did not take place.

Epoch after epoch into one float64 per sample: memory stays at N whatever T is, and a value does not depend on
how samples are grouped into blocks or laid out in memory, as it would with NumPy's pairwise sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Floats
from tracesift.scorers.twins import twinned

if TYPE_CHECKING:
    from torch import Tensor

ABSENT, WRONG, RIGHT = 0, 1, 2
"""Outcomes of a presentation. Two bits, so that those which ever occurred can be kept by a bitwise or."""


@twinned
def mean_and_count(values: np.ndarray) -> tuple[Floats, Floats]:
    """Return the mean over presentations, NaN where there are none, and their number.

    Parameters
    ----------
    values : array of shape (T, N)
        NaN where a sample was not presented.

    Returns
    -------
    mean, count : float64 arrays of shape (N,)
    """
    return mean_around(values, np.zeros(values.shape[1]), 1)


@mean_and_count.on_tensors
def _(values: Tensor) -> tuple[Tensor, Tensor]:
    from torch import float64

    count = (len(values) - values.isnan().sum(0)).double()
    return values.nansum(0, dtype=float64) / count, count


@twinned
def mean_square_around(values: np.ndarray, centre: np.ndarray) -> Floats:
    """Return the mean over presentations of (values - centre)^2, of shape (N,)."""
    return mean_around(values, centre, 2)[0]


@mean_square_around.on_tensors
def _(values: Tensor, centre: Tensor) -> Tensor:
    off = values - centre  # float64, as the centre is
    return off.square().nansum(0) / (len(off) - off.isnan().sum(0))


@loop
def mean_around(values: np.ndarray, centre: np.ndarray, power: int) -> tuple[Floats, Floats]:
    """Return the mean over presentations of (values - centre)^power, power 1 or 2, and their number.

    Every presentation is first taken to be there, because sums without conditions run at the speed of
    memory; a sample whose sum comes out as NaN is added up again, without those that are not.
    """
    epochs, samples = values.shape
    mean, count = np.zeros(samples), np.full(samples, np.float64(epochs))
    fours = epochs - epochs % 4  # four epochs in a loop, one after the other, read and write a sum once
    for t in range(0, fours, 4):
        if power == 1:
            for i in range(samples):
                c, total = centre[i], mean[i]
                total += np.float64(values[t, i]) - c
                total += np.float64(values[t + 1, i]) - c
                total += np.float64(values[t + 2, i]) - c
                mean[i] = total + (np.float64(values[t + 3, i]) - c)
        else:
            for i in range(samples):
                c, total = centre[i], mean[i]
                total += (np.float64(values[t, i]) - c) ** 2
                total += (np.float64(values[t + 1, i]) - c) ** 2
                total += (np.float64(values[t + 2, i]) - c) ** 2
                mean[i] = total + (np.float64(values[t + 3, i]) - c) ** 2
    for t in range(fours, epochs):
        for i in range(samples):
            off = np.float64(values[t, i]) - centre[i]
            mean[i] += off if power == 1 else off * off
    for i in range(samples):
        if mean[i] != mean[i]:
            mean[i] = count[i] = 0.0
            for t in range(epochs):
                off = np.float64(values[t, i]) - centre[i]
                if off == off:
                    mean[i] += off if power == 1 else off * off
                    count[i] += 1.0
    for i in range(samples):
        mean[i] /= count[i]
    return mean, count


@twinned
@loop
def outcomes(
    correct: np.ndarray, seen: np.ndarray | None = None, loss: np.ndarray | None = None
) -> np.ndarray:
    """Return what each presentation came to: ABSENT, WRONG or RIGHT, uint8 of shape (T, N).

    Parameters
    ----------
    correct : bool array of shape (T, N)
    seen : bool array of shape (T, N), optional
        Everything was presented where it is absent.
    loss : array of shape (T, N), optional
        A presentation whose loss is NaN was not predicted right, whatever an argmax over NaN says.
    """
    epochs, samples = correct.shape
    outcome = np.empty((epochs, samples), np.uint8)
    for t in range(epochs):
        if loss is None:
            for i in range(samples):
                outcome[t, i] = np.uint8(correct[t, i]) + np.uint8(1)
        else:
            for i in range(samples):
                outcome[t, i] = np.uint8(correct[t, i] & (loss[t, i] == loss[t, i])) + np.uint8(1)
        if seen is not None:
            for i in range(samples):
                outcome[t, i] *= np.uint8(seen[t, i])
    return outcome


@outcomes.on_tensors
def _(correct: Tensor, seen: Tensor | None = None, loss: Tensor | None = None) -> Tensor:
    right = correct if loss is None else correct & ~loss.isnan()
    outcome = right.byte() + WRONG
    return outcome if seen is None else outcome * seen


def rights_so_far(outcome: Tensor) -> tuple[Tensor, Tensor]:
    """Return how often a sample was right up to each presentation, and up to its last wrong one by then."""
    right = (outcome == RIGHT).cumsum(0)
    return right, (right * (outcome == WRONG)).cummax(0).values


@twinned
@loop
def last_presented(values: np.ndarray) -> np.ndarray:
    """Return the value at the last presentation, float64 of shape (N,); NaN where there was none."""
    epochs, samples = values.shape
    last = np.full(samples, np.nan)
    for t in range(epochs):
        for i in range(samples):
            x = np.float64(values[t, i])
            if x == x:
                last[i] = x
    return last


@last_presented.on_tensors
def _(values: Tensor) -> Tensor:
    since = values.isnan().logical_not().flip(0).byte().argmax(0)  # epochs since; 0 where there was none
    return values.gather(0, len(values) - 1 - since[None])[0].double()


def first_epochs(signal: np.ndarray, count: int | None, *, setting: str) -> np.ndarray:
    """Return the first `count` epochs of a (T, N) signal; all of them for None.

    `setting` is the scorer and its setting, for the message where the recording is shorter than that.
    """
    if count is None:
        return signal
    if not 1 <= count <= len(signal):
        raise BadInput(f"{setting} is {count}, but the recording has epochs 1 to {len(signal)}")
    return signal[:count]
