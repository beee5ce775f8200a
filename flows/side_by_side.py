"""A job's models trained in several processes at once, each model kept by whoever trains it.

The process that runs the job asks for the models in their order and only reads them; while it waits, as many stacks as
there are workers are trained. So the rule that ends a job early sees what it would see in one process, and at most the
stacks in flight are trained for nothing. A model has the same seed and the same threads wherever it is trained, and its
file the same bytes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

from tracesift.catalog.schema import BadInput
from tracesift.flows.record import recorded_dataset
from tracesift.flows.work import Work, was_handed_over
from tracesift.pipelines.foreign.bare import KIND
from tracesift.pipelines.jobs.contract import check_apart, run_job
from tracesift.pipelines.jobs.workbench import Elsewhere


class Begun(Protocol):
    """A training in another process."""

    def result(self) -> Any:
        """Wait for its end, and raise what it raised."""


Submit = Callable[[Mapping[str, Any], range], Begun]
"""Begins ``train_parts`` on these two in another process."""


def train_parts(task: Mapping[str, Any], numbers: range) -> None:
    """Train some models of a job, in a process that has nothing else to do; they are kept in the recording's folder.

    Parameters
    ----------
    task
        ``workspace``, ``job``, ``run_id``, ``settings``, and ``model``, ``device``, ``threads`` as `run_job` has them.
    numbers
        Of the models, one stack.
    """
    work = _opened(task["workspace"])
    dataset = recorded_dataset(work, task["run_id"])
    run_job(
        task["job"], dataset, work.path, task["run_id"], task["settings"], model=task["model"],
        device=task["device"], threads=task["threads"], inputs=work.inputs_of(dataset), only=numbers,
    )  # fmt: skip


@cache
def _opened(workspace: str) -> Work:
    """Return the workspace, whose dataset a process opens and encodes once for all that it trains."""
    return Work(Path(workspace))


def elsewhere(task: Mapping[str, Any], submit: Submit, workers: int) -> Elsewhere:
    """Return what lets `workers` processes train a job's models while this one reads them in order."""
    begun: dict[int, Begun] = {}

    def wait(numbers: range, of: int) -> None:
        stack = len(numbers)
        for first in range(numbers.start, min(of, numbers.start + workers * stack), stack):
            if first not in begun:
                begun[first] = submit(task, range(first, min(first + stack, of)))
        begun[numbers.start].result()

    return wait


def check_workers(work: Work, job: str, workers: int) -> None:
    """Refuse, before anything is trained, what other processes cannot take part in."""
    if workers < 1:
        raise BadInput(f"--workers {workers}: at least 1")
    if workers == 1:
        return
    check_apart(job)
    known = work.catalog.newest_dataset()
    if known is not None and (known["kind"] == KIND or was_handed_over(known)):
        raise BadInput(
            f"{known['name']} was handed over in Python, and other processes cannot open it; leave out --workers"
        )


@contextmanager
def processes(workers: int) -> Iterator[Submit]:
    """Give a way to train in processes of our own; they end with this one, and what they finished stays."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_the_parent)

    def submit(task: Mapping[str, Any], numbers: range) -> Begun:
        with _without_interrupts():  # a process that is started here leaves Ctrl-C to the one that waits
            return pool.submit(train_parts, task, numbers)

    try:
        yield submit
    finally:
        # Whoever still trains makes what nobody waits for. The standard library has no public way before 3.14.
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back, for this thread until the end of the block and for processes started in it for good."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_the_parent() -> None:
    """Let this process end when the one that began it does, however that ends: nobody would read what it makes."""

    def watch() -> None:
        parent = parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    Thread(target=watch, name="parent", daemon=True).start()
