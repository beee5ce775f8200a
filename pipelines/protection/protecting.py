"""A generator applied to a share of a dataset's training samples, with the truth remembered.

Which samples are changed is decided by a seeded hash of each sample_id. The noise is made for these samples alone, as
their owner would make it: what the others look like does not enter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tracesift.catalog.parameter_types import settings_of
from tracesift.catalog.schema import BadInput
from tracesift.pipelines import identity
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.protection.changed import ChangedDataset, source_facts
from tracesift.pipelines.protection.contract import Generator, Progress, find, names

TRUTH_COLUMN = "unlearnable_true"
"""Column that says of each training sample whether it was changed: known truth, never a model input."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ProtectedDataset(ChangedDataset):
    """A dataset and what the rows that were made unlearnable hold now; its samples say which these are."""

    def samples(self, hashes: Sequence[str]) -> pl.DataFrame:
        """Return the samples with the truth, and the content hashes of the inputs as they are now."""
        changed = pl.Series(TRUTH_COLUMN, np.isin(np.arange(len(self.dataset)), self.rows))
        return (
            super()
            .samples(hashes)
            .with_columns(
                pl.when(pl.col("split") == "train").then(changed).otherwise(None).alias(TRUTH_COLUMN)
            )
        )


def protect(
    dataset: Dataset,
    method: str,
    *,
    share: float = 1.0,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> ProtectedDataset:
    """Change exactly ``round(share * n_train)`` training samples by the generator `method`.

    Parameters
    ----------
    dataset : Dataset
        Images or texts; decoded and in one size, as `open_dataset` gives them.
    method : str
        Name of a generator.
    share : float
        Share of train to change, in (0, 1].
    seed : int
        Decides which samples, and is the generator's seed.
    settings : mapping, optional
        Settings of the generator, such as ``{"eps": 8}``.
    device : str
        Where a generator that trains a network runs it.
    progress : callable, optional
        Called with what is done, the total, and words.

    Returns
    -------
    ProtectedDataset
        `write_protected` keeps it as a folder that `open_dataset` opens.

    Raises
    ------
    BadInput
        For a method or setting that there is not, a dataset of another kind or one that knows this truth already, or
        a share that is none.

    Examples
    --------
    >>> from tracesift.pipelines.dataset import open_dataset
    >>> made = protect(open_dataset("digits"), "class_patches", share=0.1)
    >>> len(made.changed), made.inputs.shape
    (146, (146, 8, 8, 1))
    """
    known = find(method)
    _check(dataset, known, share)
    given = settings_of(method, known.function, known.defaults, settings or {})
    rows = drawn(dataset, share, seed)
    run = {"seed": seed, "device": device, "progress": progress, "num_classes": dataset.num_classes}
    made = known.function(
        _inputs(dataset, rows), dataset.labels[rows], **given,
        **{name: value for name, value in run.items() if known.takes(name)},
    )  # fmt: skip
    inputs = made.inputs if known.kind == "text" else np.ascontiguousarray(made.inputs.transpose(0, 2, 3, 1))
    facts = {
        "method": method, "method_version": known.version, "experimental": known.experimental,
        "parameters": given, "seed": seed, "share": float(share), "report": made.report,
        "classes": list(dataset.classes),
        "source": source_facts(dataset),
    }  # fmt: skip
    return ProtectedDataset(dataset=dataset, rows=rows, inputs=inputs, facts=facts)


def drawn(dataset: Dataset, share: float, seed: int) -> NDArray[np.int64]:
    """Return the training rows that a share and a seed mean, ascending; another share of the same seed nests."""
    rows = dataset.rows("train")
    ids = dataset.samples["sample_id"].gather(rows).to_list()
    count = round(share * len(rows))
    if count == 0:
        raise BadInput(f"--share {share}: of {len(rows)} training samples that is none; give a larger share")
    return np.sort(rows[np.lexsort((ids, identity.stable_uniform(ids, f"protect:{seed}")))[:count]])


def _check(dataset: Dataset, known: Generator, share: float) -> None:
    if not 0 < share <= 1:
        raise BadInput(f"--share {share}: the share of the training samples to change lies in (0, 1]")
    if dataset.kind != known.kind:
        fitting = [name for name in names() if find(name).kind == dataset.kind]
        raise BadInput(
            f"{dataset.name}: {known.name} changes {known.kind}s, and its samples are of kind '{dataset.kind}'; "
            + (f"methods for these: {', '.join(fitting)}" if fitting else "there is no method for these")
        )
    if TRUTH_COLUMN in dataset.samples.columns:
        raise BadInput(f"{dataset.name}: has a column {TRUTH_COLUMN} already; protect the plain source")


def _inputs(dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.uint8] | list[str]:
    """Return the inputs of the rows as generators take them: channels first, or texts."""
    if isinstance(dataset.inputs, list):
        return [dataset.inputs[row] for row in rows.tolist()]
    assert not isinstance(dataset.inputs, pl.DataFrame)
    return np.ascontiguousarray(dataset.inputs[rows].transpose(0, 3, 1, 2))
