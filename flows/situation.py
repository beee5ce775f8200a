"""What is known of a workspace's samples before a selection, and the selector that `auto` takes for it."""

from __future__ import annotations

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.flows.candidates import is_flagged, training_frame
from tracesift.flows.recordings import newest_runs
from tracesift.flows.work import Work
from tracesift.pipelines.signals import ModeSignals, load_signals
from tracesift.selectors.advice import Choice, Situation, choose

AUTO = "auto"
"""Asked for in place of a selector's name, `choose` decides."""


def situation(work: Work, keep: float | int) -> Situation:
    """Return what is known of the training samples before as many are selected.

    Parameters
    ----------
    keep
        A share of all training samples, or a count.
    """
    frame = training_frame(work)
    pool = frame.filter(~is_flagged())
    sizes = pool["label"].value_counts()["count"].to_numpy() if len(pool) else np.ones(1)
    signals = recorded(work)
    rate = work.catalog.diagnostic(work.dataset.dataset_id, "label_noise_rate") or {}
    estimated = rate.get("rate") if rate.get("shown") else None
    scores = [name for name, kind in pool.schema.items() if kind.is_float()]
    return Situation(
        samples=len(frame),
        unflagged=len(pool),
        kept=max(1, round(keep * len(frame))) if isinstance(keep, float) else keep,
        classes=frame["label"].n_unique(),
        imbalance=float(sizes.max() / sizes.min()),
        noise=1 - len(pool) / len(frame) if estimated is None else float(estimated),
        columns=frozenset(name for name in scores if pool[name].is_finite().all(ignore_nulls=False)),
        embedded=signals is not None and "embedding" in signals,
    )


def chosen(work: Work, keep: float | int) -> Choice:
    """Return what `auto` takes."""
    return choose(situation(work, keep))


def recorded(work: Work) -> ModeSignals | None:
    """Return the newest recording as it was at the ends of epochs, or None where there is none."""
    try:
        signals = load_signals(work.path, newest_runs(work)[0])
    except BadInput:
        return None
    return signals.in_mode("epoch_end" if "epoch_end" in signals.modes else signals.modes[0])
