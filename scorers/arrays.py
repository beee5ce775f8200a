"""The border: arrays, tensors and lists become NumPy arrays of the shape and type their signal name promises.

Float signals keep their own width (float16 is widened to float32); the scorers accumulate in float64. Nothing
is copied that already fits. Where scorers are to run on tensors, tensors are held to the same and stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracesift.catalog.schema import SIGNALS, BadInput
from tracesift.scorers.twins import is_tensor, twinned

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
Flags = NDArray[np.bool_]

AXES = {
    "T": "epochs", "N": "samples", "M": "validation samples", "K": "classes", "D": "dimensions",
    "P": "gradient dimensions", "H": "rows", "W": "columns", "C": "channels", "E": "epochs of the job",
    "R": "runs of the job", "L": "layers", "S": "subtasks",
}  # fmt: skip

PROBABILITIES = ("probs", "probs_last", "probs_oos", "probs_oos_weak", "val_probs_last")


def normalise(name: str, value: Any, *, tensors: bool = False) -> np.ndarray:
    """Return `value` as the NumPy array that the signal `name` promises.

    With `tensors` a tensor over samples is checked and converted where it lies, and returned as a tensor.

    Raises
    ------
    BadInput
        Wrong number of axes, a type that cannot be meant, missing values where there can be none, or
        probabilities that are none.

    Examples
    --------
    >>> normalise("correct", [[1, 0], [1, 1]])
    array([[ True, False],
           [ True,  True]])
    """
    signal = SIGNALS[name]
    if tensors and "N" in signal.axes and is_tensor(value):
        array = value.detach()
    else:
        array = _as_texts(name, value) if signal.dtype == "str" else _to_numpy(name, value)
    if array.ndim != len(signal.axes):
        wanted = ", ".join(AXES[axis] for axis in signal.axes)
        raise BadInput(f"'{name}' has shape {tuple(array.shape)}; it is ({wanted})")
    if signal.dtype == "str":
        return array
    if signal.dtype == "bool":
        return _as_bool(name, array)
    if signal.dtype.startswith(("int", "uint")):
        return _as_integers(name, array)
    return _as_floats(name, array)


def check_sizes(arrays: Mapping[str, np.ndarray], *, owner: str) -> None:
    """Raise where two signals disagree about an axis, or labels about the number of classes."""
    sizes: dict[str, tuple[int, str]] = {}
    for name, array in arrays.items():
        for axis, size in zip(SIGNALS[name].axes, array.shape, strict=True):
            known, first = sizes.setdefault(axis, (size, name))
            if known != size:
                raise BadInput(f"'{owner}': '{first}' has {known} {AXES[axis]} but '{name}' has {size}")
    if "K" not in sizes:
        return
    classes, first = sizes["K"]
    for name in ("labels", "val_labels"):
        if name in arrays and len(arrays[name]) and arrays[name].max() >= classes:
            raise BadInput(
                f"'{owner}': '{name}' holds class {int(arrays[name].max())} but '{first}' has {classes} classes "
                f"(0 to {classes - 1})"
            )


def row_blocks(rows: int, width: int, *, elements: int = 1 << 20) -> Iterator[slice]:
    """Yield slices that cut `rows` rows of `width` values into blocks of about `elements` values."""
    step = max(1, elements // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _to_numpy(name: str, value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a torch tensor, without importing torch
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        return np.asarray(value.numpy())
    try:
        return np.asarray(value)
    except ValueError as error:
        raise BadInput(f"'{name}' is no array: its rows differ in length") from error


def _as_texts(name: str, value: Any) -> np.ndarray:
    """Return an array of references: one of fixed width would take the longest text's room for each."""
    texts = [value] if isinstance(value, str) else list(value)
    if isinstance(value, str) or not all(isinstance(text, str) for text in texts):
        raise BadInput(f"'{name}' is a list of texts, one string for each sample; it holds something else")
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def _as_bool(name: str, array: np.ndarray) -> np.ndarray:
    if _kind(array) == "b":
        return array
    if _kind(array) not in "iuf" or not ((array == 0) | (array == 1)).all():
        raise BadInput(f"'{name}' holds something else than true and false; mark missing ones in 'seen'")
    return _cast(array, "bool")


def _as_integers(name: str, array: np.ndarray) -> np.ndarray:
    if _kind(array) not in "iub":
        raise BadInput(f"'{name}' is {array.dtype}; it holds whole numbers (class indices for labels)")
    array = array if SIGNALS[name].dtype == "uint8" else _cast(array, "int64")
    if name in ("labels", "val_labels") and len(array) and array.min() < 0:
        raise BadInput(f"'{name}' holds {int(array.min())}; class indices start at 0")
    return array


def _as_floats(name: str, array: np.ndarray) -> np.ndarray:
    if _kind(array) not in "fiub":
        raise BadInput(f"'{name}' is {array.dtype}; it holds numbers, NaN where an observation is missing")
    if _kind(array) != "f":
        array = _cast(array, "float64")
    elif array.dtype.itemsize < 4:
        array = _cast(array, "float32")
    if name in PROBABILITIES:
        for block in array if array.ndim == 3 else (array,):
            _check_probabilities(name, block)
    return array


def _check_probabilities(name: str, block: np.ndarray) -> None:
    """Refuse logits passed as probabilities; a row of NaN is a sample without a prediction."""
    with np.errstate(invalid="ignore"):
        outside = (block < -1e-6) | (block > 1 + 1e-3)
        wrong_sum = abs(_sums(block) - 1) > 0.02
    if outside.any() or wrong_sum.any():
        raise BadInput(f"'{name}' holds rows that are no probabilities; pass softmax(logits), not logits")


@twinned
def _kind(array: np.ndarray) -> str:
    """Return the kind of an array's type, as NumPy names it: b, i, u or f for those that signals have."""
    return array.dtype.kind


@_kind.on_tensors
def _(array: Tensor) -> str:
    if str(array.dtype) == "torch.bool":
        return "b"
    return "f" if array.is_floating_point() else "c" if array.is_complex() else "i"


@twinned
def _cast(array: np.ndarray, dtype: str) -> np.ndarray:
    return array.astype(dtype, copy=False)


@_cast.on_tensors
def _(array: Tensor, dtype: str) -> Tensor:
    import torch

    return array.to(getattr(torch, dtype))


@twinned
def _sums(block: np.ndarray) -> np.ndarray:
    return np.asarray(block.sum(axis=1, dtype=np.float64))


@_sums.on_tensors
def _(block: Tensor) -> Tensor:
    from torch import float64

    return block.sum(1, dtype=float64)
