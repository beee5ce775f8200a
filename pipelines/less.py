"""LESS for causal language models: which training texts point where the examples of a target task do.

A LoRA adapter is trained a little; at the end of each epoch the direction in which Adam would step on a training sample
is compared with the gradient of each target example, both brought to a few thousand random dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import settled
from tracesift.pipelines.gradients import GRADIENTS
from tracesift.pipelines.projection import Projection

Sample = Mapping[str, Tensor]
"""One tokenised text as the model's arguments: ``input_ids`` (L,), ``labels`` (L,) with -100 where no loss is taken."""

MODULES = ("q_proj", "k_proj", "v_proj", "o_proj")
BETAS = (0.9, 0.999)
EPS = 1e-8
RISE = 0.03
"""Share of the steps in which the learning rate rises, before it falls to 0 in a straight line."""


def less_cosine(
    model: nn.Module,
    train: Sequence[Sample],
    targets: Mapping[str, Sequence[Sample]],
    *,
    share: float = 0.05,
    epochs: int = 4,
    lr: float = 2e-5,
    batch_size: int = 32,
    modules: Sequence[str] = MODULES,
    rank: int = 128,
    alpha: float = 512.0,
    dimension: int = 8192,
    seed: int = 0,
    threads: int | None = None,
) -> np.ndarray:
    """Return the signal ``less_cosine``, which the scorer `less` reads, float32 (N, E, S).

    Parameters
    ----------
    model
        Called with a sample's tensors as keywords, each with an axis of one before it, it returns an object with the
        mean ``loss`` over the sample's tokens: a causal language model of `transformers`. It comes back as it was.
    train
        The N samples to choose from.
    targets
        Subtask -> a few examples of it; S subtasks.
    share
        Of the training samples, drawn at random, that the adapter is trained on.
    epochs
        E; at the end of each the gradients are taken.
    lr, batch_size
        Peak learning rate of AdamW, and samples for each step.
    modules
        Last parts of the names of the linear layers that get an adapter.
    rank, alpha
        Of the adapter: W + alpha / rank B A, with B = 0 at first.
    dimension
        Length to which gradients are projected; with no more parameters than that they are taken as they are.
    seed
        Of the draw, the adapter, the order and the projection.
    threads
        On the CPU; as they are where None.

    Returns
    -------
    array of shape (N, E, S)
        The mean over a subtask's examples of the cosine with Adam's direction for the sample, times the epoch's mean
        learning rate over the sum of these. NaN for a sample without a finite loss, such as one without any label.

    Raises
    ------
    BadInput
        No sample, subtask or example; settings out of range; no linear layer of these names; or a loss that is not
        finite where the adapter is trained or for a target's example.

    Notes
    -----
    Adam's direction is m / sqrt(v + 1e-8), with both moments moved on by the sample's gradient and without correction
    of their start, as in the authors' code. The adapter has no dropout, theirs 0.1. Gradients are taken in eval mode,
    one pass backwards for each sample and epoch; memory for 256 MB of them, and N E S results.

    References
    ----------
    Xia, Malladi, Gururangan, Arora, Chen, LESS: selecting influential data for targeted instruction tuning, ICML 2024,
    section 4; the authors' code for the settings.
    """
    _check(train, targets, share=share, epochs=epochs, batch_size=batch_size, rank=rank, dimension=dimension)
    found = []
    with settled(seed, threads), adapter(model, modules, rank=rank, scale=alpha / rank) as parameters:
        size = sum(p.numel() for p in parameters)
        project: Callable[[Tensor], Tensor] = (
            Projection(dimension, seed=seed) if size > dimension else Tensor.float
        )
        for rate, moments in _warm_up(model, parameters, train, share, epochs, lr, batch_size, seed):
            towards = torch.stack(
                [
                    _mean_direction(model, parameters, examples, project, name)
                    for name, examples in targets.items()
                ]
            )
            cosines = [
                F.normalize(project(_adam(gradients, *moments))) @ towards.T
                for gradients in _gradients(model, parameters, train)
            ]
            found.append((rate, torch.cat(cosines).cpu().numpy()))
    total = sum(rate for rate, _ in found)
    return np.stack([rate / total * cosines for rate, cosines in found], axis=1).astype(np.float32)


@contextmanager
def adapter(
    model: nn.Module, modules: Sequence[str], *, rank: int, scale: float
) -> Iterator[list[nn.Parameter]]:
    """Give linear layers a low-rank term for as long as the block lasts; yield its parameters, the only trained ones.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 2))
    >>> with adapter(model, ["0"], rank=1, scale=2.0) as parameters:
    ...     [tuple(p.shape) for p in parameters]
    [(1, 3), (2, 1)]
    """
    layers = [
        layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and name.rsplit(".", 1)[-1] in modules
    ]
    if not layers:
        raise BadInput(
            f"less: {type(model).__name__} has no linear layer called {' or '.join(modules)}; name some with modules="
        )
    trained, training = {p: p.requires_grad for p in model.parameters()}, model.training
    for p in trained:
        p.requires_grad = False
    terms = [LowRank(layer, rank, scale) for layer in layers]
    try:
        for layer, term in zip(layers, terms, strict=True):
            parametrize.register_parametrization(layer, "weight", term)
        yield [p for term in terms for p in (term.down, term.up)]
    finally:
        for layer in layers:
            if parametrize.is_parametrized(layer, "weight"):
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        for p, needed in trained.items():
            p.requires_grad_(needed)
        model.train(training)


