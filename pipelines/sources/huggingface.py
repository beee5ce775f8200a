"""Hugging Face datasets: objects, folders of `save_to_disk`, and names on the Hub.

Read through `to_polars`, which honours a selection or shuffle (`data` still holds every row); class labels
become their names; images stay encoded until they are decoded as files are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.sources.loaded import Loaded, join, known_split

if TYPE_CHECKING:
    import datasets


def is_saved(folder: Path) -> bool:
    """Whether a folder was written by ``save_to_disk``."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def read_saved(folder: Path) -> Loaded:
    """Return the Dataset or DatasetDict that ``save_to_disk`` wrote into a folder."""
    import datasets

    try:
        held = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder}: not a whole save_to_disk folder ({_first_line(error)})") from error
    name = folder.resolve().name
    return from_mapping(held, name) if isinstance(held, Mapping) else from_dataset(held, name)


def read_hub(source: str) -> Loaded:
    """Return ``hf:NAME[:CONFIG]`` as `datasets.load_dataset` gives it; no code of the dataset is run."""
    import datasets

    name, _, config = source.removeprefix("hf:").partition(":")
    if not name:
        raise BadInput("hf: needs a name, such as hf:fancyzhx/ag_news or hf:nyu-mll/glue:sst2")
    try:
        held = datasets.load_dataset(name, config or None)
    except (OSError, ValueError, RuntimeError, KeyError, datasets.exceptions.DatasetsError) as error:
        raise BadInput(
            f"{source}: could not be loaded ({type(error).__name__}: {_first_line(error)}); check the name, "
            "the configuration and the connection"
        ) from error
    short = name.rstrip("/").split("/")[-1]
    return from_mapping(held, short) if isinstance(held, Mapping) else from_dataset(held, short)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).split("\n")[0]


def from_mapping(held: Mapping[str, datasets.Dataset], name: str) -> Loaded:
    """Return the splits of a DatasetDict as one source; its keys are the splits."""
    unknown = [key for key in held if known_split(key) is None]
    if unknown:
        raise BadInput(
            f"{name}: '{unknown[0]}' is no split known here (found: {', '.join(map(str, held))}); pass one "
            "split as SOURCE and others with val= and test=, or rename the keys to train, val, test"
        )
    parts = []
    for key, dataset in held.items():
        part = from_dataset(dataset, name) if hasattr(dataset, "features") else _refuse(dataset, key)
        parts.append(replace(part, split=pl.Series("split", [known_split(key)] * part.table.height)))
    if not parts:
        raise BadInput(f"{name}: holds no split")
    return join(parts)


def _refuse(value: Any, key: str) -> Loaded:
    raise BadInput(f"the value under '{key}' is a {type(value).__name__}, not a datasets.Dataset")


def from_dataset(dataset: datasets.Dataset, name: str) -> Loaded:
    """Return a `datasets.Dataset` as one source: its visible rows, names for class labels."""
    import datasets

    if not isinstance(dataset, datasets.Dataset):
        raise BadInput(f"{name}: a {type(dataset).__name__} cannot be curated; load it as a datasets.Dataset")
    if len(dataset) == 0:
        raise BadInput(f"{name}: no rows; a dataset needs samples")
    dataset = dataset.with_format(None)
    for column, feature in dataset.features.items():
        if isinstance(feature, datasets.Image):
            dataset = dataset.cast_column(column, datasets.Image(decode=False))
    table = dataset.to_polars()
    label = None
    for column, feature in dataset.features.items():
        if isinstance(feature, datasets.ClassLabel):
            names = dict(enumerate(feature.names))
            table = table.with_columns(
                pl.col(column).replace_strict(names, default=None, return_dtype=pl.String).alias(column)
            )
            label = column if label is None else ""
    return Loaded(table=table, name=name, class_label=label or None)
