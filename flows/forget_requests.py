"""The Prefect skin of `inbox`: a scheduled run works off the deletion requests that have come, a task per file.

What is done stands in the workspace, so that nothing is cached here and a run that was killed is simply run again. A
refused request fails its task and, once all others are done, the run: a deadline that would be missed is seen. So does
a file that nobody foresaw could break; it stays for the next run. The server is told file names and counts, and never
an id, an owner or a condition: what the steps say goes nowhere, and the whole reason of a refusal stands beside its
file.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Prefect looks once, when it is imported. A run on a worker has it imported already: see `env` in prefect.yaml.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

from prefect import State, flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed

from tracesift.catalog.schema import BadInput
from tracesift.flows.deployed import RETRIES, RETRY_DELAY, errors_worded, may_pass
from tracesift.flows.forgetting.deletion import Handling
from tracesift.flows.forgetting.inbox import DONE, REFUSED, carry_out, waiting
from tracesift.flows.progress import counted, listener, naming
from tracesift.flows.work import existing

NAMED = 5
"""Files of a kind that the state of a run names."""

BROKEN = "broken"
"""Status of a file that an unforeseen error stopped, beside those of `inbox`."""


# Run again by a server's default, a run would find an empty inbox and end well: what was refused would be unseen.
@flow(name="forget-requests", flow_run_name="forget requests in {inbox}", persist_result=False, retries=0)
def forget_requests(
    inbox: str,
    workspace: str,
    *,
    name: str = "forget-ready",
    append: bool = True,
    seed: int = 0,
    allow_empty_class: bool = False,
    yes: bool = False,
    owner_column: str | None = None,
    purge: bool = False,
) -> State[Any]:
    """Carry out the deletion requests that wait in a folder; files that were worked off are moved.

    A request that is refused, or breaks, leaves the others alone, and lets the run fail in the end.

    Args:
        inbox: Folder of requests (.csv, .txt), or one such file, which stays. A worker needs an absolute path.
        workspace: Folder of the results. A worker needs an absolute path.
        name: Name of the subset.
        append: Join each request to those before it, so that the newest version forgets all of them.
        seed: Seed of random choices.
        allow_empty_class: Whether the last of a class or group may be forgotten.
        yes: Whether one request may forget more than half of the training samples. For a run in which that is meant.
        owner_column: Where owners stand, for rows that do not say it; owner, subject, contributor or user by default.
        purge: Then remove the content of what is forgotten from the workspace. Nothing can be unlearned after that.
    """
    for what, given in (("inbox", inbox), ("workspace", workspace)):
        if runtime.deployment.id is not None and not Path(given).is_absolute():
            raise BadInput(
                f"{what} '{given}' is relative to a folder that the worker deletes; give an absolute path"
            )
    how = Handling(name=name, append=append, seed=seed, allow_empty_class=allow_empty_class, yes=yes)
    settings = {"moved": Path(inbox).is_dir(), "owner_column": owner_column, "purge": purge}
    existing(Path(workspace))
    with naming(workspace), _silent(f"the requests in {inbox}"):
        return _ended(_worked_off(Path(workspace), waiting(Path(inbox)), how, settings))


def _worked_off(
    workspace: Path, files: Sequence[Path], how: Handling, settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Carry out file after file; behind one that broke, the workspace is opened and mended anew, as by a new run."""
    told: list[dict[str, Any]] = []
    while len(told) < len(files):
        work = existing(workspace)
        with work.locked():
            for path in files[len(told) :]:
                told.append(_as_task(work, path, how, settings))
                if told[-1]["status"] == BROKEN:
                    break
    return told


@contextmanager
def _silent(what: str) -> Iterator[None]:
    """Keep from the server what steps say, and what errors quote; a worker's own output has the whole error.

    Raises
    ------
    HolderUnsaid
        In place of `WorkspaceBusy`.
    _Unexpected
        In place of any error whose words are not ours.
    """
    before = listener.set(lambda _line: None)
    try:
        with errors_worded():
            yield
    except (BadInput, _Unexpected):
        raise
    except Exception as error:
        traceback.print_exc()
        raise _Unexpected(f"{what}: {type(error).__name__}; the worker's output says more") from None
    finally:
        listener.reset(before)


class _Unexpected(RuntimeError):
    """An error in a sentence that quotes nothing."""


def _ended(told: Sequence[Mapping[str, Any]]) -> State[Any]:
    """Return the state of a run that went through these files."""
    refused = [_place(one) for one in told if one["status"] == REFUSED]
    broken = [one["file"] for one in told if one["status"] == BROKEN]
    done = len(told) - len(refused) - len(broken)
    if done == len(told):
        return Completed(message=f"{counted(done, 'file')} of requests done")
    of, parts = f"of {counted(len(told), 'file')} of requests", []
    if refused:
        is_ = "is" if len(refused) == 1 else "are"
        parts.append(f"{len(refused)} {of} {is_} refused: see {_some(refused)}")
    if broken:
        waits = "waits" if len(broken) == 1 else "wait"
        parts.append(f"{len(broken)} {of} broke and {waits}: {_some(broken)}; the worker's output says more")
    if done:
        parts.append(f"the other {done} {'is' if done == 1 else 'are'} done")
    # Not named Refused as well: an automation on failed runs goes by the name of the state.
    return _refused("; ".join(parts), name="Failed")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f", … ({len(names)})" if len(names) > NAMED else "")


def _refused(message: str, name: str = "Refused") -> State[Any]:
    """Return a failed state that is tried again by nobody, and say it in the log as an error."""
    get_run_logger().error("%s", message)
    return Failed(name=name, message=message, data=BadInput(message))


def _place(one: Mapping[str, Any]) -> str:
    """Return where the answer to a file stands, seen from where the file lay."""
    place: Path = one["stands_in"]
    return f"{REFUSED}/{place.name}" if place.parent.name == REFUSED else place.name


def _as_task(work: Any, path: Path, how: Handling, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out one file as a task of its own, with retries where trying again can help.

    Returns
    -------
    dict
        What `carry_out` returns, or ``file`` and the ``status`` broken.
    """
    found: list[dict[str, Any]] = []

    def run() -> Any:
        with _silent(f"the requests in {path.name}"):
            found.append(carry_out(work, path, how, **settings))
        if found[-1]["status"] != DONE:
            return _refused(f"{path.name} is refused: the reason stands in {_place(found[-1])}")
        answers = [one["request"] for one in found[-1]["answer"]]
        forgotten = counted(sum(one["num_found"] for one in answers), "training sample")
        again = ", all of it asked for before" if "unchanged" in found[-1] else ""
        return Completed(
            message=f"{path.name}: {counted(len(answers), 'request')}, {forgotten} forgotten{again}"
        )

    attempt = task(  # type: ignore[call-overload]
        run, name="forget", task_run_name=lambda: f"forget, {path.name}", cache_policy=NO_CACHE, persist_result=False,
        retries=RETRIES, retry_delay_seconds=RETRY_DELAY, retry_condition_fn=may_pass,
    )  # fmt: skip
    try:
        attempt()
    except _Unexpected:
        return {"file": path.name, "status": BROKEN}
    return found[-1]