class LowRank(nn.Module):
    """A weight plus scale times the product of two thin matrices, the second of them 0 at first."""

    def __init__(self, layer: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        weight = layer.weight
        self.down = nn.Parameter(weight.new_empty(rank, layer.in_features))
        self.up = nn.Parameter(weight.new_zeros(layer.out_features, rank))
        self.scale = scale
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight as the layer uses it."""
        return weight + self.scale * self.up @ self.down


def _warm_up(
    model: nn.Module, parameters: list[nn.Parameter], train: Sequence[Sample], share: float, epochs: int, lr: float,
    batch_size: int, seed: int,
) -> Iterator[tuple[float, tuple[Tensor, Tensor]]]:  # fmt: skip
    """Train the adapter; yield each epoch's mean learning rate and Adam's moments at its end, two of (P,)."""
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(len(train))[: max(1, round(share * len(train)))])
    per_epoch = math.ceil(len(drawn) / batch_size)
    steps, rise = epochs * per_epoch, math.ceil(RISE * epochs * per_epoch)
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=BETAS, eps=EPS, weight_decay=0.0)
    step = 0
    for _ in range(epochs):
        rates = []
        model.train()
        for batch in np.array_split(rng.permutation(drawn), per_epoch):
            rates.append(lr * min((step + 1) / rise, (steps - step) / max(1, steps - rise)))
            for group in optimizer.param_groups:
                group["lr"] = rates[-1]
            optimizer.zero_grad()
            for at in batch:
                loss = _loss(model, train[at]) / len(batch)
                if not torch.isfinite(loss):
                    raise BadInput(
                        f"less: the loss of training sample {at} is {loss.item()}; leave it out, or mark tokens to "
                        "learn in its labels"
                    )
                loss.backward()
            optimizer.step()
            step += 1
        model.eval()
        moments = [
            torch.cat([optimizer.state[p][name].flatten() for p in parameters])
            for name in ("exp_avg", "exp_avg_sq")
        ]
        yield float(np.mean(rates)), (moments[0], moments[1])


def _loss(model: nn.Module, sample: Sample) -> Tensor:
    device = next(model.parameters()).device
    return model(**{name: values[None].to(device) for name, values in sample.items()}).loss


def _gradients(
    model: nn.Module, parameters: list[nn.Parameter], samples: Sequence[Sample]
) -> Iterator[Tensor]:
    """Yield the gradients of the samples' losses (B, P), as many at a time as there is room for.

    NaN for a sample without a finite loss: of one without any label the gradient itself comes out as 0.
    """
    size = max(1, GRADIENTS // sum(p.numel() for p in parameters))
    for start in range(0, len(samples), size):
        rows = []
        for sample in samples[start : start + size]:
            loss = _loss(model, sample)
            parts = torch.autograd.grad(loss, parameters)
            known = torch.where(loss.isfinite(), 0.0, torch.nan)
            rows.append(torch.cat([part.flatten() for part in parts]) + known)
        yield torch.stack(rows)


def _adam(gradients: Tensor, mean: Tensor, square: Tensor) -> Tensor:
    """Return where Adam would go on each gradient (B, P), from its moments (P,)."""
    moved = BETAS[0] * mean + (1 - BETAS[0]) * gradients
    return moved / (BETAS[1] * square + (1 - BETAS[1]) * gradients.square() + EPS).sqrt()


def _mean_direction(
    model: nn.Module,
    parameters: list[nn.Parameter],
    examples: Sequence[Sample],
    project: Callable[[Tensor], Tensor],
    name: str,
) -> Tensor:
    """Return the mean of the examples' projected gradients, each of length 1."""
    total = sum(
        F.normalize(project(gradients)).sum(0) for gradients in _gradients(model, parameters, examples)
    )
    if not isinstance(total, Tensor) or not total.isfinite().all():
        raise BadInput(
            f"less: an example of target '{name}' has no finite loss; mark tokens to learn in its labels"
        )
    return total / len(examples)


def _check(
    train: Sequence[Sample], targets: Mapping[str, Sequence[Sample]], *, share: float, **counts: int
) -> None:
    if not len(train) or not targets or not all(len(examples) for examples in targets.values()):
        raise BadInput("less: it takes training samples, and at least one example of each target")
    if not 0 < share <= 1:
        raise BadInput(f"less: share is {share:g}, it must be above 0 and at most 1")
    for name, given in counts.items():
        if given < 1:
            raise BadInput(f"less: {name} is {given}, it must be at least 1")
