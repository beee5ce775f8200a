"""Signals to edges: whom each training sample helps and harms, by every method whose signals are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.files import digest
from tracesift.catalog.schema import MissingSignal
from tracesift.flows.outdated import made_from
from tracesift.flows.progress import say, watched
from tracesift.flows.work import Work
from tracesift.pipelines.signals import ModeSignals, load_signals, read_run
from tracesift.scorers.influence.edge_search import Edges
from tracesift.scorers.influence.edges.contract import compute_edges, find, meant, names


def influence(
    work: Work,
    runs: Sequence[str],
    chosen: Sequence[str] = (),
    params: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    k: int = 10,
) -> dict[str, Any]:
    """Find the strongest partners of each sample at either end, and put them into the catalog; once per recording.

    Parameters
    ----------
    runs
        Recordings; each method reads the first that has its signals. Several are not combined: an edge of one model is
        none of another.
    chosen
        Methods by name; every one whose signals are there by default.
    params
        Settings by method.
    k
        Partners that a sample helps most, and as many that it harms most.

    Returns
    -------
    dict
        ``edges``: per method `run_id`, `edges`, training `samples` that have any, and `params`; ``left_out``: method ->
        why it could not run.

    Raises
    ------
    MissingSignal
        A method that was named, or every one, lacks a signal; the message says how to record it.
    """
    listed = sorted(chosen) if chosen else list(names())
    settings = {name: {"k": k, **(params or {}).get(name, {})} for name in listed}
    for name in listed:
        meant(name, settings[name])
    found: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    unread: dict[str, list[str]] = {}
    for name in listed:
        absent = {run: _missing(name, _signals(work, run)) for run in runs}
        run = next((run for run in runs if absent[run] is None), None)
        if run is not None:
            unread[name] = [other for other in runs if absent[other] is None and other != run]
            found[name] = _made(work, run, name, settings[name])
            continue
        left_out[name] = _needs(work, runs[0], str(absent[runs[0]]))
        if chosen:
            raise MissingSignal(f"influence method '{name}' {left_out[name]}")
    if not found:
        raise MissingSignal(
            "no method of influence can run: " + "; ".join(f"{name} {why}" for name, why in left_out.items())
        )
    if any(unread.values()):
        say(_not_pooled({name: one["run_id"] for name, one in found.items()}, unread))
    # What was asked for last is what readers show, also where it had been made before edges with other settings.
    work.catalog.make_edges_newest([(one["run_id"], name, one["params"]) for name, one in found.items()])
    for name, one in found.items():
        if find(name).jobs:
            from tracesift.flows.jobs import tell_ends  # torch

            tell_ends(work, {job: [name] for job in find(name).jobs}, [one["run_id"]])
    if left_out:
        say("left out: " + "; ".join(f"{name} {why}" for name, why in left_out.items()))
    return {"edges": found, "left_out": left_out}


def _not_pooled(read: Mapping[str, str], unread: Mapping[str, Sequence[str]]) -> str:
    """Return which recording each method read, and which others it could have read.

    Examples
    --------
    >>> _not_pooled({"tracin": "a1", "trak": "a1"}, {"tracin": ["b2"], "trak": []})
    'one recording each: tracin, trak of run a1; others that have the signals are not pooled (b2): --run RUN reads one'
    """
    of = {run: ", ".join(name for name in read if read[name] == run) for run in read.values()}
    others = ", ".join(sorted({run for runs in unread.values() for run in runs}))
    told = "; ".join(f"{methods} of run {run}" for run, methods in of.items())
    return (
        f"one recording each: {told}; others that have the signals are not pooled ({others}): "
        "--run RUN reads one"
    )


def _made(work: Work, run: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told of a method's edges, made unless they stand in the catalog."""
    whole = meant(name, settings)
    record = read_run(work.path, run)
    files, training = record["files"], made_from([record], find(name).inputs)
    read = {one: files.get(f"{one}.npz") for one in find(name).inputs}
    key = digest([run, name, find(name).version, whole, read])
    done = work.record("influence", key)
    if done is not None and work.catalog.has_edges(run, name, whole, training):
        return done
    signals = load_signals(work.path, run)
    with watched(f"influence {name}") as report:
        edges = compute_edges(
            name,
            signals.in_mode(signals.modes[0]),
            settings,
            progress=lambda at, of: report(at, of, "samples"),
        )
        frame = edge_frame(edges)
        work.catalog.put_edges(
            run, work.dataset.dataset_id, frame, (signals.sample_ids, signals.val_sample_ids),
            {"method": name, "version": find(name).version, "params": whole, "made_from": training},
        )  # fmt: skip
    told = {"run_id": run, "edges": frame.height, "samples": frame["sample"].n_unique(), "params": whole}
    return work.finish("influence", key, told)


