"""What evaluators are given, checked: classes, probabilities and other numbers; whatever is none is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracesift.catalog.schema import BadInput

Floats = NDArray[np.float64]
Classes = NDArray[np.int64]


def classes(name: str, values: Any) -> Classes:
    """Return class indices as int64 (n,); none at all, or something else than class indices, is refused."""
    array = np.asarray(values)
    if array.ndim != 1 or not len(array):
        raise BadInput(
            f"{name} has shape {array.shape}; it is one class index for each sample, of at least one"
        )
    if array.dtype.kind not in "iu" or array.min() < 0:
        raise BadInput(f"{name} holds {array.dtype} values; class indices are whole numbers from 0")
    return array.astype(np.int64)


def numbers(name: str, values: Any, axes: str) -> Floats:
    """Return finite numbers as float64, with as many axes as `axes` names; none at all are refused."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != len(axes.split(",")) or not array.size:
        raise BadInput(f"{name} has shape {array.shape}; it is ({axes}), with something in it")
    if not np.isfinite(array).all():
        raise BadInput(f"{name} holds values that are not finite; evaluate all samples before asking")
    return array


def probabilities(name: str, values: Any, labels: Classes) -> Floats:
    """Return class probabilities as float64 (n, K), one row for each of `labels`; logits are refused."""
    array = numbers(name, values, "samples, classes")
    if len(array) != len(labels) or labels.max() >= array.shape[1]:
        raise BadInput(
            f"{name} has shape {array.shape}, and there are {len(labels)} labels up to class {labels.max()}"
        )
    if array.min() < -1e-6 or (abs(array.sum(axis=1) - 1) > 0.02).any():
        raise BadInput(f"{name} holds rows that are no probabilities; pass softmax(logits), not logits")
    return array.clip(0.0, 1.0)
