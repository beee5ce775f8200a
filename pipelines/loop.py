"""The training loop, one function, with the recorder passed in; and the evaluation pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import generator
from tracesift.pipelines.encoding.encode import Encoded
from tracesift.pipelines.models.contract import Recipe

EVAL_BATCH = 512


class Watches(Protocol):
    """Who sees every batch of a training, such as a `Recorder`."""

    def update(self, rows: Tensor, logits: Tensor, labels: Tensor) -> Any:
        """Take in one batch, before the optimiser's step; nothing may wait for the device."""


class Learner:
    """A module with its optimisers and its place on the learning-rate schedule.

    The rate is a function of ``step / steps`` alone, so a checkpoint needs the step and nothing else of it. A `fused`
    optimiser goes over the weights once per step instead of once per operation, and rounds otherwise.
    """

    def __init__(
        self, module: nn.Module, recipe: Recipe, *, steps: int, device: torch.device, fused: bool = False
    ) -> None:
        self.module = module.to(device)
        if device.type == "cuda":
            self.module = self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe = recipe
        self.steps = steps
        self.device = device
        self.step = 0
        self.optimizers = _optimizers(self.module, recipe, fused=fused)

    def __call__(self, x: Any) -> Tensor:
        """Return logits (B, K) in float32; on a GPU the network computes in bfloat16."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            return self.module(x).float()

    def rate(self, step: int) -> float:
        """Return the learning rate of step number `step`, from 0."""
        return self.recipe.lr * _factor(self.recipe.schedule, step / max(1, self.steps))

    def descend(self, loss: Tensor) -> None:
        """Take one optimiser step."""
        rate = self.rate(self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimiser states and the step."""
        return {
            "module": self.module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.module.load_state_dict(state["module"])
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        self.step = state["step"]


def fit(
    learner: Learner,
    inputs: Encoded,
    labels: Tensor,
    rows: Tensor,
    *,
    seed: int,
    start: int = 0,
    recorder: Watches | None = None,
    weights: Tensor | None = None,
    after_batch: Callable[[], None] | None = None,
) -> Iterator[int]:
    """Train until the learner's steps are done; yield each epoch's number when its last batch is through.

    Every epoch shows every sample once, in an order drawn from (seed, epoch). Batches differ in size by one
    at most, so none is too small for batch normalisation.

    Parameters
    ----------
    labels
        Class indices of all the dataset's rows (N,), on the learner's device.
    rows
        Rows to train on (n,), int64, on the CPU.
    start
        First epoch.
    recorder
        Receives rows, logits and labels of every batch, before the step.
    weights
        Factor of each row's loss (N,), on the learner's device.
    """
    per_epoch = math.ceil(len(rows) / learner.recipe.batch_size)
    for epoch in range(start, math.ceil(learner.steps / per_epoch)):
        learner.module.train()
        order = rows[torch.randperm(len(rows), generator=generator(seed, epoch, 0))]
        views = generator(seed, epoch, 1)
        for batch in order.tensor_split(per_epoch):
            if learner.step >= learner.steps:
                break
            there = batch.to(learner.device, non_blocking=True)
            targets = labels[there]
            logits = learner(inputs.batch(batch, views))
            if recorder is not None:
                recorder.update(there, logits, targets)
            losses = F.cross_entropy(logits, targets, reduction="none")
            learner.descend(losses.mean() if weights is None else (losses * weights[there]).mean())
            if after_batch is not None:
                after_batch()
        yield epoch


@torch.inference_mode()
def predict(learner: Learner, inputs: Encoded, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (rows, logits) in eval mode, without augmentation, in the order of `rows` (CPU, int64)."""
    learner.module.eval()
    for batch in rows.split(EVAL_BATCH):
        yield batch, learner(inputs.batch(batch))


def check_output(learner: Learner, inputs: Encoded, rows: Tensor, num_classes: int, name: str) -> None:
    """Refuse a module that does not give (B, K) logits, tried on two rows in eval mode.

    Raises
    ------
    BadInput
        The module raises, or its output has another shape: then every margin and every class would be wrong.
    """
    try:
        _, logits = next(predict(learner, inputs, rows[:2]))
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise BadInput(
            f"model {name} cannot read a batch of {len(rows[:2])} samples: {type(error).__name__}: {error}"
        ) from error
    if logits.shape != (len(rows[:2]), num_classes):
        raise BadInput(
            f"model {name} gives an output of shape {tuple(logits.shape)} for {len(rows[:2])} samples of "
            f"{num_classes} classes; its last layer must have {num_classes} outputs"
        )


def probabilities(learner: Learner, inputs: Encoded, rows: Tensor) -> Tensor:
    """Return class probabilities (n, K) of `rows`, float32 on the CPU."""
    return torch.cat([logits.softmax(1) for _, logits in predict(learner, inputs, rows)]).cpu()


def _optimizers(module: nn.Module, recipe: Recipe, *, fused: bool) -> list[torch.optim.Optimizer]:
    sparse = [
        layer.weight for layer in module.modules() if isinstance(layer, nn.EmbeddingBag) and layer.sparse
    ]
    dense = [p for p in module.parameters() if p.requires_grad and not any(p is weight for weight in sparse)]
    optimizers: list[torch.optim.Optimizer] = []
    if sparse:
        optimizers.append(torch.optim.SparseAdam(sparse, lr=recipe.lr))
    if dense and recipe.optimizer == "sgd":
        optimizers.append(
            torch.optim.SGD(
                dense,
                lr=recipe.lr,
                momentum=recipe.momentum,
                weight_decay=recipe.weight_decay,
                nesterov=recipe.momentum > 0,
                fused=fused or None,
            )
        )
    elif dense:
        optimizers.append(
            torch.optim.AdamW(dense, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=fused or None)
        )
    return optimizers


def _factor(schedule: str, progress: float) -> float:
    """Return the share of the peak rate at `progress` in [0, 1) of the steps."""
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return 1.0 - progress
    rise = 0.3  # one cycle: cosine up from 1/25, cosine down to nothing
    if progress < rise:
        return 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * progress / rise)) / 2
    return (1 + math.cos(math.pi * (progress - rise) / (1 - rise))) / 2
