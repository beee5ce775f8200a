"""What `tracesift advise` says: the choice of `auto` at several shares, and what to expect of every alternative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.flows.progress import counted
from tracesift.flows.reporting.compared import EVERYTHING, compared
from tracesift.flows.selecting.situation import recorded, situation
from tracesift.flows.work import Work
from tracesift.selectors.advice import choose, expected, measured, nearest_setting

SHARES = (0.7, 0.5, 0.3, 0.2, 0.1)
"""Shares that are advised on where none is named."""


def advise(work: Work, shares: Sequence[float] = SHARES) -> dict[str, Any]:
    """Say what `auto` takes at each share, and what to expect of it and of every alternative.

    The accuracy to expect is that of training on everything here, times what the selector retained of it where it was
    measured; another dataset may order the selectors otherwise, and `tracesift evaluate` tells.

    Returns
    -------
    dict
        ``dataset`` (what is known), ``choices`` (a row per share), ``everything`` (accuracy of training on
        everything and where it is from, or None), ``setting`` (what was measured, and on what), ``expected`` (a row
        per selector and share) and ``here`` (subsets that were evaluated in this workspace).
    """
    for share in shares:
        if not 0 < share <= 1:
            raise BadInput(f"--keep {share:g}: a share in (0, 1], such as 0.5")
    known = [situation(work, float(share)) for share in shares]
    name = nearest_setting(known[0])
    anchor = _everything(work)
    rows = []
    for share in shares:
        for row in expected(name, share):
            # a subset may have been worth more than everything there, and no accuracy is above 1
            accuracy = None if anchor is None else min(1.0, anchor["accuracy"] * row.retained)
            rows.append({"keep": share, **asdict(row), "accuracy": accuracy})
    return {
        "dataset": {
            "name": work.dataset.name, **{k: v for k, v in asdict(known[0]).items() if k not in ("kept", "columns")},
        },
        "choices": [
            {"keep": share, "kept": one.kept, **asdict(choose(one))} for share, one in zip(shares, known, strict=True)
        ],
        "everything": anchor,
        "setting": {key: value for key, value in measured()[name].items() if key not in ("full", "selectors")},
        "expected": rows,
        "here": [row for row in compared(work) if row["subset"] != EVERYTHING],
    }  # fmt: skip


def _everything(work: Work) -> dict[str, Any] | None:
    """Return the accuracy of training on everything: on the test samples, else on the validation samples."""
    tested = [row for row in compared(work) if row["subset"] == EVERYTHING]
    if tested:
        return {
            "accuracy": tested[0]["accuracy"],
            "of": f"test samples, {counted(tested[0]['seeds'], 'seed')} (evaluate)",
        }
    signals = recorded(work)
    if signals is None or "val_probs_last" not in signals:
        return None
    right = np.asarray(signals["val_probs_last"]).argmax(axis=1) == np.asarray(signals["val_labels"])
    of = f"{counted(right.size, 'validation sample')} of the newest recording"
    return {"accuracy": float(right.mean()), "of": of}
