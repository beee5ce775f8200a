"""The whole way, as one body that reads like the data flow: ingest, record, score, flag, select, report.

`run_step` decides how a step runs: the command line calls it, the Prefect flow makes it a task. Each step
finds what is already done in the workspace's own records, so a second run trains nothing in either skin.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from tracesift.flows.evaluate import cells, check_test, evaluate_cell
from tracesift.flows.forecast import LEAST_LEFT, Forecast, Outlook, as_steps, forecast
from tracesift.flows.forgetting.deletion import Handling, asked_before, handle
from tracesift.flows.forgetting.requests import check_file, from_file
from tracesift.flows.ingest import ingest
from tracesift.flows.make_subset import carries_signal, make_subsets
from tracesift.flows.options import CurateJob
from tracesift.flows.progress import LINE_EVERY, duration, say, watched
from tracesift.flows.publish import publish
from tracesift.flows.record import (
    all_recorded,
    check_training,
    cross_fit_fold,
    embed_run,
    is_begun,
    join_folds,
    record_seed,
)
from tracesift.flows.score import flag, score
from tracesift.flows.selecting.curated_selector import check_selector
from tracesift.flows.selecting.written import CURATED, DEPOISONED
from tracesift.flows.work import Work, open_source, tell
from tracesift.pipelines.dataset import Dataset
from tracesift.selectors.budget import resolve_size


class RunStep(Protocol):
    """How a step is run: ``run_step(function, *arguments, label="for people")`` returns its result."""

    def __call__(self, step: Callable[..., Any], /, *arguments: Any, label: str = "") -> Any:
        """Run one step."""


def call(step: Callable[..., Any], /, *arguments: Any, label: str = "") -> Any:
    """Run a step by calling it: no server, no start-up."""
    del label
    return step(*arguments)


def curate(job: CurateJob, run_step: RunStep = call) -> dict[str, Any]:
    """Record a dataset, score every sample, remember it, select from it, and write the report.

    Returns
    -------
    dict
        ``worklist`` (rows, most suspicious first), ``subsets``, ``evaluations``, ``flags``, ``truth``,
        ``dataset``, ``runs`` and the path of the ``report``.
    """
    work = Work(Path(job.workspace))
    dataset = run_step(open_source, job.source, job.reading, job.plant_noise, job.training.seed)
    check(job, dataset, work)
    with work.locked():
        run_step(ingest, work, dataset)
        tell(work.dataset)
        if job.forget is not None:
            reuse_recordings(work, job)
        if not is_begun(work, job.training):
            expected = forecast(dataset, job)
            say(expected.sentence())
            run_step = revising(run_step, expected)
        runs = [
            run_step(record_seed, work, job.training, seed, label=f"seed {seed}")
            for seed in job.training.each_seed
        ]
        for fold in range(job.training.folds):
            run_step(cross_fit_fold, work, job.training, runs[0], fold, label=f"fold {fold + 1}")
        if job.training.folds:
            run_step(join_folds, work, job.training, runs[0])
        run_step(embed_run, work, runs[0], job.training.device)
        scored = run_step(score, work, runs)
        run_step(flag, work, scored)
        if job.forget is not None:
            run_step(forget, work, job)  # first: what it deletes is in no other subset
        run_step(make_subsets, work, job)
        for cell in cells(work, job.training, worth(work)) if job.evaluate else ():
            run_step(evaluate_cell, work, job.training, cell, label=cell.label)
        return run_step(publish, work, job.content)


def worth(work: Work) -> list[str]:
    """Return the subsets whose worth a training shows."""
    return [*CURATED, *([DEPOISONED] if carries_signal(work) else [])]


def reuse_recordings(work: Work, job: CurateJob) -> None:
    """Take the recordings that were made before this job's own requests, where the job was run before and has them all.

    They are what is to be unlearned from. Where one lacks something, new ones are made, without what is to be
    forgotten.
    """
    asked = asked_before(work, Path(str(job.forget)), Handling(seed=job.training.seed))
    before = work.without([name for name in work.trainable.withheld_by if name not in asked])
    if asked and all_recorded(work, job.training, before):
        work.recorded_before = before


def forget(work: Work, job: CurateJob) -> list[dict[str, Any]]:
    """Carry out the deletion requests of a file; done once."""
    with watched("forget"):
        requests = from_file(work, Path(str(job.forget)))
        return handle(work, requests, Handling(seed=job.training.seed))


def revising(run_step: RunStep, expected: Forecast) -> RunStep:
    """Return a `run_step` that says after each step how long the others will take, by how long it took."""
    outlook = Outlook(expected)

    def run(step: Callable[..., Any], /, *arguments: Any, label: str = "") -> Any:
        began = time.monotonic()
        result = run_step(step, *arguments, label=label)
        taken = time.monotonic() - began
        left = outlook.finished(step.__name__, taken)
        if taken >= LINE_EVERY and left >= LEAST_LEFT:
            say(f"about {duration(left)} left, going by the steps that are done")
        return result

    return run


def check(job: CurateJob, dataset: Dataset, work: Work) -> None:
    """Refuse before anything is written what would only fail after the training."""
    check_selector(job.choosing, lambda: (dataset.kind, dataset.name))
    resolve_size(job.choosing.keep, len(dataset.rows("train")))
    if job.forget is not None:
        check_file(work, dataset, Path(job.forget))
    check_training(dataset, job.training)
    if job.evaluate:
        check_test(dataset)


def estimate(job: CurateJob) -> dict[str, Any]:
    """Say what `curate` would do on this job, with time and disk measured on a few real batches; write nothing."""
    dataset = open_source(job.source, job.reading, job.plant_noise, job.training.seed)
    check(job, dataset, Work(Path(job.workspace)))
    tell(dataset)
    expected = forecast(dataset, job)
    least, most = expected.range
    return {
        "dataset": dataset.name,
        "samples": len(dataset),
        "model": expected.model,
        "steps": as_steps(expected),
        "minutes": expected.seconds() / 60,
        "minutes_least": least / 60,
        "minutes_most": most / 60,
        "megabytes": expected.bytes / 1e6,
    }
