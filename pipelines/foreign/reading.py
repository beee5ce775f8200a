"""Recordings that others wrote: numpy archives, long tables, and the folders that peers' code leaves behind.

A reader says what a file holds under the vocabulary's names and yields it an epoch at a time; nothing is
computed or matched here. What is read, and where the peers' own naming misleads:

- cartography: ``dynamics_epoch_<n>.jsonl`` with ``guid``, ``logits_epoch_<n>``, ``gold`` (a class index).
- AUM: ``full_aum_records.csv``. As every release of the package writes it (1.0.0 to 1.0.2), ``target_logit`` and
  ``other_logit`` are classes and ``target_val`` and ``other_val`` their logits; as its repository writes it, the
  other way round. The values tell which. ``aum_values.csv`` is a finished score, not a signal, and is read as one.
- TDDS: ``<n>_Output.npy`` (logits, in the order of presentation) with ``<n>_Index.npy``; its code skips
  epoch 0.
- example_forgetting: the pickles of Toneva et al., read as plain data (`tracesift.pipelines.foreign.plain_pickle`).

Pickles of other kinds are refused: reading one can run any code that its writer put there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from tracesift.catalog.files import digest, sha256
from tracesift.catalog.schema import BadInput
from tracesift.pipelines.foreign.arrays import read_arrays
from tracesift.pipelines.foreign.forgetting import read_forgetting
from tracesift.pipelines.foreign.recording import Epochs, Finished, Foreign, label_array
from tracesift.pipelines.foreign.slabs import stored_arrays
from tracesift.pipelines.foreign.tables import from_table
from tracesift.pipelines.sources.tables import format_of, read_file

PLAIN_PICKLES = (".pkl", ".pickle")
PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".joblib")
FORMS = (
    "an .npz or .npy of arrays, a long .parquet, .csv, .tsv, .jsonl or .arrow table (a row per sample and "
    "epoch), a .pkl of example_forgetting, or a folder of cartography, AUM or TDDS"
)


def read_foreign(
    path: Path, *, ids: Sequence[str] | None = None, labels: Sequence[str] | None = None
) -> Foreign | Finished:
    """Read what somebody else recorded; the form is told by names inside the file.

    Parameters
    ----------
    path
        A file or a folder.
    ids
        Names of positions: the sample ids of row 0, 1, ... for a file that has no ids, or has positions for
        ids.
    labels
        Labels in the order of the file's samples, for a file that has none.

    Raises
    ------
    BadInput
        The form is unknown, it is a pickle of more than plain data, or shapes, ids or labels do not fit together.
    """
    if not path.exists():
        raise BadInput(f"{path}: no such file or folder; what can be imported is {FORMS}")
    found = _read_folder(path) if path.is_dir() else _read_file(path)
    if isinstance(found, Foreign) and labels is not None:
        found = replace(found, labels=label_array(list(labels), len(found.ids), found.where))
    return found if ids is None else _renamed(found, ids)


def _renamed(found: Foreign | Finished, ids: Sequence[str]) -> Foreign | Finished:
    """Return the recording with the ids of its positions."""
    if isinstance(found, Foreign) and found.numbered and len(found.ids) != len(ids):
        raise BadInput(
            f"{found.where}: holds {len(found.ids)} samples, and there are {len(ids)} ids for them"
        )
    texts = found.ids if isinstance(found, Foreign) else found.frame["sample_id"].to_list()
    for text in texts:
        if not text.isdecimal():
            raise BadInput(
                f"{found.where}: has ids of its own, such as '{text}', and no positions to be named"
            )
        if int(text) >= len(ids):
            raise BadInput(f"{found.where}: holds position {text}, and there are only {len(ids)} ids")
    names = [ids[int(text)] for text in texts]
    if isinstance(found, Foreign):
        return replace(found, ids=names)
    return replace(found, frame=found.frame.with_columns(pl.Series("sample_id", names)))


def _read_file(path: Path) -> Foreign | Finished:
    suffix = path.suffix.lower()
    if suffix in PLAIN_PICKLES:
        return read_forgetting(path)
    if suffix in PICKLES:
        raise BadInput(
            f"{path}: pickled files are not read, because a pickle can run code; load it where you trust "
            "it and save its arrays: np.savez('recording.npz', sample_ids=..., labels=..., logits=...)"
        )
    if suffix in (".npz", ".npy"):
        return read_arrays(path)
    if format_of(path) is None:
        raise BadInput(f"{path}: cannot tell what this is; what can be imported is {FORMS}")
    return from_table(read_file(path).table, f"{path}", "table", sha256(path))


def _read_folder(folder: Path) -> Foreign | Finished:
    for place in (folder, folder / "training_dynamics"):
        if files := _numbered(place, r"dynamics_epoch_(\d+)\.jsonl?"):
            return _read_cartography(place, files)
    for place in (folder, folder / "npy"):
        if files := _numbered(place, r"(\d+)_Output\.npy"):
            return _read_tdds(place, files)
    for name in ("full_aum_records.csv", "aum_values.csv"):
        if (folder / name).exists():
            return _read_file(folder / name)
    held = ", ".join(sorted(child.name for child in folder.iterdir())[:4]) or "nothing"
    raise BadInput(f"{folder}: holds no recording that is known here (it holds {held}); give {FORMS}")


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Return the files whose whole name fits, by the number in it, ascending."""
    if not folder.is_dir():
        return {}
    found = {int(match[1]): path for path in folder.iterdir() if (match := re.fullmatch(pattern, path.name))}
    return dict(sorted(found.items()))


