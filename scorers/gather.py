"""From whatever holds signals to the arrays that one scorer's signature names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tracesift.catalog.schema import SIGNALS, BadInput, MissingSignal
from tracesift.scorers.arrays import check_sizes, normalise
from tracesift.scorers.derived import DERIVABLE, derive
from tracesift.scorers.discovery import Scorer

View = Callable[[Scorer, str | None], Mapping[str, Any]]
Taken = dict[tuple[int, str, bool], np.ndarray]
"""Normalised signals by source, name, and whether tensors stayed tensors."""


def views_of(signals: Any) -> View:
    """Return a function from a scorer and a mode to the signals it reads.

    A plain mapping is every mode's view. Of a recording, the view of each mode is asked for once, so that
    several scorers share the columns it has read.
    """
    if isinstance(signals, Mapping):
        return lambda known, mode: signals
    if not hasattr(signals, "in_mode"):
        raise BadInput(
            f"signals are a mapping from names to arrays, or a recording; got {type(signals).__name__}"
        )
    recorded = tuple(signals.modes)
    opened: dict[str | None, Mapping[str, Any]] = {}

    def view(known: Scorer, mode: str | None) -> Mapping[str, Any]:
        if mode is not None and mode not in recorded:
            raise MissingSignal(
                f"'{known.name}' means a recording made in mode '{mode}', and this one holds "
                f"{' and '.join(recorded) or 'none'}; record that mode, or pass mode= to read another one"
            )
        if mode is None:  # no input of this scorer depends on the mode, so any view holds them all
            mode = recorded[0] if recorded else None
        if mode not in opened:
            opened[mode] = signals.in_mode(mode)
        return opened[mode]

    return view


def slabs_of(source: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the source in parts of consecutive samples; a mapping that cannot be cut is one part.

    A recording on disk has ``slabs``, slices over the samples, and ``rows(slab)``, the signals of these alone.
    """
    slabs = getattr(source, "slabs", None)
    if slabs is None:
        yield source
        return
    for slab in slabs:
        yield source.rows(slab)  # type: ignore[attr-defined]


def gather(
    known: Scorer,
    source: Mapping[str, Any],
    normalised: Taken | None = None,
    *,
    tensors: bool = False,
) -> tuple[dict[str, np.ndarray | None], np.ndarray | None]:
    """Return the arrays of a scorer's signature out of `source`, normalised and fitting together, and `seen`.

    Parameters
    ----------
    normalised
        What earlier scorers of the same call took, by source and name; added to.
    tensors
        Leave tensors over samples on the device where they lie.

    Returns
    -------
    given
        None for an optional signal that is absent.
    seen : bool array of shape (T, N), or None
        For a mapping of a user's own that holds it: where False, float signals are to be read as NaN. A
        recording has NaN there already.

    Raises
    ------
    MissingSignal
        One that it cannot do without is absent.
    BadInput
        Wrong shapes, types or sizes.
    """
    kept = {} if normalised is None else normalised
    given = {
        name: _take(known, source, name, kept, tensors=tensors) for name in (*known.inputs, *known.optional)
    }
    present = {name: array for name, array in given.items() if array is not None}
    seen = None
    if isinstance(source, dict) and source.get("seen") is not None:
        seen = present["seen"] = _normalised(source, "seen", kept, tensors=tensors)
    check_sizes(present, owner=known.name)
    return given, seen


def _take(
    known: Scorer, source: Mapping[str, Any], name: str, kept: Taken, *, tensors: bool
) -> np.ndarray | None:
    if name in source and source[name] is not None:
        return _normalised(source, name, kept, tensors=tensors)
    if name in DERIVABLE and "probs" in source and "labels" in source:
        key = (id(source), name, False)
        if key not in kept:
            probs, labels = (_normalised(source, what, kept, tensors=False) for what in ("probs", "labels"))
            kept[key] = derive(name, probs, labels)
        return kept[key]
    if name in known.optional:
        return None
    raise MissingSignal(f"'{known.name}' needs the signal '{name}', which is absent; {SIGNALS[name].source}")


def _normalised(source: Mapping[str, Any], name: str, kept: Taken, *, tensors: bool) -> np.ndarray:
    key = (id(source), name, tensors)
    if key not in kept:
        kept[key] = normalise(name, source[name], tensors=tensors)
    return kept[key]
