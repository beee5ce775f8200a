"""The jobs as their code describes them: what each trains, of which data, with which settings, and who reads it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from docstring_parser import DocstringStyle, parse

from tracesift.catalog.parameter_types import types_in_words
from tracesift.flows.parameters import written
from tracesift.pipelines.jobs import contract as jobs
from tracesift.scorers import contract as scorers
from tracesift.scorers.influence.edges import contract as methods


@dataclass(frozen=True)
class Setting:
    """One setting of a job."""

    name: str
    default: str
    """As it would be given on the command line."""
    takes: str
    """Its type, in words."""
    meaning: str


@dataclass(frozen=True)
class DescribedJob:
    """One job."""

    name: str
    version: int
    summary: str
    data: tuple[str, ...]
    """Kinds of data that it takes."""
    signals: tuple[str, ...]
    read_by: tuple[str, ...]
    """Scorers, methods of influence and diagnostics, in words."""
    settings: tuple[Setting, ...]
    reference: str

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain JSON."""
        return asdict(self)


def described(names: Sequence[str] = ()) -> list[DescribedJob]:
    """Return the jobs of these names, or all.

    Raises
    ------
    UnknownName
        There is no job of this name.
    """
    return [_described(jobs.find(name)) for name in names or jobs.names()]


def _described(known: jobs.Job) -> DescribedJob:
    meaning, takes = meanings(known.function), types_in_words(known.function)
    return DescribedJob(
        name=known.name, version=known.version, summary=known.summary,
        data=tuple(jobs.KINDS[kind] for kind in known.kinds), signals=known.signals, read_by=_readers(known.name),
        settings=tuple(
            Setting(name, written(default), takes[name], meaning[name]) for name, default in known.defaults.items()
        ),
        reference=known.reference,
    )  # fmt: skip


def _readers(job: str) -> tuple[str, ...]:
    reading = [one for one in map(scorers.find, scorers.names()) if job in one.jobs]
    said = [f"{one.name} (when it is named)" if one.experimental else one.name for one in reading]
    said += [f"influence {name}" for name in methods.names() if job in methods.find(name).jobs]
    whole = [name for name in scorers.diagnostics() if job in scorers.find_diagnostic(name).jobs]
    return tuple(said + [f"diagnostic {name}" for name in whole])


def meanings(function: Callable[..., Any]) -> dict[str, str]:
    """Return what a docstring in numpydoc's form says of each parameter, each in one line.

    Parameters
    ----------
    function
        Whose docstring it is; parameters that are described together have the same words.

    Examples
    --------
    >>> meanings(meanings)
    {'function': 'Whose docstring it is; parameters that are described together have the same words.'}
    """
    said = parse(inspect.getdoc(function) or "", style=DocstringStyle.NUMPYDOC)
    return {
        name.strip(): " ".join((one.description or "").split()).replace("``", "`")
        for one in said.params
        for name in one.arg_name.split(",")
    }
