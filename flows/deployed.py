"""The Prefect skin: the same body as the command line, with a task per step.

The truth about what is done is the workspace's own records, so Prefect caches nothing: a cached result says
nothing of a file that was deleted since, nor of another workspace. A task whose work is done returns at once.

Prefect is told sentences, never data. A task takes no parameters and returns a state with one line in it; the
workspace, the frames and the results pass beside it, so nothing of them is walked through, hashed or stored.

Steps that train carry the tag `tracesift-train`, on a GPU also `tracesift-gpu`: a concurrency limit on either
keeps scheduled runs from sharing one device.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

# Prefect looks once, when it is imported. A run on a worker has it imported already: see `env` in prefect.yaml.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from tracesift.catalog.schema import BadInput, WorkspaceBusy
from tracesift.flows import curate as body
from tracesift.flows.options import Choosing, CurateJob, Reading, Training
from tracesift.flows.progress import counted, listener, naming, runnable
from tracesift.flows.reporting.worklist import FLAGGED, estimate
from tracesift.flows.show import chance
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.determinism import choose_device

TITLES = {
    "open_source": "open", "record_seed": "record", "cross_fit_fold": "cross-fit", "join_folds": "join folds",
    "embed_run": "embed", "make_subsets": "select", "evaluate_cell": "evaluate", "publish": "report",
}  # fmt: skip
"""What a person calls a step whose function is named for what it does."""

TRAINING = ("record_seed", "cross_fit_fold", "embed_run", "evaluate_cell")
"""Steps that train a model, or run one over the data."""

RETRIES = 2
RETRY_DELAY = 5.0
"""How often and after how many seconds a failed step is tried again, by itself."""

SHOWN = 100
"""Rows of the worklist that go to the Prefect server, which keeps them; the report holds more."""

LINE = 400
"""Characters of a step's result that are shown."""

_whole: ContextVar[Callable[[dict[str, Any]], None] | None] = ContextVar("whole", default=None)
"""Who else receives the body's whole result."""


@flow(name="curate", flow_run_name="curate {source}", persist_result=False)
def curate(
    source: str,
    workspace: str,
    *,
    reading: Reading = Reading(),
    training: Training = Training(),
    choosing: Choosing = Choosing(),
    forget: str | None = None,
    plant_noise: float = 0.0,
    evaluate: bool = False,
    content: bool = True,
) -> dict[str, Any]:
    """Record, score, flag, select, export and report one dataset; a second run trains nothing again.

    Prefect reads the list below, which has to be in Google's form, into the form of its page.

    Args:
        source: The dataset: a file, a folder, `digits`, or hf:NAME[:CONFIG]. A worker needs an absolute path.
        workspace: Folder of the results. A worker needs an absolute path.
        reading: How the source is read and split.
        training: How a model is trained and watched.
        choosing: What the subsets should be.
        forget: File of ids, one a line, to build the forget-ready subset for.
        plant_noise: Share of training labels to flip, remembering the truth, to measure the detectors.
        evaluate: Retrain on the subsets and their controls.
        content: Show thumbnails and text in the report.
    """
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_without_traceback)
    if runtime.deployment.id is not None and not Path(workspace).is_absolute():
        raise BadInput(
            f"workspace '{workspace}' is relative to a folder that the worker deletes; give an absolute path"
        )
    job = CurateJob(
        source=source, workspace=workspace, reading=reading, training=training, choosing=choosing,
        forget=forget, plant_noise=plant_noise, evaluate=evaluate, content=content,
    )  # fmt: skip
    with heard(workspace):
        whole = body.curate(job, run_step=as_task(on_gpu=choose_device(training.device).type == "cuda"))
    if (receive := _whole.get()) is not None:
        receive(whole)
    put_artifacts(whole)
    return {
        "dataset": whole["dataset"],
        "runs": whole["runs"],
        "flags": whole["flags"],
        "suspects": count_of_suspects(whole),
        "report": whole["report"],
    }


@contextmanager
def heard(workspace: str) -> Iterator[None]:
    """Let a flow run say what the command line would, but for who holds the workspace."""
    before = listener.set(lambda line: get_run_logger().info("%s", line))
    try:
        with naming(workspace), errors_worded():
            yield
    finally:
        listener.reset(before)


