"""A dataset of images without its linear class signal, and its record.

    FOLDER/data.parquet              as of a protected dataset, with the projected images
    FOLDER/record/projection.json    what was taken out, fitted on what, with hashes

The directions are fitted on the training images alone, and taken out of val and test as well: a model that was
trained without them errs where it meets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tracesift.catalog.parameter_types import settings_of
from tracesift.catalog.schema import BadInput
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.protection.changed import ChangedDataset, source_facts
from tracesift.pipelines.protection.contract import Progress, silent
from tracesift.pipelines.protection.grey_levels import CHUNK
from tracesift.pipelines.protection.orthogonal_projection import (
    REFERENCE,
    Directions,
    class_directions,
    in_8_bits,
    on_complement,
)
from tracesift.pipelines.protection.writing import write_changed

METHOD, METHOD_VERSION = "orthogonal_projection", 1
PROJECTION_SCHEMA = 1
"""Version of the layout of projection.json."""

RECORD = "record/projection.json"
SETTINGS: Mapping[str, Any] = dict(class_directions.__kwdefaults__ or {})


def project(
    dataset: Dataset,
    *,
    train_only: bool = False,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> ChangedDataset:
    """Take out of the images what lies along the weights of a logistic regression on those of train.

    Parameters
    ----------
    dataset : Dataset
        Images.
    train_only : bool
        Leave val and test as they are, as the publication does with test.
    settings : mapping, optional
        `penalty` and `iterations` of the regression.
    progress : callable, optional
        Called with what is done, the total, and words.

    Returns
    -------
    ChangedDataset
        `write_projected` keeps it as a folder that `open_dataset` opens. The report says, beside what
        `class_directions` tells, `energy_removed`: label -> share of the squared distance of its training images from
        the mean image that lay along the directions; `clipped`: share of their values that had to be cut to 0..255;
        and `mean_change`: label -> root mean square of the change in grey levels, as saved.

    Raises
    ------
    BadInput
        For anything but images, a setting that there is not, or training images of one label.

    Examples
    --------
    >>> from tracesift.pipelines.dataset import open_dataset
    >>> made = project(open_dataset("digits"))
    >>> made.inputs.shape, made.facts["report"]["directions"]
    ((1797, 8, 8, 1), 9)
    """
    if dataset.kind != "image":
        raise BadInput(
            f"{dataset.name}: its samples are of kind '{dataset.kind}', and the projection takes a signal out of the "
            "pixels of images; of texts, `tracesift score token_label_association` ranks those whose tokens give the "
            "label away, and `select bottom_k --param score=token_label_association` leaves the highest out"
        )
    given = settings_of("project", class_directions, SETTINGS, settings or {})
    tell, train = progress or silent, dataset.rows("train")
    tell(0, 1, "regression on the pixels of train")
    directions = class_directions(_channels_first(dataset, train), dataset.labels[train], **given)
    rows = train if train_only else np.arange(len(dataset))
    inputs, measured = _projected(dataset, rows, directions, tell)
    facts = {
        "method": METHOD, "method_version": METHOD_VERSION, "reference": REFERENCE, "parameters": given,
        "splits": ["train"] if train_only else ["train", "val", "test"], "report": {**directions.facts, **measured},
        "classes": list(dataset.classes), "source": source_facts(dataset),
    }  # fmt: skip
    return ChangedDataset(dataset=dataset, rows=rows, inputs=inputs, facts=facts)


def write_projected(
    projected: ChangedDataset, folder: Path, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Write a projected dataset into a new folder, whole or not at all, and return its record.

    Raises
    ------
    BadInput
        The folder is there and holds something, or its name is taken by a file.
    """
    counts = projected.dataset.samples[projected.rows].group_by("split").len().sort("split")
    said = {"counts": {"projected": len(projected.rows), "by_split": dict(counts.iter_rows())}}
    return write_changed(projected, folder, RECORD, PROJECTION_SCHEMA, said, progress=progress)


def _channels_first(dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    assert not isinstance(dataset.inputs, list | pl.DataFrame)
    return np.ascontiguousarray(dataset.inputs[rows].transpose(0, 3, 1, 2))


def _projected(
    dataset: Dataset, rows: NDArray[np.int64], directions: Directions, tell: Progress
) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Return the rows' projected images (M, H, W, C), and what was taken out of the training images by label."""
    is_train = np.isin(rows, dataset.rows("train"))
    classes, labels = dataset.num_classes, dataset.labels[rows]
    energy, removed, change = np.zeros((3, classes))
    cut, parts = 0, []
    for at in range(0, len(rows), CHUNK):
        tell(at, len(rows), "images projected")
        here = slice(at, at + CHUNK)
        images = _channels_first(dataset, rows[here])
        exact = on_complement(images, directions)
        saved = in_8_bits(exact)
        parts.append(saved.transpose(0, 2, 3, 1))
        counted, of = is_train[here], labels[here][is_train[here]]
        before, after = images[counted].astype(np.float64), exact[counted]
        apart = before - directions.mean.reshape(before.shape[1:])
        for total, squares in (
            (energy, apart**2), (removed, (before - after) ** 2), (change, (before - saved[counted]) ** 2),
        ):  # fmt: skip
            total += np.bincount(of, squares.sum((1, 2, 3)), minlength=classes)
        cut += int(((after < -0.5) | (after > 255.5)).sum())
    pixels = len(directions.mean)
    count = np.bincount(labels[is_train], minlength=classes)
    present = np.flatnonzero(count)
    names = dataset.classes
    return np.concatenate(parts), {
        # Copies of the mean image have no energy to lose. Last digits differ from machine to machine, and are cut.
        "energy_removed": {
            names[k]: round(float(removed[k] / energy[k]), 6) if energy[k] else 0.0 for k in present
        },
        "mean_change": {names[k]: round(float(np.sqrt(change[k] / (count[k] * pixels))), 3) for k in present},
        "clipped": round(cut / (int(count.sum()) * pixels), 6),
    }
