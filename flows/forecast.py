"""How long a whole `curate` will take, said before it starts and said again as its steps are done.

What trains is timed on a sample of the data (`pipelines.estimate`), the search for neighbours on random vectors,
and both go up with the samples, epochs, folds and pairs that they go through. What follows on the recording is
reckoned from what it took on another machine, by how fast this one does the same small work. Every step of
`curate` has a figure here, and one that has none is an error of the tests.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from scipy.linalg import cho_factor
from scipy.linalg.blas import ssyrk

from tracesift.catalog.nearest_rows import QUERIES, ROWS, nearest_rows, unit_rows
from tracesift.flows.evaluate import SEEDS
from tracesift.flows.forgetting.requests import lines_in
from tracesift.flows.options import CurateJob
from tracesift.flows.progress import counted, duration
from tracesift.flows.record import train_config
from tracesift.flows.selecting.written import CURATED
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.estimate import Estimate, estimate
from tracesift.scorers.unlearnable.residual_analysis import WINDOW
from tracesift.scorers.unlearnable.residual_views import view_of, views_for
from tracesift.scorers.unlearnable.view_separation import FOLDS
from tracesift.selectors.decisions.forget_ready import LARGEST_SAMPLE

LOW, HIGH = 0.75, 1.4
"""The range: a little less than on an idle machine, and more than on one as busy as now (docs/scale.md)."""

FORGOTTEN = 0.04
"""Share of the training samples taken to be flagged, where nobody asked for any to be forgotten."""
LEAST_LEFT = 20.0
"""Seconds below which what is left is not worth a line."""


EARLY = 20_000
VIEWED, PRODUCTS = 64, 256
"""Images that are looked at, and that are multiplied, to learn how long each takes."""


class Cost(NamedTuple):
    """Seconds of one step on the machine that `PACE` was measured on, one processor, nothing else running."""

    fixed: float
    """Imports, the catalog, a handful of files."""
    per_row: float
    per_cell: float = 0.0
    """For each training sample and class."""
    per_early: float = 0.0
    """For each of the first 20,000 training samples: the mixtures are fitted to no more."""


COSTS = {
    "ingest": Cost(0.15, 1.7e-6),
    "join_folds": Cost(0.02, 2e-6, 5e-8),
    "score": Cost(0.8, 5e-6, 4.4e-7),
    "flag": Cost(0.4, 1.2e-5, per_early=2e-4),
    "make_subsets": Cost(2.4, 5.2e-5),
    "publish": Cost(3.4, 2.5e-5),
}
"""Steps that train nothing, fitted by hand to runs of digits, adult, clinc150 and 200,000 texts (docs/scale.md)."""
START = 3.0
"""Seconds until torch and the models are loaded, on the same machine."""
PACE = 0.015
"""Seconds that `_pace` took on it."""


@dataclass(frozen=True)
class Step:
    """One step of `curate` by the name of its function, and its seconds on an idle machine."""

    name: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The steps of a job in their order."""

    steps: tuple[Step, ...]
    busy: float
    """Seconds on the wall for one of the processor, as measured just now."""
    bytes: int
    model: str
    epochs: int

    def seconds(self, *names: str) -> float:
        """Return the seconds of some steps, or of all, while the machine stays as busy as it is."""
        return self.busy * sum(step.seconds for step in self.steps if not names or step.name in names)

    @property
    def range(self) -> tuple[float, float]:
        """The least and the most seconds to be expected: on an idle machine, and on one as busy as now."""
        return LOW * self.seconds() / self.busy, HIGH * self.seconds()

    def sentence(self) -> str:
        """Return what is to be expected, in one line."""
        recording, folds = (
            self.seconds("record_seed", "embed_run"),
            self.seconds("cross_fit_fold", "join_folds"),
        )
        parts = {"record": recording, "cross-fit": folds, "evaluate": self.seconds("evaluate_cell")}
        rest = self.seconds() - sum(parts.values())
        shares = [f"{name} {duration(seconds)}" for name, seconds in parts.items() if seconds > 0]
        shares.append(f"scores, subsets and report {duration(rest)}")
        least, most = (duration(seconds) for seconds in self.range)
        taken = f"; other programs slow this one down {self.busy:.1f} times" if self.busy > 1.3 else ""
        return (
            f"{self.model}, {counted(self.epochs, 'epoch')}: about {duration(self.seconds())} ({least} to {most}): "
            f"{', '.join(shares)}; {self.bytes / 1e6:.0f} MB on disk{taken}"
        )


class Outlook:
    """What is left of a forecast while its steps are being done."""

    def __init__(self, forecast: Forecast) -> None:
        self.left = list(forecast.steps)
        self.busy = forecast.busy
        self.expected = self.taken = 0.0

    def finished(self, name: str, seconds: float) -> float:
        """Take a step off that took so many seconds on the wall; return the seconds that are left.

        The steps to come are taken to be as much slower or faster than forecast as those that are done, and these
        count the more the longer they took.
        """
        place = next((at for at, step in enumerate(self.left) if step.name == name), None)
        if place is not None:
            self.expected += self.left.pop(place).seconds
            self.taken += seconds
        left = sum(step.seconds for step in self.left)
        believed = self.busy * left  # as if another tenth of it had gone as forecast
        return left * (self.taken + 0.1 * believed) / max(self.expected + 0.1 * left, 1e-9)


