"""What a subset is worth: a fresh model trained on it, on its controls and on everything, over several seeds.

Every training takes the same number of optimiser steps, whatever the subset's size: with a fixed number of
epochs a tenth of the data would get a tenth of the steps, and every subset would look worse than it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.files import digest, frame_digest
from tracesift.catalog.schema import BadInput, nearest
from tracesift.flows.options import Training
from tracesift.flows.progress import counted, say, watched
from tracesift.flows.record import train_config
from tracesift.flows.reporting.compared import EVERYTHING
from tracesift.flows.selecting.candidates import TRAINED
from tracesift.flows.selecting.written import recorded_subsets
from tracesift.flows.work import Work
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.retrain import retrain
from tracesift.pipelines.train import plan

SEEDS = 3
"""Least number of seeds: fewer say nothing of the spread."""

MAKE_ONE = (
    f"`tracesift select SELECTOR --keep 0.3` makes one, and `tracesift evaluate {EVERYTHING}` trains on all training "
    "samples"
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training to be done: a subset and a seed."""

    subset_id: str
    name: str
    seed: int
    steps: int | None

    @property
    def label(self) -> str:
        """What a person calls it."""
        return f"{self.name}, seed {self.seed}"


def cells(
    work: Work, training: Training, chosen: Sequence[str] | None = None, *, steps: int | None = None
) -> list[Cell]:
    """Return the trainings to be done: all of train, then each subset with its controls, for each seed.

    Parameters
    ----------
    chosen
        Names of subsets; all that were made where there are none. `EVERYTHING` stands for all of train and nothing
        more.

    Raises
    ------
    BadInput
        There is no subset of a name, or none at all.
    """
    known = recorded_subsets(work)
    names = [EVERYTHING, *(row["name"] for row in known)]
    for name in chosen or ():
        if name not in names:
            made = f"made so far: {', '.join(names[1:])}" if known else f"none was made: {MAKE_ONE}"
            raise BadInput(f"there is no subset '{name}'{nearest(name, names)}; {made}")
    if not known and not chosen:
        raise BadInput(f"there are no subsets to evaluate: {MAKE_ONE}")
    wanted = [row for row in known if not chosen or row["name"] in chosen or row["control_of"] in chosen]
    if 1 < training.seeds < SEEDS:
        say(f"--seeds {training.seeds}: {SEEDS} seeds are trained, because fewer say nothing of the spread")
    rows = [{"subset_id": work.dataset.dataset_id, "name": EVERYTHING}, *wanted]
    seeds = range(training.seed, training.seed + max(SEEDS, training.seeds))
    return [
        Cell(subset_id=row["subset_id"], name=row["name"], seed=seed, steps=steps)
        for row in rows
        for seed in seeds
    ]


def check_test(dataset: Dataset) -> None:
    """Refuse a dataset on whose test samples nothing can be measured."""
    test = dataset.samples[dataset.rows("test")]
    if not len(test):
        raise BadInput(
            f"{dataset.name} has no test samples to evaluate on; give some with --test SOURCE|SHARE"
        )
    if (test["label_true"].is_not_null() & (test["label_true"] != test["label"])).any():
        raise BadInput(
            f"the test labels of {dataset.name} hold planted noise; evaluate on labels that are right"
        )


def evaluate_cell(work: Work, training: Training, cell: Cell) -> dict[str, Any]:
    """Train one fresh model and measure it on test; done once, the result stays in the workspace.

    What a model learns from decides, not what it is called: a subset with the rows, labels and weights of another that
    was trained on takes its result over.
    """
    dataset = work.trainable
    check_test(dataset)
    recipe = {
        "model": training.model,
        "epochs": training.epochs,
        "device": training.device,
        "threads": training.threads,
    }
    rows, weights, labels = _trained_on(work, dataset, cell)
    content = frame_digest(pl.DataFrame({"row": rows, "weight": weights, "label": labels}))
    key = digest(
        [dataset.fingerprint, dataset.transform, content, cell.seed, cell.steps, recipe]
        + [list(dataset.withheld_by)] * bool(dataset.withheld_by)
    )
    measured = work.record("evaluate", key)
    if measured is not None and measured["of"] != cell.name:
        say(
            f"{cell.label}: the same samples, labels and weights as {measured['of']}, whose result is taken over"
        )
    if measured is None:
        steps = cell.steps or plan(dataset, train_config(training, cell.seed)).steps
        with watched(f"evaluate {cell.label}") as report:
            metrics = retrain(
                dataset, rows, weights=weights, labels=labels, model=training.model, steps=steps, seed=cell.seed,
                device=training.device, threads=training.threads, progress=report,
            )  # fmt: skip
        told = {"of": cell.name, "steps": steps, "num_train": len(rows), "metrics": metrics}
        measured = work.finish("evaluate", key, told)
    frame = pl.DataFrame(
        {
            "subset_id": cell.subset_id, "dataset_id": dataset.dataset_id, "subset": cell.name, "model": training.model,
            "seed": cell.seed, "metric": list(measured["metrics"]), "value": list(measured["metrics"].values()),
            "num_train": measured["num_train"], "details": json.dumps({"steps": measured["steps"]}),
        }
    )  # fmt: skip
    work.catalog.put_evaluations(frame)
    return {"accuracy": measured["metrics"]["accuracy"], "steps": measured["steps"]}


def _trained_on(
    work: Work, dataset: Dataset, cell: Cell
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Return rows, weights and labels that a model of this cell is trained on; what was deleted is never among them.

    Weights or labels are None where they change nothing: all alike, or all as given.
    """
    if cell.name == EVERYTHING:
        return dataset.rows("train"), None, None
    members = work.catalog.query(
        "SELECT sample_id, role, weight, new_label FROM subset_members WHERE subset_id = ? ORDER BY sample_id",
        (cell.subset_id,),
    ).filter(pl.col("role").is_in(TRAINED))
    left = dataset.samples["sample_id"].gather(dataset.rows("train"))
    named = len(members)
    members = members.filter(pl.col("sample_id").is_in(left.implode()))
    if len(members) < named:
        say(
            f"{cell.label}: without {counted(named - len(members), 'sample')}, to be forgotten since it was made"
        )
    if members.is_empty():
        raise BadInput(f"subset {cell.name} leaves nothing to train on")
    rows = dataset.samples["sample_id"].search_sorted(members["sample_id"]).to_numpy().astype(np.int64)
    index = {name: number for number, name in enumerate(dataset.classes)}
    labels = dataset.labels[rows].copy()
    for place, label in enumerate(members["new_label"]):
        if label is not None:
            labels[place] = index[label]
    weights = members["weight"].to_numpy()
    uniform = weights[0] > 0 and (weights == weights[0]).all()  # all zero is refused where it is trained on
    given = (labels == dataset.labels[rows]).all()
    return rows, None if uniform else weights, None if given else labels
