"""What stands behind `--param`: ``key=value`` on the command line; values are checked by what they are passed to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, NoReturn

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
            read[key] = json.loads(value, parse_constant=_not_finite)
        except json.JSONDecodeError:
            read[key] = value
    return read


def _not_finite(constant: str) -> NoReturn:
    """Refuse what Python's JSON reads and no file of ours can hold: NaN and the infinities, in a list as well."""
    raise BadInput(f"--param: {constant} is no finite number")


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
