"""What stands behind `--param`: ``key=value`` on the command line; values are checked by what they are passed to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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


Kind = Literal["scorer", "job", "method"]
"""Whose settings they are; a method is one of influence."""


def settings_by_name(
    pairs: tuple[str, ...], names: Sequence[str] = (), kind: Kind = "scorer"
) -> dict[str, dict[str, Any]]:
    """Read ``name.key=value`` pairs into settings by scorer, job or method; where one is named, its key alone will do.

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
            raise BadInput(f"--param {given}={written(value)}: {_nameless(given, value, names, kind)}")
        by_name.setdefault(name, {})[key] = value
    return by_name


def _nameless(key: str, value: Any, names: Sequence[str], kind: Kind) -> str:
    """Return how to write a setting that names nobody, by an example that there is: of who has it, or else another's.

    Examples
    --------
    >>> _nameless("bias", False, ["last_layer", "tracin"], "method")
    'write method.key=value, such as last_layer.bias=false'
    >>> _nameless("bias", False, ["tracin", "trak"], "method")
    "tracin, trak: none has a setting 'bias'; write method.key=value, such as tracin.k=10"
    """
    known = _settings_of(names, kind)
    having = [name for name in known if key in known[name]]
    if having:
        return f"write {kind}.key=value, such as {having[-1]}.{key}={written(value)}"
    examples = (
        f"{name}.{one}={written(usual)}" for name in known for one, usual in known[name].items() if usual
    )
    example = next((f", such as {one}" for one in examples), "")
    who = f"{', '.join(names)}: none" if names else f"no {kind}"
    return f"{who} has a setting '{key}'; write {kind}.key=value{example}"


def _settings_of(names: Sequence[str], kind: Kind) -> dict[str, Mapping[str, Any]]:
    """Return the usual settings of those named, or of all, by name."""
    from tracesift.scorers import contract as scorers
    from tracesift.scorers.influence.edges import contract as edges

    if kind == "method":
        return {name: edges.find(name).defaults for name in names or edges.names()}
    if kind == "job":
        from tracesift.pipelines.jobs import contract as jobs  # torch, of which only this error needs to know

        return {name: jobs.find(name).defaults for name in names or jobs.names()}
    whole = scorers.diagnostics()
    return {
        name: (scorers.find_diagnostic(name) if name in whole else scorers.find(name)).defaults
        for name in names or (*scorers.names(), *whole)
    }


def written(value: Any) -> str:
    """Return a value as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value)
