"""The min-min loop of error-minimising noise (Huang et al., ICLR 2021), shared by its two generators.

Outer loop, in the published order: (a) `train_steps` batches of training of the surrogate on the images with their
present noise; (b) one pass over the images, weights frozen, in eval mode, that lowers the loss by signed gradient
steps of the noise; (c) the surrogate's error on the images with their noise; it stops at `stop_error`.

Where we differ from the published code: noise counts after the clipping to [0, 1] and the rounding to 8 bits
everywhere, in training, in (c) and in what is returned (there the noise itself is returned, before the clipping, and
(a) and (c) see images beyond [0, 1]); the error of (c) is that of all images, also where noise is searched on a share
of them, and of the whole set rather than the mean over batches; batches of (a) are drawn anew in each pass, none is
left out; the surrogate is a small built-in network, which learns easy data at once, so the search goes on until the
noise could have reached its budget, eps / (step * steps) rounds; and there is a bound on the rounds, with what was
reached said in the report. Rows are put into an order of their content first, so that the order given does not
matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import choose_device, settled
from tracesift.pipelines.protection import surrogate
from tracesift.pipelines.protection.contract import Progress, Protected, silent
from tracesift.pipelines.protection.grey_levels import (
    Images,
    checked_eps,
    checked_images,
    checked_labels,
    content_order,
    levels,
    perturbed,
)

LEAST_OF_CLASS = 200
"""Images of a class that class-wise noise is searched on at least, where it has them."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """The settings of the loop; `eps` and `step` in grey levels."""

    eps: float
    step: float
    steps: int
    stop_error: float
    rounds: int
    train_steps: int
    batch_size: int
    portion: float = 1.0
    """Share of the images that noise is searched on."""
    model: str = "small_cnn"

    @property
    def least_rounds(self) -> int:
        """Rounds in which the noise can reach its budget."""
        return math.ceil(self.eps / (self.step * self.steps))

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        checked_eps(self.eps)
        if not 0 < self.step <= self.eps:
            raise BadInput(f"step={self.step}: grey levels, more than 0 and at most eps={self.eps}")
        for name in ("steps", "rounds", "train_steps"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name}={getattr(self, name)}: at least 1")
        if self.batch_size < 2:
            raise BadInput(f"batch_size={self.batch_size}: at least 2")
        if not 0 <= self.stop_error < 1:
            raise BadInput(f"stop_error={self.stop_error}: a share of wrong answers in [0, 1), such as 0.01")
        if not 0 < self.portion <= 1:
            raise BadInput(f"portion={self.portion}: a share in (0, 1], such as 0.2")


def min_min(
    images: Images,
    labels: NDArray[np.int64],
    search: Search,
    *,
    classwise: bool,
    seed: int,
    num_classes: int | None,
    device: str,
    progress: Progress | None,
) -> Protected[NDArray[np.uint8]]:
    """Run the loop; return the images with their noise, and the surrogate's error on them."""
    images = checked_images(images)
    given, classes = checked_labels(labels, len(images), num_classes)
    model, place, tell = surrogate.surrogate_model(search.model), choose_device(device), progress or silent
    order = content_order(images, given)
    images, ordered = images[order], torch.from_numpy(given[order])
    searched = _searched(ordered.numpy(), search.portion)
    carries = ordered if classwise else torch.arange(len(ordered))
    noise = torch.zeros(classes if classwise else len(ordered), *images.shape[1:])

    def saved() -> NDArray[np.uint8]:
        """Return the images as they would be saved with the present noise."""
        return perturbed(images, noise.numpy() * 255.0, carries.numpy(), eps=search.eps)

    with settled(seed, model.recipe.threads):
        net = surrogate.build(model, images.shape[1:], classes, place)
        optimiser = surrogate.optimiser_of(net)
        batches = surrogate.passes(torch.from_numpy(searched), search.batch_size, seed)
        errors: list[float] = []
        present = saved()
        while len(errors) < search.rounds:
            tell(len(errors), search.rounds, _so_far(errors, search))
            for _ in range(search.train_steps):
                rows = next(batches)
                seen = surrogate.as_batch(present[rows.numpy()], place)
                surrogate.learn(net, optimiser, seen, ordered[rows].to(place))
            net.eval().requires_grad_(requires_grad=False)
            for rows in surrogate.parts(torch.from_numpy(searched), search.batch_size):
                clean = torch.from_numpy(levels(images[rows.numpy()])).float().div_(255).to(place)
                moved = _lowered(
                    net, clean, ordered[rows].to(place), noise[carries[rows]].to(place), search
                ).cpu()
                if classwise:
                    _take_means(noise, ordered[rows], moved)
                else:
                    noise[rows] = moved
            net.requires_grad_(requires_grad=True)
            present = saved()
            errors.append(surrogate.error_rate(net, present, ordered, size=search.batch_size, device=place))
            if errors[-1] <= search.stop_error and len(errors) >= search.least_rounds:
                break
    out = np.empty_like(present)
    out[order] = present
    reached = errors[-1] <= search.stop_error
    report: dict[str, Any] = {"surrogate_error": errors[-1], "rounds": len(errors), "reached": reached}
    return Protected(out, report)


def _searched(labels: NDArray[np.int64], portion: float) -> NDArray[np.int64]:
    """Return the rows that noise is searched on: the same share of each class, spread over its content order."""
    chosen = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(len(rows), max(round(portion * len(rows)), LEAST_OF_CLASS))
        chosen.append(rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)])
    return np.sort(np.concatenate(chosen))


def _lowered(net: nn.Module, clean: Tensor, labels: Tensor, noise: Tensor, search: Search) -> Tensor:
    """Return the noise after `steps` signed gradient steps down the loss, within eps (min_min_attack there)."""
    eps, step = search.eps / 255, search.step / 255
    for _ in range(search.steps):
        seen = (clean + noise).clamp_(0, 1).requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(net(seen), labels, reduction="sum"), seen)
        noise = (seen.detach() - step * slope.sign() - clean).clamp_(-eps, eps)
    return noise


def _take_means(noise: Tensor, labels: Tensor, moved: Tensor) -> None:
    """Set the noise of each class in the batch to the mean of its images' noise, in place."""
    for label in labels.unique():
        noise[label] = moved[labels == label].mean(0)


def _so_far(errors: list[float], search: Search) -> str:
    """Return in words how far the search is: on its way to the error, or to the full height of the noise."""
    if not errors:
        return "rounds"
    reached = f"rounds, surrogate error {errors[-1]:.3f}"
    last = min(search.least_rounds, search.rounds)
    if errors[-1] <= search.stop_error and len(errors) < last:
        return f"{reached}, low enough; on to round {last}, as the noise grows towards eps={search.eps:g}"
    return f"{reached}, to reach {search.stop_error:g}"
