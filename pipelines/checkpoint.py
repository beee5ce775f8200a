"""One checkpoint per run, replaced atomically after each epoch's files: what a killed run continues from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tracesift.catalog.files import replacing
from tracesift.catalog.schema import IncompleteRecording

NAME = "checkpoint.pt"


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write `state` (tensors and plain values) over the run's checkpoint."""
    # Given a file, torch lets the reason of a failed write through; given a path, it hides it.
    with replacing(folder / NAME) as temporary, temporary.open("wb") as file:
        torch.save(dict(state), file)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the run's checkpoint on the CPU, None where no epoch was finished; runs no pickled code."""
    path = folder / NAME
    for leftover in folder.glob(".tmp-*"):
        leftover.unlink()
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several unrelated types for a damaged file
        raise IncompleteRecording(f"{path} is damaged ({error}); remove {folder}, start again") from error
