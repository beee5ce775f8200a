"""What stands behind `--param`: ``key=value`` on the command line; values are checked by what they are passed to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

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
