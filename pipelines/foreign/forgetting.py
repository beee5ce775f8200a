"""The pickles of the code of Toneva et al. (ICLR 2019): statistics of each presentation, and sorted counts.

``…__stats_dict.pkl`` maps the position of each training sample to three lists: its loss, whether it was right, and its
margin, at each presentation; the keys ``train`` and ``test`` hold accuracies. A sample is presented once an epoch. A
file of sorted samples holds ``indices`` and ``forgetting counts``, where a sample that was never learned counts as
often as there were epochs, and several trainings are added up.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.files import sha256
from tracesift.catalog.schema import BadInput
from tracesift.pipelines.foreign.plain_pickle import read_plain_pickle
from tracesift.pipelines.foreign.recording import Epochs, Finished, Foreign

FIELDS = ("loss", "correct", "margin")
"""In the order of a sample's lists."""
SORTED = ("indices", "forgetting counts")


def read_forgetting(path: Path) -> Foreign | Finished:
    """Read either of the two pickles.

    Raises
    ------
    BadInput
        The file holds something else, or samples of it were presented a different number of times.
    """
    held = read_plain_pickle(path)
    if isinstance(held, dict) and set(held) == set(SORTED):
        return _sorted_counts(held, path)
    if not isinstance(held, dict) or not any(_is_position(key) for key in held):
        raise BadInput(
            f"{path}: holds a {type(held).__name__}, none of the pickles that are known here: those of "
            "example_forgetting, a dict of position -> [losses, hits, margins], or of indices and forgetting counts"
        )
    positions = sorted(key for key in held if _is_position(key))
    values = np.array([_presentations(held, position, path) for position in positions], dtype=object)
    told = {values[row, field].size for row in range(len(values)) for field in range(len(FIELDS))}
    if len(told) > 1:
        raise BadInput(
            f"{path}: samples were presented {min(told)} to {max(told)} times; a whole file has one entry per epoch"
        )
    tensor = np.array(values.tolist(), dtype=np.float64)  # (N, fields, T)

    def read() -> Epochs:
        for epoch in range(tensor.shape[2]):
            yield {name: tensor[:, at, epoch].astype(np.float32) for at, name in enumerate(FIELDS)}

    return Foreign(
        where=f"{path}", form="example_forgetting", content=sha256(path), ids=[str(at) for at in positions],
        epochs=tuple(range(tensor.shape[2])), fields=FIELDS, read=read, mode="in_training",
    )  # fmt: skip


def _is_position(key: Any) -> bool:
    return isinstance(key, int) and not isinstance(key, bool) and key >= 0


def _presentations(held: Mapping[Any, Any], position: int, path: Path) -> list[np.ndarray]:
    lists = held[position]
    if not isinstance(lists, list) or len(lists) != len(FIELDS):
        raise BadInput(f"{path}: sample {position} has no three lists (losses, hits, margins)")
    try:
        found = [np.array(values, dtype=np.float64) for values in lists]
    except (TypeError, ValueError):
        raise BadInput(f"{path}: the lists of sample {position} hold more than numbers") from None
    if any(values.ndim != 1 or not values.size for values in found):
        raise BadInput(f"{path}: the lists of sample {position} must hold one number per presentation")
    if not np.isin(found[FIELDS.index("correct")], (0, 1)).all():
        raise BadInput(f"{path}: the hits of sample {position} must be 0 or 1")
    return found


def _sorted_counts(held: Mapping[str, Any], path: Path) -> Finished:
    indices, counts = (np.asarray(held[name]) for name in SORTED)
    if indices.ndim != 1 or indices.shape != counts.shape or indices.dtype.kind not in "iu":
        raise BadInput(f"{path}: needs one position and one count per sample, in 'indices' and {SORTED[1]!r}")
    frame = pl.DataFrame({"sample_id": indices.astype(str), "forgetting_events": counts.astype(np.float64)})
    if frame["sample_id"].is_duplicated().any():
        raise BadInput(f"{path}: a position stands there twice")
    return Finished(where=f"{path}", form="example_forgetting", content=sha256(path), frame=frame)
