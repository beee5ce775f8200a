"""The whole way, as one body that reads like the data flow: ingest, record, score, flag, select, report.

`run_step` decides how a step runs: the command line calls it, the Prefect flow makes it a task. Each step
finds what is already done in the workspace's own records, so a second run trains nothing in either skin.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from tracesift.catalog.schema import BadInput
from tracesift.flows.evaluate import cells, check_test, evaluate_cell
from tracesift.flows.forecast import CURATED, LEAST_LEFT, Forecast, Outlook, as_steps, forecast
from tracesift.flows.ingest import ingest
from tracesift.flows.make_subset import check_known, make_subsets, read_ids
from tracesift.flows.options import CurateJob
from tracesift.flows.progress import LINE_EVERY, duration, say
from tracesift.flows.publish import publish
from tracesift.flows.record import (
    check_training,
    cross_fit_fold,
    embed_run,
    is_begun,
    join_folds,
    record_seed,
)
from tracesift.flows.score import flag, score
from tracesift.flows.situation import AUTO
from tracesift.flows.work import Work, open_source, tell
from tracesift.pipelines.dataset import Dataset
from tracesift.scorers.contract import find as find_scorer
from tracesift.scorers.contract import names as scorer_names
from tracesift.selectors import contract as selectors


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
    check(job, dataset)
    with work.locked():
        run_step(ingest, work, dataset)
        tell(dataset)
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
        run_step(make_subsets, work, job)
        for cell in cells(work, job.training, CURATED) if job.evaluate else ():
            run_step(evaluate_cell, work, job.training, cell, label=cell.label)
        return run_step(publish, work, job.content)


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


def check(job: CurateJob, dataset: Dataset) -> None:
    """Refuse before anything is written what would only fail after the training."""
    if job.choosing.selector != AUTO:
        _check_selector(job)
    if job.forget is not None:
        check_known(dataset, read_ids(Path(job.forget)))
    check_training(dataset, job.training)
    if job.evaluate:
        check_test(dataset)


def _check_selector(job: CurateJob) -> None:
    selector = selectors.find(job.choosing.selector)
    if selector.chooses == "forget":
        raise BadInput(
            f"--selector {selector.name} chooses what to forget, and curate prunes; run it afterwards: "
            f"tracesift select {selector.name}"
        )
    if any(column.startswith("<") for column in selector.needs):
        raise BadInput(
            f"--selector {selector.name} must be told which score to use, which curate does not; run it afterwards: "
            f"tracesift select {selector.name} --keep {job.choosing.keep:g} --param score=aum"
        )
    if not selector.budget:
        raise BadInput(
            f"--selector {selector.name} decides by itself how many samples it keeps, and curate prunes to a share; "
            f"run it afterwards: tracesift select {selector.name}"
        )
    if unscored := _not_scored(selector.name):
        made_by = "".join(f"tracesift record --job {name}, " for name in find_scorer(unscored).jobs)
        raise BadInput(
            f"--selector {selector.name} reads '{unscored}', which curate does not score; run it afterwards: {made_by}"
            f"tracesift score {unscored}, tracesift select {selector.name} --keep {job.choosing.keep:g}"
        )


def _not_scored(selector: str) -> str | None:
    """Return the first score that a selector reads and that is only made when it, or its job, is named; else None."""
    scorers = scorer_names()
    wanted = [name for name in selectors.columns_needed(selector, {}) if name in scorers]
    return next((name for name in wanted if find_scorer(name).experimental or find_scorer(name).jobs), None)


def estimate(job: CurateJob) -> dict[str, Any]:
    """Say what `curate` would do on this job, with time and disk measured on a few real batches; write nothing."""
    dataset = open_source(job.source, job.reading, job.plant_noise, job.training.seed)
    check(job, dataset)
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
