"""Jobs on the command line: what a scorer needs beyond a recording is trained and added to the recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from tracesift.catalog.parameter_types import settings_of
from tracesift.catalog.schema import SIGNALS, BadInput
from tracesift.flows.diagnosing import diagnosed, diagnosed_together, over_models
from tracesift.flows.options import Training
from tracesift.flows.parameters import settings as read_settings
from tracesift.flows.progress import say, watched
from tracesift.flows.record import check_trainable, recorded_dataset
from tracesift.flows.recordings import newest_runs, remember_run
from tracesift.flows.side_by_side import Submit, check_workers, elsewhere, processes
from tracesift.flows.work import Work
from tracesift.pipelines.jobs.contract import find, run_job
from tracesift.pipelines.signals import Signals, load_signals, read_run
from tracesift.pipelines.train import Progress
from tracesift.scorers.contract import diagnostics, find_diagnostic
from tracesift.scorers.influence.edges.contract import find as find_edges
from tracesift.scorers.influence.edges.contract import names as edge_methods

OF_THE_RECORDING = ("seeds", "seed", "folds")


def add_signals(
    work: Work,
    training: Training,
    jobs: Sequence[str],
    params: Mapping[str, Mapping[str, Any]],
    *,
    workers: int = 1,
    submit: Submit | None = None,
) -> dict[str, Any]:
    """Run jobs for the newest recording, one seed after the other; nothing is trained where its signals are there.

    Parameters
    ----------
    training
        Model, epochs, device and threads of the jobs. What belongs to the recording cannot be asked for here.
    jobs
        By name.
    params
        Settings by job.
    workers
        Processes that train the models of a job side by side.
    submit
        How a training is begun elsewhere; by default in processes of our own.

    Returns
    -------
    dict
        ``runs``, and under each job's name the signals that it added.
    """
    usual = Training()
    for name in OF_THE_RECORDING:
        if getattr(training, name) != getattr(usual, name):
            raise BadInput(
                f"--{name} belongs to a recording, and --job adds to the newest one with all its seeds; leave it out, "
                "or record without --job first"
            )
    settings, wrong = _read(work, training, jobs, params, workers)
    runs = newest_runs(work) if settings else []
    wrong += _unsuitable(work, training, runs, settings)
    if wrong:
        raise BadInput("; ".join(dict.fromkeys(wrong)))
    added: dict[str, Any] = {"runs": runs}
    for name in jobs:
        for run in runs:
            before = read_run(work.path, run)
            seed = before.get("seed")
            check_trainable(work, recorded_dataset(work, run), run)
            with (
                watched(f"job {name}" + (f", seed {seed}" if len(runs) > 1 else "")) as report,
                _kept_when_stopped(name, report) as told,
            ):
                added[name] = _run(work, training, name, run, settings[name], workers, submit, told)
            remember_run(work, run)
            _tell_more_than_asked(work, name, run, settings[name])
            _tell_end(work, name, run, settings[name], several=len(runs) > 1)
            if run == runs[-1]:
                _tell(work, name, runs)
            _tell_next(work, name, run, before)
    return {name: list(value) for name, value in added.items()}


def how_to_make(work: Work, run_id: str, signal: str) -> str:
    """Say which command makes a signal that a recording lacks, or why none can for this recording."""
    why = why_not_made(work, signal, run_id)
    if why is not None:
        return f"nothing makes it for this recording ({why})"
    if run_id == newest_runs(work)[0]:
        return SIGNALS[signal].source
    # `embed` alone takes the first of several seeds, whose vectors selectors go on reading under their usual name.
    named = f"`tracesift embed --run {run_id} --name model-{run_id}`"
    return SIGNALS[signal].source.replace("`tracesift embed`", named)


def why_not_made(work: Work, signal: str, run_id: str | None = None) -> str | None:
    """Return why the job that makes a signal refuses a recording, by default the newest; None where it does not."""
    wanted = SIGNALS[signal]
    if wanted.job is None:
        return None
    try:
        run_id = run_id or newest_runs(work)[0]
        dataset = recorded_dataset(work, run_id)
        check_trainable(work, dataset, run_id)
        if wanted.axes.startswith("M") and not len(dataset.rows("val")):
            return f"{dataset.name} has no validation samples"
        inputs = work.inputs_of(dataset)
        settings = read_settings(wanted.settings)
        run_job(wanted.job, dataset, work.path, run_id, settings, inputs=inputs, check=True)
    except BadInput as error:
        return str(error)
    return None


def _tell_more_than_asked(work: Work, job: str, run_id: str, settings: Mapping[str, Any]) -> None:
    """Say so where fewer parts were asked for than an earlier run has left."""
    known = find(job)
    most = next(iter(known.extent), None)
    if most is None or most not in settings:
        return
    arrays = read_run(work.path, run_id)["arrays"]
    there = min(arrays[signal]["parts"] for signal in known.signals if signal in arrays)
    if there > settings[most]:
        say(
            f"job {job}: {there} {most} are there already and stay; scores read all of them, not {settings[most]}"
        )


def _tell_next(work: Work, job: str, run_id: str, before: Mapping[str, Any]) -> None:
    """Say what reads the signals that a job has just made, and that what was read from others before is old."""
    signals = find(job).signals
    old, new = (
        {name: record.get("arrays", {}).get(name) for name in signals}
        for record in (before, read_run(work.path, run_id))
    )
    if new == old:
        return
    edges = any(set(find_edges(method).inputs) & set(signals) for method in edge_methods())
    readers = "`tracesift score` and `tracesift influence` read" if edges else "`tracesift score` reads"
    stale = "; what stands in the catalog is of what it had made before" if any(old.values()) else ""
    say(f"job {job}: {readers} what it made{stale}")


def _tell_end(work: Work, job: str, run_id: str, settings: Mapping[str, Any], *, several: bool) -> None:
    """Say whether a job that may stop early came as far as it was asked to."""
    signals = load_signals(work.path, run_id)
    told = _ended(signals, job, settings)
    if told is not None:
        say(f"job {job}{_seed(signals.run, several)}: {told}")


def tell_ends(work: Work, readers: Mapping[str, Sequence[str]], runs: Sequence[str]) -> None:
    """Say of scores or edges how far the job came whose signals they are of, where it may have stopped early.

    Parameters
    ----------
    readers
        Job -> who reads what it made: scorers, or methods of influence.
    """
    for job, names in readers.items():
        told = []
        for signals in (load_signals(work.path, run) for run in runs):
            made = [signals.run.get("arrays", {}).get(one) or {} for one in find(job).signals]
            told.append(
                _ended(signals, job, next((one["settings"] for one in made if "settings" in one), {}))
            )
        for one in dict.fromkeys(filter(None, told)):
            say(f"{', '.join(names)}: {one}")


def _ended(signals: Signals, job: str, settings: Mapping[str, Any]) -> str | None:
    known = find(job)
    if known.ended is None:
        return None
    return known.ended(signals.in_mode(signals.modes[0]), {**known.defaults, **settings})


def _seed(run: Mapping[str, Any], several: bool) -> str:  # noqa: FBT001
    return f", seed {run.get('seed')}" if several else ""


def _tell(work: Work, job: str, runs: Sequence[str]) -> None:
    """Say in one sentence what a job's signals show by themselves, where a diagnostic knows one.

    The models of several seeds speak together; of what is no sum over models, each seed for itself.
    """
    made = find(job).signals
    each = [load_signals(work.path, run, made) for run in runs]
    for name in diagnostics():
        if not set(find_diagnostic(name).inputs) <= set(made):
            continue
        if over_models(name) and len(each) > 1:
            say(f"job {job}: {diagnosed_together(name, each)['reading']}")
            continue
        for signals in each:
            found = diagnosed(name, signals, signals.run)
            say(f"job {job}{_seed(signals.run, len(each) > 1)}: {found['reading']}")


@contextmanager
def _kept_when_stopped(job: str, report: Progress) -> Iterator[Progress]:
    """Say on Ctrl-C how many parts of a job are kept, where it can end with these."""
    kept, most = "", next(iter(find(job).extent), None)

    def told(done: float, of: float, what: str) -> None:
        nonlocal kept
        if most and not what:  # a part, or several that are made together, are through
            kept = f"job {job}: {done:.0f} of {of:.0f} {most} are kept; to score these, name --param {most}={done:.0f}"
        report(done, of, what)

    try:
        yield told
    except KeyboardInterrupt:
        if kept:
            say(kept)
        raise


def _run(
    work: Work,
    training: Training,
    job: str,
    run_id: str,
    settings: Mapping[str, Any],
    workers: int,
    submit: Submit | None,
    report: Progress,
) -> tuple[str, ...]:
    how = _how(training)
    dataset = recorded_dataset(work, run_id)
    run = partial(run_job, job, dataset, work.path, run_id, settings, **how, progress=report)
    if workers == 1:
        return run(inputs=work.inputs_of(dataset))
    task = {"workspace": str(work.path.resolve()), "job": job, "run_id": run_id, "settings": settings, **how}
    with processes(workers) if submit is None else nullcontext(submit) as begin:
        run(elsewhere=elsewhere(task, begin, workers))
    return run()  # all is there; a job that ended early takes away what its last workers still wrote


def _how(training: Training) -> dict[str, Any]:
    return {"model": training.model, "device": training.device, "threads": training.threads}


def _read(
    work: Work,
    training: Training,
    jobs: Sequence[str],
    params: Mapping[str, Mapping[str, Any]],
    workers: int,
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return each job's settings, and what is wrong with the others."""
    settings: dict[str, dict[str, Any]] = {}
    wrong = [
        f"settings were given for {name}, which is not run; name it with --job"
        for name in params
        if name not in jobs
    ]
    for name in jobs:
        try:
            settings[name] = _settings(name, training, params.get(name, {}))
            check_workers(work, name, workers)
        except BadInput as error:
            wrong.append(str(error))
    return settings, wrong


def _unsuitable(
    work: Work, training: Training, runs: Sequence[str], settings: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return what the jobs refuse before their first training, so that none is trained ahead of one that cannot be."""
    wrong = []
    for run in runs:
        dataset = recorded_dataset(work, run)
        check_trainable(work, dataset, run)
        for name, given in settings.items():
            try:
                inputs = work.inputs_of(dataset)
                run_job(name, dataset, work.path, run, given, **_how(training), inputs=inputs, check=True)
            except BadInput as error:
                wrong.append(str(error))
    return wrong


def _settings(name: str, training: Training, given: Mapping[str, Any]) -> dict[str, Any]:
    settings = dict(given) if training.epochs is None else {"epochs": training.epochs, **given}
    known = find(name)
    settings_of(name, known.function, known.defaults, settings)  # refused before anything is opened
    return settings
