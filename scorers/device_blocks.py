"""Scorers that look at each sample alone, run together on a GPU: each signal is copied there once for all of them.

The scorers are the same functions as on the CPU, called with tensors. A block is large on purpose. On a GPU each
operation takes some microseconds to start, in which it could read tens of megabytes, so blocks as small as its
cache would spend their time starting. What bounds a block is that operations leave arrays of float64 or int64 behind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tracesift.catalog.schema import SIGNALS
from tracesift.scorers.blocks import Asked, block_length, evaluate_once, over_samples, score_block

BLOCK_VALUES = 1 << 25
"""Values of a block's largest signal. A scorer makes up to five arrays of as many numbers, 1.3 GB."""


def score_on_device(asked: Sequence[Asked], once: dict[str, Any], device: torch.device) -> list[torch.Tensor]:
    """Run `per_sample` scorers over the same samples, and return one float64 tensor (N,) on `device` for each.

    Parameters
    ----------
    asked
        What to run: scorers with `Scorer.tensors`. Their arrays may lie in host memory or on a device.
    once
        By scorer, what its `Scorer.once` returned for an earlier slab of the same recording; added to.
    device
        Where to work; it knows float64.

    Raises
    ------
    BadInput
        Two of them have signals of different numbers of samples.
    """
    arrays, samples = over_samples(asked)
    evaluate_once(asked, once)
    shared = {name: _moved(value, device) for name, value in once.items()}
    results = [torch.empty(samples, dtype=torch.float64, device=device) for _ in asked]
    step = block_length(max(math.prod(array.shape) for _, array in arrays.values()), samples, BLOCK_VALUES)
    for start in range(0, samples, step):
        rows = slice(start, start + step)
        block = {key: _part(name, array, rows, device) for key, (name, array) in arrays.items()}
        for result, values in zip(results, score_block(asked, block, shared), strict=True):
            result[rows] = values
    return results


def _part(name: str, array: Any, rows: slice, device: torch.device) -> torch.Tensor:
    """Return the samples `rows` of a signal on the device; a tensor that is there already is not copied."""
    part = array[(slice(None),) * SIGNALS[name].axes.index("N") + (rows,)]
    return _moved(np.array(part, order="C") if isinstance(part, np.ndarray) else part, device)


def _moved(value: Any, device: torch.device) -> Any:
    """Return an array, a tensor, or a tuple of them, on the device."""
    if isinstance(value, tuple):
        return tuple(_moved(one, device) for one in value)
    return (torch.from_numpy(value) if isinstance(value, np.ndarray) else value).to(device)
