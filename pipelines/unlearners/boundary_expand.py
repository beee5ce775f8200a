"""Forgetting by making room: the forget set is moved into a class that does not exist, and that class is cut off."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import generator
from tracesift.pipelines.unlearners.boundary_shrink import relearn
from tracesift.pipelines.unlearners.contract import SGD, Trained, unlearner


@unlearner(reference="Chen, Gao, Liu, Peng, Wang, Boundary unlearning, CVPR 2023")
def boundary_expand(
    trained: Trained,
    forget: Tensor,
    retain: Tensor,
    *,
    seed: int,
    weights: Tensor | None = None,
    epochs: int = 10,
    lr: float = 5e-4,
) -> nn.Module:
    """Return the model after training the forget set into a shadow class, which is cut off afterwards.

    The last layer gets one output more, with fresh weights; all samples of the forget set are trained to be of this
    class; the output is removed.

    Parameters
    ----------
    trained
        Left as it is.
    forget, retain : int64 arrays
        Distinct rows (f,) and (r,); the retain set takes no part.
    seed
        Of the fresh weights, the order and the augmentation.
    weights
        Factor of each row's loss (N,); brought to mean 1 over the forget set.
    epochs, lr
        Of SGD with momentum 0.9 and without weight decay, at a constant rate, in the recipe's batches. The authors'
        code takes 10 epochs at 1e-5; the rate is ours.

    Returns
    -------
    torch.nn.Module
        In eval mode, with as many outputs as before.

    Raises
    ------
    BadInput
        Sets that share a row, an empty one, weights that are none, or a model whose logits do not come from a linear
        layer.

    Notes
    -----
    Meant for a class. A forget set from all classes draws every class towards the shadow, and the model with it.

    Training is in eval mode, where the authors' is not; `boundary_shrink` says why.

    References
    ----------
    Chen et al., CVPR 2023, and the authors' code, from which the fresh weights are: Glorot's normal distribution for
    K + 1 outputs, and a bias of zero.

    Examples
    --------
    >>> boundary_expand(trained, forget, retain, seed=0)  # doctest: +SKIP
    """
    classes = trained.num_classes
    module = deepcopy(trained.module)
    head = widened(module, classes, seed)
    learner = trained.learner(len(forget), epochs, module=module, lr=lr, **{**SGD, "weight_decay": 0.0})
    shadow = torch.full_like(trained.labels, classes)
    relearn(trained, learner, shadow, forget, seed, weights, epochs)
    _resize(head, head.weight[:classes], None if head.bias is None else head.bias[:classes])
    return learner.module


def widened(module: nn.Module, classes: int, seed: int) -> nn.Linear:
    """Give the module's last linear layer one output more, and return that layer."""
    linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    if not linear or linear[-1].out_features != classes:
        raise BadInput(
            f"boundary_expand: the model's last layer is no linear one with {classes} outputs, so a class can't be "
            "added; take another method"
        )
    head = linear[-1]
    spread = (2 / (head.in_features + classes + 1)) ** 0.5
    fresh = spread * torch.randn(1, head.in_features, generator=generator(seed, 3))
    bias = None if head.bias is None else torch.cat([head.bias, head.bias.new_zeros(1)])
    _resize(head, torch.cat([head.weight, fresh.to(head.weight)]), bias)
    return head


def _resize(head: nn.Linear, weight: Tensor, bias: Tensor | None) -> None:
    head.out_features = len(weight)
    head.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        head.bias = nn.Parameter(bias.detach().clone())
