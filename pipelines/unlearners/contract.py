"""What an unlearning method is, and how it is found: by its name, with no list to keep.

A file counts as a method if it defines a function of its own name that `unlearner` has marked: ``name(trained, forget,
retain, *, seed, weights=None, **settings)`` -> a new module. The given one is left as it is.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, wraps
from itertools import chain, count
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from tracesift.catalog.parameter_types import checked_params
from tracesift.catalog.schema import BadInput, UnknownName, nearest
from tracesift.pipelines.determinism import generator, settled
from tracesift.pipelines.encoding.encode import Encoded
from tracesift.pipelines.loop import Learner
from tracesift.pipelines.models.contract import Model

Method = Callable[..., nn.Module]

RUN = ("seed", "weights")
"""Keyword parameters that say on what a method is run, and not how it works."""

SGD: Mapping[str, Any] = MappingProxyType(
    {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "schedule": "constant"}
)
"""What the papers on classifiers take, with Nesterov momentum and a constant rate; n-grams keep their sparse Adam."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A classifier that was trained on forget and retain set together, and what it was trained on."""

    module: nn.Module
    """Gives logits (B, K); no method changes it."""
    model: Model
    """Its recipe, and how a fresh one is built."""
    inputs: Encoded
    """Of all rows, on `device`."""
    labels: Tensor
    """Class indices of all rows (N,), int64, on `device`."""
    num_classes: int
    device: torch.device
    threads: int | None = 1

    def learner(
        self, samples: int, epochs: int, *, module: nn.Module | None = None, **recipe: Any
    ) -> Learner:
        """Return a learner over so many epochs of so many samples, on a copy of the trained module unless one is given.

        `recipe` holds fields of the model's recipe that the method prescribes.
        """
        changed = self.model.with_recipe(**recipe).recipe
        steps = epochs * math.ceil(samples / changed.batch_size)
        own = deepcopy(self.module) if module is None else module
        return Learner(own, changed, steps=steps, device=self.device)

    def losses(self, logits: Tensor, rows: Tensor, weights: Tensor | None) -> Tensor:
        """Return the cross-entropy of each of `rows` (B,), times its weight."""
        there = rows.to(self.device)
        losses = nn.functional.cross_entropy(logits, self.labels[there], reduction="none")
        return losses if weights is None else losses * weights[there]


def batches(rows: Tensor, size: int, seed: int, epoch: int, stream: int = 0) -> Iterator[Tensor]:
    """Yield `rows` in an order drawn from (seed, epoch, stream), in batches that differ in size by one at most."""
    order = rows[torch.randperm(len(rows), generator=generator(seed, epoch, stream))]
    yield from order.tensor_split(math.ceil(len(rows) / size))


def paired(
    forget: Tensor, retain: Tensor, size: int, seed: int, epochs: int
) -> Iterator[tuple[Tensor, Tensor, torch.Generator]]:
    """Yield every batch of so many epochs of `retain` with one of `forget`, and the generator for their views.

    The forget set begins anew, in another order, when it is through.
    """
    forgotten = chain.from_iterable(batches(forget, size, seed, turn, 2) for turn in count())
    for epoch in range(epochs):
        views = generator(seed, epoch, 1)
        for kept, gone in zip(batches(retain, size, seed, epoch), forgotten, strict=False):
            yield kept, gone, views


