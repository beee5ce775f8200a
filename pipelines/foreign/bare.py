"""A dataset of which only ids, labels and splits are known: enough to score and to select from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.foreign.class_order import check_indices
from tracesift.pipelines.identity import fingerprint, hash_texts
from tracesift.pipelines.sources.labels import natural_order

KIND = "recorded"


class NoInputs:
    """Stands where model inputs would be, and says that they are not there when somebody wants them."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise BadInput(
            f"{self.name} is known by ids and labels alone: only a recording was imported, or the data was handed "
            "over in Python; what shows, embeds or trains needs it: `tracesift ingest SOURCE --id COLUMN` with the "
            "same ids"
        )

    __getitem__ = __iter__ = __array__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # what copying and printing look for
            raise AttributeError(name)
        self._refuse()

    def __len__(self) -> int:
        return self.size


def bare_dataset(
    name: str,
    source: str,
    samples: pl.DataFrame,
    classes: Sequence[str] | None = None,
    known_fingerprint: str | None = None,
) -> Dataset:
    """Return the dataset of a recording that came without its data.

    Parameters
    ----------
    name, source
        What it is called, and which recording it comes from.
    samples
        sample_id, split, label, in any order.
    classes
        All class names, where some have no sample.
    known_fingerprint
        The fingerprint of a dataset that stands in a catalog already.

    Examples
    --------
    >>> rows = pl.DataFrame({"sample_id": ["b", "a"], "split": "train", "label": ["1", "0"]})
    >>> pets = bare_dataset("pets", "pets.npz", rows)
    >>> pets.kind, pets.samples["sample_id"].to_list(), pets.labels.tolist()
    ('recorded', ['a', 'b'], [0, 1])
    """
    # A hash of the id stands for that of the content: two samples of unknown content are never called twins.
    whole = samples.select(
        "sample_id",
        "split",
        "label",
        label_true=pl.lit(None, pl.String),
        content_hash=pl.Series(hash_texts("id:" + sample_id for sample_id in samples["sample_id"])),
    )
    whole = whole.sort("sample_id").rechunk()
    names = natural_order(pl.Series(list(classes) if classes else whole["label"]))
    return Dataset(
        name=name,
        source=source,
        options={"recorded": True},
        kind=KIND,
        samples=whole,
        classes=names,
        inputs=NoInputs(name, whole.height),  # type: ignore[arg-type]
        fingerprint=known_fingerprint or fingerprint(whole, {"kind": KIND, "inputs": []}),
        notes=("Only a recording was imported: there is nothing to show, embed or train on.",),
    )


def from_recording(
    name: str, source: str, ids: Sequence[str], labels: np.ndarray, classes: Sequence[str] | None,
    split: Sequence[str],
) -> Dataset:  # fmt: skip
    """Return the bare dataset of a recording's own ids and labels (N,), indices of `classes` or names."""
    if labels.dtype.kind == "i":
        names = list(classes) if classes else [str(index) for index in range(int(labels.max(initial=0)) + 1)]
        check_indices(labels, len(names), ids, source)
        text = [names[index] for index in labels]
    else:
        names, text = list(classes or ()), labels.tolist()
    samples = pl.DataFrame({"sample_id": list(ids), "split": list(split), "label": text})
    return bare_dataset(name, source, samples, names)
