"""What a scorer is, how it is found, and how it is run on signals.

A scorer is one pure function in a file of its own name: its positional parameters name the signals it needs
(out of `tracesift.catalog.schema.SIGNALS`; one with a default of None is optional), its keyword-only
parameters with their defaults are its settings, and it returns one float64 per sample. `scorer` attaches the
facts that a signature cannot hold and returns the function unchanged; nothing is registered. A parameter
called `device` is filled in by `compute` and is no setting: a score's identity does not depend on it.

Arrays are normalised here once (tensors to NumPy, shapes against each other, labels against the number of
classes), so the scorers themselves stay on the page of the paper.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import numpy as np
import polars as pl

from tracesift.catalog.schema import DIRECTIONS, MODES, SIGNALS, BadInput, MissingSignal, UnknownName, nearest
from tracesift.scorers.arrays import check_sizes, normalise
from tracesift.scorers.derived import DERIVABLE, derive

FOLDER = Path(__file__).parent
PACKAGE = "tracesift.scorers"

Kind = Literal["scorer", "diagnostic"]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Everything known of one scorer (or diagnostic, whose direction and combine are None)."""

    name: str
    version: int
    inputs: tuple[str, ...]
    """Signals without which it cannot run, in the order of the signature."""
    optional: tuple[str, ...]
    """Signals used where they are there."""
    mode: str | None
    """The recording mode it means; None where no signal depends on the mode."""
    direction: str | None
    """What a high value says; one of `catalog.schema.DIRECTIONS`."""
    reference: str
    defaults: Mapping[str, Any]
    experimental: bool
    combine: str | None
    """How several runs become one value: mean or sum."""
    takes_device: bool
    summary: str
    """First line of the docstring."""
    function: Callable[..., Any]


def scorer(
    *,
    version: int = 1,
    mode: str | None,
    direction: str,
    combine: Literal["mean", "sum"] = "mean",
    reference: str,
    experimental: bool = False,
) -> Callable[[Function], Function]:
    """Attach to a function what its signature cannot say, and return it unchanged.

    Parameters
    ----------
    version
        Raised whenever the same signals give other values.
    mode
        ``"in_training"``, ``"epoch_end"``, or None where no input depends on the recording mode.
    direction
        What a high value says: one of ``hard easy suspicious clean keep outlier redundant``.
    combine
        How the values of several runs become one.
    reference
        Authors, venue and year.
    experimental
        True where the definition rests on an unverified source; such a scorer is in no default set.

    Raises
    ------
    TypeError
        A positional parameter is no signal, or a keyword-only one has no default.
    """
    if direction not in DIRECTIONS:
        raise TypeError(f"direction '{direction}' is none of {', '.join(DIRECTIONS)}")
    if combine not in ("mean", "sum"):
        raise TypeError(f"combine is 'mean' or 'sum', not '{combine}'")

    def attach(function: Function) -> Function:
        return _attach(
            function, "scorer", version=version, mode=mode, direction=direction, combine=combine,
            reference=reference, experimental=experimental,
        )  # fmt: skip

    return attach


def diagnostic(
    *, version: int = 1, mode: str | None, reference: str, experimental: bool = False
) -> Callable[[Function], Function]:
    """Attach facts to a function that says one thing about a whole dataset, as a JSON-able dict."""

    def attach(function: Function) -> Function:
        return _attach(
            function, "diagnostic", version=version, mode=mode, direction=None, combine=None,
            reference=reference, experimental=experimental,
        )  # fmt: skip

    return attach


def names() -> tuple[str, ...]:
    """Return the names of all scorers, sorted. No scorer is imported for it."""
    return _names("scorer")


def diagnostics() -> tuple[str, ...]:
    """Return the names of all diagnostics, sorted; see `diagnose`."""
    return _names("diagnostic")


def find(name: str) -> Scorer:
    """Return the facts of the scorer `name`; only its own module is imported.

    Raises
    ------
    UnknownName
        No scorer has this name; the message holds the nearest one.

    Examples
    --------
    >>> find("aum").direction, find("aum").inputs
    ('clean', ('margin',))
    """
    return _find(name, "scorer")


def find_diagnostic(name: str) -> Scorer:
    """Return the facts of the diagnostic `name`."""
    return _find(name, "diagnostic")