def divergences(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T^2 KL(teacher | student) of each sample (B,), both softmaxes of logits (B, K) / T."""
    target = (teacher / temperature).log_softmax(1)
    each = nn.functional.kl_div(
        (student / temperature).log_softmax(1), target, reduction="none", log_target=True
    )
    return temperature**2 * each.sum(1)


@dataclass(frozen=True, kw_only=True)
class Unlearner:
    """Everything known of one method."""

    name: str
    version: int
    defaults: Mapping[str, Any]
    """Its settings."""
    reference: str
    summary: str
    """First line of the docstring."""
    function: Method


def unlearner(*, version: int = 1, reference: str) -> Callable[[Method], Method]:
    """Let a method see checked input only, under generators seeded for it, and attach what its signature cannot say.

    Rows arrive sorted and weights with mean 1 over either set, so neither the order of rows nor the scale of weights
    changes a bit; the result is in eval mode.

    Parameters
    ----------
    version
        Raised whenever the same model, rows, settings and seed give other weights.
    reference
        Authors, venue and year.
    """

    def attach(function: Method) -> Method:
        @wraps(function)
        def run(
            trained: Trained,
            forget: Any,
            retain: Any,
            *,
            seed: int,
            weights: Tensor | None = None,
            **settings: Any,
        ) -> nn.Module:
            forget, retain = _rows(trained, forget, "forget"), _rows(trained, retain, "retain")
            if torch.isin(forget, retain).any():
                raise BadInput("a sample is in both the forget and the retain set; it can only be in one")
            if weights is not None:
                weights = _weights(trained, weights, forget, retain)
            settings = checked_params(function.__name__, function, settings)
            with settled(seed, trained.threads):
                return function(trained, forget, retain, seed=seed, weights=weights, **settings).eval()

        parameters = inspect.signature(function).parameters.values()
        run.__unlearner__ = Unlearner(  # type: ignore[attr-defined]
            name=function.__name__,
            version=version,
            defaults=MappingProxyType(
                {
                    one.name: one.default
                    for one in parameters
                    if one.kind is one.KEYWORD_ONLY and one.name not in RUN
                }
            ),
            reference=reference,
            summary=(function.__doc__ or "").strip().split("\n")[0],
            function=run,
        )
        return run

    return attach


@cache
def names() -> tuple[str, ...]:
    """Return the names of all methods, sorted; none is imported for it."""
    stems = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        marked = (
            node
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef) and node.name == path.stem and node.decorator_list
        )
        stems += [node.name for node in marked]
    return tuple(stems)


def find(name: str) -> Unlearner:
    """Return the facts of the method `name`.

    Raises
    ------
    UnknownName
        No method has this name; the message holds the nearest one.

    Examples
    --------
    >>> find("fine_tune").defaults["epochs"]
    10
    """
    if name not in names():
        raise UnknownName(
            f"there is no unlearning method '{name}'{nearest(name, names())}; there are {', '.join(names())}"
        )
    found: Unlearner = getattr(
        importlib.import_module(f"tracesift.pipelines.unlearners.{name}"), name
    ).__unlearner__
    return found


def _rows(trained: Trained, rows: Any, name: str) -> Tensor:
    given = torch.as_tensor(rows, device="cpu")
    if given.ndim != 1 or not len(given) or given.is_floating_point() or given.dtype == torch.bool:
        raise BadInput(
            f"the {name} set is {tuple(given.shape)} of {given.dtype}; it is row numbers, at least one"
        )
    ordered: Tensor = given.to(torch.int64).unique()
    if len(ordered) < len(given):
        raise BadInput(f"the {name} set names a row twice; use weights to count one several times")
    if ordered[0] < 0 or ordered[-1] >= len(trained.labels):
        raise BadInput(f"the {name} set names row {int(ordered[-1])} of {len(trained.labels)}")
    return ordered


def _weights(trained: Trained, weights: Tensor, forget: Tensor, retain: Tensor) -> Tensor:
    """Return float32 weights of all rows, with mean 1 over either set and 0 elsewhere."""
    given = torch.as_tensor(weights).double().cpu()
    if given.shape != (len(trained.labels),):
        raise BadInput(
            f"weights have shape {tuple(given.shape)}; they are one for each of {len(trained.labels)} rows"
        )
    scaled = torch.zeros_like(given)
    for name, rows in (("forget", forget), ("retain", retain)):
        part = given[rows]
        if not part.isfinite().all() or (part < 0).any() or not part.any():
            raise BadInput(f"weights of the {name} set must be finite, not negative, and not all zero")
        scaled[rows] = part / part.mean()
    return scaled.float().to(trained.device)
