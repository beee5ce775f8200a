"""Many small models of one kind trained at once: their layers are stacked, and a batch is one product for all of them.

A small network spends much of its time between the products. Stacked, R models do each step together: every one on a
batch of its own, with weights, statistics and optimiser state of its own, so that none learns from another. What a
model gets is what it would get alone, but for rounding: the order in which a product is added up differs.

A module can be stacked where its `layers()` are the linear layers, batch normalisations and activations that `forward`
runs through, one after the other. Convolutions gain nothing: they take nearly all of the time of a network that has
them, and a stack of them is computed as one grouped convolution, which is no faster on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import generator
from tracesift.pipelines.loop import EVAL_BATCH, Learner


class StackedLinear(nn.Module):
    """R linear layers: (R, I, B) to (R, O, B)."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))  # (R, O, I)
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self.bias = nn.Parameter(torch.stack(biases)) if biases else None  # (R, O)

    def forward(self, x: Tensor) -> Tensor:
        """Return (R, O, B)."""
        if self.bias is None:
            return torch.bmm(self.weight, x)
        return torch.baddbmm(self.bias[:, :, None], self.weight, x)


class StackedBatchNorm(nn.Module):
    """R batch normalisations of C features each: one of R C features, because each feature is normalised alone."""

    def __init__(self, layers: Sequence[nn.BatchNorm1d]) -> None:
        super().__init__()
        first = layers[0]
        self.momentum, self.eps = first.momentum, first.eps
        self.weight = nn.Parameter(torch.cat([layer.weight.detach() for layer in layers]))
        self.bias = nn.Parameter(torch.cat([layer.bias.detach() for layer in layers]))
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, torch.cat([getattr(layer, name) for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        """Return (R, C, B), normalised over B."""
        flat = x.reshape(1, -1, x.shape[2])
        return F.batch_norm(
            flat, self.get_buffer("running_mean"), self.get_buffer("running_var"), self.weight, self.bias,
            self.training, 0.1 if self.momentum is None else self.momentum, self.eps,
        ).view(x.shape)  # fmt: skip


class Stacked(nn.Module):
    """R modules as one.

    Parameters
    ----------
    modules
        Of one architecture, each with its own weights, which are copied.

    Raises
    ------
    BadInput
        The modules cannot be stacked.

    Examples
    --------
    >>> from tracesift.pipelines.models.linear import linear
    >>> two = [linear((3,), 2), linear((3,), 2)]
    >>> together = Stacked(two)(torch.ones(2, 5, 3))
    >>> together.shape, torch.allclose(together[1], two[1](torch.ones(5, 3)).T)
    (torch.Size([2, 2, 5]), True)
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [_together(layers) for layers in zip(*map(_layers, modules), strict=True)]
        )
        self.models = len(modules)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (R, K, B) of one batch per model (R, B, D), or of one batch for all (B, D)."""
        x = x.expand(self.models, *x.shape[-2:]).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return x


def _layers(module: nn.Module) -> list[nn.Module]:
    layers: Callable[[], list[nn.Module]] | None = getattr(module, "layers", None)
    if layers is None:
        raise BadInput(
            f"{type(module).__name__} cannot be trained in stacks: it has no layers(), the list that its forward runs "
            "through; train its models one by one (stack=1)"
        )
    return [layer for layer in layers() if not isinstance(layer, nn.Identity)]


def _together(layers: Sequence[nn.Module]) -> nn.Module:
    first = layers[0]
    if isinstance(first, nn.Linear):
        return StackedLinear(layers)  # type: ignore[arg-type]
    if isinstance(first, nn.BatchNorm1d) and first.affine and first.track_running_stats:
        return StackedBatchNorm(layers)  # type: ignore[arg-type]
    if isinstance(first, (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.LeakyReLU)):
        return first
    raise BadInput(
        f"a layer {type(first).__name__} cannot be trained in stacks, only linear layers, batch normalisations and "
        "activations; train the models one by one (stack=1)"
    )


def fit_stack(
    learner: Learner,
    values: Tensor,
    labels: Tensor,
    draws: Tensor,
    *,
    seeds: Sequence[int],
    after_batch: Callable[[], None] | None = None,
) -> None:
    """Train all models of a stack until the learner's steps are done, each as `loop.fit` trains one.

    Parameters
    ----------
    learner
        Of a `Stacked` module.
    values : float32 tensor (N, D)
        Inputs of all samples that are drawn from, on the learner's device.
    labels : int64 tensor (N,)
        Their classes, on the learner's device.
    draws : int64 tensor (R, n)
        Positions in `values` that each model trains on, on the CPU.
    seeds
        One per model: the order of its batches is drawn from (seed, epoch), as for a model alone.
    """
    size = draws.shape[1]
    per_epoch = math.ceil(size / learner.recipe.batch_size)
    shown = values.new_empty(len(draws) * math.ceil(size / per_epoch), values.shape[1])
    for epoch in range(math.ceil(learner.steps / per_epoch)):
        learner.module.train()
        orders = torch.stack(
            [
                draw[torch.randperm(size, generator=generator(seed, epoch, 0))]
                for draw, seed in zip(draws, seeds, strict=True)
            ]
        ).to(learner.device)
        for batch in orders.tensor_split(per_epoch, dim=1):
            if learner.step >= learner.steps:
                break
            x = torch.index_select(values, 0, batch.flatten(), out=shown[: batch.numel()])
            losses = F.cross_entropy(learner(x.view(*batch.shape, -1)), labels[batch], reduction="none")
            learner.descend(losses.mean(1).sum())
            if after_batch is not None:
                after_batch()


@torch.inference_mode()
def predict_stack(learner: Learner, values: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield (positions, logits (R, K, B)) of all samples by all models of a stack, in eval mode."""
    learner.module.eval()
    for start in range(0, max(1, len(values)), EVAL_BATCH):
        here = slice(start, start + EVAL_BATCH)
        yield here, learner(values[here])
