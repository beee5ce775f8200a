"""Scorers that look at each sample alone, run together: block of samples after block, each read once.

A block's signals are copied side by side, small enough for the cache, and every scorer reads them there.
Blocks go to as many threads as there are processors; a value depends neither on the block nor on the thread.
A block is larger than a processor's own cache on purpose: each scorer takes and gives back Python's lock, and with
short blocks the threads wait for one another longer than they compute.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracesift.catalog.schema import SIGNALS, BadInput
from tracesift.scorers.discovery import Scorer, refusals_of
from tracesift.scorers.twins import twinned

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_BYTES = 1 << 23
"""What the signals of a block take together. Measured: at 1 MiB two threads are no faster than one."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One scorer, with its settings and the whole arrays that it reads."""

    known: Scorer
    given: Mapping[str, np.ndarray | None]
    seen: np.ndarray | None
    """Where False, a float signal is made NaN."""
    settings: Mapping[str, Any]


class BlockThreads:
    """Threads that score blocks; each keeps the memory of its last block for the next one of that shape.

    Those of one computation are kept for all its slabs: memory that a thread leaves behind is not given back.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.pool = ThreadPoolExecutor(threads or os.cpu_count())
        self.memory = threading.local()

    def __enter__(self) -> BlockThreads:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def block(self, arrays: Mapping[int, tuple[str, np.ndarray]], rows: slice) -> dict[int, np.ndarray]:
        """Return copies of these samples' part of each array, by the array's key."""
        old: dict[int, np.ndarray] = getattr(self.memory, "block", {})
        block = {}
        for place, (key, (name, array)) in enumerate(arrays.items()):
            part = array[(slice(None),) * SIGNALS[name].axes.index("N") + (rows,)]
            kept = old.get(place)
            if kept is not None and (kept.shape, kept.dtype) == (part.shape, part.dtype):
                np.copyto(kept, part)
                block[key] = kept
            else:
                block[key] = old[place] = np.array(part, order="C")
        self.memory.block = old
        return block


def score_in_blocks(asked: Sequence[Asked], once: dict[str, Any], threads: BlockThreads) -> list[np.ndarray]:
    """Run `per_sample` scorers over the same samples, and return one float64 array (N,) for each.

    Parameters
    ----------
    asked
        What to run.
    once
        By scorer, what its `Scorer.once` returned for an earlier slab of the same recording; added to.
    threads
        Who works.

    Raises
    ------
    BadInput
        Two of them have signals of different numbers of samples.
    """
    arrays, samples = over_samples(asked)
    evaluate_once(asked, once)
    results = [np.empty(samples) for _ in asked]
    step = block_length(sum(array.nbytes for _, array in arrays.values()), samples, BLOCK_BYTES)

    def score(start: int) -> None:
        rows = slice(start, start + step)
        for result, values in zip(
            results, score_block(asked, threads.block(arrays, rows), once), strict=True
        ):
            result[rows] = values

    for _ in threads.pool.map(score, range(0, max(samples, 1), step)):
        pass
    return results


def over_samples(asked: Sequence[Asked]) -> tuple[dict[int, tuple[str, np.ndarray]], int]:
    """Return the arrays that have an axis N, each once, by an arbitrary key, and the length of that axis."""
    arrays = {id(array): (name, array) for one in asked for name, array in _over_samples(one)}
    return arrays, _common_length(asked)


def evaluate_once(asked: Sequence[Asked], once: dict[str, Any]) -> None:
    """Add to `once` what is the same for all blocks."""
    for one in asked:
        if one.known.once is not None and one.known.name not in once:
            fixed = (array for name, array in one.given.items() if "N" not in SIGNALS[name].axes)
            once[one.known.name] = one.known.once(*fixed)


def score_block(asked: Sequence[Asked], block: Mapping[int, Any], once: Mapping[str, Any]) -> Iterator[Any]:
    """Run each of the scorers over one block, whose arrays or tensors go by the keys of `over_samples`."""
    masked: dict[tuple[int, int], np.ndarray | None] = {}  # several scorers read the same signal

    def masked_once(name: str, array: np.ndarray | None, seen: np.ndarray | None) -> np.ndarray | None:
        key = id(array), id(seen)
        if key not in masked:
            inside = block.get(id(array), array)
            masked[key] = masked_where_unseen(name, inside, None if seen is None else block[id(seen)])
        return masked[key]

    for one in asked:
        given = {name: masked_once(name, array, one.seen) for name, array in one.given.items()}
        shared = {"once": once[one.known.name]} if one.known.name in once else {}
        with refusals_of(one.known.name):
            values = one.known.function(**given, **one.settings, **shared)
        yield values


def block_length(size: int, samples: int, limit: int) -> int:
    """Return how many samples, which take `size` together, fill a block of `limit`.

    It is a multiple of 64, so that rows start where cache lines do.
    """
    each = max(1.0, size / max(samples, 1))
    return max(64, int(limit / each) // 64 * 64)


def masked_where_unseen(name: str, signal: np.ndarray | None, seen: np.ndarray | None) -> np.ndarray | None:
    """Put NaN where a float signal over epochs has a number for a presentation that did not take place.

    A recording has NaN there already; arrays of a user's own may hold anything.
    """
    if signal is None or seen is None or (SIGNALS[name].axes, SIGNALS[name].dtype) != ("TN", "float32"):
        return signal
    return _masked(signal, seen)


@twinned
def _masked(signal: np.ndarray, seen: np.ndarray) -> np.ndarray:
    stray = ~seen & ~np.isnan(signal)
    return np.where(stray, np.nan, signal).astype(signal.dtype) if stray.any() else signal


@_masked.on_tensors
def _(signal: Tensor, seen: Tensor) -> Tensor:
    return signal.masked_fill(~seen, np.nan)


def _over_samples(one: Asked) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays that have an axis N, with their names."""
    for name, array in (*one.given.items(), ("seen", one.seen)):
        if array is not None and "N" in SIGNALS[name].axes:
            yield name, array


def _common_length(asked: Sequence[Asked]) -> int:
    lengths = {
        one.known.name: array.shape[SIGNALS[name].axes.index("N")]
        for one in asked
        for name, array in _over_samples(one)
    }
    first, samples = next(iter(lengths.items()))
    for name, length in lengths.items():
        if length != samples:
            raise BadInput(f"'{first}' has {samples} samples but '{name}' has {length}")
    return samples