def edge_frame(edges: Edges) -> pl.DataFrame:
    """Return edges as the catalog takes them: a row per pair that is among the strongest of either end.

    Examples
    --------
    >>> from tracesift.scorers.influence.edge_search import Origins
    >>> none, nan = np.array([[-1]]), np.array([[np.nan]])
    >>> values = np.array([[np.nan], [0.5]]), np.array([[-0.25], [np.nan]])
    >>> by = Origins(np.array([[-1], [0]]), values[0], np.array([[0], [-1]]), values[1])
    >>> edge_frame(Edges(np.array([[1]]), np.array([[0.5]]), none, nan, by)).rows()
    [(0, 1, 0.5, None, 1, 1), (0, 0, -0.25, None, None, 1)]
    """
    by = edges.origins
    ends = (
        (edges.helped, edges.help, edges.help_error, by.helping, by.help, by.help_error),
        (edges.harmed, edges.harm, edges.harm_error, by.harming, by.harm, by.harm_error),
    )
    return pl.concat([part for end in ends for part in _of_kind(*end)])


def _of_kind(
    partners: np.ndarray,
    values: np.ndarray,
    errors: np.ndarray | None,
    origins: np.ndarray,
    by_values: np.ndarray,
    by_errors: np.ndarray | None,
) -> list[pl.DataFrame]:
    """Return the pairs of one kind: those of the training samples' lists, and what partners have beyond them."""
    rank_there = np.zeros(partners.shape, dtype=np.int16)
    partner, place = np.nonzero(origins >= 0)
    origin = origins[partner, place]
    in_list = partners[origin] == partner[:, None]
    known = in_list.any(axis=1)
    rank_there[origin[known], in_list[known].argmax(axis=1)] = place[known] + 1
    sample, at = np.nonzero(partners >= 0)
    beyond = (partner[~known], place[~known])
    return [
        _pairs(sample, partners[sample, at], values, errors, (sample, at), at + 1, rank_there[sample, at]),
        _pairs(
            origin[~known], beyond[0], by_values, by_errors, beyond, np.zeros_like(beyond[1]), beyond[1] + 1
        ),
    ]


def _pairs(
    sample: np.ndarray,
    partner: np.ndarray,
    values: np.ndarray,
    errors: np.ndarray | None,
    at: tuple[np.ndarray, np.ndarray],
    rank: np.ndarray,
    partner_rank: np.ndarray,
) -> pl.DataFrame:
    """Return rows of the catalog; a rank of 0 is none."""
    spread = np.full(len(sample), np.nan) if errors is None else errors[at]
    return pl.DataFrame(
        {
            "sample": sample.astype(np.int32), "partner": partner.astype(np.int32),
            "value": values[at].astype(np.float32), "spread": spread.astype(np.float32),
            "rank": rank.astype(np.int16), "partner_rank": partner_rank.astype(np.int16),
        }
    ).with_columns(
        pl.col("spread").fill_nan(None), pl.col("rank", "partner_rank").replace(0, None)
    )  # fmt: skip


def _signals(work: Work, run: str) -> ModeSignals:
    signals = load_signals(work.path, run)
    return signals.in_mode(signals.modes[0])


def _missing(name: str, there: ModeSignals) -> str | None:
    """Return a signal that a method lacks, or None where it can run."""
    return next((one for one in find(name).inputs if one not in there), None)


def _needs(work: Work, run: str, signal: str) -> str:
    from tracesift.flows.jobs import how_to_make  # torch, which a method whose signals are there does without

    return f"needs {signal}: {how_to_make(work, run, signal)}"
