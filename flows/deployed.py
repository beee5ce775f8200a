"""The Prefect skin: the same body as the command line, a task per step.

The truth about what is done is the workspace's own records, so tasks are not cached by Prefect: a cached
result says nothing of a file that was deleted since, or of another workspace. A task whose work is done
returns at once. Steps that train carry the tag `tracesift-train`, and `tracesift-gpu` on a GPU, so that a
concurrency limit on either keeps scheduled runs from sharing one device.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from tracesift.flows import curate as body
from tracesift.flows.options import Choosing, CurateJob, Reading, Training

RETRIES = 2
RETRY_DELAY = 5.0
TRAINING = ("record_seed", "cross_fit_fold", "embed_run", "evaluate_cell")
"""Steps that train a model or run one over the data."""


@flow(name="curate", flow_run_name="curate {source}", persist_result=False)
def curate(
    source: str,
    workspace: str,
    reading: Reading = Reading(),
    training: Training = Training(),
    choosing: Choosing = Choosing(),
    forget: str | None = None,
    plant_noise: float = 0.0,
    evaluate: bool = False,
    content: bool = True,
) -> dict[str, Any]:
    """Record, score, flag, select, export and report one dataset; a second run trains nothing again."""
    job = CurateJob(
        source=source, workspace=workspace, reading=reading, training=training, choosing=choosing,
        forget=forget, plant_noise=plant_noise, evaluate=evaluate, content=content,
    )  # fmt: skip
    summary = body.curate(job, run_step=as_task(on_gpu=training.device != "cpu" and _has_gpu()))
    create_table_artifact(key="worklist", table=summary["worklist"], description="Samples to look at first")
    create_table_artifact(key="subsets", table=summary["subsets"], description="The exported subsets")
    create_link_artifact(key="report", link=Path(summary["report"]).as_uri(), link_text="report.html")
    return {name: summary[name] for name in ("dataset", "runs", "report")}


def as_task(*, on_gpu: bool) -> body.RunStep:
    """Return a `run_step` that runs each step as a task with retries, a name a person can read, and a tag."""

    def run_step(step: Callable[..., Any], *arguments: Any, label: str = "", **settings: Any) -> Any:
        name = step.__name__
        tags = {"tracesift-train"} | ({"tracesift-gpu"} if on_gpu else set()) if name in TRAINING else set()
        as_task = task(
            step, name=name, task_run_name=f"{name} {label}".strip(), tags=tags, cache_policy=NO_CACHE,
            retries=RETRIES, retry_delay_seconds=RETRY_DELAY, persist_result=False,
        )  # fmt: skip
        result = as_task(*arguments, **settings)
        get_run_logger().info("%s %s: %s", name, label, body.brief(result))
        return result

    return run_step


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
