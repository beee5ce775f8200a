"""Predict what the retrained model would answer, from what each forgotten sample did to it; then learn that: DMM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vjp

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import generator
from tracesift.pipelines.loop import EVAL_BATCH
from tracesift.pipelines.unlearners.contract import Trained, batches, unlearner

Weights = dict[str, Tensor]
Back = Callable[[Tensor], tuple[Weights]]
"""J^T: from something for each logit to the same for each weight."""


@unlearner(reference="Georgiev, Rinberg, Park, Garg et al., Attribute-to-delete, ICLR 2025 (DMM)")
def datamodel_matching(
    trained: Trained,
    forget: Tensor,
    retain: Tensor,
    *,
    seed: int,
    weights: Tensor | None = None,
    effects: Tensor | None = None,
    oracles: Sequence[nn.Module] = (),
    parameters: Literal["all", "last"] = "all",
    damping: float = 0.01,
    iterations: int = 100,
    retain_multiplier: float = 3.0,
    epochs: int = 5,
    lr: float = 5e-4,
    batch_size: int = 512,
) -> nn.Module:
    """Return the model after fine-tuning it to logits predicted for a model that never saw the forget set.

    (a) Predicted are f_hat(x) = f(x) - sum over the forget set of tau_i(x), for each logit, with tau_i(x) what sample
    i adds to the logits of x. (b) The squared distance of the model's logits from f_hat is minimised over the forget
    set and a sample of the retain set.

    Parameters
    ----------
    trained
        Left as it is; f are its logits in eval mode, of the view of x that is shown.
    forget, retain : int64 arrays
        Distinct rows (f,) and (r,).
    seed
        Of the sample, order and augmentation.
    weights
        Factor of each row's loss and squared distance (N,); brought to mean 1 over either set.
    effects : tensor of shape (N, K)
        The sum of tau_i over the forget set, for the logits of every row, from any attribution: the paper's is a linear
        datamodel, fitted to 1,000 to 20,000 trainings on random halves. Where None they are estimated, see Notes.
    oracles
        Models that were retrained without the forget set: the mean of their logits is learned in place of f_hat (oracle
        matching, the paper's ideal case). Not together with `effects`.
    parameters
        That the model is made linear in: ``"all"``, or ``"last"``, those of the last linear layer, to which what lower
        layers have learned by heart is invisible.
    damping
        Added to the curvature of the mean loss, as weight decay would be. Ours: less of it predicts larger changes.
    iterations
        Of conjugate gradients at most, each about as long as an epoch over the retain set.
    retain_multiplier
        Size of the retain set's sample over that of the forget set; 3 in the authors' code.
    epochs, lr, batch_size
        Of Adam at a constant rate; 5, 5e-4 and 512 are those of the authors' code, which lowers the rate by 5 % an
        epoch. The mean is over logits, so small sets need more epochs.

    Returns
    -------
    torch.nn.Module
        In eval mode.

    Raises
    ------
    BadInput
        Sets that share a row, an empty one, weights that are none, a setting out of range, effects of another shape or
        not finite, both effects and oracles, or a module that cannot be differentiated twice.

    Notes
    -----
    The estimate is one Newton step of the model made linear in its parameters, from where it is to where the retain
    set wants it: tau_i(x) = J(x) (H + damping)^-1 J_i^T (y_i - p_i) / n, with J the derivative of the logits and H =
    sum over the retain set of J^T (diag p - p p^T) J / n. It is TRAK's model of a network without the projection, and
    with the curvature's weights, which TRAK leaves out: without them hardly any of 80 labels that a network had
    learned by heart was predicted to go. Of a linear model with squared error the prediction is exact.

    References
    ----------
    Georgiev et al., ICLR 2025, section 4 and algorithms C.1 and C.3; the authors' code for the fine-tuning.

    Examples
    --------
    >>> datamodel_matching(trained, forget, retain, seed=0)  # doctest: +SKIP
    """
    if not damping > 0 or iterations < 1 or not retain_multiplier >= 0:
        raise BadInput(
            f"datamodel_matching: damping={damping}, iterations={iterations}, retain_multiplier={retain_multiplier}; "
            "damping is above 0, iterations at least 1, the multiplier at least 0"
        )
    if effects is not None and len(oracles):
        raise BadInput("datamodel_matching: give effects or oracles; the one would be ignored")
    some = retain[torch.randperm(len(retain), generator=generator(seed, 3))]
    shown = torch.cat([forget, some[: round(retain_multiplier * len(forget))]])
    recipe: dict[str, Any] = {"optimizer": "adamw", "weight_decay": 0.0, "schedule": "constant"}
    learner = trained.learner(len(shown), epochs, lr=lr, batch_size=batch_size, **recipe)
    teachers = [deepcopy(one).to(trained.device).eval() for one in (oracles or [trained.module])]
    if oracles:
        effects = torch.zeros(len(trained.labels), trained.num_classes)
    elif effects is None:
        effects = estimated(trained, forget, retain, shown, weights, parameters, damping, iterations)
    if effects.shape != (len(trained.labels), trained.num_classes) or not effects[shown].isfinite().all():
        raise BadInput(
            f"datamodel_matching: effects have shape {tuple(effects.shape)}; they are finite numbers for "
            f"{len(trained.labels)} rows and {trained.num_classes} logits"
        )
    effects = effects.float().to(trained.device)
    learner.module.train()
    for epoch in range(epochs):
        views = generator(seed, epoch, 1)
        for rows in batches(shown, learner.recipe.batch_size, seed, epoch):
            x, there = trained.inputs.batch(rows, views), rows.to(trained.device)
            with torch.no_grad():
                target = torch.stack([one(x).float() for one in teachers]).mean(0) - effects[there]
            distances = (learner(x) - target).square().mean(1)
            learner.descend((distances if weights is None else distances * weights[there]).mean())
    return learner.module


def softmax_curvature(logits: Tensor, change: Tensor) -> Tensor:
    """Return (diag p - p p^T) times a change of the logits (B, K): the second derivative of the cross-entropy."""
    p = logits.softmax(1)
    return p * change - p * (p * change).sum(1, keepdim=True)


def softmax_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """Return p - y (B, K): the first derivative of the cross-entropy."""
    return logits.softmax(1) - F.one_hot(labels, logits.shape[1])


def estimated(
    trained: Trained,
    forget: Tensor,
    retain: Tensor,
    shown: Tensor,
    weights: Tensor | None,
    parameters: str,
    damping: float,
    iterations: int,
    *,
    gradient: Callable[[Tensor, Tensor], Tensor] = softmax_gradient,
    curvature: Callable[[Tensor, Tensor], Tensor] = softmax_curvature,
) -> Tensor:
    """Return the sum over the forget set of tau_i for the rows `shown` (N, K), 0 for all others.

    `gradient` and `curvature` are those of a sample's loss by its logits.
    """
    module = _with_plain_bags(deepcopy(trained.module)).eval()
    at = _linearised(module, parameters)
    module.requires_grad_(requires_grad=False)  # what is not linearised is a constant
    size = len(forget) + len(retain)
    factor = torch.ones(len(trained.labels), device=trained.device) if weights is None else weights

    def logits(x: Any, given: Weights) -> Tensor:
        return functional_call(module, given, (x,)).float()

    def parts(rows: Tensor) -> Iterator[tuple[Tensor, Tensor, Back]]:
        for part in rows.split(EVAL_BATCH):
            out, back = vjp(partial(logits, trained.inputs.batch(part)), at)[:2]
            yield part.to(trained.device), out, back

    def curved(change: Weights) -> Weights:
        total = {name: damping * part for name, part in change.items()}
        for there, out, back in parts(retain):
            bent = curvature(out, moved(out, back, change)) * factor[there, None] / size
            total = _plus(total, back(bent)[0])
        return total

    pull = {name: torch.zeros_like(part) for name, part in at.items()}
    for there, out, back in parts(forget):
        pull = _plus(pull, back(gradient(out, trained.labels[there]) * factor[there, None] / size)[0])
    effects = torch.zeros(len(trained.labels), trained.num_classes, device=trained.device)
    try:
        change = conjugate_gradients(curved, pull, iterations)
        for there, out, back in parts(shown):
            effects[there] = -moved(out, back, change)
    except NotImplementedError as error:
        raise BadInput(
            f"datamodel_matching: {type(trained.module).__name__} cannot be differentiated twice "
            f"({str(error).splitlines()[0][:100]}); set parameters='last', or give effects or oracles"
        ) from None
    return effects


def moved(out: Tensor, back: Back, change: Weights) -> Tensor:
    """Return J times a change of the weights (B, K): the way back (J^T) is linear, and its own way back is J."""
    along: Tensor = vjp(lambda pull: back(pull)[0], torch.zeros_like(out))[1](change)[0]
    return along


def conjugate_gradients(
    product: Callable[[Weights], Weights], right: Weights, iterations: int, tolerance: float = 1e-4
) -> Weights:
    """Return x with product(x) = right, for a symmetric positive product; stops at a residual of `tolerance`.

    Examples
    --------
    >>> x = conjugate_gradients(lambda v: {"w": 4 * v["w"]}, {"w": torch.tensor([2.0, 8.0])}, 5)
    >>> x["w"].tolist()
    [0.5, 2.0]
    """
    found = {name: torch.zeros_like(part) for name, part in right.items()}
    rest = way = right
    size = start = _dot(rest, rest)
    for _ in range(iterations):
        if not size > tolerance**2 * start:
            break
        onward = product(way)
        step = size / _dot(way, onward)
        found, rest = _plus(found, way, step), _plus(rest, onward, -step)
        before, size = size, _dot(rest, rest)
        way = _plus(rest, way, size / before)
    return found


def _dot(one: Weights, other: Weights) -> float:
    return sum((part * other[name]).sum(dtype=torch.float64).item() for name, part in one.items())


def _plus(one: Weights, other: Weights, factor: float = 1.0) -> Weights:
    return {name: torch.add(part, other[name], alpha=factor) for name, part in one.items()}


def _linearised(module: nn.Module, parameters: str) -> Weights:
    """Return the weights that the model is made linear in."""
    chosen = {name: one.detach() for name, one in module.named_parameters() if one.requires_grad}
    if parameters == "all":
        return chosen
    linear = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise BadInput(
            f"datamodel_matching: {type(module).__name__} has no linear layer; set parameters='all'"
        )
    return {name: one for name, one in chosen.items() if name.rpartition(".")[0] == linear[-1]}


class _PlainBag(nn.Module):
    """The sum of an `nn.EmbeddingBag`, by operations that can be differentiated twice."""

    def __init__(self, bag: nn.EmbeddingBag) -> None:
        super().__init__()
        self.weight = bag.weight

    def forward(self, indices: Tensor, offsets: Tensor, per_sample_weights: Tensor) -> Tensor:
        """Return (B, D)."""
        ends = torch.cat([offsets[1:], offsets.new_tensor([len(indices)])])
        bags = torch.arange(len(offsets), device=offsets.device).repeat_interleave(ends - offsets)
        vectors = F.embedding(indices, self.weight) * per_sample_weights[:, None]
        return vectors.new_zeros(len(offsets), vectors.shape[1]).index_add(0, bags, vectors)


def _with_plain_bags(module: nn.Module) -> nn.Module:
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.EmbeddingBag) and child.mode == "sum":
                setattr(parent, name, _PlainBag(child))
    return module
