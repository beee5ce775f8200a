"""Parameters by their annotations: one check for what a caller passes to a selector, a scorer, a job or a sampler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from reprlib import repr as shortened
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput, UnknownName, nearest

WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    NoneType: "None (null)",
}
LISTS = {str: 'a list of texts, such as ["a", "b"]', int: "a list of whole numbers, such as [0, 7]"}


def checked_params(name: str, function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters as plain Python values, after checking each against the function's annotation.

    Strictly: a bool is no number, 2.0 is no whole number, and a text is no list. A whole number is a number, and
    NumPy's scalars and arrays are what they hold. A parameter that the function does not have is left to whoever
    knows its name.

    Parameters
    ----------
    name
        Whose parameters they are, for the message.
    function
        What they are passed to.
    given
        Values by parameter.

    Raises
    ------
    BadInput
        A value is of another type, or none of the choices there are.

    Examples
    --------
    >>> def pick(*, strata: int = 50, beta: float | None = None): ...
    >>> checked_params("pick", pick, {"strata": np.int64(20), "beta": 1})
    {'strata': 20, 'beta': 1}
    >>> checked_params("pick", pick, {"strata": 2.5})
    Traceback (most recent call last):
    ...
    tracesift.catalog.schema.BadInput: pick: strata=2.5 must be a whole number
    """
    hints = _hints(function)
    plain = {}
    for key, value in given.items():
        hint = hints.get(key, Any)
        plain[key] = _plain(value)
        if not _fits(plain[key], hint):
            shown = " ".join(shortened(plain[key]).split())
            raise BadInput(f"{name}: {key}={shown} must be {_said(hint)}{_meant(plain[key], hint)}")
    return plain


def settings_of(
    name: str, function: Callable[..., Any], defaults: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all settings of a function: those that were given, checked, and its own for the others.

    Raises
    ------
    UnknownName
        It has no setting of this name; the message holds the nearest, or all there are.
    BadInput
        As `checked_params`.

    Examples
    --------
    >>> def pick(*, strata: int = 50, beta: float | None = None): ...
    >>> settings_of("pick", pick, {"strata": 50, "beta": None}, {"beta": 0.1})
    {'strata': 50, 'beta': 0.1}
    """
    for key in given:
        if key not in defaults:
            known = tuple(defaults)
            there = f"; it has {', '.join(known)}" if known else "; it has none"
            raise UnknownName(f"{name} has no setting '{key}'{nearest(key, known) or there}")
    return {**defaults, **checked_params(name, function, given)}


def types_in_words(function: Callable[..., Any]) -> dict[str, str]:
    """Return what each annotated parameter takes, as a message about a wrong one says it.

    Examples
    --------
    >>> def pick(*, strata: int = 50, beta: float | None = None): ...
    >>> types_in_words(pick)
    {'strata': 'a whole number', 'beta': 'a number or None (null)'}
    """
    return {name: _said(hint) for name, hint in _hints(function).items() if name != "return"}


@cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(function)


def _plain(value: Any) -> Any:
    """Return a NumPy scalar or an array of one axis as what it holds."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, pl.Series) or (isinstance(value, np.ndarray) and value.ndim == 1):
        return value.to_list() if isinstance(value, pl.Series) else value.tolist()
    return value


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if origin is Literal:
        return any(_fits(value, type(choice)) and value == choice for choice in get_args(hint))
    if origin is Sequence:
        return (
            isinstance(value, Sequence)
            and not isinstance(value, str | bytes)
            and all(_fits(_plain(item), get_args(hint)[0]) for item in value)
        )
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    wanted = origin or hint
    return wanted is Any or not isinstance(wanted, type) or isinstance(value, wanted)


def _said(hint: Any) -> str:
    """Return a type as a person reads it: ``a number, 'auto' or None (null)``."""
    parts = [said for part in _parts(hint) for said in _one(part)]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _one(hint: Any) -> list[str]:
    if get_origin(hint) is Literal:
        return [repr(choice) for choice in get_args(hint)]
    if get_origin(hint) is Sequence:
        held = get_args(hint)[0]
        return [LISTS.get(held) or f"a list of {getattr(held, '__name__', held)}"]
    if get_origin(hint) is Mapping:
        return ['an object, such as {"steps": 3}']
    return [WORDS.get(hint) or f"a {getattr(hint, '__name__', hint)}"]


def _meant(value: Any, hint: Any) -> str:
    """Return the choice that a misspelt text comes nearest to, as the end of a sentence."""
    choices = [choice for part in _parts(hint) if get_origin(part) is Literal for choice in get_args(part)]
    return nearest(value, [str(choice) for choice in choices]) if isinstance(value, str) else ""