def forecast(dataset: Dataset, job: CurateJob) -> Forecast:
    """Time a sample of the dataset for a second or so, and extrapolate every step of `curate`; write nothing."""
    training = job.training
    expected = estimate(dataset, train_config(training, training.seed), folds=training.folds)
    pace = _pace() / PACE
    rows, cells = len(dataset), len(dataset.rows("train")) * dataset.num_classes

    def after(name: str) -> Step:
        cost = COSTS[name]
        early = cost.per_early * min(len(dataset.rows("train")), EARLY)
        return Step(name, pace * (cost.fixed + cost.per_row * rows + cost.per_cell * cells + early))

    seeds, folds = training.seeds, training.folds
    first = pace * START + expected.encode_seconds
    steps = [after("ingest")]
    steps += [
        Step("record_seed", expected.recording_seconds + (0 if seed else first)) for seed in range(seeds)
    ]
    steps += [Step("cross_fit_fold", expected.crossfit_seconds / folds) for _ in range(folds)]
    steps += [after("join_folds")] if folds else []
    steps += [Step("embed_run", expected.embed_seconds)]
    scored = seeds * after("score").seconds + _residual_seconds(dataset) / expected.busy
    steps += [Step("score", scored), after("flag")]
    subsets = (
        after("make_subsets").seconds
        + expected.content_seconds
        + _neighbour_seconds(dataset, job, expected.content_width)
    )
    steps += [Step("make_subsets", subsets)]
    steps += [Step("evaluate_cell", _cell_seconds(expected))] * _cells(job)
    steps += [after("publish")]
    return Forecast(
        steps=tuple(steps),
        busy=expected.busy,
        bytes=expected.bytes * seeds,
        model=expected.model,
        epochs=expected.epochs,
    )


def _cells(job: CurateJob) -> int:
    return (1 + 3 * len(CURATED)) * max(SEEDS, job.training.seeds) if job.evaluate else 0


def _cell_seconds(expected: Estimate) -> float:
    """Return the seconds of one retraining, whose subset is encoded anew."""
    return expected.encode_seconds + expected.train_seconds


def _neighbour_seconds(dataset: Dataset, job: CurateJob, width: int) -> float:
    """Return the seconds of the searches of the forget-ready subset, which go up with pairs of samples."""
    trained, held = len(dataset.rows("train")), len(dataset.rows("test"))
    asked = FORGOTTEN * trained if job.forget is None else lines_in(Path(job.forget))
    vectors = unit_rows(np.random.default_rng(0).normal(size=(3 * ROWS, width)).astype(np.float32))
    marks = [0.0]
    for blocks in (1, 1, 3):  # the first warms up; what the others differ by is two blocks more
        nearest_rows(vectors, np.arange(QUERIES), np.arange(blocks * ROWS), 1)
        marks.append(time.process_time())  # the search runs in threads of its own
    per_pair = max(0.0, (marks[3] - marks[2]) - (marks[2] - marks[1])) / (2 * QUERIES * ROWS)
    pairs = trained * (LARGEST_SAMPLE + held + asked * (1 + 1 / dataset.num_classes))
    return per_pair * pairs / (os.cpu_count() or 1)  # this was one block of queries, many go side by side


def _residual_seconds(dataset: Dataset) -> float:
    """Return the seconds on the wall of looking at small residuals of images, once for all seeds; 0 for other data.

    Nearly all of it are the products of every image with itself and, three times a view, a factorisation.
    """
    rows = dataset.rows("train")
    if dataset.kind != "image" or not len(rows):
        return 0.0
    assert not isinstance(dataset.inputs, list | pl.DataFrame)
    images = np.asarray(dataset.inputs[rows[:PRODUCTS]])
    height, width = images.shape[1:3]
    values = min(int(np.prod(images.shape[1:])), WINDOW)
    views = views_for(height, width)
    few = images[:VIEWED]
    began = time.perf_counter()
    for view in views:
        view_of(few, view)
    seeing = (time.perf_counter() - began) / len(few)
    block = np.random.default_rng(0).integers(-9, 10, (PRODUCTS, values)).astype(np.float32)
    began = time.perf_counter()
    gram = ssyrk(1.0, block.T, lower=True).astype(np.float64)
    multiplying = (time.perf_counter() - began) / PRODUCTS
    gram[np.diag_indices_from(gram)] += values
    began = time.perf_counter()
    cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    factoring = time.perf_counter() - began
    return len(rows) * (seeing + len(views) * multiplying) + len(views) * FOLDS * factoring


def _pace() -> float:
    """Return the processor's seconds for a little of what the later steps do: sort, reckon, go through a dictionary."""
    best = float("inf")
    for _ in range(3):
        began = time.thread_time()
        values = np.random.default_rng(0).random(1 << 18)
        np.exp(np.sort(values)).sum()
        counts: dict[int, int] = {}
        for number in range(100_000):
            counts[number % 977] = counts.get(number % 977, 0) + number
        best = min(best, time.thread_time() - began)
    return best


def as_steps(forecast: Forecast) -> list[dict[str, Any]]:
    """Return the steps for people, those of one name together, with the minutes each is expected to take."""
    names = list(dict.fromkeys(step.name for step in forecast.steps))
    counts = {name: sum(step.name == name for step in forecast.steps) for name in names}
    recording = f"record {forecast.model}, {counted(forecast.epochs, 'epoch')}"
    titles = {
        "record_seed": f"{recording}, {counted(counts.get('record_seed', 0), 'seed')}",
        "cross_fit_fold": f"cross-fit {counted(counts.get('cross_fit_fold', 0), 'fold')}",
        "evaluate_cell": f"evaluate: {counted(counts.get('evaluate_cell', 0), 'training')}",
        "join_folds": "join folds", "embed_run": "embed", "make_subsets": "make subsets", "publish": "report",
    }  # fmt: skip
    return [{"step": titles.get(name, name), "minutes": forecast.seconds(name) / 60} for name in names]
