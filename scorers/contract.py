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

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from tracesift.catalog.parameter_types import settings_of
from tracesift.catalog.schema import DIRECTIONS, MODES, BadInput
from tracesift.scorers.blocks import Asked, BlockThreads, masked_where_unseen, score_in_blocks
from tracesift.scorers.discovery import Function, Scorer, attach, find_one, names_of, refusals_of
from tracesift.scorers.gather import Taken, View, gather, slabs_of, views_of

if TYPE_CHECKING:
    import torch

COMBINED_BY = ("mean", "sum", "error")
"""How the values of several runs become one; see `combine`."""


def scorer(
    *,
    version: int = 1,
    mode: str | None,
    direction: str,
    combine: Literal["mean", "sum", "error"] = "mean",
    per_sample: bool = False,
    tensors: bool = False,
    once: Callable[..., Any] | None = None,
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
    per_sample
        True where a sample's score depends on no other sample. Such scorers run together, block of samples
        after block, while a block's signals lie in the cache; see `tracesift.catalog.compiled`.
    tensors
        True where a `per_sample` scorer takes torch tensors as well as NumPy arrays, because what it calls has
        a twin for them; it then runs on a GPU where one is named. See `tracesift.scorers.twins`.
    once
        For a `per_sample` scorer that also reads validation samples: a function of those inputs, evaluated
        once instead of in every block. The scorer gets the result in its keyword-only parameter `once`.
    reference
        Authors, venue and year.
    experimental
        True where the definition rests on an unverified source, or means signals that a recording of ours does
        not hold; such a scorer is in no default set.

    Raises
    ------
    TypeError
        A positional parameter is no signal, or a keyword-only one has no default.
    """
    if direction not in DIRECTIONS:
        raise TypeError(f"direction '{direction}' is none of {', '.join(DIRECTIONS)}")
    if combine not in COMBINED_BY:
        raise TypeError(f"combine is one of {', '.join(COMBINED_BY)}, not '{combine}'")

    def attach_facts(function: Function) -> Function:
        return attach(
            function, "scorer", version=version, mode=mode, direction=direction, combine=combine,
            per_sample=per_sample, tensors=tensors, once=once, reference=reference, experimental=experimental,
        )  # fmt: skip

    return attach_facts


def diagnostic(
    *, version: int = 1, mode: str | None, reference: str, experimental: bool = False
) -> Callable[[Function], Function]:
    """Attach facts to a function that says one thing about a whole dataset, as a JSON-able dict."""

    def attach_facts(function: Function) -> Function:
        return attach(
            function, "diagnostic", version=version, mode=mode, direction=None, combine=None,
            per_sample=False, tensors=False, once=None, reference=reference, experimental=experimental,
        )  # fmt: skip

    return attach_facts


def names() -> tuple[str, ...]:
    """Return the names of all scorers, sorted. No scorer is imported for it."""
    return names_of("scorer")


def diagnostics() -> tuple[str, ...]:
    """Return the names of all diagnostics, sorted; see `diagnose`."""
    return names_of("diagnostic")


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
    return find_one(name, "scorer")


def find_diagnostic(name: str) -> Scorer:
    """Return the facts of the diagnostic `name`."""
    return find_one(name, "diagnostic")


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
        or an object with ``modes`` and ``in_mode(mode)``, such as `tracesift.pipelines.signals.Signals`. Scores
        that it has ``summed`` up while training are taken from there.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``. With ``"auto"`` scorers that train or search take a
        GPU where there is one. Those that only add up recorded numbers stay on the CPU, because the numbers lie
        on disk or in its memory and the values are the same everywhere; given CUDA tensors, trajectory scorers
        run where these lie. A GPU that is named runs every scorer asked for, and the values of trajectory
        scorers are the CPU's but for rounding (relative 1e-12; counts are the same).
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
        A setting is unknown or of another type than its annotation, arrays do not fit together, or a scorer cannot run
        on the GPU that is named.

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
    for one in found:
        _settings(one, params.get(one.name))  # refused before the first of them runs
    view = views_of(signals)
    summed = _summed(found, signals, params, mode)
    place = _place(device, signals, [one for one in found if one.name not in summed])
    columns = dict(summed)
    for on_tensors in (True, False):
        together = [
            one
            for one in found
            if one.per_sample and one.name not in summed and on_tensors == (one.tensors and place is not None)
        ]
        if together:
            columns |= _compute_together(together, view, params, mode, place if on_tensors else None)
    kept: Taken = {}
    for one in found:
        if one.name not in columns:
            values = _run(_asked(one, view(one, _mode(one, mode)), params.get(one.name), kept, device))
            columns[one.name] = pl.Series(one.name, np.asarray(values, dtype=np.float64))
    for name in asked[1:]:
        if len(columns[name]) != len(columns[asked[0]]):
            sizes = f"'{asked[0]}' has {len(columns[asked[0]])} samples but '{name}' has {len(columns[name])}"
            raise BadInput(sizes)
    return pl.DataFrame([columns[name] for name in asked])


def _summed(
    found: Sequence[Scorer], signals: Any, params: Mapping[str, Mapping[str, Any]], mode: str | None
) -> dict[str, pl.Series]:
    """Return the scores that a recording without trajectories holds already, under these settings."""
    if not hasattr(signals, "summed"):
        return {}
    columns = {}
    for one in found:
        values = signals.summed(one.name, one.version, effective_params(one.name, params.get(one.name), mode))
        if values is not None:
            columns[one.name] = pl.Series(one.name, values)
    return columns


def _compute_together(
    together: Sequence[Scorer],
    view: View,
    params: Mapping[str, Mapping[str, Any]],
    mode: str | None,
    place: torch.device | None,
) -> dict[str, pl.Series]:
    """Run `per_sample` scorers, over one slab of a recording after another where it is read in slabs.

    At `place` they run on tensors; without one, as compiled loops in threads of the CPU.
    """
    sources = [view(one, _mode(one, mode)) for one in together]
    slabs: dict[str, list[pl.Series]] = {one.name: [] for one in together}
    once: dict[str, Any] = {}
    with BlockThreads() as threads:
        for parts in zip(*(slabs_of(source) for source in sources), strict=True):
            kept: Taken = {}
            asked = [
                _asked(one, part, params.get(one.name), kept, tensors=place is not None)
                for one, part in zip(together, parts, strict=True)
            ]
            for one, values in zip(together, _scored(asked, once, threads, place), strict=True):
                slabs[one.name].append(pl.Series(one.name, values))
            del asked, kept, parts  # or two slabs would be in memory while the next one is read
    return {name: pl.concat(values, rechunk=False) for name, values in slabs.items()}


def _scored(
    asked: Sequence[Asked], once: dict[str, Any], threads: BlockThreads, place: torch.device | None
) -> list[np.ndarray]:
    if place is None:
        return score_in_blocks(asked, once, threads)
    from tracesift.scorers.device_blocks import score_on_device  # it imports torch

    return [values.cpu().numpy() for values in score_on_device(asked, once, place)]


def _place(device: str, signals: Any, found: Sequence[Scorer]) -> torch.device | None:
    """Return the device on which scorers over tensors run, None for compiled loops on the CPU."""
    if device.startswith("cuda"):
        for one in found:
            if not (one.tensors or one.takes_device):
                raise BadInput(
                    f"'{one.name}' runs on the CPU alone, and device '{device}' was asked for; compute it with "
                    "device='auto' or 'cpu'"
                )
        import torch

        return torch.device(_device(device))
    if device == "auto" and isinstance(signals, Mapping):
        for value in signals.values():
            if getattr(value, "is_cuda", False):
                return value.device
    return None


def diagnose(
    name: str,
    signals: Any,
    *,
    device: str = "auto",
    params: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> dict[str, Any]:
    """Run the diagnostic `name` on signals, as `compute` runs a scorer, and return its findings."""
    known = find_diagnostic(name)
    result: dict[str, Any] = _run(
        _asked(known, views_of(signals)(known, _mode(known, mode)), params, {}, device)
    )
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
        A setting or mode that does not exist, the message holds the nearest setting; or a value of another type.

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
        ``"mean"``, ``"sum"`` or ``"error"``, as the scorer declares (`Scorer.combine`).

    Returns
    -------
    value : array of shape (N,)
        Mean over the runs that have the sample; times the number of runs for ``"sum"``, so that a sample
        missing from one run stays comparable. For ``"error"`` the values are standard errors of estimates of which
        the mean is taken, and this is that of the mean: the root of the sum of their squares, over how many there
        are. NaN where no run has it.
    spread : array of shape (N,)
        Standard deviation over the runs (ddof 1); NaN where fewer than two runs have the sample.

    Examples
    --------
    >>> value, spread = combine([[0.0, 3.0], [2.0, float("nan")]], "sum")
    >>> value.tolist(), spread.round(3).tolist()
    ([2.0, 6.0], [1.414, nan])
    """
    if rule not in COMBINED_BY:
        raise BadInput(f"runs are combined by {', '.join(COMBINED_BY)}, not '{rule}'")
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
        of_mean = np.sqrt(_total(np.where(there, runs**2, 0.0))) / count
    return {"mean": mean, "sum": mean * len(runs), "error": of_mean}[rule], spread


def _total(rows: np.ndarray) -> np.ndarray:
    total = np.zeros(rows.shape[1])
    for row in rows:
        total += row
    return total


def _settings(known: Scorer, params: Mapping[str, Any] | None) -> dict[str, Any]:
    return settings_of(known.name, known.function, known.defaults, params or {})


def _mode(known: Scorer, mode: str | None) -> str | None:
    if mode is not None and mode not in MODES:
        raise BadInput(f"there is no recording mode '{mode}'; modes are {' and '.join(MODES)}")
    return known.mode if known.mode is None or mode is None else mode


def _asked(
    known: Scorer,
    source: Mapping[str, Any],
    params: Mapping[str, Any] | None,
    kept: Taken,
    device: str = "cpu",
    *,
    tensors: bool = False,
) -> Asked:
    settings = _settings(known, params)
    given, seen = gather(known, source, kept, tensors=tensors)
    if known.takes_device:
        settings["device"] = _device(device)
    return Asked(known=known, given=given, seen=seen, settings=settings)


def _run(one: Asked) -> Any:
    given = {name: masked_where_unseen(name, array, one.seen) for name, array in one.given.items()}
    with refusals_of(one.known.name):
        return one.known.function(**given, **one.settings)


def _device(device: str) -> str:
    import torch  # imported only for a scorer that trains or searches

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput(f"device '{device}' was asked for, but torch sees no GPU; use device='cpu' or 'auto'")
    return device
