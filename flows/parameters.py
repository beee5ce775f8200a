"""What stands behind `--param`: ``key=value`` on the command line; values are checked by what they are passed to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from tracesift.catalog.schema import BadInput

_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""Python's JSON reads them, and no file of ours can hold them."""


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
        if value in _NOT_FINITE:
            raise BadInput(f"--param {pair}: {value} is no finite number")
        try:
            read[key] = json.loads(value)
        except json.JSONDecodeError:
            read[key] = value
    return read


def settings_by_name(
    pairs: tuple[str, ...], names: Sequence[str] = (), kind: Literal["scorer", "job"] = "scorer"
) -> dict[str, dict[str, Any]]:
    """Read ``name.key=value`` pairs into settings by scorer or job; where one is named, its key alone will do.

    Examples
    --------
    >>> settings_by_name(("fkl.k=1", "el2n.checkpoint=3"))
    {'fkl': {'k': 1}, 'el2n': {'checkpoint': 3}}
    >>> settings_by_name(("k=1",), ["fkl"])
    {'fkl': {'k': 1}}
    """
    by_name: dict[str, dict[str, Any]] = {}
    for given, value in settings(pairs).items():
        name, mark, key = given.partition(".")
        if not mark and len(names) == 1:
            name, key = names[0], given
        elif not mark:
            example = f"{names[-1]}.{given}={value}" if names else "forgetting_events.never_learned=zero"
            raise BadInput(f"--param {given}={value}: write {kind}.key=value, such as {example}")
        by_name.setdefault(name, {})[key] = value
    return by_name
