"""Loops over epochs and samples, compiled for the processor at hand.

A recording is read once, block of samples after block (`tracesift.scorers.contract.compute`), and each scorer
runs its own loop over the block while that lies in the cache. So the speed is that of memory, and a scorer
stays the plain double loop of its definition: epochs outside, samples inside, one float64 per sample and sum.
The inner loop runs over neighbouring memory, which the compiler turns into vector instructions without
changing the order in which a sample's numbers are added up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar, cast

Loop = TypeVar("Loop", bound=Callable[..., Any])


def loop(function: Loop) -> Loop:
    """Compile a function of arrays at its first call, and keep the result on disk for the next process.

    It runs without Python's lock, so several threads can work on blocks of their own. Arithmetic is IEEE's,
    in the order written: sums are not regrouped, and a division by zero gives NaN or infinity as in NumPy.
    """

    @cache
    def compiled() -> Callable[..., Any]:
        from numba import njit  # half a second of import that listing the scorers spares

        return cast(Callable[..., Any], njit(nogil=True, error_model="numpy", cache=True)(function))

    @wraps(function)
    def call(*arrays: Any) -> Any:
        return compiled()(*arrays)

    return cast(Loop, call)
