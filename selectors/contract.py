"""What a selector is: a pure function from a score frame to one role, weight and reason per sample.

A selector lives in the file of its own name, gets its facts from `@selector`, and is found by looking at the
files; nothing is registered. A parameter that is named like a signal of `tracesift.catalog.schema.SIGNALS` is an
array that the caller passes beside the frame; `graph` is the graph of their nearest neighbours, `texts` what the
samples say.
`select` is the one door: it checks the frame, sorts it by `sample_id` (so the order of the input never matters),
turns a share into a count, and checks what came back.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import polars as pl

from tracesift.catalog.neighbor_graph import NeighborGraph
from tracesift.catalog.parameter_types import checked_params
from tracesift.catalog.schema import ROLES, SIGNALS, BadInput, MissingSignal, UnknownName, nearest
from tracesift.selectors.budget import resolve_size

F = TypeVar("F", bound=Callable[..., pl.DataFrame])

FOLDER = Path(__file__).parent
NO_SIGNALS = ("graph", "texts")
"""What may be passed beside the frame and is not recorded by a run."""

PASSED = ("frame", "size", "seed", *NO_SIGNALS, *SIGNALS)
"""Arguments that `select` fills in; every other parameter of a selector is the user's."""

FINITE_BLOCK = 16384
"""Rows of an embedding that are looked through at a time."""

SCHEMA: dict[str, pl.DataType] = {
    "sample_id": pl.String(),
    "role": pl.String(),
    "weight": pl.Float64(),
    "reason": pl.String(),
}
FURTHER: dict[str, pl.DataType] = {
    "new_label": pl.String(),
    "pulled_by": pl.String(),
    "how": pl.String(),
    "similarity": pl.Float64(),
}
"""Columns that some selectors add."""


@dataclass(frozen=True, kw_only=True)
class Selector:
    """What is known of one selector."""

    name: str
    version: int
    budget: bool
    """True: a budget is required. False: the selector decides by itself and takes none."""
    random: bool
    """True: the result depends on the seed."""
    columns: tuple[str, ...]
    """Parameters whose values name columns of the frame."""
    needs: tuple[str, ...]
    """Columns that must be there with default parameters; a column that the user names is `<parameter>`."""
    arrays: tuple[str, ...]
    """Signals without which it cannot run, beside the columns."""
    optional_arrays: tuple[str, ...]
    """Signals, `graph` or `texts`, that it uses where they are passed."""
    defaults: dict[str, Any]
    reference: str
    experimental: bool
    """True: the definition rests on an unverified source; no default uses it."""
    chooses: str
    """Role of the samples that the budget counts: `keep`, or `forget` of a chooser of forget sets."""
    summary: str
    function: Callable[..., pl.DataFrame]

    @property
    def reads_target(self) -> bool:
        """True: it reads the vectors of a domain without its labels; the validation samples' unless told others."""
        return "val_embedding" in self.arrays and "val_labels" not in self.arrays


def selector(
    *,
    version: int,
    reference: str,
    name: str | None = None,
    budget: bool = True,
    random: bool = False,
    columns: tuple[str, ...] = (),
    experimental: bool = False,
    chooses: Literal["keep", "forget"] = "keep",
) -> Callable[[F], F]:
    """Attach the facts of a selector to its function, which is returned unchanged.

    Parameters
    ----------
    version : int
        Raised when the same input would give another subset.
    reference : str
        Paper and section, or the definition in words.
    name : str, optional
        The selector's id where a file of that name would shadow a module of the standard library.
    budget : bool
        Whether a budget is required; a selector without one decides by itself.
    random : bool
        Whether the seed matters.
    columns : tuple of str
        Parameters whose values name columns of the frame.
    experimental : bool
        True where the definition rests on an unverified source.
    chooses : {"keep", "forget"}
        Role of the samples that the budget counts. What a chooser of forget sets does not choose is retained.
    """

    def attach(function: F) -> F:
        facts = {"version": version, "reference": reference, "budget": budget, "random": random}
        facts |= {"name": name or function.__name__, "columns": columns, "experimental": experimental}
        facts |= {"chooses": chooses}
        function.selector = facts  # type: ignore[attr-defined]
        return function

    return attach


def names() -> list[str]:
    """Return the ids of all selectors, sorted.

    Examples
    --------
    >>> "ccs" in names() and "random" in names()
    True
    """
    return sorted(_found())


def find(name: str) -> Selector:
    """Return the facts of one selector; an unknown name raises `UnknownName` with the nearest known one.

    Examples
    --------
    >>> find("top_k").budget, find("denoise").budget
    (True, False)
    """
    found = _found()
    if name not in found:
        raise UnknownName(
            f"no selector is called '{name}'{nearest(name, sorted(found), most=3)}; "
            "`tracesift selectors` lists them all"
        )
    return found[name]


