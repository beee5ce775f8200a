"""Loss curvature: how much the loss's gradient by the input changes a small step away, along one training.

Around samples that a network knows by heart the loss is bent more than around those it understands.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.jobs.contract import job
from tracesift.pipelines.jobs.workbench import Workbench, at_least
from tracesift.pipelines.loop import EVAL_BATCH

STEP = 0.01


@job(
    reference="Moosavi-Dezfooli, Fawzi, Uesato, Frossard, Robustness via curvature regularization, and vice versa, "
    "CVPR 2019; Zhao, Triantafillou, Scalability of memorization-based machine unlearning, NeurIPS 2024 workshop (as a "
    "proxy of memorization)",
    kinds=("image", "tabular"),
    because="a text cannot be changed by a little, tokens are no numbers",
)
def loss_curvature(
    bench: Workbench, *, epochs: int | None = None, step: float = STEP
) -> dict[str, np.ndarray]:
    """Train one model, and measure after each epoch how the loss bends around each sample.

    Parameters
    ----------
    bench
        Images, as the model takes them, or a table.
    epochs
        How long the model trains, as the recording by default; after each it is measured, which takes two passes
        backwards over the data.
    step
        h, the length of the step, in units of the encoded input as a whole.

    Returns
    -------
    dict
        ``input_curvature``, float32 (N, E): |grad_x l(x + z) - grad_x l(x)| after each of E epochs, where z is the step
        of length h along the signs of grad_x l(x); in eval mode, without augmentation. 0 where that gradient is 0.

    Raises
    ------
    BadInput
        Texts, or a step that is not above 0.

    Notes
    -----
    The authors of the proxy measure each batch while it is trained on, of the augmented view in eval mode.

    References
    ----------
    Moosavi-Dezfooli et al., CVPR 2019, for the step along the signs; Zhao and Triantafillou 2024, and their code, for
    the average over epochs and h = 0.01.
    """
    epochs = bench.epochs if epochs is None else epochs
    at_least("loss_curvature", epochs=(epochs, 1))
    if not np.isfinite(step) or step <= 0:
        raise BadInput(f"job 'loss_curvature': step is {step}, it must be above 0")
    return bench.part(0, 1, partial(_follow, bench, epochs, step))


def _follow(bench: Workbench, epochs: int, step: float, seed: int) -> dict[str, np.ndarray]:
    learner = bench.learner(len(bench.train), epochs)
    found = []
    for _ in bench.fit(learner, bench.train, seed=seed):
        parts = [
            curvature(
                learner.module.eval(),
                bench.inputs.batch(rows),
                bench.labels[rows.to(bench.device)],
                step=step,
            )
            for rows in bench.train.split(EVAL_BATCH)
        ]
        found.append(torch.cat(parts).cpu().numpy())
    return {"input_curvature": np.stack(found, axis=1).astype(np.float32)}


def curvature(module: nn.Module, x: Tensor, labels: Tensor, *, step: float = STEP) -> Tensor:
    """Return how much the gradient of each sample's loss by its input changes along its own signs, (B,).

    Parameters
    ----------
    module
        In eval mode; gives logits (B, K), each row from its own input alone.
    x
        (B, ...), floats.
    labels
        (B,), class indices.
    step
        Length of the step.

    Examples
    --------
    >>> flat = nn.Linear(2, 2)
    >>> nn.init.zeros_(flat.weight).shape, curvature(flat, torch.ones(1, 2), torch.tensor([0])).tolist()
    (torch.Size([2, 2]), [0.0])
    """

    def slope(at: Tensor) -> Tensor:
        at = at.detach().requires_grad_()
        loss = F.cross_entropy(module(at).float(), labels, reduction="sum")
        return torch.autograd.grad(loss, at)[0]

    here = slope(x)
    signs = here.sign().flatten(1)
    along = (step * signs / signs.norm(dim=1, keepdim=True).clamp(min=1)).view_as(x)
    return (slope(x + along) - here).flatten(1).double().norm(dim=1)
