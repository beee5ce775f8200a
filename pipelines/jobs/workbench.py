"""What a job works with: the training samples as the model takes them, fresh learners, and parts that last.

A part is what one model of the job gives, as arrays in one file. It is made once, under a seed of its own, so
that what it holds does not depend on which parts were there before, and a killed job repeats at most one.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tracesift.catalog.files import replacing
from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import settled
from tracesift.pipelines.encoding.encode import Encoded, Encodings
from tracesift.pipelines.loop import EVAL_BATCH, Learner, Watches, fit, predict
from tracesift.pipelines.models.contract import Model
from tracesift.pipelines.recording.scalars import scalars
from tracesift.pipelines.stacked import Stacked, fit_stack
from tracesift.pipelines.train import Progress

Elsewhere = Callable[[range, int], None]
"""Returns when other processes have made the parts ``numbers`` of so many, and may let them begin the next ones."""


class Workbench:
    """Data, model and seed of one job.

    Attributes
    ----------
    dataset, model
        The opened dataset, and the model with its recipe.
    epochs : int
        How long the recording trained; a job's own number of epochs is a setting of the job.
    seed : int
    train : int64 tensor (N,)
        The dataset's rows of the training samples, by `sample_id`: the order of every signal.
    labels : int64 tensor, on the device
        Class of every row of the dataset, training sample or not.
    earlier : mapping
        Signals that the same job left in the recording with fewer parts, by name.
    what : str
        What the parts are, and how far they have come, as the progress says it.
    work : callable, or None
        Returns how much work each part is against the others, in the order in which they are made, where they differ;
        the progress then goes by it. Asked when a part is made, not before, and often.
    """

    def __init__(
        self,
        dataset: Any,
        model: Model,
        inputs: Encodings,
        *,
        epochs: int,
        seed: int,
        device: torch.device,
        threads: int | None,
        parts: Path,
        progress: Progress | None = None,
        elsewhere: Elsewhere | None = None,
        earlier: Mapping[str, np.ndarray] | None = None,
        load: Callable[[Encoded], nn.Module] | None = None,
    ) -> None:
        self.dataset, self.model, self.epochs, self.seed = dataset, model, epochs, seed
        self.earlier, self.what = earlier or {}, "training"
        self.work: Callable[[], Sequence[float]] | None = None
        self._load = load
        self.device, self.threads = device, threads
        self._encodings = inputs
        self.train = torch.from_numpy(dataset.rows("train"))
        self.labels = torch.tensor(dataset.labels, dtype=torch.int64, device=device)
        self._folder, self._progress, self._elsewhere = parts, progress, elsewhere
        self._through: int | None = None  # how many parts, of an earlier run as well
        self._together, self._of = 1, 1

    @cached_property
    def inputs(self) -> Encoded:
        """What the model is shown; encoded when a job first asks for it, since a check of its settings need not."""
        return self._encodings.of(self.model).to(self.device)

    def part(
        self, number: int, of: int, make: Callable[[int], Mapping[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Return the arrays of one part of the job: from its file, or from ``make(seed)``, which is then kept.

        Parameters
        ----------
        number, of
            Which part this is, from 0, and how many there are at most.
        make
            Trains and returns the arrays; its seed belongs to this part alone, and every generator is seeded
            with it.
        """
        (made,) = self.parts(range(number, number + 1), of, lambda seeds: [make(seeds[0])])
        return made

    def parts(
        self, numbers: range, of: int, make: Callable[[Sequence[int]], Sequence[Mapping[str, np.ndarray]]]
    ) -> list[dict[str, np.ndarray]]:
        """Return the arrays of several parts that are made together, of each from its file.

        Where the file of one is missing, ``make(seeds)`` makes all of them again, and those that are missing are
        kept: made of other models in one piece, a part could differ in its last bits.
        """
        paths = [self._folder / f"{number:03d}.part" for number in numbers]
        self._through = numbers.start if self._through is None else self._through
        self._together, self._of = len(numbers), of
        if self._elsewhere is not None and not all(path.exists() for path in paths):
            self._elsewhere(numbers, of)
        if not all(path.exists() for path in paths):
            seeds = [self.seed * 1000 + number for number in numbers]
            with settled(seeds[0], self.threads):
                made = make(seeds)
            for path, arrays in zip(paths, made, strict=True):
                if not path.exists():
                    with replacing(path) as temporary, temporary.open("wb") as file:
                        np.savez(file, **arrays)  # type: ignore[arg-type]
        self._through += len(numbers)
        if self._progress is not None:
            self._progress(self._share(self._through), of, "")
        return [_stored(path) for path in paths]

    def recorded(self, job: str) -> nn.Module:
        """Return the recording's own network with its last weights, in eval mode, for jobs that go on from it.

        Raises
        ------
        BadInput
            The recording has no network of its own, or another model was asked for.
        """
        if self._load is None:
            raise BadInput(
                f"job '{job}' goes on from the recorded network, and this recording has none of model "
                f"{self.model.name}; `tracesift record` makes one, and --model is left out here"
            )
        with settled(0, self.threads):  # building it draws initial weights
            return self._load(self.inputs).to(self.device)

    def learner(
        self,
        samples: int,
        epochs: int,
        *,
        module: nn.Module | None = None,
        classes: int | None = None,
        fused: bool = False,
        **recipe: Any,
    ) -> Learner:
        """Return a learner whose schedule runs over so many epochs of so many samples.

        Parameters
        ----------
        module
            One to go on with; a fresh one otherwise.
        classes
            Outputs of a fresh one, K by default.
        fused
            Go over the weights once per step; see `Learner`.
        **recipe
            Fields of the model's recipe that the job's protocol prescribes.
        """
        model = self.model.with_recipe(**recipe)
        if module is None:
            module = model.build(self.inputs.input_shape, classes or self.dataset.num_classes)
        steps = epochs * math.ceil(samples / model.recipe.batch_size)
        return Learner(module, model.recipe, steps=steps, device=self.device, fused=fused)

    def stacked_learner(self, samples: int, epochs: int, seeds: Sequence[int]) -> Learner:
        """Return a learner of fresh models side by side, each with the initial weights that its seed gives."""
        modules = []
        for seed in seeds:
            with settled(seed, self.threads):
                modules.append(self.model.build(self.inputs.input_shape, self.dataset.num_classes))
        steps = epochs * math.ceil(samples / self.model.recipe.batch_size)
        return Learner(Stacked(modules), self.model.recipe, steps=steps, device=self.device, fused=True)

    def flat(self, rows: Tensor) -> Tensor:
        """Return the inputs of `rows` as a table, float32 (n, D) on the device, which stacked models read."""
        return torch.cat([self.inputs.batch(part).flatten(1) for part in rows.split(EVAL_BATCH)])

    def fit(
        self,
        learner: Learner,
        rows: Tensor,
        *,
        seed: int,
        labels: Tensor | None = None,
        inputs: Encoded | None = None,
        watch: Watches | None = None,
    ) -> Iterator[int]:
        """Train on `rows`; yield each epoch's number when its last batch is through.

        `labels`, class indices of all the dataset's rows, take the place of the given ones, and `inputs` that of the
        bench's own.
        """
        given = self.labels if labels is None else labels
        shown = self.inputs if inputs is None else inputs
        told = self._told(learner)
        yield from fit(learner, shown, given, rows, seed=seed, recorder=watch, after_batch=told)

    def fit_stack(self, learner: Learner, values: Tensor, draws: np.ndarray, *, seeds: Sequence[int]) -> None:
        """Train a stack, each of its models on those training samples that its row of `draws`, bool (R, N), names."""
        drawn = torch.from_numpy(np.stack([np.flatnonzero(draw) for draw in draws]))
        labels = self.labels[self.train.to(self.device)]
        fit_stack(learner, values, labels, drawn, seeds=seeds, after_batch=self._told(learner))

    def _told(self, learner: Learner) -> Callable[[], None]:
        """Return what tells of the progress after each batch of the parts that are being made."""

        def told() -> None:
            if self._progress is not None:
                done = (self._through or 0) + self._together * learner.step / learner.steps
                self._progress(self._share(done), self._of, self.what)

        return told

    def _share(self, done: float) -> float:
        """Return how many parts of average work are through once `done` of them are."""
        if self.work is None:
            return done
        through = np.cumsum([0.0, *self.work()])
        return float(np.interp(done, np.arange(self._of + 1), through / through[-1] * self._of))

    def predicted(self, learner: Learner, rows: Tensor) -> np.ndarray:
        """Return the class predicted for each of `rows`, int64 (n,), in eval mode and without augmentation."""
        return (
            torch.cat([logits.argmax(1) for _, logits in predict(learner, self.inputs, rows)]).cpu().numpy()
        )

    def margins(self, learner: Learner, rows: Tensor) -> np.ndarray:
        """Return the logit of each row's label minus the largest other, float32 (n,), in eval mode."""
        parts = [
            scalars(logits, self.labels[part.to(self.device)], ("margin",))["margin"]
            for part, logits in predict(learner, self.inputs, rows)
        ]
        return torch.cat(parts).float().cpu().numpy()

    def correct(self, learner: Learner, rows: Tensor) -> np.ndarray:
        """Return whether each of `rows` is predicted as it is labelled, bool (n,)."""
        return np.equal(self.predicted(learner, rows), self.labels[rows.to(self.device)].cpu().numpy())


def _stored(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def clear(parts: Path) -> None:
    """Remove a job's parts, once what was made of them is kept elsewhere."""
    shutil.rmtree(parts, ignore_errors=True)
    if parts.parent.is_dir() and not any(parts.parent.iterdir()):
        parts.parent.rmdir()


def at_least(job: str, **counts: tuple[int, int]) -> None:
    """Refuse all settings below their least value: ``at_least("grand", initialisations=(given, 1))``."""
    low = [
        f"{name} is {given}, it must be at least {least}"
        for name, (given, least) in counts.items()
        if given < least
    ]
    if low:
        raise BadInput(f"job '{job}': {', and '.join(low)}")
