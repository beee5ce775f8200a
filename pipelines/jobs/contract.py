"""What a job is, how it is found, and how it is run: signals that need a training of their own.

A job is one function in a file of its own name. It gets a `Workbench` and its settings, trains what its paper
trains, and returns the signals that `catalog.schema.SIGNALS` says it makes. They are added to a recording that
is there already, beside its other arrays, and the scorers of the same paper read them like any other signal.

What a job makes is kept once and for all: the same job with the same settings trains nothing the second time,
and one that was killed goes on with the model that it was at.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from tracesift.catalog.files import digest
from tracesift.catalog.parameter_types import settings_of
from tracesift.catalog.schema import SIGNALS, BadInput, FingerprintMismatch, UnknownName, nearest
from tracesift.pipelines.determinism import choose_device
from tracesift.pipelines.embedding.embeddings import load_module, recorded_model
from tracesift.pipelines.encoding.encode import Encodings
from tracesift.pipelines.jobs.workbench import Elsewhere, Workbench, clear
from tracesift.pipelines.models.contract import Model
from tracesift.pipelines.models.contract import find as find_model
from tracesift.pipelines.signals import (
    add_array,
    drop_arrays,
    forget_broken_arrays,
    read_array,
    read_run,
    run_folder,
)
from tracesift.pipelines.train import Progress

Function = TypeVar("Function", bound=Callable[..., Mapping[str, np.ndarray]])
Settle = Callable[[Model, str, Mapping[str, Any]], dict[str, Any]]
Ahead = Callable[..., None]
Ended = Callable[[Mapping[str, np.ndarray], Mapping[str, Any]], str | None]

KINDS = {"image": "images", "text": "texts", "tabular": "tables"}
"""Kinds of data, and what they are called."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything known of one job."""

    name: str
    version: int
    signals: tuple[str, ...]
    """What it adds to a recording; those its settings leave out are not made."""
    defaults: Mapping[str, Any]
    reference: str
    summary: str
    """First line of the docstring."""
    function: Callable[..., Mapping[str, np.ndarray]]
    settle: Settle | None = None
    """Puts in place of None what a setting is for this model and kind of data; the recording then says it."""
    ahead: Ahead | None = None
    """Makes some of the parts alone, for the process that runs the job; None where the parts depend on each other."""
    extent: tuple[str, ...] = ()
    """Settings that say how many parts are made, the most of them first, and nothing of what a part is."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """Of data that it takes."""
    because: str = ""
    """Why it takes no others."""
    ended: Ended | None = None
    """Says of its signals and settings whether it came as far as it was asked to; None where that goes unsaid."""


def job(
    *,
    version: int = 1,
    reference: str,
    settle: Settle | None = None,
    ahead: Ahead | None = None,
    extent: tuple[str, ...] = (),
    kinds: tuple[str, ...] = tuple(KINDS),
    because: str = "",
    ended: Ended | None = None,
) -> Callable[[Function], Function]:
    """Attach to a job's function what its signature cannot say, and return it unchanged.

    Parameters
    ----------
    version
        Raised whenever the same dataset, model and settings give other signals.
    reference
        Authors, venue and year.
    settle
        Called with the model, the kind of dataset and the settings; returns the settings that are meant, where
        those left open depend on the two.
    ahead
        ``ahead(bench, numbers, **settings)`` makes the parts of these numbers and nothing else.
    extent
        The settings that say how many parts are made, first the one of their largest number. A run that asks for more
        goes on from those that are there (`Workbench.earlier`), and one that asks for fewer trains nothing. The
        signals of such a job have an axis R of its parts.
    kinds
        Of data that it takes, whatever its settings; see `KINDS`.
    because
        Why it takes no others, as the end of a sentence.
    ended
        Called with the signals and all settings; returns how a job that may stop early has ended, in words.
    """

    def attach(function: Function) -> Function:
        settings = inspect.signature(function).parameters.values()
        record = Job(
            name=function.__name__,
            version=version,
            signals=tuple(name for name, signal in SIGNALS.items() if signal.job == function.__name__),
            defaults=MappingProxyType(
                {one.name: one.default for one in settings if one.kind is one.KEYWORD_ONLY}
            ),
            reference=reference,
            summary=(function.__doc__ or "").strip().split("\n")[0],
            function=function,
            settle=settle,
            ahead=ahead,
            extent=extent,
            kinds=kinds,
            because=because,
            ended=ended,
        )
        function.__job__ = record  # type: ignore[attr-defined]
        return function

    return attach


def unsuitable(known: Job, kind: str, data: str) -> str | None:
    """Return why a job takes no data of this kind, or None where it does.

    Examples
    --------
    >>> unsuitable(find("vog"), "text", "reviews")
    "job 'vog' takes images and tables, and reviews holds texts: a text has no pixels that a gradient could be taken by"
    >>> unsuitable(find("ssft"), "text", "reviews")
    """
    if kind in known.kinds or kind not in KINDS:
        return None
    takes = " and ".join(KINDS[one] for one in known.kinds)
    return f"job '{known.name}' takes {takes}, and {data} holds {KINDS[kind]}: {known.because}"


def names() -> tuple[str, ...]:
    """Return the names of all jobs, sorted; none is imported for it."""
    return tuple(sorted({signal.job for signal in SIGNALS.values() if signal.job is not None}))


def find(name: str) -> Job:
    """Return the facts of the job `name`.

    Raises
    ------
    UnknownName
        No job has this name; the message holds the nearest one.

    Examples
    --------
    >>> find("ssft").signals
    ('first_split_correct', 'second_split_correct')
    """
    if name not in names():
        raise UnknownName(f"there is no job '{name}'{nearest(name, names())}; jobs are {', '.join(names())}")
    found: Job = getattr(importlib.import_module(f"tracesift.pipelines.jobs.{name}"), name).__job__
    return found


def run_job(
    name: str,
    dataset: Any,
    workspace: Path | str,
    run_id: str,
    params: Mapping[str, Any] | None = None,
    *,
    model: str = "auto",
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    inputs: Encodings | None = None,
    progress: Progress | None = None,
    elsewhere: Elsewhere | None = None,
    only: range | None = None,
    check: bool = False,
) -> tuple[str, ...]:
    """Run a job and add its signals to a recording; return their names. Nothing is trained where they are there.

    Signals that the same job left of another training go when the new ones are made: those of two trainings are not
    read together. What a setting such as ``pairs`` has added stays where it is of the same training.

    Parameters
    ----------
    name
        A job; see `names`.
    dataset
        The opened dataset, in the state that was recorded.
    run_id
        The recording that the signals are added to. One that `pipelines.train.record` made also gives the
        model with its recipe, the number of epochs, and the seed.
    params
        Settings of the job; unnamed ones keep their defaults.
    model
        Another model than the recorded one; ``"auto"`` for a recording made in your own loop means the usual
        model for this kind of data.
    seed
        For a recording that has none of its own.
    inputs
        The dataset's encodings, where several trainings share them.
    progress
        Called after every batch with the models done, their number, and what is going on.
    elsewhere
        Lets other processes train the parts, which this one then only reads.
    only
        What such a process is told: make the parts of these numbers, and add nothing to the recording.
    check
        Only look whether the settings suit the job, the model and the data: go up to where the first part would be
        made. Nothing is trained and nothing is added.

    Raises
    ------
    UnknownName, BadInput
        An unknown job or setting.
    FingerprintMismatch
        The run was recorded on another state of the dataset.

    Examples
    --------
    >>> run_job("ssft", dataset, "tracesift-work", run_id)  # doctest: +SKIP
    ('first_split_correct', 'second_split_correct')
    """
    known = find(name)
    settings = settings_of(name, known.function, known.defaults, params or {})
    forget_broken_arrays(workspace, run_id)
    record = read_run(workspace, run_id)
    if record["dataset"]["fingerprint"] != dataset.fingerprint:
        raise FingerprintMismatch(
            f"run {run_id} was recorded on another state of {dataset.name}; record this state first"
        )
    if (why := unsuitable(known, dataset.kind, dataset.name)) is not None:
        raise BadInput(why)
    trained = record["kind"] == "trained"
    chosen = recorded_model(dataset, record) if trained and model == "auto" else _model(model, dataset)
    epochs = record["epochs"] if trained else chosen.recipe.epochs
    seed = record["seed"] if trained else seed
    if known.settle is not None:
        settings = known.settle(chosen, dataset.kind, settings)
    made = {
        "job": name, "version": known.version, "model": chosen.identity(), "epochs": epochs, "seed": seed,
        "settings": settings,
    }  # fmt: skip
    threads = threads or chosen.recipe.threads
    if known.extent:
        made["threads"] = (
            threads  # parts of another number of threads differ in their bits, and are not mixed
        )
    parts = run_folder(workspace, run_id) / "jobs" / f"{name}-{digest(_of_a_part(known, made), length=8)}"
    there = _there(record, known, made)
    if there and not check:  # what is asked for is looked at all the same, so that it is refused at any time
        clear(parts)  # killed when all was done but this
        return there
    bench = Workbench(
        dataset,
        chosen,
        Encodings(dataset) if inputs is None else inputs,
        epochs=epochs,
        seed=seed,
        device=choose_device(device),
        threads=threads,
        parts=parts / "none" if check else parts,
        earlier={} if check or only is not None else _earlier(workspace, run_id, record, known, made),
        progress=progress,
        elsewhere=_begin if check else elsewhere,
        load=partial(load_module, dataset, workspace, run_id, chosen)
        if trained and model == "auto"
        else None,
    )
    if check:
        with suppress(_Begun):
            known.function(bench, **settings)
        return ()
    if only is not None:
        check_apart(name)
        known.ahead(bench, only, **settings)  # type: ignore[misc]
        return ()
    signals = known.function(bench, **settings)
    drop_arrays(workspace, run_id, _of_another_training(record, known, made))
    for signal, values in signals.items():
        rows = dataset.rows("val" if SIGNALS[signal].axes.startswith("M") else "train")
        ids = dataset.samples["sample_id"].gather(rows).to_list()
        counted = {"parts": values.shape[1]} if known.extent else {}
        add_array(workspace, run_id, signal, ids, values, {**made, **counted, "signals": sorted(signals)})
    clear(parts)
    return tuple(sorted(signals))


class _Begun(Exception):
    """A job that is only checked has come to its first training."""


def _begin(_numbers: range, _of: int) -> None:
    raise _Begun


def check_apart(name: str) -> None:
    """Refuse a job whose models several processes cannot train.

    Raises
    ------
    BadInput
        Each of its models depends on the one before, or there is only one.
    """
    apart = [one for one in names() if find(one).ahead is not None]
    if name not in apart:
        raise BadInput(
            f"job '{name}' is trained in one process; the models of {', '.join(apart)} can be trained in several"
        )


def _there(record: Mapping[str, Any], known: Job, made: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the signals that a job has made in this way, all of them; nothing where one is missing."""
    arrays = record.get("arrays", {})
    for signal in known.signals:
        together = (arrays.get(signal) or {}).get("signals", ())
        held = [arrays.get(one) or {} for one in together]
        alike = len({array.get("parts") for array in held}) == 1  # else killed while more were added
        if alike and all(_enough(known, array, made, together) for array in held):
            return tuple(together)
    return ()


