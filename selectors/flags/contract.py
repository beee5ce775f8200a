"""What a flag is: a score against a stated rule, answered per sample with yes, no or cannot tell, and a
reason.

A flag lives in the file of its own name and gets its facts from `@flag`; it takes a score frame and returns
at least `sample_id, flagged (bool or null), score, threshold, reason`. Nothing is registered; the files are
looked at.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from tracesift.catalog.schema import UnknownName, nearest

F = TypeVar("F", bound=Callable[..., pl.DataFrame])

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Flag:
    """What is known of one flag."""

    name: str
    version: int
    columns: tuple[str, ...]
    """Columns that it reads where they are there; its docstring says which are needed together."""
    reference: str
    defaults: dict[str, Any]
    summary: str
    function: Callable[..., pl.DataFrame]


def flag(*, version: int, columns: tuple[str, ...], reference: str) -> Callable[[F], F]:
    """Attach the facts of a flag to its function, which is returned unchanged."""

    def attach(function: F) -> F:
        function.flag = {"version": version, "columns": columns, "reference": reference}  # type: ignore[attr-defined]
        return function

    return attach


def names() -> list[str]:
    """Return the names of all flags, sorted.

    Examples
    --------
    >>> "label_noise" in names()
    True
    """
    return sorted(_found())


def find(name: str) -> Flag:
    """Return the facts of one flag; an unknown name raises `UnknownName` with the nearest known one."""
    found = _found()
    if name not in found:
        raise UnknownName(
            f"no flag is called '{name}'{nearest(name, sorted(found))}; known: {', '.join(sorted(found))}"
        )
    return found[name]


def _found() -> dict[str, Flag]:
    found: dict[str, Flag] = {}
    for path in sorted(FOLDER.glob("*.py")):
        if path.stem == "contract" or not path.stem.isidentifier():
            continue
        function = getattr(importlib.import_module(f"tracesift.selectors.flags.{path.stem}"), path.stem, None)
        declared = getattr(function, "flag", None)
        if callable(function) and isinstance(declared, dict):
            parameters = list(inspect.signature(function).parameters.values())[1:]
            found[path.stem] = Flag(
                **declared,
                name=path.stem,
                defaults={parameter.name: parameter.default for parameter in parameters},
                summary=(inspect.getdoc(function) or "").split("\n", 1)[0],
                function=function,
            )
    return found
