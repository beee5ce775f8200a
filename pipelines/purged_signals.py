"""A recording without some samples, written to another folder; the values of the others are the same to the bit."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.files import sha256, write_json, write_parquet
from tracesift.pipelines.signals import write_array


def holds_samples(folder: Path, ids: Collection[str]) -> bool:
    """Tell whether any table or array of a recording, finished or not, has a row of one of these samples."""
    wanted = pl.Series(sorted(ids), dtype=pl.String)
    return any(
        pl.scan_parquet(path)
        .filter(pl.col("sample_id").is_in(wanted.implode()))
        .select(pl.len())
        .collect()
        .item()
        if path.suffix == ".parquet"
        else _ids(path).is_in(wanted.implode()).any()
        for path in _tables(folder)
    )


def write_without(
    folder: Path, target: Path, ids: Collection[str], record: Callable[[dict[str, Any]], dict[str, Any]]
) -> int:
    """Write a finished recording without these samples; return how many rows went, over all its files.

    Parameters
    ----------
    folder, target
        The recording, and where the new one is written, under its own run id.
    record
        Returns what ``run.json`` says now, its hashes excepted. Checkpoints, unfinished jobs and folds are left out:
        they hold samples by their place, and weights that have learned them.
    """
    kept = record(json.loads((folder / "run.json").read_bytes()))
    gone, hashes = 0, {}
    for path in _tables(folder):
        name = path.relative_to(folder)
        if name.as_posix() not in kept["files"]:
            continue
        gone += _rewrite(path, target / name, ids, kept["run_id"])
        hashes[name.as_posix()] = sha256(target / name)
    write_json(target / "run.json", {**kept, "files": hashes})
    return gone


def _tables(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.suffix in (".parquet", ".npz"))
    return sorted(path for path in found if not path.name.startswith(".tmp-"))


def _ids(path: Path) -> pl.Series:
    with np.load(path, allow_pickle=False) as stored:
        return pl.Series([one.decode() for one in stored["sample_ids"].tolist()], dtype=pl.String)


def _rewrite(path: Path, target: Path, ids: Collection[str], run_id: str) -> int:
    wanted = pl.Series(sorted(ids), dtype=pl.String).implode()
    if path.suffix == ".parquet":
        frame = pl.read_parquet(path)
        stays = frame.filter(~pl.col("sample_id").is_in(wanted))
        if "run_id" in stays.columns:
            stays = stays.with_columns(run_id=pl.lit(run_id))
        write_parquet(stays, target)
        return frame.height - stays.height
    names = _ids(path)
    keep = ~names.is_in(wanted)
    if keep.all():
        target.parent.mkdir(parents=True, exist_ok=True)
        _linked(path, target)
        return 0
    with np.load(path, allow_pickle=False) as stored:
        write_array(target.parent, target.stem, names.filter(keep), stored["values"][keep.to_numpy()])
    return int((~keep).sum())


def _linked(path: Path, target: Path) -> None:
    """Give an unchanged file its new name as well, without its bytes being written once more where that can be."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