def _enough(known: Job, array: Mapping[str, Any], made: Mapping[str, Any], together: Sequence[str]) -> bool:
    """Whether an array is what is asked for: made in this way, of as many parts or by the same rule."""
    if not known.extent:
        return array == {**made, "signals": together}
    apart = {"threads", "parts", "signals"}
    asked, held = _of_a_part(known, made, apart), _of_a_part(known, array, apart)
    if asked != held or array["signals"] != together:
        return False
    return bool(array["settings"] == made["settings"] or array["parts"] >= made["settings"][known.extent[0]])


def _of_another_training(record: Mapping[str, Any], known: Job, made: Mapping[str, Any]) -> list[str]:
    """Return the signals that a job left in a recording and that are not of the training that is meant now."""
    switches = {setting.partition("=")[0] for signal in known.signals for setting in SIGNALS[signal].settings}

    def training(how: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        settings, apart = how.get("settings") or {}, switches.union(known.extent)
        return (
            {name: value for name, value in how.items() if name not in {"parts", "signals", "settings"}},
            {name: value for name, value in settings.items() if name not in apart},
        )

    arrays = {name: array for name, array in record.get("arrays", {}).items() if name in known.signals}
    return [name for name, array in arrays.items() if training(array or {}) != training(made)]


def _of_a_part(known: Job, made: Mapping[str, Any], without: Container[str] = ()) -> dict[str, Any]:
    """Return how a job's parts are made, whatever their number."""
    kept = {name: value for name, value in made.items() if name not in without}
    if known.extent and "settings" in made:
        kept["settings"] = {
            name: value for name, value in made["settings"].items() if name not in known.extent
        }
    return kept


def _earlier(
    workspace: Path | str, run_id: str, record: Mapping[str, Any], known: Job, made: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return the signals that the same job left with fewer parts; nothing where one of them was made otherwise."""
    arrays = {name: record.get("arrays", {}).get(name) for name in known.signals}
    held = {name: array for name, array in arrays.items() if array}
    apart = {"parts", "signals"}
    asked = _of_a_part(known, made, apart)
    if not known.extent or any(_of_a_part(known, array, apart) != asked for array in held.values()):
        return {}
    if any(set(array["signals"]) != set(held) for array in held.values()):
        return {}
    return {name: read_array(run_folder(workspace, run_id), name)[1] for name in held}


def _model(name: str, dataset: Any) -> Model:
    return find_model(name, dataset.kind).for_size(len(dataset.rows("train")))
