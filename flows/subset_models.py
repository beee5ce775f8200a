"""The Prefect skin of subset training: each stack of models is a task, in a process of its own.

A module of its own, because Prefect sends the flow to those processes with everything that its file names, and what
`flows.deployed` keeps of a run does not travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ProcessPoolTaskRunner

from tracesift.flows.deployed import RETRIES, RETRY_DELAY, errors_worded, heard, may_pass
from tracesift.flows.jobs import add_signals
from tracesift.flows.options import Training
from tracesift.flows.progress import naming
from tracesift.flows.recordings import adopt_recordings
from tracesift.flows.side_by_side import train_parts
from tracesift.flows.work import existing
from tracesift.pipelines.determinism import choose_device


@flow(
    name="subset-models", flow_run_name="subset models of {workspace}", persist_result=False,
    task_runner=ProcessPoolTaskRunner(),  # type: ignore[arg-type]
)  # fmt: skip
def subset_models(
    workspace: str,
    *,
    training: Training = Training(),
    models: int = 200,
    share: float = 0.7,
    standard_error: float = 0.0,
    workers: int = 2,
) -> dict[str, Any]:
    """Train models on random subsets of the newest recording's data, each stack a task in a process of its own.

    Prefect reads the list below, which has to be in Google's form, into the form of its page.

    Args:
        workspace: Folder with a recording. A worker needs an absolute path.
        training: Model, epochs, device, and threads of each process.
        models: How many models at most; a stopped run goes on, more than before repeat none.
        share: Share of the training samples that each model sees.
        standard_error: Stop as soon as the mean standard error of memorization is no larger; 0 for all models.
        workers: Models, or stacks of them, that are trained at the same time.
    """
    tag = "tracesift-gpu" if choose_device(training.device).type == "cuda" else "tracesift-train"
    parts = task(  # type: ignore[call-overload]
        train_in_a_task, name="subset models", task_run_name=_which_models, tags={"tracesift-train", tag},
        cache_policy=NO_CACHE, persist_result=False, retries=RETRIES, retry_delay_seconds=RETRY_DELAY,
        retry_condition_fn=may_pass,
    )  # fmt: skip
    settings = {"models": models, "share": share, "standard_error": standard_error}
    work = existing(Path(workspace))
    with heard(workspace), work.locked():
        adopt_recordings(work)
        return add_signals(
            work, training, ["subset_training"], {"subset_training": settings}, workers=workers,
            submit=parts.submit,
        )  # fmt: skip


def train_in_a_task(task: Mapping[str, Any], numbers: range) -> None:
    """Do what `train_parts` does, with errors in words for the server."""
    with naming(task["workspace"]), errors_worded():
        train_parts(task, numbers)


def _which_models() -> str:
    numbers = runtime.task_run.parameters["numbers"]
    return f"models {numbers[0]} to {numbers[-1]}"