class HolderUnsaid(WorkspaceBusy):
    """The workspace is in use, in a sentence that does not quote by which command: that may name an owner."""

    def __init__(self, whole: WorkspaceBusy) -> None:
        super().__init__("the workspace is in use; the worker's own output says by whom")
        self.whole = whole
        """What may be said on this machine."""


@contextmanager
def errors_worded() -> Iterator[None]:
    """Word errors for the server: commands name the workspace, and nothing names who holds it; a worker's output does.

    Around the body of a flow and of a task alike: the server hears of an error from whichever raises it first.

    Raises
    ------
    HolderUnsaid
        In place of `WorkspaceBusy`.
    """
    try:
        yield
    except HolderUnsaid:
        raise
    except WorkspaceBusy as error:
        print(error, file=sys.stderr)
        raise HolderUnsaid(error) from None
    except BadInput as error:
        error.args = (runnable(str(error)),)
        raise


def curate_whole(job: CurateJob) -> dict[str, Any]:
    """Run the flow from this process on the active Prefect server, and return what the body returns."""
    received: list[dict[str, Any]] = []
    before = _whole.set(received.append)
    try:
        curate(**vars(job))
    except HolderUnsaid as error:
        raise error.whole from None
    finally:
        _whole.reset(before)
    return received[0]


def as_task(*, on_gpu: bool) -> body.RunStep:
    """Return a `run_step` that makes each step a task: a name for people, a tag for limits, retries of its own."""
    tags = {"tracesift-train", "tracesift-gpu"} if on_gpu else {"tracesift-train"}

    def run_step(step: Callable[..., Any], /, *arguments: Any, label: str = "") -> Any:
        results = []

        def run() -> Any:
            with errors_worded():
                results.append(step(*arguments))
            return Completed(message=in_words(results[-1]))

        title = TITLES.get(step.__name__, step.__name__)
        # The name is given by a function, because Prefect would fill in what stands in braces.
        task(  # type: ignore[call-overload]
            run, name=title, task_run_name=lambda: f"{title}, {label}" if label else title, description=step.__doc__,
            tags=tags if step.__name__ in TRAINING else (), cache_policy=NO_CACHE, persist_result=False,
            retries=RETRIES, retry_delay_seconds=RETRY_DELAY, retry_condition_fn=may_pass,
        )()  # fmt: skip
        return results[-1]

    return run_step


def may_pass(_task: Any, _run: Any, state: Any) -> bool:
    """Tell whether trying again can help: what the user has to change stays as it is, a busy workspace does not."""
    error = state.data
    return isinstance(error, WorkspaceBusy) or not isinstance(error, BadInput)


def put_artifacts(summary: Mapping[str, Any]) -> None:
    """Show the worklist, the subsets, what they are worth, and the report on the page of the flow run."""
    name = summary["dataset"]["name"]
    worklist = summary["worklist"]
    shown = table_of(worklist[:SHOWN])
    tables = {
        "worklist": (shown, f"Look at these first: {len(shown):,} of {count_of_suspects(summary):,} suspects"),
        "subsets": (summary["subsets"], "The exported subsets and their controls"),
        "evaluations": (summary["evaluations"], "Retrained: test accuracy, same number of steps"),
    }  # fmt: skip
    for what, (rows, description) in tables.items():
        if rows:
            create_table_artifact(key=artifact_key(name, what), table=list(rows), description=description)
    report, machine = Path(summary["report"]).resolve(), platform.node()
    create_markdown_artifact(  # no link: a browser opens no file from a page that came over http
        key=artifact_key(name, "report"), markdown=report_in_words(report, machine),
        description=f"{report.name}, on {machine}",
    )  # fmt: skip


def count_of_suspects(summary: Mapping[str, Any]) -> int:
    """Return how many samples are flagged or worth a look, listed or not."""
    flagged = sum(row["status"] == FLAGGED for row in summary["worklist"])
    return int(flagged + summary["worth_a_look"])