def columns_needed(name: str, params: dict[str, Any]) -> list[str]:
    """Return the score columns that `name` reads with these parameters, for whoever builds its frame."""
    facts = find(name)
    values = [{**facts.defaults, **params}.get(key) for key in facts.columns]
    flat = [item for value in values for item in (value if isinstance(value, tuple | list) else [value])]
    return list(dict.fromkeys(item for item in flat if item is not None))


def select(
    name: str,
    frame: pl.DataFrame,
    *,
    budget: int | float | None,
    seed: int,
    embedding: np.ndarray | None = None,
    arrays: Mapping[str, Any] | None = None,
    **params: Any,
) -> pl.DataFrame:
    """Give every sample of `frame` a role, by one selector.

    Parameters
    ----------
    name : str
        A selector's id; see `names`.
    frame : polars.DataFrame
        One row per sample: `sample_id` (text, unique), `label`, and the score columns. Row order is
        irrelevant.
    budget : int, float or None
        How many samples are kept (by a chooser of forget sets, forgotten): a count, or a share in (0, 1] of the
        rows. None for selectors that decide by themselves (`find(name).budget` is False).
    seed : int
        For random draws; the draw of a sample depends on the seed, the selector and its id alone.
    embedding : ndarray (N, D), optional
        One vector per sample, in the frame's row order.
    arrays : mapping, optional
        Further signals by name: those over samples in the frame's row order, those over validation samples as
        they are; ``"graph"``, the `NeighborGraph` of the frame's rows, where it is known already; and ``"texts"``,
        a text per row.
    **params
        The selector's own parameters, see `find(name).defaults`.

    Returns
    -------
    polars.DataFrame
        `sample_id`, `role`, `weight`, `reason`, one row per row of `frame`, sorted by `sample_id`. `denoise` adds
        `new_label`, `forget_ready` what made a sample a copy: `pulled_by`, `how`, `similarity`.

    Raises
    ------
    BadInput
        For a budget, parameter, column or value that cannot be used, a parameter's value of another type than its
        annotation among them; the message says which.
    MissingSignal
        A needed array was not passed; the message says how to get it.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": list("xxy"), "el2n": [0.1, 0.9, 0.4]})
    >>> select("top_k", frame, budget=2, seed=0, score="el2n")["role"].to_list()
    ['drop', 'keep', 'keep']
    """
    facts = find(name)
    params = _checked_params(facts, params)
    order, frame = _sorted_frame(name, frame)
    arguments: dict[str, Any] = {"seed": _checked_seed(name, seed)}
    if facts.budget:
        if budget is None:
            raise BadInput(
                f"{name}: needs a budget: a count, or a share in (0, 1] of the {frame.height} samples"
            )
        arguments["size"] = resolve_size(budget, frame.height)
    elif budget is not None:
        raise BadInput(
            f"{name}: decides by itself how many samples it keeps; pass budget=None (got {budget!r})"
        )
    given = dict(arrays or {}) | ({} if embedding is None else {"embedding": embedding})
    arguments |= _checked_arrays(facts, given, order)
    wanted = inspect.signature(facts.function).parameters
    result = facts.function(frame, **{k: v for k, v in arguments.items() if k in wanted}, **params)
    return _checked_result(facts, frame, result, arguments.get("size"))


@cache
def _found() -> dict[str, Selector]:
    """Import every file beside this one and return the selectors among them, by id."""
    found: dict[str, Selector] = {}
    for path in sorted(FOLDER.rglob("*.py")):
        parts = path.relative_to(FOLDER).with_suffix("").parts
        if parts[0] == "flags" or not all(part.isidentifier() for part in parts) or parts == ("contract",):
            continue
        function = getattr(
            importlib.import_module(".".join(("tracesift.selectors", *parts))), parts[-1], None
        )
        declared = getattr(function, "selector", None)
        if callable(function) and isinstance(declared, dict):
            facts = _facts(function, declared)
            found[facts.name] = facts
    return found


def _facts(function: Callable[..., pl.DataFrame], declared: dict[str, Any]) -> Selector:
    parameters = inspect.signature(function).parameters
    defaults = {key: value.default for key, value in parameters.items() if key not in PASSED}
    passed = {key: value for key, value in parameters.items() if key in SIGNALS or key in NO_SIGNALS}
    needs = tuple(f"<{key}>" if defaults[key] is None else defaults[key] for key in declared["columns"])
    flat = [item for value in needs for item in ((value,) if isinstance(value, str) else value)]
    return Selector(
        **declared,
        needs=tuple(dict.fromkeys(flat)),
        arrays=tuple(key for key, value in passed.items() if value.default is value.empty),
        optional_arrays=tuple(key for key, value in passed.items() if value.default is None),
        defaults=defaults,
        summary=(inspect.getdoc(function) or "").split("\n", 1)[0],
        function=function,
    )


