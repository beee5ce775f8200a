"""Which scorers there are: any file below this folder that defines a decorated function of its own name.

Files are read, not imported, to tell what they define; only the one asked for is imported. So a listing costs
no torch or scikit-learn, and adding a scorer touches one file.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from tracesift.catalog.schema import MODES, SIGNALS, BadInput, UnknownName, nearest

FOLDER = Path(__file__).parent
PACKAGE = "tracesift.scorers"

Kind = Literal["scorer", "diagnostic", "edges"]
Function = TypeVar("Function", bound=Callable[..., Any])


@contextmanager
def refusals_of(name: str) -> Iterator[None]:
    """Begin a refusal with the name of the scorer that it comes from, where it does not say it: what it calls may not.

    Examples
    --------
    >>> with refusals_of("cal"):
    ...     raise BadInput("k is 0")
    Traceback (most recent call last):
        ...
    tracesift.catalog.schema.BadInput: cal: k is 0
    """
    try:
        yield
    except BadInput as error:
        if name in str(error):
            raise
        raise type(error)(f"{name}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Everything known of one scorer (or diagnostic or method of edges, whose direction and combine are None)."""

    name: str
    version: int
    inputs: tuple[str, ...]
    """Signals without which it cannot run, in the order of the signature."""
    optional: tuple[str, ...]
    """Signals used where they are there."""
    mode: str | None
    """The recording mode it means; None where no signal depends on the mode."""
    direction: str | None
    """What a high value says; one of `catalog.schema.DIRECTIONS`."""
    reference: str
    defaults: Mapping[str, Any]
    experimental: bool
    combine: str | None
    """How several runs become one value: mean, sum, or error, which is that of a mean."""
    takes_device: bool
    tensors: bool
    """Whether it takes torch tensors as well as NumPy arrays, and so runs on a GPU."""
    per_sample: bool
    """Whether a sample's score depends on no other sample, so that blocks of samples can be scored apart."""
    once: Callable[..., Any] | None
    """A function of those inputs that do not run over samples, called once for all blocks."""
    summary: str
    """First line of the docstring."""
    function: Callable[..., Any]

    @property
    def high_means(self) -> str | None:
        """What a high value says, for people: the direction, but not of a standard error, which judges no sample."""
        return "uncertain" if self.combine == "error" else self.direction

    @property
    def jobs(self) -> tuple[str, ...]:
        """The jobs that make its inputs, by a training of their own; none where a recording is enough."""
        made_by = (SIGNALS[name].job for name in self.inputs)
        return tuple(dict.fromkeys(job for job in made_by if job is not None))


def attach(function: Function, kind: Kind, **facts: Any) -> Function:
    """Read the signature of `function`, attach its record, and return it unchanged."""
    name = function.__name__
    if facts["mode"] is not None and facts["mode"] not in MODES:
        raise TypeError(f"{name}: mode '{facts['mode']}' is none of {', '.join(MODES)}")
    inputs, optional, defaults = [], [], {}
    takes_device = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            if parameter.name == "device":
                takes_device = True
            elif parameter.name == "once" and facts["once"] is not None:
                continue
            elif parameter.default is parameter.empty:
                raise TypeError(f"{name}: setting '{parameter.name}' needs a default")
            else:
                defaults[parameter.name] = parameter.default
        elif parameter.name not in SIGNALS:
            raise TypeError(f"{name}: '{parameter.name}' is no signal of catalog.schema.SIGNALS")
        elif parameter.default is parameter.empty:
            inputs.append(parameter.name)
        elif parameter.default is None:
            optional.append(parameter.name)
        else:
            raise TypeError(f"{name}: an optional signal has the default None, '{parameter.name}' has not")
    record = Scorer(
        name=name, inputs=tuple(inputs), optional=tuple(optional), defaults=MappingProxyType(defaults),
        takes_device=takes_device, summary=(function.__doc__ or "").strip().split("\n")[0],
        function=function, **facts,
    )  # fmt: skip
    setattr(function, f"__{kind}__", record)
    return function


def names_of(kind: Kind) -> tuple[str, ...]:
    """Return the sorted names of all files that define a function of this kind."""
    return tuple(_defining(FOLDER, kind))


@cache
def _defining(folder: Path, kind: Kind) -> dict[str, Path]:
    """Return the files that define a function of this kind, by name, sorted; looked up once in a process."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.py"), key=lambda path: path.stem):
        if kind not in _marks(path):
            continue
        if path.stem in found:
            raise TypeError(f"more than one file defines {path.stem}; a name is given once")
        found[path.stem] = path
    return found


@cache
def _marks(path: Path) -> frozenset[str]:
    """Return the decorators, called by name, of the function that a file is named for; nothing is imported."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == path.stem:
            calls = (mark.func for mark in node.decorator_list if isinstance(mark, ast.Call))
            return frozenset(call.id for call in calls if isinstance(call, ast.Name))
    return frozenset()


def find_one(name: str, kind: Kind) -> Scorer:
    """Import the one module that defines `name`, and return its record."""
    path = _defining(FOLDER, kind).get(name)
    if path is None:
        raise UnknownName(
            f"there is no {kind} '{name}'{nearest(name, names_of(kind))}; `tracesift scorers` lists them all"
        )
    module = ".".join((PACKAGE, *path.relative_to(FOLDER).with_suffix("").parts))
    record: Scorer = getattr(getattr(importlib.import_module(module), name), f"__{kind}__")
    return record
