"""Unlearning tried on a forget-ready subset: models that saw everything, models that never did, and what methods make.

Nothing is kept of a model but what was measured on it. The weights of one that was trained on samples to be forgotten
remember them, so they are never written anywhere: whoever needs the original again trains it again, to the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import choose_device, settled
from tracesift.pipelines.encoding.encode import encode
from tracesift.pipelines.loop import Learner, fit, predict
from tracesift.pipelines.models.contract import find
from tracesift.pipelines.train import Progress
from tracesift.pipelines.unlearners.contract import Trained, Unlearner
from tracesift.pipelines.unlearning_outcome import Outcome, Rows, Sets, measure

Cost = dict[str, float]
"""``seconds`` by the clock and optimiser ``steps``."""

Weigh = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""A weight of each forgotten sample (n,) from its loss under the original (n,), in nats."""


@dataclass(frozen=True, kw_only=True)
class Counted(Trained):
    """A trained classifier that counts the optimiser steps of every learner that it hands out, and tells of them."""

    what: str
    progress: Progress | None
    taken: list[int] = field(default_factory=list)
    """Grows by one a step."""

    def learner(
        self, samples: int, epochs: int, *, module: nn.Module | None = None, **recipe: Any
    ) -> Learner:
        """Return what `Trained.learner` does, watched."""
        made = super().learner(samples, epochs, module=module, **recipe)

        def step(*_: Any) -> None:
            self.taken.append(made.step)
            if self.progress is not None:
                self.progress(made.step + 1, made.steps, self.what)

        made.optimizers[0].register_step_post_hook(step)
        return made


class Trial:
    """One subset and one recipe: trains, unlearns and measures; holds one original and one encoding at a time.

    Parameters
    ----------
    dataset
        The opened dataset.
    sets
        What is forgotten, kept and never seen.
    weights
        The manifest's weight of each row (N,); they reach the methods, not the original or the retrained models, which
        know of no request.
    model, epochs
        The ordinary recipe; `epochs` None means the model's own.
    """

    def __init__(
        self,
        dataset: Any,
        sets: Sets,
        weights: NDArray[np.float64],
        *,
        model: str,
        epochs: int | None,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        if len(sets.retain) < 2:
            raise BadInput(f"{len(sets.retain)} sample(s) are retained; at least 2 are needed to train on")
        self.dataset, self.sets, self.weights = dataset, sets, weights
        found = find(model, dataset.kind).for_size(len(dataset.rows("train")))  # one batch size for all
        self.model = found.with_recipe(epochs=epochs)
        self.threads = threads or self.model.recipe.threads
        self.device = choose_device(device)
        self._stages: dict[str, Trained] = {}
        self._original: tuple[int, Trained, Cost] | None = None

    def retrained(self, seed: int, *, draws: int, progress: Progress | None = None) -> Outcome:
        """Train a fresh model on what is retained alone, its inputs scaled by that alone, and measure it.

        Parameters
        ----------
        seed
            Of the training.
        draws
            Seed of the measures, which is that of the original it is compared with.
        """
        stage = self._stage("retain", self.sets.retain)
        module, cost = self._fresh(stage, self.sets.retain, seed, progress, "retraining")
        return self._measured(stage, module, draws, cost)

    def original(self, seed: int, progress: Progress | None = None) -> Outcome:
        """Train a model on everything, forgotten samples too, and measure it."""
        trained, cost = self._trained(seed, progress)
        return self._measured(trained, trained.module, seed, cost)

    def unlearned(
        self,
        method: Unlearner,
        seed: int,
        *,
        settings: Mapping[str, Any],
        weigh: Weigh | None = None,
        progress: Progress | None = None,
    ) -> Outcome:
        """Let a method forget, from the original of this seed, and measure what it made.

        Parameters
        ----------
        settings
            Of the method.
        weigh
            Weights of the forgotten samples from their losses under the original; None: the manifest's.

        Returns
        -------
        Outcome
            `failed` where the method refused its settings or the model came out broken.
        """
        trained, _ = self._trained(seed, progress)
        weights = torch.from_numpy(self.weights).float()
        if weigh is not None:
            losses = _losses(trained, self.sets.forget)
            if not np.isfinite(losses).all():
                return Outcome(
                    metrics={},
                    margins=np.empty(0, np.float32),
                    failed="the original has losses that are not finite",
                )
            weights[torch.from_numpy(self.sets.forget)] = torch.from_numpy(weigh(losses)).float()
        counted = _counted(trained, method.name, progress)
        began = time.perf_counter()
        try:
            module = method.function(
                counted, self.sets.forget, self.sets.retain, seed=seed, weights=weights, **settings
            )
        except BadInput as error:
            return Outcome(metrics={}, margins=np.empty(0, np.float32), failed=str(error))
        return self._measured(trained, module, seed, self._cost(counted, began))

    def _trained(self, seed: int, progress: Progress | None) -> tuple[Trained, Cost]:
        """Return the original of a seed and its cost; it is trained if it is not the one that was asked for last."""
        if self._original is None or self._original[0] != seed:
            self._original = None
            rows = np.union1d(self.sets.forget, self.sets.retain)
            stage = self._stage("all", rows)
            module, cost = self._fresh(stage, rows, seed, progress, "original")
            self._original = seed, replace(stage, module=module), cost
        return self._original[1:]

    def _stage(self, name: str, rows: Rows) -> Trained:
        """Return inputs and labels without a model, the inputs scaled by `rows`."""
        if name not in self._stages:
            self._stages.clear()
            with settled(0, self.threads):
                inputs = encode(self.dataset, self.model, fit=rows).to(self.device)
            self._stages[name] = Trained(
                module=nn.Identity(), model=self.model, inputs=inputs,
                labels=torch.from_numpy(np.array(self.dataset.labels, dtype=np.int64)).to(self.device),
                num_classes=self.dataset.num_classes, device=self.device, threads=self.threads,
            )  # fmt: skip
        return self._stages[name]

    def _fresh(
        self, stage: Trained, rows: Rows, seed: int, progress: Progress | None, what: str
    ) -> tuple[nn.Module, Cost]:
        counted, began = _counted(stage, what, progress), time.perf_counter()
        with settled(seed, self.threads):
            module = self.model.build(stage.inputs.input_shape, stage.num_classes)
            learner = counted.learner(len(rows), self.model.recipe.epochs, module=module)
            for _ in fit(learner, stage.inputs, stage.labels, torch.from_numpy(rows), seed=seed):
                pass
        return learner.module.eval(), self._cost(counted, began)

    def _cost(self, counted: Counted, began: float) -> Cost:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return {"seconds": time.perf_counter() - began, "steps": float(len(counted.taken))}

    def _measured(self, stage: Trained, module: nn.Module, draws: int, cost: Cost) -> Outcome:
        with settled(draws, self.threads):
            outcome = measure(stage, module, self.sets, seed=draws)
        return outcome if outcome.failed else replace(outcome, metrics=outcome.metrics | cost)


def _losses(trained: Trained, rows: Rows) -> NDArray[np.float64]:
    learner = trained.learner(1, 1, module=trained.module)
    found = predict(learner, trained.inputs, torch.from_numpy(rows))
    logits = torch.cat([part for _, part in found]).double()
    labels = trained.labels[torch.from_numpy(rows).to(trained.device)]
    return np.asarray(nn.functional.cross_entropy(logits, labels, reduction="none").cpu().numpy())


def _counted(trained: Trained, what: str, progress: Progress | None) -> Counted:
    parts = {one.name: getattr(trained, one.name) for one in fields(Trained)}
    return Counted(**parts, what=what, progress=progress)