def _checked_params(facts: Selector, params: dict[str, Any]) -> dict[str, Any]:
    for key in params:
        if key not in facts.defaults:
            known = sorted(facts.defaults)
            hint = f"; it takes {', '.join(known)}" if known else "; it takes none"
            raise BadInput(f"{facts.name}: has no parameter '{key}'{nearest(key, known)}{hint}")
    return checked_params(facts.name, facts.function, params)


def _checked_seed(name: str, seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise BadInput(f"{name}: the seed must be a whole number, 0 or more (got {seed!r})")
    return int(seed)


def _sorted_frame(name: str, frame: pl.DataFrame) -> tuple[np.ndarray, pl.DataFrame]:
    """Return the sorting permutation and the frame sorted by `sample_id`, after checking both key columns."""
    for column in ("sample_id", "label"):
        if column not in frame.columns:
            raise BadInput(f"{name}: the frame has no column '{column}'; it has {frame.columns}")
        missing = frame[column].null_count()
        if missing:
            raise BadInput(
                f"{name}: '{column}' is null for {missing} of {frame.height} samples; fill or remove them"
            )
    if frame.is_empty():
        raise BadInput(f"{name}: the frame has no rows, so there is nothing to select from")
    if frame.schema["sample_id"] != pl.String:
        raise BadInput(
            f"{name}: 'sample_id' must be text, not {frame.schema['sample_id']}; cast it to String"
        )
    repeated = frame.height - frame["sample_id"].n_unique()
    if repeated:
        first = frame.filter(pl.col("sample_id").is_duplicated())["sample_id"].sort()[0]
        raise BadInput(f"{name}: {repeated} repeated sample_id (first: '{first}'); ids must be unique")
    order = frame["sample_id"].arg_sort().to_numpy()
    return order, frame[order].with_columns(pl.col("label").cast(pl.String))


def _checked_arrays(facts: Selector, given: Mapping[str, Any], order: np.ndarray) -> dict[str, Any]:
    """Return the arrays that a selector takes, those over samples in the order of `sample_id`."""
    known = (*facts.arrays, *facts.optional_arrays)
    for name in given:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise BadInput(f"{facts.name}: takes no {name}; leave it out ({takes})")
    for name in facts.arrays:
        if given.get(name) is None:
            raise MissingSignal(f"{facts.name}: needs {name}: {SIGNALS[name].source}")
    in_order = bool((np.diff(order) == 1).all())  # then nothing is copied, and a mapped file stays mapped
    checked: dict[str, Any] = {}
    for name, array in given.items():
        if isinstance(array, NeighborGraph):
            checked[name] = array if in_order else array.restricted(order)
        elif name == "texts" and array is not None:
            checked[name] = _checked_texts(facts.name, array, order, in_order=in_order)
        elif array is not None:
            checked[name] = _checked_array(facts.name, name, np.asarray(array), order, in_order=in_order)
    return checked


def _checked_texts(
    selector: str, texts: Sequence[str], order: np.ndarray, *, in_order: bool
) -> Sequence[str]:
    if isinstance(texts, str) or len(texts) != order.size:
        raise BadInput(
            f"{selector}: texts must be one per sample, {order.size}, in the frame's row order; got {len(texts)}"
        )
    return texts if in_order else [texts[row] for row in order]


def _checked_array(
    selector: str, name: str, values: np.ndarray, order: np.ndarray, *, in_order: bool
) -> np.ndarray:
    axes = SIGNALS[name].axes
    if values.ndim != len(axes) or ("N" in axes and values.shape[axes.index("N")] != order.size):
        shape = ", ".join(str(order.size) if axis == "N" else axis for axis in axes)
        raise BadInput(f"{selector}: {name} must be ({shape}), in the frame's row order; got {values.shape}")
    if values.dtype.kind == "f" and axes in ("ND", "MD", "NK", "MK"):
        blocks = range(0, len(values), FINITE_BLOCK)
        bad = sum(int((~np.isfinite(values[at : at + FINITE_BLOCK]).all(axis=1)).sum()) for at in blocks)
        if bad:
            raise BadInput(
                f"{selector}: {name} holds NaN or infinity for {bad} of {len(values)} rows; record or embed them again"
            )
    if "N" not in axes or in_order:
        return values
    return np.take(values, order, axis=axes.index("N"))


def _checked_result(
    facts: Selector, frame: pl.DataFrame, result: pl.DataFrame, size: int | None
) -> pl.DataFrame:
    schema = SCHEMA | {name: dtype for name, dtype in FURTHER.items() if name in result.columns}
    result = result.select([pl.col(column).cast(dtype) for column, dtype in schema.items()])
    assert result["sample_id"].equals(frame["sample_id"]), facts.name
    assert result["role"].is_in(ROLES).all(), facts.name
    assert size is None or int((result["role"] == facts.chooses).sum()) == size, facts.name
    return result
