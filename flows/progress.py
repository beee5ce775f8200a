"""Progress on long work: a live bar on stderr for a person, sparse lines where stderr is a file."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Report = Callable[[float, float, str], None]
"""``report(done, total, what)``, called by long steps."""

LINE_EVERY = 15.0
"""Seconds between two lines where nobody watches a terminal."""

STAGE_EVERY = 5.0
"""The same between two stages of a step that are announced by name alone."""

_stage: ContextVar[Callable[[str], None] | None] = ContextVar("stage", default=None)
"""Who shows the stages of the running step."""

_beside: ContextVar[Console | None] = ContextVar("beside", default=None)
"""The console of the bar that is shown, which lines must not tear."""

listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)
"""Who takes the lines instead of stderr; the Prefect flow writes them into its log."""


USUAL = "tracesift-work"
"""The workspace of a command that names none, as `Common` has it; importing that would make `--help` wait."""

named_workspace: ContextVar[str | None] = ContextVar("named_workspace", default=None)
"""The workspace that was named on the command line or to a flow, if any but the usual one."""


@contextmanager
def naming(workspace: str | None) -> Iterator[None]:
    """Let commands in messages name this workspace, where it is not the usual one."""
    with _set(named_workspace, None if workspace == USUAL else workspace):
        yield


def runnable(message: str) -> str:
    """Return a message whose commands name the workspace that the running one was given, so that they can be pasted.

    Examples
    --------
    >>> token = named_workspace.set("w")
    >>> runnable("not scored yet: run `tracesift score aum`; `tracesift scorers` lists them all")
    'not scored yet: run `tracesift score aum --workspace w`; `tracesift scorers` lists them all'
    >>> named_workspace.reset(token)
    """
    workspace = named_workspace.get()
    if workspace is None:
        return message
    return _COMMAND.sub(lambda found: f"`{found[1]} --workspace {shlex.quote(workspace)}`", message)


_COMMAND = re.compile(
    r"`(tracesift (?!scorers|selectors|jobs|doctor|protect|project)[a-z](?:(?!--workspace|--help)[^`])*)`"
)
"""A command in a message that has a workspace and does not name one."""


def say(message: str) -> None:
    """Write one line for the user: on stderr, or to the `listener` of this context."""
    message = runnable(message)
    if (heard := listener.get()) is not None:
        heard(message)
        return
    console = _beside.get() or Console(stderr=True)
    console.print(message, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def watched(title: str) -> Iterator[Report]:
    """Show the progress of one step while the body runs; lines about it end with one that says that it is done."""
    if sys.stderr.isatty() and listener.get() is None:
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("so far,"), TimeRemainingColumn(), TextColumn("left"),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=None)

            def move(done: float, total: float, what: str) -> None:
                bar.update(
                    task, completed=done, total=total, description=f"{title}: {what}" if what else title
                )

            with (
                _set(_beside, bar.console),
                _set(_stage, lambda what: bar.update(task, description=f"{title}: {what}")),
            ):
                yield move
        return
    began = time.monotonic()
    last = [began]
    pace = _Pace()

    def due(every: float) -> bool:
        if time.monotonic() - last[0] < every:
            return False
        last[0] = time.monotonic()
        return True

    def named(what: str) -> None:
        if due(STAGE_EVERY):
            say(f"{title}: {what}")

    def moved(done: float, total: float, what: str) -> None:
        if due(LINE_EVERY):
            left = pace.left(done, total)
            say(f"{title}: {_amount(done)} of {_amount(total)} {what}".rstrip() + left)

    with _set(_stage, named):
        yield moved
    if last[0] > began:
        say(f"{title}: done")


class _Pace:
    """How long the rest of a step takes, judged by its pace since its first line.

    Not since its start: what is read rather than made, as by a job that goes on after it was stopped, and what is
    prepared, are through by then.
    """

    def __init__(self) -> None:
        self._first: tuple[float, float, float] | None = None
        """When, how much was done, and of what total."""

    def left(self, done: float, total: float) -> str:
        """Return the words for the end of a line; none for the first line of a step, or where a count begins anew."""
        now = time.monotonic()
        if self._first is None or done < self._first[1] or total != self._first[2]:
            self._first = (now, done, total)
        began, before, _ = self._first
        if done <= before or done >= total:
            return ""
        return f", about {duration((now - began) * (total - done) / (done - before))} left"


def _amount(value: float) -> str:
    """Return a number with one decimal, a whole one with none: parts of epochs, and steps."""
    return f"{value:.1f}".removesuffix(".0")


@contextmanager
def _set(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    before = variable.set(value)
    try:
        yield
    finally:
        variable.reset(before)


def stage(what: str) -> None:
    """Say what the running step does now: one of its subsets, a part of the report. Quick stages stay unsaid."""
    if (show := _stage.get()) is not None:
        show(what)


def counted(number: int, thing: str) -> str:
    """Return a number of things as people say it.

    Examples
    --------
    >>> counted(1, "epoch"), counted(1200, "sample")
    ('1 epoch', '1,200 samples')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a length of time as people say it.

    Examples
    --------
    >>> duration(0.2), duration(41.3), duration(290)
    ('a second', '41 seconds', '5 minutes')
    """
    if seconds < 1.5:
        return "a second"
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
