"""Out-of-sample class probabilities: every training sample is judged by a model that never saw it.

Samples are dealt to k folds, whole groups together; each fold's model trains on the others. One function per
fold, one file per fold, so that a killed or failed fold is repeated alone. A second, weak model (linear, two
epochs or 300 steps) gives `probs_oos_weak`: what that one can tell out of sample is a shortcut rather than the
task.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from tracesift.catalog.files import digest
from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import choose_device, settled
from tracesift.pipelines.encoding.encode import Encodings, encode
from tracesift.pipelines.loop import Learner, fit, probabilities
from tracesift.pipelines.signals import add_array, read_array, read_run, run_folder, write_array
from tracesift.pipelines.train import Plan, Progress, TrainConfig, plan

WEAK_EPOCHS, WEAK_STEPS = 2, 300
"""The weak model passes over the data twice, or more often where that would be too few steps to learn."""


def assign_folds(dataset: Any, folds: int) -> np.ndarray:
    """Return the fold of each training sample, int64 (N,), in 0..folds-1.

    Samples are ordered by a hash of their id (groups by a hash of their name) within each class and dealt in
    turn, so that every fold holds every class in its share, whatever the order of the source.

    Examples
    --------
    >>> from tracesift.pipelines.dataset import open_dataset
    >>> bool(np.ptp(np.bincount(assign_folds(open_dataset("digits"), 3))) <= 1)
    True
    """
    rows = dataset.rows("train")
    if folds < 2 or folds > len(rows):
        raise BadInput(f"folds={folds}: give from 2 to the number of training samples ({len(rows)})")
    samples = dataset.samples[rows]
    unit = pl.col("group") if "group" in samples.columns else pl.col("sample_id")
    units = (
        samples.select(unit.alias("unit"), "label")
        .group_by("unit")
        .agg(pl.col("label").mode().sort().first())
        .with_columns(pl.col("unit").map_elements(_hash, return_dtype=pl.String).alias("key"))
        .sort("label", "key", "unit")
        .with_row_index("turn")  # the deal runs on from class to class: sizes differ by one at most
        .select("unit", (pl.col("turn") % folds).cast(pl.Int64).alias("fold"))
    )
    dealt = samples.select(unit.alias("unit")).join(units, on="unit", how="left", maintain_order="left")
    return dealt["fold"].to_numpy()


def crossfit(
    dataset: Any,
    workspace: Path | str,
    run_id: str,
    config: TrainConfig,
    *,
    folds: int = 3,
    progress: Progress | None = None,
) -> None:
    """Add `probs_oos` and `probs_oos_weak` (N, K) to a whole run; nothing happens where they are there.

    Parameters
    ----------
    config
        As for `record`; without ``epochs``, half of the recipe's are trained, because these probabilities say
        most before the given labels are memorised.
    folds
        How many models; each sees all samples but its fold's.
    progress
        Called after every fold.
    """
    jobs = {"probs_oos": config, "probs_oos_weak": weak_config(dataset, config)}
    total = folds * len(jobs)
    done = 0
    inputs = Encodings(dataset)  # the weak model mostly reads what the other did
    for name, job in jobs.items():
        if has_folds(dataset, workspace, run_id, job, name=name, folds=folds):
            done += folds
            continue
        for fold in range(folds):
            if not _fold_path(dataset, workspace, run_id, job, name, fold, folds).exists():
                fit_fold(dataset, workspace, run_id, job, name=name, fold=fold, folds=folds, inputs=inputs)
            done += 1
            if progress is not None:
                progress(done, total, f"{name}: fold {fold + 1} of {folds}")
        merge_folds(dataset, workspace, run_id, job, name=name, folds=folds)


def has_folds(
    dataset: Any, workspace: Path | str, run_id: str, config: TrainConfig, *, name: str, folds: int
) -> bool:
    """Return whether the run already holds these merged probabilities."""
    return read_run(workspace, run_id).get("arrays", {}).get(name) == _made(dataset, config, folds)


def weak_config(dataset: Any, config: TrainConfig) -> TrainConfig:
    """Return the config of the weak model that stands beside `config`."""
    weak = replace(config, model="linear", epochs=WEAK_EPOCHS, lr=None, batch_size=None)
    steps_per_epoch = plan(dataset, weak).steps / WEAK_EPOCHS
    return replace(weak, epochs=max(WEAK_EPOCHS, math.ceil(WEAK_STEPS / steps_per_epoch)))


def fit_fold(
    dataset: Any,
    workspace: Path | str,
    run_id: str,
    config: TrainConfig,
    *,
    name: str,
    fold: int,
    folds: int,
    inputs: Encodings | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train a fresh model without one fold and write that fold's probabilities, atomically; return the file.

    Parameters
    ----------
    name
        ``probs_oos`` or ``probs_oos_weak``.
    fold
        In 0..folds-1.
    inputs
        The dataset's encodings, where several models share them.
    progress
        Called after every batch.
    """
    path = _fold_path(dataset, workspace, run_id, config, name, fold, folds)
    if path.exists():
        return path
    planned = _plan(dataset, config)
    rows = dataset.rows("train")
    held = assign_folds(dataset, folds) == fold
    device = choose_device(config.device)
    with settled(config.seed * 1000 + fold, planned.threads):
        encoded = (encode(dataset, planned.model) if inputs is None else inputs.of(planned.model)).to(device)
        steps = planned.epochs * math.ceil((~held).sum() / planned.model.recipe.batch_size)
        module = planned.model.build(encoded.input_shape, dataset.num_classes)
        learner = Learner(module, planned.model.recipe, steps=steps, device=device)
        labels = torch.tensor(dataset.labels, dtype=torch.int64, device=device)
        told = None if progress is None else lambda: progress(learner.step, steps, name)
        seen = torch.from_numpy(rows[~held])
        for _ in fit(learner, encoded, labels, seen, seed=config.seed * 1000 + fold, after_batch=told):
            pass
        values = probabilities(learner, encoded, torch.from_numpy(rows[held])).numpy()
    ids = dataset.samples["sample_id"].gather(rows[held]).to_list()
    return write_array(path.parent, path.stem, ids, values)


