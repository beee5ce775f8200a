"""Pickles that hold plain data: numbers, texts, lists, dicts and arrays of numbers. Nothing else is read from them.

A pickle names functions for its reader to call, so that an untrusted one can run anything. This reader knows four
names, those by which numpy writes arrays and their numbers, and they stand for classes of its own, which take bytes
and make numbers of them. Every other name is refused before anything is called.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tracesift.catalog.schema import BadInput

KINDS = "biuf"


class _Refused(pickle.UnpicklingError):
    """The pickle asks for more than plain data."""


def read_plain_pickle(path: Path) -> Any:
    """Return what a pickle holds, arrays of numbers as numpy arrays.

    Raises
    ------
    BadInput
        The file is no whole pickle, or names anything that is not plain data; none of it has been run then.
    """
    try:
        with path.open("rb") as stream:
            found = _PlainUnpickler(stream).load()
        return _plain(found)
    except _Refused as error:
        raise BadInput(
            f"{path}: {error}; a pickle can run code, so only numbers, texts, lists, dicts and arrays are read from "
            "one. Load it where you trust it and save its arrays: np.savez('recording.npz', sample_ids=..., "
            "labels=..., logits=...)"
        ) from None
    except Exception as error:
        # a damaged pickle raises whatever its bytes happen to ask for: IndexError, KeyError, ValueError, ...
        raise BadInput(
            f"{path}: not a whole pickle of plain data ({type(error).__name__}: {error})"
        ) from None


class _PlainUnpickler(pickle.Unpickler):
    """Knows the names by which numpy pickles arrays, and no other."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        # made anew for each file: a pickle can set attributes of what it is given
        self._known = _stand_ins()

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name, or refuse it."""
        home = module.replace("numpy._core.", "numpy.core.")
        if (home, name) not in self._known:
            raise _Refused(f"it asks for {module}.{name}")
        return self._known[home, name]

    def persistent_load(self, pid: Any) -> Any:
        """Refuse: what it points to lies outside the file, as in torch's files."""
        raise _Refused("it points outside of itself")


def _stand_ins() -> dict[tuple[str, str], Any]:
    class DType:
        """numpy.dtype(text, align, copy), whose state tells the order of its bytes."""

        def __init__(self, text: str, *_: Any) -> None:
            if not isinstance(text, str) or text[:1] not in KINDS or not text[1:].isdecimal():
                raise _Refused(f"it holds an array of {text!r}")
            self.text = text
            self.order: Literal["<", ">"] = "<"

        def __setstate__(self, state: tuple[Any, ...]) -> None:
            self.order = ">" if state[1] == ">" else "<"

        def numbers(self, raw: Any) -> np.ndarray:
            """Return the bytes as numbers of this type."""
            if isinstance(raw, str):  # protocols below 3 write bytes as latin-1
                raw = raw.encode("latin-1")
            return np.frombuffer(bytes(raw), np.dtype(self.text).newbyteorder(self.order))

    class Array:
        """An array as numpy writes one: first empty, then its state."""

        def __init__(self, *_: Any) -> None:
            self.values = np.zeros(0)

        def __setstate__(self, state: tuple[Any, ...]) -> None:
            _, shape, dtype, fortran, raw = state
            self.values = dtype.numbers(raw).reshape(shape, order="F" if fortran else "C")

    class Ndarray:
        """The name numpy.ndarray, which `_reconstruct` is given."""

    def scalar(dtype: DType, raw: Any) -> float | int | bool:
        value: float | int | bool = dtype.numbers(raw).reshape(()).item()
        return value

    def from_buffer(raw: Any, dtype: DType, shape: tuple[int, ...], order: str, *_: Any) -> Array:
        made = Array()
        made.values = dtype.numbers(raw).reshape(shape, order="F" if order == "F" else "C")
        return made

    def encoded(text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise _Refused(f"it holds bytes as {encoding}")
        return text.encode("latin-1")

    return {
        ("numpy", "dtype"): DType, ("numpy", "ndarray"): Ndarray, ("_codecs", "encode"): encoded,
        ("numpy.core.multiarray", "_reconstruct"): Array, ("numpy.core.multiarray", "scalar"): scalar,
        ("numpy.core.numeric", "_frombuffer"): from_buffer,
    }  # fmt: skip


def _plain(found: Any) -> Any:
    """Return the data with arrays in place of their stand-ins, and nothing else left of these."""
    if found is None or isinstance(found, str | bytes | bool | int | float):
        return found
    if isinstance(found, list | tuple):
        return [_plain(value) for value in found]
    if isinstance(found, dict):
        return {_plain(key): _plain(value) for key, value in found.items()}
    values = getattr(found, "values", None)
    if isinstance(values, np.ndarray):
        return values
    raise _Refused(f"it holds a {type(found).__name__}")
