"""Where chance and speed are decided: seeds, threads, device; and the states that a resumed run restores."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from tracesift.catalog.schema import BadInput


def choose_device(device: str) -> torch.device:
    """Return the device asked for; ``auto`` is the GPU where there is one.

    Raises
    ------
    BadInput
        When the device does not exist here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(f"device {device!r}: {str(error).splitlines()[0]}; try --device auto") from None
    return chosen


@contextmanager
def settled(seed: int, threads: int | None) -> Iterator[None]:
    """Seed every generator and set the thread count; everything is as before when the block ends.

    The same machine, wheels and thread count then give the same bits. A caller's own generators are not
    moved.
    """
    before = rng_state()
    count = torch.get_num_threads()
    benchmark, deterministic = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)  # a user's own module may draw from it
        torch.manual_seed(seed)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        set_rng_state(before)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = benchmark, deterministic
        torch.set_num_threads(count)


def rng_state() -> dict[str, Any]:
    """Return the state of Python's, numpy's and torch's generators, tensors and plain values only."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore what `rng_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def generator(seed: int, *parts: int) -> torch.Generator:
    """Return a generator for (seed, parts...): what it draws depends on nothing drawn before."""
    mixed = np.random.SeedSequence([seed % 2**63, *parts]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed >> np.uint64(1)))
