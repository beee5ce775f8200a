"""One source out of several: the main one, and those named for val and test."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.pipelines import splits
from tracesift.pipelines.sources.guessing import NO_LABELS, Columns, Wanted, check_columns, without_labels
from tracesift.pipelines.sources.loaded import Loaded, join
from tracesift.pipelines.sources.opening import load


def gather(
    main: Loaded,
    columns: Columns,
    where: str,
    given: dict[str, Any],
    reading: dict[str, Any],
) -> tuple[Loaded, pl.Series, dict[str, float | None]]:
    """Join the sources given for val and test to the main one.

    Returns
    -------
    Loaded, Series of str, dict
        All rows; their splits so far; and for val and test the share still to be cut from train, None where
        the split is there already.
    """
    split = _main_split(main, columns, where)
    present = set(split.unique().to_list())
    if "train" not in present:
        raise BadInput(f"{where}: has no train rows, only {', '.join(sorted(present))}; curation needs train")
    loaded, values, shares = [main], [split], {}
    for option, part in given.items():
        share = splits.parse_share(part, option)
        if part is not None and option in present:
            raise BadInput(f"{where}: has {option} rows of its own; leave out {option}= (--{option})")
        if part is None or share is not None:
            default = splits.SHARE if share is None else share
            shares[option] = None if option in present else default
            continue
        other = _load_part(part, option, main, columns, reading)
        loaded.append(other)
        values.append(pl.Series("split", [option] * other.table.height))
        shares[option] = None
    return join(loaded), pl.concat(values), shares


def _main_split(main: Loaded, columns: Columns, where: str) -> pl.Series:
    if main.split is not None:
        return main.split.alias("split")
    if columns.split is not None:
        return splits.read_splits(main.table[columns.split], where)
    return pl.Series("split", ["train"] * main.table.height)


def _load_part(part: Any, option: str, main: Loaded, columns: Columns, reading: dict[str, Any]) -> Loaded:
    other = load(part, **reading)
    name = str(part) if isinstance(part, (str, Path)) else f"{option}={type(part).__name__}"
    if columns.label == NO_LABELS:
        other = without_labels(other, name)
    if other.split is not None:
        raise BadInput(f"{name}: holds splits of its own; name the one part to use as {option}")
    needed = Wanted(
        label=columns.label,
        id=columns.id,
        text=columns.text,
        image=columns.image,
        features=columns.features or None,
        group=columns.group,
    )
    check_columns(other.table, needed, name)
    image = columns.image
    if image and other.table[image].dtype == pl.String and other.root and main.root:
        # paths of images are relative to the file that names them, and after joining there is one root only
        prefix = os.path.relpath(other.root, main.root)
        paths = pl.Series(image, [p and os.path.normpath(Path(prefix, p)) for p in other.table[image]])
        other = replace(other, table=other.table.with_columns(paths))
    return other
