"""What stands behind `--param`: ``key=value`` on the command line, settings of the right type for a function."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tracesift.catalog.schema import BadInput


def settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Read ``key=value`` pairs; values are numbers, true/false, null or text, as JSON where they can be.

    Examples
    --------
    >>> settings(("strata=20", "per_class=true", "score=el2n"))
    {'strata': 20, 'per_class': True, 'score': 'el2n'}
    """
    read: dict[str, Any] = {}
    for pair in pairs:
        key, mark, value = pair.partition("=")
        if not mark or not key:
            raise BadInput(f"--param {pair}: write key=value")
        try:
            read[key] = json.loads(value)
        except json.JSONDecodeError:
            read[key] = value
    return read


def scorer_settings(pairs: tuple[str, ...], names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Read ``scorer.key=value`` pairs into settings by scorer; where one scorer is named, its key alone will do.

    Examples
    --------
    >>> scorer_settings(("fkl.k=1", "el2n.checkpoint=3"))
    {'fkl': {'k': 1}, 'el2n': {'checkpoint': 3}}
    >>> scorer_settings(("k=1",), ["fkl"])
    {'fkl': {'k': 1}}
    """
    by_scorer: dict[str, dict[str, Any]] = {}
    for name, value in settings(pairs).items():
        scorer, mark, key = name.partition(".")
        if not mark and len(names) == 1:
            scorer, key = names[0], name
        elif not mark:
            raise BadInput(
                f"--param {name}={value}: write scorer.key=value, such as forgetting_events.never_learned=zero"
            )
        by_scorer.setdefault(scorer, {})[key] = value
    return by_scorer


def check_types(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Refuse a value that is not of the type that the function's annotation asks for.

    A key that the function does not have is left to whoever knows its name.

    Examples
    --------
    >>> def pick(*, strata: int = 50, beta: float | None = None): ...
    >>> check_types(pick, {"strata": 20, "beta": 1, "unheard": "of"})
    """
    hints = get_type_hints(function)
    for key, value in given.items():
        hint = hints.get(key, Any)
        if not _fits(value, hint):
            raise BadInput(
                f"--param {key}={value}: {json.dumps(value)} is {type(value).__name__}, it takes {_said(hint)}"
            )


def _said(hint: Any) -> str:
    """Return a type as a person reads it: ``float | 'auto' | None``."""
    if get_origin(hint) in (Union, UnionType):
        return " | ".join(_said(part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return " | ".join(repr(part) for part in get_args(hint))
    if get_origin(hint) is not None:
        return 'a list, such as ["a", "b"]'
    return "null" if hint is type(None) else str(getattr(hint, "__name__", hint))


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    wanted = origin or hint
    if wanted is Any or not isinstance(wanted, type):
        return True
    # A text is a sequence to Python, and never what somebody means who asks for several values.
    return isinstance(value, wanted) and (wanted is str or not isinstance(value, str))