def compute(
    names: str | Sequence[str],
    signals: Any,
    *,
    device: str = "auto",
    params: Mapping[str, Mapping[str, Any]] | None = None,
    mode: str | None = None,
) -> pl.DataFrame:
    """Run scorers on recorded signals.

    Parameters
    ----------
    names
        Scorers to run, each at most once.
    signals
        A mapping from signal names to arrays or tensors, taken as recorded in the mode each scorer means;
        or an object with ``modes`` and ``in_mode(mode)``, such as `tracesift.pipelines.signals.Signals`.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``: where scorers that train or search may run. Those
        that only add up recorded numbers always run on the CPU, so their values are the same everywhere.
    params
        Settings by scorer name; unnamed ones keep their defaults.
    mode
        Read this mode whatever the scorers mean. It belongs to the scores' identity: see `effective_params`.

    Returns
    -------
    polars.DataFrame
        One Float64 column per scorer in the order asked for, N rows in input order; NaN where a sample was
        never seen or the score is not defined for it.

    Raises
    ------
    UnknownName
        A scorer of this name does not exist.
    MissingSignal
        A needed signal, or the mode a scorer means, was not recorded.
    BadInput
        A setting is unknown, or arrays do not fit together.

    Examples
    --------
    >>> compute(["mean_loss"], {"loss": [[0.5, 2.0], [0.1, 3.0]]})["mean_loss"].to_list()
    [0.3, 2.5]
    """
    asked = [names] if isinstance(names, str) else list(names)
    if len(set(asked)) != len(asked):
        raise BadInput(f"each scorer can be asked for once, got {', '.join(asked)}")
    params = params or {}
    found = [find(name) for name in asked]
    for name in params:
        if name not in asked:
            find(name)
            raise BadInput(f"settings were given for '{name}', which is not among the scorers asked for")
    columns: dict[str, np.ndarray] = {}
    for one in found:
        values = np.asarray(_run(one, signals, device, params.get(one.name), mode), dtype=np.float64)
        for name, column in columns.items():
            if len(column) != len(values):
                raise BadInput(f"'{name}' has {len(column)} samples but '{one.name}' has {len(values)}")
        columns[one.name] = values
    return pl.DataFrame({name: pl.Series(name, column) for name, column in columns.items()})


