"""Scores summed up while a model trains: a few numbers per sample, whatever the number of epochs.

A trajectory serves every scorer, also those that nobody has thought of yet. The scorers that count and add up
presentations can do without: `RunningScores` keeps what each epoch moves on. Counts and sums go in the order of
the epochs, in float64, as they do over a recorded trajectory, so the values are the same to the last bit.
`cartography_variability` is the exception. It takes two passes over a trajectory and one here (the update of
Youngs and Cramer, Technometrics 1971), and agrees to a relative 1e-9 and an absolute 1e-12.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput, nearest

State = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Running:
    """How one scorer's value comes out of what is kept, under this version and its usual settings."""

    mode: str
    reads: str
    """The recorded field that it rests on."""
    keeps: tuple[str, ...]
    """Arrays over samples, by their names in `KEPT`."""
    value: Callable[[State, int], np.ndarray]
    """From those arrays and the number of epochs to one float64 per sample."""
    settings: dict[str, Any]
    version: int = 1
    exact: bool = True
    """Whether the value is that of the scorer over a trajectory, to the last bit."""


_ALL_EPOCHS = "all epochs"
_SUMMED = ("loss", "margin", "prob_label", "prob_margin", "error_norm")
KEPT: dict[str, tuple[type, float]] = {
    "shown": (np.int32, 0), "right": (np.int32, 0), "forgotten": (np.int32, 0), "first_right": (np.int32, 0),
    "last_wrong": (np.int32, 0), "was_right": (np.uint8, 0),
    **{f"{name}_sum": (np.float64, 0) for name in _SUMMED},
    **{f"{name}_count": (np.int32, 0) for name in _SUMMED},
    "prob_label_squares": (np.float64, 0), "last_loss": (np.float32, np.nan),
    "early_error_norm": (np.float32, np.nan),
}  # fmt: skip
"""What can be kept per sample: type and start."""

OUTCOMES = ("shown", "right", "forgotten", "first_right", "last_wrong", "was_right")


def _mean(name: str) -> Callable[[State, int], np.ndarray]:
    return lambda kept, _: kept[f"{name}_sum"] / kept[f"{name}_count"]


def _where_shown(kept: State, values: np.ndarray) -> np.ndarray:
    return np.where(kept["shown"] == 0, np.nan, values)


def _of_outcomes(value: Callable[[State, int], np.ndarray], **settings: Any) -> Running:
    return Running(mode="in_training", reads="correct", keeps=OUTCOMES, value=value, settings=settings)


def _of_sum(name: str, value: Callable[[State, int], np.ndarray] | None = None, **settings: Any) -> Running:
    keeps = (f"{name}_sum", f"{name}_count")
    return Running(mode="in_training", reads=name, keeps=keeps, value=value or _mean(name), settings=settings)


RUNNING: dict[str, Running] = {
    "forgetting_events": _of_outcomes(
        lambda kept, epochs: _where_shown(kept, np.where(kept["right"] == 0, epochs, kept["forgotten"])),
        never_learned="epochs", const=1000.0, epochs=None,
    ),
    "first_learned": _of_outcomes(
        lambda kept, _: np.where(kept["right"] == 0, np.nan, kept["first_right"] - 1.0)
    ),
    "learned_for_good": _of_outcomes(lambda kept, _: _where_shown(kept, kept["last_wrong"])),
    "cartography_correctness": _of_outcomes(lambda kept, _: _where_shown(kept, kept["right"]), burn_out=None),
    "cartography_confidence": _of_sum("prob_label", burn_out=None),
    "cartography_variability": Running(
        mode="in_training", reads="prob_label", exact=False,
        keeps=("prob_label_sum", "prob_label_count", "prob_label_squares"),
        value=lambda kept, _: np.sqrt(kept["prob_label_squares"] / kept["prob_label_count"]),
        settings={"burn_out": None, "include_ci": False},
    ),
    "aum": _of_sum("margin"),
    "misclassification_margin": _of_sum("margin"),
    "aum_prob_sum": _of_sum(
        "prob_margin", lambda kept, epochs: _mean("prob_margin")(kept, epochs) * kept["prob_margin_count"]
    ),
    "mean_loss": _of_sum("loss"),
    "last_loss": Running(
        mode="in_training", reads="loss", keeps=("last_loss",), settings={},
        value=lambda kept, _: kept["last_loss"].astype(np.float64),
    ),
    "el2n": Running(
        mode="epoch_end", reads="error_norm", keeps=("early_error_norm",),
        value=lambda kept, _: kept["early_error_norm"].astype(np.float64),
        settings={"checkpoint": None, "aggregate": "at"},
    ),
    "el2n_mean": Running(
        mode="epoch_end", reads="error_norm", keeps=("error_norm_sum", "error_norm_count"),
        value=_mean("error_norm"), settings={"checkpoint": _ALL_EPOCHS, "aggregate": "mean"},
    ),
}  # fmt: skip
"""By scorer; `el2n_mean` is `el2n` over all epochs."""


