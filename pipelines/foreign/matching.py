"""Where the samples and classes of somebody else's recording stand in a dataset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.foreign.class_order import class_order, in_dataset_order
from tracesift.pipelines.foreign.recording import Foreign


@dataclass(frozen=True, kw_only=True)
class Part:
    """The samples of one split: where they stand in the dataset and in the file."""

    split: str
    rows: np.ndarray
    """Rows of the dataset, ascending (n,)."""
    at: np.ndarray
    """Positions in the file (n,); -1 where the file does not hold the sample."""
    labels: np.ndarray
    """Class indices (n,)."""
    ids: pl.Series


@dataclass(frozen=True, kw_only=True)
class Matched:
    """A recording with its place in a dataset."""

    foreign: Foreign
    dataset: Dataset
    order: dict[int, int]
    """Class index in the file -> class index in the dataset, as far as it is known."""
    train: Part
    val: Part
    others: int
    """Samples of the file that are neither in train nor in val."""

    @property
    def missing(self) -> list[str]:
        """Training samples that the file does not hold."""
        return self.train.ids.filter(pl.Series(self.train.at < 0)).to_list()


def match(foreign: Foreign, dataset: Dataset) -> Matched:
    """Place the file's samples in a dataset by their ids, and its classes by name or by label.

    Raises
    ------
    BadInput
        An id is not in the dataset, no id is in train, or the labels are not the dataset's.
    """
    rows, at = _rows_of(foreign, dataset)
    train = _part(dataset, "train", dataset.rows("train"), at)
    if not (train.at >= 0).any():
        raise BadInput(
            f"{foreign.where}: none of its samples is in train of {dataset.name}; signals are of train"
        )
    val_rows = dataset.rows("val")
    val = _part(dataset, "val", val_rows[at[val_rows] >= 0], at)
    return Matched(
        foreign=foreign, dataset=dataset, order=class_order(foreign, dataset.classes, dataset.labels[rows]),
        train=train, val=val, others=len(rows) - int((train.at >= 0).sum()) - len(val.rows),
    )  # fmt: skip


def match_val(foreign: Foreign, dataset: Dataset, order: dict[int, int]) -> Part:
    """Place validation samples that a file keeps apart; all must be in the dataset's val split."""
    rows, at = _rows_of(foreign, dataset)
    val_rows = dataset.rows("val")
    val = _part(dataset, "val", val_rows[at[val_rows] >= 0], at)
    if len(val.rows) < len(rows):
        raise BadInput(
            f"{foreign.where}: {len(rows) - len(val.rows)} of its val_ids are not in val of {dataset.name}"
        )
    if foreign.labels is not None:
        theirs = in_dataset_order(foreign.labels, order, dataset.classes)[val.at]
        if (theirs != val.labels).any():
            raise BadInput(f"{foreign.where}: val_labels differ from the dataset's labels")
    return val


def _rows_of(foreign: Foreign, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the row of each of the file's samples (N,), and the file's position of each row, else -1."""
    known = dataset.samples.select("sample_id").with_row_index("row")
    theirs = pl.DataFrame({"sample_id": foreign.ids}, schema={"sample_id": pl.String})
    found = theirs.join(known, on="sample_id", how="left", maintain_order="left")
    unknown = found.filter(pl.col("row").is_null())
    if unknown.height:
        raise BadInput(
            f"{foreign.where}: {dataset.name} lacks {unknown.height} of {found.height} ids, first "
            f"'{unknown['sample_id'][0]}' (the dataset has ids such as '{known['sample_id'][0]}'); give the "
            "dataset's ids (--ids FILE, or --by-position with --source), or another --workspace"
        )
    rows = found["row"].cast(pl.Int64).to_numpy()
    at = np.full(len(dataset), -1, dtype=np.int64)
    at[rows] = np.arange(len(rows))
    return rows, at


def _part(dataset: Dataset, split: str, rows: np.ndarray, at: np.ndarray) -> Part:
    ids = dataset.samples["sample_id"].gather(rows)
    return Part(split=split, rows=rows, at=at[rows], labels=dataset.labels[rows], ids=ids)
