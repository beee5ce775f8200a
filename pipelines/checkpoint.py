"""One checkpoint per run, replaced atomically after each epoch's files: what a killed run continues from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from tracesift.catalog.files import replacing
from tracesift.catalog.schema import IncompleteRecording

NAME = "checkpoint.pt"


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write `state` (tensors and plain values) over the run's checkpoint."""
    # Given a file, torch lets the reason of a failed write through; given a path, it hides it.
    with replacing(folder / NAME) as temporary, temporary.open("wb") as file:
        write_state(state, file)


def write_state(state: Mapping[str, Any], file: BinaryIO) -> None:
    """Write tensors and plain values to an open file; Ctrl-C stays Ctrl-C."""
    try:
        torch.save(dict(state), file)
    except RuntimeError as error:
        if isinstance(
            error.__context__, KeyboardInterrupt
        ):  # torch closes its half archive, and complains of it
            raise error.__context__ from None
        raise


def epochs_done(folder: Path) -> int:
    """Return after how many epochs a run goes on; 0 where it has no checkpoint. Reads no tensor."""
    state = load_checkpoint(folder, mapped=True)
    return 0 if state is None else int(state["epoch"])


def load_checkpoint(folder: Path, *, mapped: bool = False) -> dict[str, Any] | None:
    """Return the run's checkpoint on the CPU, None where no epoch was finished; runs no pickled code.

    `mapped` leaves the tensors in the file until they are touched.
    """
    path = folder / NAME
    for leftover in folder.glob(".tmp-*"):
        leftover.unlink()
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch raises several unrelated types for a damaged file
        raise IncompleteRecording(f"{path} is damaged ({error}); remove {folder}, start again") from error