def early_checkpoint(epochs: int) -> int:
    """Return the number of epochs after which `el2n` is read: a tenth, rounded up.

    Examples
    --------
    >>> early_checkpoint(200), early_checkpoint(12), early_checkpoint(3)
    (20, 2, 1)
    """
    return max(1, -(-epochs // 10))


def chosen(
    keep: Literal["scores"] | Sequence[str], mode: str, fields: Sequence[str] | None, epochs: int | None
) -> tuple[str, ...]:
    """Return the names in `RUNNING` that a recorder is to keep.

    Parameters
    ----------
    keep
        ``"scores"`` for all that `mode`, `fields` and `epochs` allow, or some by name.
    fields
        What will be recorded; None for whatever is needed.
    epochs
        Of the whole training, where that is known.

    Raises
    ------
    BadInput
        A name that cannot be kept, and why.
    """
    if epochs is not None and epochs < 1:
        raise BadInput(f"epochs={epochs}: how many epochs the training will have, at least 1")
    refused = {name: why for name in RUNNING if (why := _refused(name, mode, fields, epochs)) is not None}
    if keep == "scores":
        names = [name for name in RUNNING if name not in refused]
    elif isinstance(keep, str):
        raise BadInput(f"keep={keep!r}: 'trajectories', 'scores', or several scorers by name")
    else:
        names = [name for name in RUNNING if name in keep]
    for name in () if keep == "scores" else keep:
        if name not in RUNNING:
            known = tuple(RUNNING)
            raise BadInput(
                f"keep: {name!r} cannot be summed up while training{nearest(name, known)}; known: "
                f"{', '.join(known)}. Other scorers need keep='trajectories'"
            )
        if name in refused:
            raise BadInput(f"keep: {name!r} {refused[name]}")
    if not names:
        raise BadInput(f"keep: nothing can be summed up from fields={tuple(fields or ())} in mode {mode!r}")
    return tuple(names)


def _refused(name: str, mode: str, fields: Sequence[str] | None, epochs: int | None) -> str | None:
    known = RUNNING[name]
    if known.mode != mode:
        return f"means a recording in mode {known.mode!r}; this one is made in mode {mode!r}"
    if fields is not None and known.reads not in fields:
        return f"rests on {known.reads!r}, which is not among fields={tuple(fields)}"
    if name == "el2n" and epochs is None:
        return "is read after a tenth of the training; say how long that is with epochs="
    return None


class RunningScores:
    """The scores of N samples, moved on epoch by epoch.

    Parameters
    ----------
    names
        Out of `RUNNING`.
    samples
        N.
    epochs
        Of the whole training, where that is known; `el2n` needs it.

    Examples
    --------
    >>> running = RunningScores(("aum", "forgetting_events"), 2)
    >>> seen = np.array([True, True])
    >>> running.add({"margin": np.array([1.0, 0.5]), "correct": np.array([True, True]), "seen": seen})
    >>> running.add({"margin": np.array([3.0, -1.5]), "correct": np.array([True, False]), "seen": seen})
    >>> {name: values.tolist() for name, values in running.values().items()}
    {'aum': [2.0, -0.5], 'forgetting_events': [0.0, 1.0]}
    """

    def __init__(self, names: Sequence[str], samples: int, *, epochs: int | None = None) -> None:
        self.names = tuple(names)
        self.planned = epochs
        self.epochs = 0
        wanted = {array for name in names for array in RUNNING[name].keeps}
        self.kept: dict[str, np.ndarray] = {
            array: np.full(samples, start, dtype=kind)
            for array, (kind, start) in KEPT.items()
            if array in wanted
        }

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        """Move on by one epoch: its recorded fields (N,), NaN where not presented, and ``seen``."""
        kept = self.kept
        if "shown" in kept:
            _follow(columns["correct"], columns["seen"], *(kept[name] for name in OUTCOMES))
        for name in _SUMMED:
            if f"{name}_sum" in kept:
                total, count = kept[f"{name}_sum"], kept[f"{name}_count"]
                _add_up(columns[name], total, count)
                if f"{name}_squares" in kept:
                    _add_squares(columns[name], total, count, kept[f"{name}_squares"])
        if "last_loss" in kept:
            np.copyto(kept["last_loss"], columns["loss"], where=~np.isnan(columns["loss"]))
        self.epochs += 1
        if "early_error_norm" in kept and self.planned and self.epochs == early_checkpoint(self.planned):
            kept["early_error_norm"][:] = columns["error_norm"]

    def missed(self) -> dict[str, str]:
        """Return which of the scores cannot be had after all, and why."""
        if "el2n" not in self.names or self.planned is None:
            return {}
        at, wanted = early_checkpoint(self.planned), early_checkpoint(self.epochs)
        if at == wanted:
            return {}
        return {
            "el2n": f"kept after epoch {at} of {self.planned}, but {self.epochs} epochs came, whose tenth is {wanted}"
        }

    def values(self) -> dict[str, np.ndarray]:
        """Return one float64 (N,) per name, without those `missed`."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                name: np.asarray(RUNNING[name].value(self.kept, self.epochs), dtype=np.float64)
                for name in self.names
                if name not in self.missed()
            }

    def record(self) -> list[dict[str, Any]]:
        """Return of each column of `values` which scorer it is, under which version and settings."""
        return [
            {
                "column": name,
                "scorer": name.removesuffix("_mean"),
                "version": RUNNING[name].version,
                "mode": RUNNING[name].mode,
                "params": {
                    key: self.epochs if value == _ALL_EPOCHS else value
                    for key, value in RUNNING[name].settings.items()
                },
                "exact": RUNNING[name].exact,
            }
            for name in self.names
            if name not in self.missed()
        ]

    def state_dict(self, *, copy: bool = True) -> dict[str, Any]:
        """Return everything kept, as tensors; without `copy` they change with this object."""
        arrays = {
            name: torch.from_numpy(array.copy() if copy else array) for name, array in self.kept.items()
        }
        return {"names": list(self.names), "planned": self.planned, "epochs": self.epochs, "kept": arrays}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from where `state` was taken; it is copied."""
        kept: Mapping[str, Tensor] = state["kept"]
        for name, array in self.kept.items():
            array[:] = kept[name].numpy()
        self.epochs = state["epochs"]


@loop
def _follow(
    correct: np.ndarray, seen: np.ndarray, shown: np.ndarray, right: np.ndarray, forgotten: np.ndarray,
    first_right: np.ndarray, last_wrong: np.ndarray, was_right: np.ndarray,
) -> None:  # fmt: skip
    """Count one presentation of each sample that was seen, and what it came to; numbers start at 1."""
    for i in range(len(shown)):
        if seen[i]:
            shown[i] += 1
            if correct[i]:
                right[i] += 1
                if right[i] == 1:
                    first_right[i] = shown[i]
            else:
                last_wrong[i] = shown[i]
                forgotten[i] += was_right[i]
            was_right[i] = correct[i]


@loop
def _add_up(values: np.ndarray, total: np.ndarray, count: np.ndarray) -> None:
    for i in range(len(values)):
        x = np.float64(values[i])
        if x == x:
            total[i] += x
            count[i] += 1


@loop
def _add_squares(values: np.ndarray, total: np.ndarray, count: np.ndarray, squares: np.ndarray) -> None:
    """Add to the squares around the mean, given the total and count with these values in them."""
    for i in range(len(values)):
        x, n = np.float64(values[i]), np.float64(count[i])
        if x == x and n > 1:
            off = n * x - total[i]
            squares[i] += off * off / (n * (n - 1.0))
