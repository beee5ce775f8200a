"""What finds the strongest pairs of samples, how it is found, and how it is run: one file per method.

A method of influence is one function in a file of its own name in this folder. Its positional parameters are signals,
its settings keyword-only, as those of a scorer; it returns `Edges`, the strongest partners of each training sample and
of each validation sample. A pair's value rests on its two samples alone, so any part of the training samples can be
asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

from tracesift.catalog.parameter_types import checked_params
from tracesift.catalog.schema import SIGNALS, MissingSignal, UnknownName, nearest
from tracesift.scorers.arrays import check_sizes, normalise
from tracesift.scorers.discovery import Scorer, attach, find_one, names_of, refusals_of
from tracesift.scorers.influence.edge_search import Edges, Origins, merged

Function = TypeVar("Function", bound=Callable[..., Edges])

WITHOUT_TRACE = ("rows", "threads")
"""Settings of how it is computed, which no result depends on."""

PART = 32_768
"""Training samples that are asked for at once: between two words of progress, and lists to be merged."""


def edges(*, version: int = 1, reference: str) -> Callable[[Function], Function]:
    """Attach to a method's function what its signature cannot say, and return it unchanged.

    Parameters
    ----------
    version
        Raised whenever the same signals give other edges.
    reference
        Authors, venue and year, with the equation or section.
    """
    facts = {
        "mode": None,
        "direction": None,
        "experimental": False,
        "combine": None,
        "per_sample": True,
        "tensors": False,
        "once": None,
    }
    return lambda function: attach(function, "edges", version=version, reference=reference, **facts)


def names() -> tuple[str, ...]:
    """Return the names of all methods, sorted; none is imported for it."""
    return names_of("edges")


def find(name: str) -> Scorer:
    """Return the facts of the method `name`.

    Raises
    ------
    UnknownName
        No method has this name; the message holds the nearest one.

    Examples
    --------
    >>> find("influence_subset").inputs
    ('subset_trained', 'val_subset_correct', 'val_subset_prob_label')
    """
    if name not in names():
        raise UnknownName(
            f"there is no method of influence '{name}'{nearest(name, names())}; methods are {', '.join(names())}"
        )
    return find_one(name, "edges")


def meant(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings that the edges depend on, the usual ones filled in.

    Examples
    --------
    >>> meant("last_layer", {"k": 3})
    {'bias': True, 'k': 3}
    """
    known = find(name)
    whole = {**known.defaults, **_checked(known, params)}
    return {key: whole[key] for key in sorted(whole) if key not in WITHOUT_TRACE}


def in_words(name: str, params: Mapping[str, Any]) -> str:
    """Return a method's name, and behind it the settings of its edges that are not the usual ones.

    Examples
    --------
    >>> in_words("influence_subset", {"k": 10, "of": "prob_label"}), in_words("trak", {"k": 10})
    ('influence_subset (of=prob_label)', 'trak')
    """
    usual = find(name).defaults if name in names() else {}
    other = ", ".join(f"{key}={value}" for key, value in params.items() if usual.get(key, ...) != value)
    return f"{name} ({other})" if other else name


def _checked(known: Scorer, params: Mapping[str, Any]) -> dict[str, Any]:
    for key in params:
        if key not in known.defaults:
            settings = tuple(one for one in known.defaults if one not in WITHOUT_TRACE)
            raise UnknownName(
                f"influence method '{known.name}' has no setting '{key}'"
                f"{nearest(key, settings) or '; it has ' + ', '.join(settings)}"
            )
    return checked_params(known.name, known.function, params)


def compute_edges(
    name: str,
    signals: Mapping[str, np.ndarray],
    params: Mapping[str, Any] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Edges:
    """Run a method on recorded arrays.

    Parameters
    ----------
    name
        A method; see `names`.
    signals
        Arrays by the name of the vocabulary.
    params
        Settings; unnamed ones keep their defaults.
    progress
        Told how many training samples of how many are done.

    Raises
    ------
    UnknownName
        An unknown method or setting.
    BadInput
        A setting of another type than its annotation.
    MissingSignal
        A signal that it needs is absent; the message says how to record it.

    Examples
    --------
    >>> seen = np.array([[True, False]])
    >>> right = np.array([[True, False], [False, True]])
    >>> given = {"subset_trained": seen, "val_subset_correct": right, "val_subset_prob_label": right * 1.0}
    >>> compute_edges("influence_subset", given, {"k": 1}).helped.tolist()
    [[0]]
    """
    known = find(name)
    settings = _checked(known, params or {})
    for absent in (one for one in known.inputs if one not in signals):
        raise MissingSignal(
            f"influence method '{name}' needs {absent}, {SIGNALS[absent].meaning}: {SIGNALS[absent].source}"
        )
    arrays = {one: normalise(one, signals[one]) for one in known.inputs}
    check_sizes(arrays, owner=name)
    over = {one: SIGNALS[one].axes.find("N") for one in arrays}
    samples = next(arrays[one].shape[axis] for one, axis in over.items() if axis >= 0)
    own = [field.name for field in fields(Edges) if field.name != "origins"]

    def run(start: int) -> tuple[list[Any], Origins]:
        part = [
            array if over[one] < 0 else array[(slice(None),) * over[one] + (slice(start, start + PART),)]
            for one, array in arrays.items()
        ]
        with refusals_of(name):
            found = known.function(*part, **settings)
        if progress is not None:
            progress(min(start + PART, samples), samples)
        return [getattr(found, name) for name in own], found.origins.moved(start)

    first, origins = run(0)
    lists = [first]
    for start in range(PART, samples, PART):
        more, here = run(start)
        lists.append(more)
        origins = merged(origins, here)
    return Edges(
        **{name: _joined(parts) for name, parts in zip(own, zip(*lists, strict=True), strict=True)},
        origins=origins,
    )


def _joined(parts: Sequence[Any]) -> Any:
    return None if parts[0] is None else np.concatenate(parts)