def diagnose(
    name: str,
    signals: Any,
    *,
    device: str = "auto",
    params: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> dict[str, Any]:
    """Run the diagnostic `name` on signals, as `compute` runs a scorer, and return its findings."""
    result: dict[str, Any] = _run(find_diagnostic(name), signals, device, params, mode)
    return result


def effective_params(
    name: str, params: Mapping[str, Any] | None = None, mode: str | None = None
) -> dict[str, Any]:
    """Return the settings that a score is stored under: defaults, `params`, and an overriding mode.

    `mode` appears only where it differs from the mode that the scorer means.

    Raises
    ------
    UnknownName
        No such scorer or diagnostic.
    BadInput
        A setting or mode that does not exist; the message holds the nearest setting.

    Examples
    --------
    >>> effective_params("fkl", {"k": 1}, mode="in_training")
    {'k': 1, 'mode': 'in_training'}
    """
    known = find_diagnostic(name) if name in diagnostics() else find(name)
    settings = _settings(known, params)
    wanted = _mode(known, mode)
    return settings if wanted == known.mode else {**settings, "mode": wanted}


def combine(values: Sequence[Any], rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Combine one scorer's values from several runs.

    Parameters
    ----------
    values
        One array or Series of shape (N,) per run, in the same sample order.
    rule
        ``"mean"`` or ``"sum"``, as the scorer declares (`Scorer.combine`).

    Returns
    -------
    value : array of shape (N,)
        Mean over the runs that have the sample; times the number of runs for ``"sum"``, so that a sample
        missing from one run stays comparable. NaN where no run has it.
    spread : array of shape (N,)
        Standard deviation over the runs (ddof 1); NaN where fewer than two runs have the sample.

    Examples
    --------
    >>> value, spread = combine([[0.0, 3.0], [2.0, float("nan")]], "sum")
    >>> value.tolist(), spread.round(3).tolist()
    ([2.0, 6.0], [1.414, nan])
    """
    if rule not in ("mean", "sum"):
        raise BadInput(f"runs are combined by 'mean' or 'sum', not '{rule}'")
    if len({len(run) for run in values}) != 1:
        raise BadInput("combining needs at least one run, and the same samples in each")
    # Sorted along the runs, so that their order leaves no trace in the last bit; NaN sorts to the end.
    runs = np.sort(np.stack([np.asarray(run, dtype=np.float64) for run in values]), axis=0)  # (runs, N)
    there = ~np.isnan(runs)
    count = there.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = _total(np.where(there, runs, 0.0)) / count
        squares = _total(np.where(there, (runs - mean) ** 2, 0.0))
        spread = np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)
    return (mean * len(runs) if rule == "sum" else mean), spread


def _total(rows: np.ndarray) -> np.ndarray:
    total = np.zeros(rows.shape[1])
    for row in rows:
        total += row
    return total


def _attach(function: Function, kind: Kind, **facts: Any) -> Function:
    name = function.__name__
    if facts["mode"] is not None and facts["mode"] not in MODES:
        raise TypeError(f"{name}: mode '{facts['mode']}' is none of {', '.join(MODES)}")
    inputs, optional, defaults = [], [], {}
    takes_device = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            if parameter.name == "device":
                takes_device = True
            elif parameter.default is parameter.empty:
                raise TypeError(f"{name}: setting '{parameter.name}' needs a default")
            else:
                defaults[parameter.name] = parameter.default
        elif parameter.name not in SIGNALS:
            raise TypeError(f"{name}: '{parameter.name}' is no signal of catalog.schema.SIGNALS")
        elif parameter.default is parameter.empty:
            inputs.append(parameter.name)
        elif parameter.default is None:
            optional.append(parameter.name)
        else:
            raise TypeError(f"{name}: an optional signal has the default None, '{parameter.name}' has not")
    record = Scorer(
        name=name, inputs=tuple(inputs), optional=tuple(optional), defaults=MappingProxyType(defaults),
        takes_device=takes_device, summary=(function.__doc__ or "").strip().split("\n")[0],
        function=function, **facts,
    )  # fmt: skip
    setattr(function, f"__{kind}__", record)
    return function


def _names(kind: Kind) -> tuple[str, ...]:
    found = [path.stem for path in FOLDER.rglob("*.py") if _defines(path, kind)]
    doubled = {name for name in found if found.count(name) > 1}
    if doubled:
        raise TypeError(f"more than one file defines {', '.join(sorted(doubled))}; a name is given once")
    return tuple(sorted(found))


def _defines(path: Path, kind: Kind) -> bool:
    """Tell whether a file defines a function of its own name under this decorator, without importing it."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == path.stem:
            return any(
                isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == kind
                for mark in node.decorator_list
            )
    return False


def _find(name: str, kind: Kind) -> Scorer:
    paths = [path for path in FOLDER.rglob("*.py") if path.stem == name and _defines(path, kind)]
    if not paths:
        raise UnknownName(
            f"there is no {kind} '{name}'{nearest(name, _names(kind))}; `tracesift scorers` lists them all"
        )
    assert len(paths) == 1, paths
    module = ".".join((PACKAGE, *paths[0].relative_to(FOLDER).with_suffix("").parts))
    record: Scorer = getattr(getattr(importlib.import_module(module), name), f"__{kind}__")
    return record


def _settings(known: Scorer, params: Mapping[str, Any] | None) -> dict[str, Any]:
    for key in params or {}:
        if key not in known.defaults:
            settings = tuple(known.defaults)
            hint = nearest(key, settings) or (
                f"; it has {', '.join(settings)}" if settings else "; it has none"
            )
            raise BadInput(f"'{known.name}' has no setting '{key}'{hint}")
    return {**known.defaults, **(params or {})}


def _mode(known: Scorer, mode: str | None) -> str | None:
    if mode is not None and mode not in MODES:
        raise BadInput(f"there is no recording mode '{mode}'; modes are {' and '.join(MODES)}")
    return known.mode if known.mode is None or mode is None else mode


def _run(known: Scorer, signals: Any, device: str, params: Mapping[str, Any] | None, mode: str | None) -> Any:
    settings = _settings(known, params)
    source = _in_mode(known, signals, _mode(known, mode))
    given = {name: _take(known, source, name) for name in (*known.inputs, *known.optional)}
    check_sizes({name: array for name, array in given.items() if array is not None}, owner=known.name)
    if known.takes_device:
        settings["device"] = _device(device)
    return known.function(**given, **settings)


def _in_mode(known: Scorer, signals: Any, mode: str | None) -> Mapping[str, Any]:
    if isinstance(signals, Mapping):
        return signals
    if not hasattr(signals, "in_mode"):
        raise BadInput(
            f"signals are a mapping from names to arrays, or recorded signals; got {type(signals).__name__}"
        )
    recorded = tuple(signals.modes)
    if mode is not None and mode not in recorded:
        raise MissingSignal(
            f"'{known.name}' means a recording made in mode '{mode}', and this one holds "
            f"{' and '.join(recorded) or 'none'}; record that mode, or pass mode= to read another one"
        )
    if mode is None:  # no input of this scorer depends on the mode, so any view holds them all
        mode = recorded[0] if recorded else None
    view: Mapping[str, Any] = signals.in_mode(mode)
    return view


def _take(known: Scorer, source: Mapping[str, Any], name: str) -> np.ndarray | None:
    if name in source and source[name] is not None:
        return normalise(name, source[name])
    if name in DERIVABLE and "probs" in source and "labels" in source:
        return derive(name, normalise("probs", source["probs"]), normalise("labels", source["labels"]))
    if name in known.optional:
        return None
    raise MissingSignal(f"'{known.name}' needs the signal '{name}', which is absent; {SIGNALS[name].source}")


def _device(device: str) -> str:
    import torch  # imported only for a scorer that trains or searches

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput(f"device '{device}' was asked for, but torch sees no GPU; use device='cpu' or 'auto'")
    return device
