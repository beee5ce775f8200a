"""Which class a column of somebody else's logits stands for, never guessed.

It is known where the file names its classes, where its labels are indices that pair one to one with the
dataset's labels of the same samples, or where the dataset's classes are themselves the numbers 0 to K - 1.
Anything else is refused: a permuted class axis gives plausible scores that are all wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput, nearest
from tracesift.pipelines.foreign.recording import Foreign

ASK = "name the columns in their order with --classes a,b,c (or an array 'classes' in an npz)"


def class_order(foreign: Foreign, dataset_classes: tuple[str, ...], given: np.ndarray) -> dict[int, int]:
    """Return index in the file -> index in the dataset's classes, and check that the labels agree.

    Parameters
    ----------
    foreign
        Its labels are compared where it has some.
    dataset_classes
        The dataset's K class names.
    given
        The dataset's label (class index) of each of the file's samples, (N,); -1 where it does not know one.

    Returns
    -------
    dict
        Complete (K entries) or, where the file has no class axis to order, as far as labels tell; empty where
        nothing is known.

    Raises
    ------
    BadInput
        Where a sample's label is another one than the dataset's, or a named class is not one of its own.
    """
    labels = foreign.labels
    if foreign.classes is not None:
        order = _named(foreign, dataset_classes)
    elif labels is not None and labels.dtype.kind == "i":
        order = _paired(foreign, dataset_classes, given)
    elif dataset_classes == tuple(str(index) for index in range(len(dataset_classes))):
        order = {index: index for index in range(len(dataset_classes))}
    else:
        order = {}
    if labels is not None:
        _check(foreign, dataset_classes, given, order)
    return order


def complete(
    order: dict[int, int], num_columns: int, foreign: Foreign, classes: tuple[str, ...]
) -> np.ndarray:
    """Return, for each class of the dataset, its column in the file (K,); BadInput where it is unknown."""
    if num_columns != len(classes):
        raise BadInput(
            f"{foreign.where}: {num_columns} columns per sample, and the dataset has {len(classes)} classes; "
            "keep the columns of its classes alone, in a known order"
        )
    if set(order) - set(range(num_columns)):  # label indices stand there that no column has
        check_indices(foreign.labels, num_columns, foreign.ids, foreign.where)
    columns_left = sorted(set(range(num_columns)) - set(order))
    classes_left = sorted(set(range(num_columns)) - set(order.values()))
    if columns_left == classes_left and all(column == target for column, target in order.items()) and order:
        order = order | dict(zip(columns_left, classes_left, strict=True))
    elif len(columns_left) == 1:
        order = order | {columns_left[0]: classes_left[0]}
    elif columns_left:
        raise BadInput(f"{foreign.where}: which class a column stands for is not known; {ASK}")
    columns = np.empty(num_columns, dtype=np.int64)
    for column, target in order.items():
        columns[target] = column
    return columns


def check_indices(labels: np.ndarray | None, num_classes: int, ids: Sequence[str], where: str) -> None:
    """Refuse label indices (N,) that lie outside 0 to K - 1, such as those of a file that counts from 1."""
    if labels is None or labels.dtype.kind != "i":
        return
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(outside):
        raise BadInput(
            f"{where}: label {labels[outside[0]]} of sample '{ids[outside[0]]}' lies outside the "
            f"{num_classes} classes ({len(outside)} such samples); labels are indices from 0"
        )


def in_dataset_order(labels: np.ndarray, order: dict[int, int], classes: tuple[str, ...]) -> np.ndarray:
    """Return labels or predictions of a file, indices or names, as indices of `classes`; -1 where unknown."""
    by_name = {name: index for index, name in enumerate(classes)}
    known: dict[Any, int] = {**order} if labels.dtype.kind in "if" else {**by_name}
    return np.array([known.get(label, -1) for label in labels.tolist()], dtype=np.int64)


def _named(foreign: Foreign, dataset_classes: tuple[str, ...]) -> dict[int, int]:
    names = foreign.classes or ()
    for name in names:
        if name not in dataset_classes:
            raise BadInput(
                f"{foreign.where}: class '{name}' is none of the dataset{nearest(name, dataset_classes)}; "
                f"it has {', '.join(dataset_classes[:8])}"
            )
    if len(set(names)) != len(names):
        raise BadInput(f"{foreign.where}: the classes name one class twice")
    return {column: dataset_classes.index(name) for column, name in enumerate(names)}


def _paired(foreign: Foreign, dataset_classes: tuple[str, ...], given: np.ndarray) -> dict[int, int]:
    """Return the pairs that the samples show; the most frequent wins, and `_check` names the others."""
    known = given >= 0
    pairs = pl.DataFrame({"theirs": foreign.labels[known], "ours": given[known]})  # type: ignore[index]
    counted = pairs.group_by("theirs", "ours").len().sort(-pl.col("len").cast(pl.Int64), "theirs", "ours")
    met = counted.unique("theirs", keep="first", maintain_order=True)
    order = dict(met.select("theirs", "ours").iter_rows())
    if len(set(order.values())) < len(order):
        told = ", ".join(f"{index}: '{dataset_classes[ours]}'" for index, ours in sorted(order.items())[:6])
        raise BadInput(
            f"{foreign.where}: its label indices do not pair with the dataset's labels ({told}); "
            f"check that the ids name the same samples, or {ASK}"
        )
    return order


def _check(
    foreign: Foreign, dataset_classes: tuple[str, ...], given: np.ndarray, order: dict[int, int]
) -> None:
    theirs = in_dataset_order(foreign.labels, order, dataset_classes)  # type: ignore[arg-type]
    differ = np.flatnonzero((given >= 0) & (theirs != given))
    if len(differ):
        first = differ[0]
        said = foreign.labels[first]  # type: ignore[index]
        raise BadInput(
            f"{foreign.where}: recorded with another label than the dataset's: {len(differ)} of {len(given)} samples, "
            f"first '{foreign.ids[first]}' ({said} there, '{dataset_classes[given[first]]}' "
            "here); ingest the state that was trained on"
        )