def table_of(worklist: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of the worklist for a page that cuts off what is wide: the reason early, no column that says nothing.

    The order says the rank, and a status that all rows have is left out.

    Examples
    --------
    >>> row = {"rank": 1, "sample_id": "a", "label": "cat", "suggestion": "dog", "confidence": 0.7999,
    ...        "confidence_from": "flag", "status": "flagged", "flag": "label_noise", "reason": "why"}
    >>> table_of([row])
    [{'label': 'cat → dog', 'label wrong': '79 %', 'reason': 'why', 'sample_id': 'a'}]
    """
    rows = [
        {
            "label": f"{row['label']} → {row['suggestion']}" if row["suggestion"] else row["label"],
            "label wrong": _in_a_cell(estimate(row)),
            "reason": row["reason"],
            "sample_id": row["sample_id"],
            "status": row["status"],
        }
        for row in worklist
    ]
    silent = {"label wrong"} if all(row["label wrong"] is None for row in rows) else set()
    silent |= {"status"} if len({row["status"] for row in rows}) == 1 else set()
    return [{name: value for name, value in row.items() if name not in silent} for row in rows]


def _in_a_cell(probability: float | None) -> str | None:
    """Return a probability as text that does not begin with ">", which Prefect's page reads as a quotation."""
    return None if probability is None else chance(probability).replace("> ", "over ").replace("< ", "under ")


def report_in_words(report: Path, machine: str) -> str:
    """Return where the report lies and how to open it, as Markdown.

    Examples
    --------
    >>> print(report_in_words(Path("/data/my work/report.html"), "worker-1"))
    The report lies on `worker-1`:
    <BLANKLINE>
        /data/my work/report.html
    <BLANKLINE>
    Open it there:
    <BLANKLINE>
        python3 -m webbrowser file:///data/my%20work/report.html
    """
    opened = f"python3 -m webbrowser {shlex.quote(report.as_uri())}"
    return f"The report lies on `{machine}`:\n\n    {report}\n\nOpen it there:\n\n    {opened}"


def artifact_key(dataset: str, what: str) -> str:
    """Return a key that Prefect accepts: lower-case letters, digits and single dashes.

    Examples
    --------
    >>> artifact_key("Fashion_MNIST (train)", "worklist")
    'fashion-mnist-train-worklist'
    """
    return re.sub(r"[^a-z0-9]+", "-", f"{dataset}-{what}".lower()).strip("-")


def in_words(result: Any) -> str:
    """Return a step's result in one line.

    Examples
    --------
    >>> in_words({"run_id": "6c08", "scorers": ["aum", "cld", "el2n", "fkl"], "flags": {"label_noise": {"yes": 3}}})
    'run_id 6c08, 4 scorers, flags (label_noise (yes 3))'
    >>> in_words([{"name": "pruned", "version": 1}, {"name": "denoised", "version": 1}])
    'pruned, denoised'
    >>> in_words({"dataset": {"dataset_id": "0a", "name": "digits"}, "runs": ["6c08"], "worklist": [{"rank": 1}]})
    'dataset digits, 1 run, worklist of 1'
    """
    if isinstance(result, Mapping):
        line = ", ".join(_entry(name, value) for name, value in result.items() if value not in (None, [], {}))
    elif isinstance(result, Dataset):
        line = f"{result.name}, {counted(len(result), 'sample')}"
    elif isinstance(result, list):
        line = ", ".join(str(one["name"]) for one in result)
    else:
        line = f"run_id {result}"
    return line if len(line) <= LINE else line[: LINE - 1] + "…"


def _entry(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{name} {value['name']}" if "name" in value else f"{name} ({in_words(value)})"
    if not isinstance(value, list):
        return f"{name} {value}"
    # lists are named for what they hold, in the plural, but for the worklist
    return (
        f"worklist of {len(value):,}" if name == "worklist" else counted(len(value), name.removesuffix("s"))
    )


def _without_traceback(record: logging.LogRecord) -> bool:
    """Leave the sentence of a `BadInput` in the log, and its traceback out."""
    if record.exc_info and isinstance(record.exc_info[1], BadInput):
        record.exc_info = None
    return True