def _content_of(files: Sequence[Path]) -> str:
    return digest({path.name: sha256(path) for path in files}, length=64)


def _read_cartography(folder: Path, files: Mapping[int, Path]) -> Foreign | Finished:
    parts = []
    for epoch, path in files.items():
        table = read_file(path, format="jsonl").table
        logits = f"logits_epoch_{epoch}"
        missing = [name for name in ("guid", logits, "gold") if name not in table.columns]
        if missing:
            raise BadInput(f"{path}: has no '{missing[0]}'; a line holds guid, {logits} and gold")
        named = table.select(sample_id="guid", label="gold", logits=logits)
        parts.append(named.with_columns(epoch=pl.lit(epoch, pl.Int64)))
    table = pl.concat(parts, how="vertical_relaxed")
    return from_table(table, f"{folder}", "cartography", _content_of(list(files.values())))


def _read_tdds(folder: Path, files: Mapping[int, Path]) -> Foreign:
    outputs = {epoch: stored_arrays(path)[""] for epoch, path in files.items()}
    indexes = {}
    for epoch, output in outputs.items():
        path = folder / f"{epoch}_Index.npy"
        if not path.exists():
            raise BadInput(f"{path} is missing; without it the rows of {output.path.name} have no names")
        index = indexes[epoch] = stored_arrays(path)[""].whole()
        if index.dtype.kind not in "iu" or output.shape[:1] != index.shape or len(output.shape) != 2:
            raise BadInput(f"{path}: must hold one whole number per row of {output.path.name} {output.shape}")
        if len(np.unique(index)) != len(index) or index.min(initial=0) < 0:
            raise BadInput(f"{path}: a position stands twice, or is negative")
    known = np.unique(np.concatenate(list(indexes.values())))
    num_classes = {output.shape[1] for output in outputs.values()}
    if len(num_classes) > 1:
        raise BadInput(f"{folder}: the epochs have {sorted(num_classes)} columns; one network has one number")

    def read() -> Epochs:
        for epoch, output in outputs.items():
            logits = np.full((len(known), output.shape[1]), np.nan, dtype=np.float32)
            seen = np.zeros(len(known), dtype=bool)
            at = np.searchsorted(known, indexes[epoch])
            logits[at], seen[at] = output.whole(), True
            yield {"logits": logits, "seen": seen}

    return Foreign(
        where=f"{folder}", form="tdds", content=_content_of(sorted(folder.glob("*_*.npy"))),
        ids=[str(position) for position in known.tolist()], epochs=tuple(outputs), fields=("logits",),
        read=read,
    )  # fmt: skip
