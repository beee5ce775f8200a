"""One gradient, one layer, one step: the layer that matters for the forget set and least for the retain set: SLUG."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.loop import EVAL_BATCH, Learner, predict
from tracesift.pipelines.unlearners.contract import Trained, unlearner


@unlearner(reference="Cai, Tan, Asif, Targeted unlearning with single layer unlearning gradient, ICML 2025")
def single_layer_single_gradient(
    trained: Trained,
    forget: Tensor,
    retain: Tensor,
    *,
    seed: int,
    weights: Tensor | None = None,
    target: float = 0.0,
    tries: int = 10,
) -> nn.Module:
    """Return the model with one layer moved along the gradient of the forget set's loss, just as far as needed.

    Of each weight matrix W the importance is |grad L(forget)| / |W|, and the alignment is |cos(grad L(forget), grad
    L(retain))|. Layers that no other one surpasses in both are tried: each is moved up the forget set's gradient, by
    the smallest step that a binary search finds to bring its accuracy on the forget set to `target`. The layer that
    then keeps the most accuracy on the retain set is taken.

    Parameters
    ----------
    trained
        Left as it is.
    forget, retain : int64 arrays
        Distinct rows (f,) and (r,).
    seed
        Changes nothing: the method draws nothing.
    weights
        Factor of each row's loss and of its share in accuracies (N,); brought to mean 1 over either set.
    target
        Accuracy on the forget set at which it counts as forgotten, in [0, 1). The authors' 0 is for a class or a
        person; of single samples a retrained model still gets many right.
    tries
        Steps tried for each layer, 10 in the authors' code. The first is |W| / (10 |grad|); it doubles until one is
        enough, and is halved into the last interval from there.

    Returns
    -------
    torch.nn.Module
        In eval mode; all parameters but one are, bit for bit, those of the given model.

    Raises
    ------
    BadInput
        Sets that share a row, an empty one, weights that are none, settings out of range, a model without weight
        matrices besides embeddings, or a `target` that no step reaches.

    Notes
    -----
    Importance, alignment, the front, the search and its 10 tries are those of the authors' code for CLIP. Ours are: the
    cross-entropy for both sets, as there is no pair of embeddings; accuracy on the sets themselves as what the search
    looks at; and the choice on the front, which that code leaves to the reader (the one for diffusion models takes the
    deepest layer). Biases, scales and embeddings are left out, as there.

    References
    ----------
    Cai, Tan, Asif, ICML 2025, and the authors' code.

    Examples
    --------
    >>> single_layer_single_gradient(trained, forget, retain, seed=0)  # doctest: +SKIP
    """
    if not 0 <= target < 1 or tries < 1:
        raise BadInput(
            f"single_layer_single_gradient: target={target}, tries={tries}; an accuracy in [0, 1), and at least 1"
        )
    learner = trained.learner(len(forget), 1)
    of_forget, of_retain = (gradients(trained, learner, rows, weights) for rows in (forget, retain))
    lowest, best = 1.0, None
    for name in front(learner.module, of_forget, of_retain):
        weight, up = learner.module.get_parameter(name), of_forget[name]
        before = weight.detach().clone()
        least, most, step = 0.0, None, (before.norm() / up.norm()).item() / 10
        for _ in range(tries):
            _set(weight, before + step * up)
            reached = accuracy(trained, learner, forget, weights)
            lowest = min(lowest, reached)
            least, most = (least, step) if reached <= target else (step, most)
            step = 2 * step if most is None else (least + most) / 2
        if most is not None:
            moved = before + most * up
            _set(weight, moved)
            kept = accuracy(trained, learner, retain, weights)
            if best is None or kept > best[0]:
                best = (kept, weight, moved)
        _set(weight, before)
    if best is None:
        raise BadInput(
            f"single_layer_single_gradient: no step of a single layer brings the accuracy on the forget set to "
            f"{target:g}; the lowest was {lowest:.3g}; take a higher target or another method"
        )
    _set(*best[1:])
    return learner.module


def front(module: nn.Module, of_forget: dict[str, Tensor], of_retain: dict[str, Tensor]) -> list[str]:
    """Return the names of the layers that none surpasses: no other is more important and less aligned."""
    scores = {}
    for name, gradient in of_forget.items():
        importance = gradient.norm() / module.get_parameter(name).norm()
        alignment = torch.cosine_similarity(gradient.flatten(), of_retain[name].flatten(), dim=0).abs()
        scores[name] = (importance.item(), alignment.item())
    return [
        name
        for name, (high, near) in scores.items()
        if high > 0 and not any(above > high and below < near for above, below in scores.values())
    ]


def gradients(trained: Trained, learner: Learner, rows: Tensor, weights: Tensor | None) -> dict[str, Tensor]:
    """Return the gradient of the mean loss by each weight matrix, float64, in eval mode; embeddings are left out."""
    module = learner.module.eval()
    left = {id(e.weight) for e in module.modules() if isinstance(e, nn.Embedding | nn.EmbeddingBag)}
    chosen = {
        n: p for n, p in module.named_parameters() if p.ndim > 1 and p.requires_grad and id(p) not in left
    }
    if not chosen:
        raise BadInput(
            "single_layer_single_gradient: the model has no weight matrix besides embeddings; take another method"
        )
    total = {name: torch.zeros_like(one, dtype=torch.float64) for name, one in chosen.items()}
    for part in rows.split(EVAL_BATCH):
        loss = trained.losses(learner(trained.inputs.batch(part)), part, weights).sum() / len(rows)
        for name, one in zip(
            chosen, torch.autograd.grad(loss, list(chosen.values()), allow_unused=True), strict=True
        ):
            if one is not None:
                total[name] += one
    return total


def accuracy(trained: Trained, learner: Learner, rows: Tensor, weights: Tensor | None) -> float:
    """Return the (weighted) share of `rows` whose label the model gives."""
    total = 0.0
    for part, logits in predict(learner, trained.inputs, rows):
        there = part.to(trained.device)
        right = (logits.argmax(1) == trained.labels[there]).double()
        total += float((right if weights is None else right * weights[there]).sum())
    return total / len(rows)


def _set(weight: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        weight.copy_(value)
