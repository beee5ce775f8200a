"""Forgetting by shrinking a region: each sample of the forget set gets the class on the near side of its boundary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import generator
from tracesift.pipelines.loop import EVAL_BATCH, Learner
from tracesift.pipelines.unlearners.contract import SGD, Trained, batches, unlearner


@unlearner(reference="Chen, Gao, Liu, Peng, Wang, Boundary unlearning, CVPR 2023")
def boundary_shrink(
    trained: Trained,
    forget: Tensor,
    retain: Tensor,
    *,
    seed: int,
    weights: Tensor | None = None,
    step: float = 0.5,
    epochs: int = 10,
    lr: float = 5e-4,
) -> nn.Module:
    """Return the model after further training on the forget set alone, under the nearest wrong labels.

    The nearest wrong label of a sample is found by a step away from its own, x' = x + step sign(dL/dx), at the given
    model: it is the class, other than its own, that is likeliest at x'.

    Parameters
    ----------
    trained
        Left as it is.
    forget, retain : int64 arrays
        Distinct rows (f,) and (r,); the retain set takes no part.
    seed
        Of order and augmentation.
    weights
        Factor of each row's loss (N,); brought to mean 1 over the forget set.
    step
        Of the search, in standard deviations of a channel or column. The authors step by 0.1 of the range of a pixel,
        half of the deviation that they divide CIFAR-10 by. Texts have no input to step in: theirs is the output of the
        first embedding layer, and the unit is the root mean square of each vector in it.
    epochs, lr
        Of SGD with momentum 0.9 and without weight decay, at a constant rate, in the recipe's batches. The authors'
        code takes 10 epochs at 1e-5; the rate is ours.

    Returns
    -------
    torch.nn.Module
        In eval mode.

    Raises
    ------
    BadInput
        Sets that share a row, an empty one, weights that are none, a single class, a `step` that is not above 0, or
        inputs that are neither numbers nor embedded.

    Notes
    -----
    In the authors' code a step that does not leave the sample's own region keeps the sample's own label, and pixels at
    x' are rounded and kept in range. Here the label is always a wrong one, as the paper says, and x' is not rounded.
    Training is in eval mode, where theirs is not: a forget set of one class would put its own running statistics in
    place of those of all classes, and spoil the retain set without any step.

    References
    ----------
    Chen et al., CVPR 2023, and the authors' code.

    Examples
    --------
    >>> boundary_shrink(trained, forget, retain, seed=0)  # doctest: +SKIP
    """
    if not step > 0:
        raise BadInput(
            f"boundary_shrink: step is the length of the search for a wrong label, above 0, not {step}"
        )
    learner = trained.learner(len(forget), epochs, lr=lr, **{**SGD, "weight_decay": 0.0})
    labels = nearest_wrong(trained, learner, forget, step)
    relearn(trained, learner, labels, forget, seed, weights, epochs)
    return learner.module


def relearn(
    trained: Trained,
    learner: Learner,
    labels: Tensor,
    forget: Tensor,
    seed: int,
    weights: Tensor | None,
    epochs: int,
) -> None:
    """Train on the forget set under other labels (N,), in eval mode: running statistics stay those of all classes."""
    changed = replace(trained, labels=labels)
    learner.module.eval()
    for epoch in range(epochs):
        views = generator(seed, epoch, 1)
        for rows in batches(forget, learner.recipe.batch_size, seed, epoch):
            logits = learner(trained.inputs.batch(rows, views))
            learner.descend(changed.losses(logits, rows, weights).mean())


def nearest_wrong(trained: Trained, learner: Learner, forget: Tensor, step: float) -> Tensor:
    """Return the labels of all rows (N,), those of `forget` replaced by the likeliest other class one step away."""
    if trained.num_classes < 2:
        raise BadInput("with a single class there is no wrong label; boundary_shrink needs two")
    learner.module.eval()
    labels = trained.labels.clone()
    for rows in forget.split(EVAL_BATCH):
        there = rows.to(trained.device)
        own = trained.labels[there]
        logits = stepped(learner, trained.inputs.batch(rows), own, step)
        labels[there] = logits.scatter(1, own[:, None], -torch.inf).argmax(1)
    return labels


def stepped(learner: Learner, x: Any, labels: Tensor, step: float) -> Tensor:
    """Return the logits (B, K) after the step that raises the loss of `labels` (B,)."""
    caught: list[Tensor] = []

    def catch(value: Tensor) -> Tensor:
        caught.append(value.detach().requires_grad_())
        return caught[0].clone()

    def through(change: Callable[[Tensor], Tensor]) -> Tensor:
        if isinstance(x, Tensor):
            return learner(change(x))
        with _embedding(learner.module).register_forward_hook(lambda *call: change(call[2])):
            return learner(x)

    loss = nn.functional.cross_entropy(through(catch), labels, reduction="sum")
    given = caught[0].detach()
    delta = step * torch.autograd.grad(loss, caught[0])[0].sign()
    if not isinstance(x, Tensor):
        delta = delta * given.square().mean(-1, keepdim=True).sqrt()
    with torch.no_grad():
        return through(lambda _: given + delta)


def _embedding(module: nn.Module) -> nn.Module:
    for layer in module.modules():
        if isinstance(layer, nn.EmbeddingBag | nn.Embedding):
            return layer
    raise BadInput(
        "boundary_shrink: the inputs are no numbers to step in, and the model has no embedding layer to step at; "
        "take another method"
    )
