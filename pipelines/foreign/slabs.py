"""Arrays in `.npy` and `.npz` files, read a slab of the first axis at a time; nothing is ever unpickled.

A recording of logits (T, N, K) is easily larger than memory, and one epoch of it is what is needed at a time.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from tracesift.catalog.schema import BadInput


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One array in a file: its header is read, its values are not.

    Attributes
    ----------
    path
        The file.
    member
        Name of the array in an ``.npz``; None where the file is an ``.npy``.
    shape, dtype, fortran
        What the header says.
    """

    path: Path
    member: str | None
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"{self.path}" if self.member is None else f"{self.path}, array '{self.member}'"

    def whole(self) -> np.ndarray:
        """Return all values."""
        with _opened(self.path, self.member) as stream:
            _header(stream, self.where)
            values = _values(stream, self.shape[::-1] if self.fortran else self.shape, self.dtype, self.where)
        return values.T if self.fortran else values

    def slabs(self) -> Iterator[np.ndarray]:
        """Yield ``values[0]``, ``values[1]``, ... without holding more than one of them."""
        if self.fortran:  # the first axis varies fastest there: no slab lies in one piece
            yield from self.whole()
            return
        with _opened(self.path, self.member) as stream:
            _header(stream, self.where)
            for _ in range(self.shape[0]):
                yield _values(stream, self.shape[1:], self.dtype, self.where)


def stored_arrays(path: Path) -> dict[str, Stored]:
    """Return the arrays of an ``.npz`` by name, or an ``.npy``'s one array under the name ``""``.

    Raises
    ------
    BadInput
        The file is no such file, is cut short, or holds Python objects, which only unpickling could read.
    """
    if path.suffix.lower() == ".npy":
        return {"": _stored(path, None)}
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except (zipfile.BadZipFile, OSError) as error:
        raise BadInput(f"{path}: not a whole npz file ({error}); write it with np.savez") from None
    return {name: _stored(path, name) for name in names}


def _stored(path: Path, member: str | None) -> Stored:
    where = f"{path}" if member is None else f"{path}, array '{member}'"
    with _opened(path, member) as stream:
        shape, fortran, dtype = _header(stream, where)
    if dtype.hasobject:
        raise BadInput(
            f"{where}: holds Python objects, which only unpickling could read, and a pickle can run code; "
            "save plain numbers or text (ids as np.array(ids, dtype=str))"
        )
    return Stored(path=path, member=member, shape=shape, dtype=dtype, fortran=fortran)


@contextmanager
def _opened(path: Path, member: str | None) -> Iterator[IO[bytes]]:
    if member is None:
        with path.open("rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as stream:
        yield stream


def _header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(stream)
        if version == (2, 0):
            return np.lib.format.read_array_header_2_0(stream)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise BadInput(f"{where}: not a numpy array ({error}); write it with np.save or np.savez") from None
    raise BadInput(f"{where}: numpy format {version} is not read here; save plain numbers or text")


def _values(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype, where: str) -> np.ndarray:
    wanted = math.prod(shape) * dtype.itemsize
    try:
        content = stream.read(wanted)
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise BadInput(f"{where}: cannot be read to its end ({error}); copy or write it again") from None
    if len(content) != wanted:
        raise BadInput(f"{where}: ends after {len(content)} of {wanted} bytes; copy or write it again")
    return np.frombuffer(content, dtype=dtype).reshape(shape)