def merge_folds(
    dataset: Any, workspace: Path | str, run_id: str, config: TrainConfig, *, name: str, folds: int
) -> None:
    """Put the folds' probabilities together, (N, K) by sample_id, and add them to the run."""
    ids: list[str] = []
    values: list[np.ndarray] = []
    paths = [_fold_path(dataset, workspace, run_id, config, name, fold, folds) for fold in range(folds)]
    for path in paths:
        fold_ids, fold_values = read_array(path.parent, path.stem)
        ids += fold_ids
        values.append(fold_values)
    expected = dataset.samples["sample_id"].gather(dataset.rows("train")).to_list()
    order = np.array(pl.Series(ids).arg_sort())
    if [ids[place] for place in order] != expected:
        raise BadInput(
            f"the folds of run {run_id} cover other samples; remove {paths[0].parent} and run again"
        )
    made = _made(dataset, config, folds)
    add_array(workspace, run_id, name, expected, np.concatenate(values)[order], made)
    for path in paths:
        path.unlink()


def _plan(dataset: Any, config: TrainConfig) -> Plan:
    planned = plan(dataset, config)
    if config.epochs is None:
        planned = plan(dataset, replace(config, epochs=max(3, math.ceil(planned.epochs / 2))))
    return planned


def _made(dataset: Any, config: TrainConfig, folds: int) -> dict[str, Any]:
    return {**_plan(dataset, config).config, "folds": folds}


def _fold_path(
    dataset: Any, workspace: Path | str, run_id: str, config: TrainConfig, name: str, fold: int, folds: int
) -> Path:
    key = digest(_made(dataset, config, folds), length=8)
    return run_folder(workspace, run_id) / "folds" / f"{name}-{key}-{fold}-of-{folds}.npz"


def _hash(value: str) -> str:
    return hashlib.blake2b(value.encode(), digest_size=8).hexdigest()
