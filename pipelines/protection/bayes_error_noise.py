"""Noise that raises an estimate of the Bayes error (Zhang et al., AAAI 2026), experimental.

The estimate: the class posterior at an image is the kernel-weighted share of each class among all other images (leave
one out, Gaussian kernel of width sigma, in the penultimate features of a network, scaled by their largest absolute
value); the Bayes error is the mean of 1 minus the largest posterior. It is raised by projected gradient ascent on the
images, through the features. Between two spells of ascent a fresh network learns the images as they are by then.

The printed text says so much; sigma, the scaling and the fresh networks are those of the authors' example code. Where
we differ: signed steps in place of AdamW (its two steps of 1/1000 stay below what 8 bits can hold), several steps per
network, a small built-in network trained for few epochs, and kernels in logarithms, so that far neighbours still give
a posterior. How well it does at our size is not established: see docs/protection.md.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import choose_device, settled
from tracesift.pipelines.protection import surrogate
from tracesift.pipelines.protection.contract import Progress, Protected, generator, silent
from tracesift.pipelines.protection.grey_levels import (
    Images,
    checked_eps,
    checked_images,
    checked_labels,
    content_order,
    levels,
    perturbed,
)

_QUERIES = 1024


@generator(
    kind="image",
    reference="Zhang, Sun, Lim, Zhang, AAAI 2026: Towards Provably Unlearnable Examples via Bayes Error Optimisation",
    experimental=True,
)
def bayes_error_noise(
    images: Images,
    labels: NDArray[np.int64],
    *,
    seed: int,
    eps: float = 8.0,
    step: float = 1.0,
    steps: int = 8,
    rounds: int = 4,
    epochs: int = 5,
    sigma: float = 0.3,
    batch_size: int = 128,
    model: str = "small_cnn",
    num_classes: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Protected[NDArray[np.uint8]]:
    """Change the images so that their nearest others, as networks see them, are of other classes.

    Unlike shortcuts, this makes images harder to learn, not easier. The same seed, machine and thread count give the
    same bytes, whatever the order of the rows.

    Parameters
    ----------
    images : (N, C, H, W) uint8, or float in [0, 1]
    labels : (N,) int
        Class indices.
    seed : int
        Of the networks' weights and batches.
    eps : float
        Largest change of any value, in grey levels of 255 (L-infinity).
    step, steps
        Length of a step in grey levels, and steps per network.
    rounds : int
        Networks, one after another.
    epochs, batch_size : int
        How long each is trained, and on what batches.
    sigma : float
        Width of the kernel, in units of the largest absolute feature.
    model : str
        A built-in model for images, or your own module:function.
    num_classes : int, optional
        K, where not every class occurs.
    device : str
        Where the networks run.
    progress : callable, optional
        Called with steps done, steps in all, and words.

    Returns
    -------
    Protected
        `inputs` uint8 (N, C, H, W); the report says `bayes_error`, per network the estimate [before, after] its steps,
        rounded to 6 digits.

    Raises
    ------
    BadInput
        For images, labels or settings that are none.

    Examples
    --------
    >>> grey = np.random.default_rng(0).integers(0, 99, (24, 1, 8, 8), dtype=np.uint8)
    >>> made = bayes_error_noise(grey, np.arange(24) % 2, seed=0, rounds=1)
    >>> ((before, after),) = made.report["bayes_error"]
    >>> before < after, int(np.abs(made.inputs.astype(int) - grey).max()) <= 8
    (True, True)
    """
    images, eps = checked_images(images), checked_eps(eps)
    given, classes = checked_labels(labels, len(images), num_classes)
    least = {"steps": (steps, 1), "rounds": (rounds, 1), "epochs": (epochs, 1), "batch_size": (batch_size, 2)}
    for name, (value, at_least) in least.items():
        if value < at_least:
            raise BadInput(f"{name}={value}: at least {at_least}")
    if not 0 < step <= eps:
        raise BadInput(f"step={step:g}: grey levels, more than 0 and at most eps={eps:g}")
    if not 0 < sigma < math.inf:
        raise BadInput(f"sigma={sigma:g}: more than 0, in units of the largest absolute feature, such as 0.3")
    if len(images) < 2:
        raise BadInput("one image has no others to be like; give at least two")
    known, place, tell = surrogate.surrogate_model(model), choose_device(device), progress or silent
    order = content_order(images, given)
    images, ordered = images[order], torch.from_numpy(given[order])
    noise = torch.zeros(images.shape)
    found: list[list[float]] = []
    with settled(seed, known.recipe.threads):
        for turn in range(rounds):
            present = perturbed(images, noise.numpy() * 255.0, eps=eps)
            net = surrogate.build(known, images.shape[1:], classes, place)
            _train(net, present, ordered, epochs, batch_size, seed + turn)
            net.eval().requires_grad_(requires_grad=False)
            estimates = []
            for at in range(steps):
                tell(turn * steps + at, rounds * steps, "steps" + _so_far(found))
                seen = (torch.from_numpy(levels(images)).float().div_(255) + noise).clamp_(0, 1)
                estimate, slope = _ascent(net, seen, ordered, classes, sigma, batch_size)
                estimates.append(estimate)
                moved = seen + step / 255 * slope.sign() - torch.from_numpy(levels(images)).float().div_(255)
                noise = moved.clamp_(-eps / 255, eps / 255)
            present = perturbed(images, noise.numpy() * 255.0, eps=eps)
            after = _features(net, surrogate.as_batch(present, torch.device("cpu")), batch_size)
            reached = bayes_error(_scaled(after), ordered, classes, sigma)[0]
            found.append([round(estimates[0], 6), round(reached, 6)])
    out = np.empty_like(present)
    out[order] = present
    return Protected(out, {"bayes_error": found})


def bayes_error(features: Tensor, labels: Tensor, classes: int, sigma: float) -> tuple[float, Tensor]:
    """Return the estimate of the Bayes error and its gradient by the features.

    Parameters
    ----------
    features : (N, D) float32
    labels : (N,) int64
    classes : int
        K.
    sigma : float
        Width of the Gaussian kernel.

    Returns
    -------
    float, Tensor
        The mean over samples of 1 minus the largest leave-one-out posterior, and its gradient (N, D).

    Examples
    --------
    >>> apart = torch.tensor([[0.0], [0.0], [9.0], [9.0]])
    >>> bayes_error(apart, torch.tensor([0, 0, 1, 1]), 2, 0.3)[0]
    0.0
    >>> bayes_error(apart, torch.tensor([0, 0, 0, 1]), 2, 0.3)[0]
    0.0
    >>> round(bayes_error(torch.zeros(4, 1), torch.tensor([0, 0, 1, 1]), 2, 0.3)[0], 6)
    0.333333
    """
    every = features.detach().requires_grad_()
    of_class = torch.nn.functional.one_hot(labels, classes).to(features)
    gradient, total = torch.zeros_like(features), 0.0
    for at in range(0, len(features), _QUERIES):
        queries = every[at : at + _QUERIES]
        squares = queries.square().sum(1)[:, None] + every.square().sum(1)[None] - 2 * queries @ every.T
        own = torch.arange(at, at + len(queries), device=features.device)
        itself = torch.zeros_like(squares, dtype=torch.bool)
        itself[own - at, own] = True
        weight = (-squares.clamp(min=0) / (2 * sigma**2)).masked_fill(itself, -math.inf).softmax(1)
        error = (1 - (weight @ of_class).amax(1)).sum()
        gradient += torch.autograd.grad(error, every)[0]
        total += float(error.detach())
    return total / len(features), gradient / len(features)


def _train(
    net: nn.Module, images: NDArray[np.uint8], labels: Tensor, epochs: int, size: int, seed: int
) -> None:
    optimiser = surrogate.optimiser_of(net)
    place = next(net.parameters()).device
    steps = epochs * len(surrogate.parts(torch.arange(len(labels)), size))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
    batches = surrogate.passes(torch.arange(len(labels)), size, seed)
    for _ in range(steps):
        rows = next(batches)
        surrogate.learn(
            net, optimiser, surrogate.as_batch(images[rows.numpy()], place), labels[rows].to(place)
        )
        schedule.step()


def _scaled(features: Tensor) -> Tensor:
    return features / features.abs().max().clamp(min=1e-8)


@torch.no_grad()
def _features(net: nn.Module, images: Tensor, size: int) -> Tensor:
    """Return the penultimate features of the images (N, D), on the CPU."""
    place = next(net.parameters()).device
    return torch.cat([surrogate.penultimate(net, part.to(place)).cpu() for part in images.split(size)])


def _ascent(
    net: nn.Module, images: Tensor, labels: Tensor, classes: int, sigma: float, size: int
) -> tuple[float, Tensor]:
    """Return the estimate, and its gradient by the images (N, C, H, W)."""
    place = next(net.parameters()).device
    plain = _features(net, images, size)
    scale = float(plain.abs().max().clamp(min=1e-8))
    estimate, by_feature = bayes_error(plain / scale, labels, classes, sigma)
    slopes = []
    for part, slope in zip(images.split(size), (by_feature / scale).split(size), strict=True):
        seen = part.to(place).requires_grad_()
        (by_pixel,) = torch.autograd.grad(surrogate.penultimate(net, seen), seen, slope.to(place))
        slopes.append(by_pixel.cpu())
    return estimate, torch.cat(slopes)


def _so_far(found: list[list[float]]) -> str:
    if not found:
        return ""
    return f", the last surrogate's own estimate of the Bayes error {found[-1][0]:.3f} -> {found[-1][1]:.3f}"
