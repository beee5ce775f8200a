"""Forgetting as learning in reverse: one step towards the opposite of the forget set, corrected by the rest: IAU."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.loop import EVAL_BATCH
from tracesift.pipelines.unlearners.contract import Trained, unlearner


@unlearner(reference="Liu, Wu, Lian, Chen, Efficient machine unlearning via influence approximation, 2025")
def influence_approximation(
    trained: Trained,
    forget: Tensor,
    retain: Tensor,
    *,
    seed: int,
    weights: Tensor | None = None,
    lr: float = 0.001,
    optimizer: Literal["adam", "sgd"] = "adam",
    correction: float = 1.0,
) -> nn.Module:
    """Return the model after a single step on mean L(retain) - mean L(forget), both at the given weights.

    Taking a sample out moves the optimum by H^-1 grad / n; so does adding one whose gradient is the opposite. The
    second can be learned by a gradient step, without H (incremental approximation). The retain set's gradient keeps
    the step from forgetting too much (gradient correction).

    Parameters
    ----------
    trained
        Left as it is.
    forget, retain : int64 arrays
        Distinct rows (f,) and (r,).
    seed
        Changes nothing: the method draws nothing.
    weights
        Factor of each row's loss (N,); brought to mean 1 over either set.
    lr
        Of the step; 0.001 in the authors' code. All that is forgotten is forgotten by it, so tune it.
    optimizer
        ``"adam"``, the authors' code: its first step moves every weight by `lr` against the sign of the gradient, all
        but those whose gradient is below 1e-8. ``"sgd"``: by lr times the gradient.
    correction
        Factor of the retain set's gradient; 1 in the authors' code.

    Returns
    -------
    torch.nn.Module
        In eval mode; running statistics of normalisation are those of the given model.

    Raises
    ------
    BadInput
        Sets that share a row, an empty one, weights that are none, or a setting out of range.

    Notes
    -----
    Taken from the authors' code and abstract; the paper's own equations were not at hand, and neither were its
    settings for each dataset. Gradient restriction, the third part, belongs to the training that comes before: it
    adds alpha |grad L| to the loss, see `restricted`. A model trained without it, such as a recorded one, gets the
    other two parts alone. Where the Hessian is the identity and the model at its optimum, a plain step with lr = f / n
    is the exact refit.

    References
    ----------
    Liu et al., 2025 (arXiv 2507.23257).

    Examples
    --------
    >>> influence_approximation(trained, forget, retain, seed=0)  # doctest: +SKIP
    """
    if not lr > 0 or not correction >= 0:
        raise BadInput(
            f"influence_approximation: lr={lr}, correction={correction}; lr is above 0, correction at least 0"
        )
    learner = trained.learner(1, 1)
    module = learner.module.eval()
    for rows, factor in ((retain, correction), (forget, -1.0)):
        for part in rows.split(EVAL_BATCH):
            losses = trained.losses(learner(trained.inputs.batch(part)), part, weights)
            (losses.sum() * (factor / len(rows))).backward()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.grad is not None:
                step = parameter.grad.to_dense()
                parameter.sub_(lr * (step if optimizer == "sgd" else step / (step.abs() + 1e-8)))
    module.zero_grad()
    return module


def restricted(loss: Tensor, module: nn.Module, alpha: float = 0.005) -> Tensor:
    """Return the loss to train on so that single samples can later be forgotten: loss + alpha |its gradient|.

    Parameters
    ----------
    loss
        Of a batch, with its graph.
    module
        Its parameters' norms are added up one tensor after the other, as in the authors' code.
    alpha
        0.005 in the authors' code.

    Examples
    --------
    >>> layer = nn.Linear(1, 1, bias=False)
    >>> loss = (layer(torch.tensor([[3.0]])) * 2).sum()
    >>> round((restricted(loss, layer, alpha=0.5) - loss).item(), 6)
    3.0
    """
    parameters = [one for one in module.parameters() if one.requires_grad]
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    return loss + alpha * torch.stack([one.norm() for one in gradients]).sum()
