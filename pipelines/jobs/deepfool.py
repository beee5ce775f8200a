"""DeepFool: from where a model puts a sample, the shortest way to first order to where it puts it elsewhere."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from tracesift.pipelines.jobs.contract import job
from tracesift.pipelines.jobs.workbench import Workbench, at_least
from tracesift.pipelines.loop import EVAL_BATCH

ITERATIONS = 50
"""Most steps of a sample, as in the paper's code."""
OVERSHOOT = 0.02
"""How much farther than the accumulated change one looks for another class: the change itself ends on the border."""


class NotCrossedWarning(UserWarning):
    """Some samples' distances are partial sums: the last step had not reached another class."""


@job(
    reference="Ducoffe, Precioso, Adversarial active learning for deep networks, 2018; Moosavi-Dezfooli, Fawzi, "
    "Frossard, DeepFool, CVPR 2016",
    kinds=("image", "tabular"),
    because="a text cannot be changed by a little, tokens are no numbers",
)
def deepfool(
    bench: Workbench, *, epochs: int | None = None, iterations: int = ITERATIONS
) -> dict[str, np.ndarray]:
    """Train one model and walk from each sample to the nearest decision boundary, by linear steps.

    Parameters
    ----------
    bench
        Images, as the model takes them, or a table; distances are in units of that encoded input.
    epochs
        How long the model trains, as the recording by default.
    iterations
        Most steps of a sample; one backward pass for each class and step.

    Returns
    -------
    dict
        ``boundary_distance``, float32 (N,): the L2 norm of the accumulated change. What has not crossed when the steps
        are used up keeps its partial sum and is false in ``boundary_crossed``, bool (N,); a `NotCrossedWarning` says
        how many there are. NaN where no step could be taken: there is one class, or the logits do not depend on the
        input there.

    Raises
    ------
    BadInput
        Texts, whose tokens cannot be moved a little.

    Notes
    -----
    Each step goes, among all other classes k, to the nearest linearised border with the class that the model first
    predicted, by |f_k| / |w_k|^2 w_k, where f_k is the difference of the logits and w_k its gradient. Whether
    another class is predicted is asked 2 % beyond. The given label plays no part.

    References
    ----------
    Moosavi-Dezfooli, Fawzi, Frossard, CVPR 2016, algorithm 2.
    """
    at_least("deepfool", epochs=(bench.epochs if epochs is None else epochs, 1), iterations=(iterations, 1))
    made = bench.part(0, 1, partial(_walk, bench, bench.epochs if epochs is None else epochs, iterations))
    short = int((~made["boundary_crossed"]).sum())
    if short:
        warnings.warn(
            f"job 'deepfool': {short} of {len(bench.train)} samples reached no other class in {iterations} steps; "
            "they keep the distance walked so far, or none (boundary_crossed is false)",
            NotCrossedWarning,
            stacklevel=2,
        )
    return made


def _walk(bench: Workbench, epochs: int, iterations: int, seed: int) -> dict[str, np.ndarray]:
    learner = bench.learner(len(bench.train), epochs)
    for _ in bench.fit(learner, bench.train, seed=seed):
        pass
    module = learner.module.eval()
    found = [
        boundary_distance(module, bench.inputs.batch(rows), iterations=iterations)
        for rows in bench.train.split(EVAL_BATCH)
    ]
    distance, crossed = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
    return {"boundary_distance": distance.astype(np.float32), "boundary_crossed": crossed}


def boundary_distance(
    module: nn.Module, inputs: Tensor, *, iterations: int = ITERATIONS, overshoot: float = OVERSHOOT
) -> tuple[Tensor, Tensor]:
    """Return the L2 norm of DeepFool's change of each input, float64 (B,), and whether it crossed, bool (B,).

    Parameters
    ----------
    module
        In eval mode; gives logits (B, K), each row from its own input alone.
    inputs
        (B, ...), floats.

    Examples
    --------
    >>> border = nn.Linear(2, 2, bias=False)
    >>> border.weight.data = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    >>> boundary_distance(border, torch.tensor([[3.0, 4.0], [0.0, -1.0]]))[0].tolist()  # |3 x + 4 y| / 5
    [5.0, 0.8]
    """
    change = torch.zeros_like(inputs, dtype=torch.float64)
    stepped = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
    crossed = torch.zeros_like(stepped)
    with torch.no_grad():
        first = module(inputs).float().argmax(1)
    active = torch.arange(len(inputs), device=inputs.device)
    for _ in range(iterations):
        moved = inputs[active] + (1 + overshoot) * change[active].to(inputs.dtype)
        step, possible = _step(module, moved, first[active])
        active, step = active[possible], step[possible]
        if not active.numel():
            break
        change[active] += step
        stepped[active] = True
        with torch.no_grad():
            moved = inputs[active] + (1 + overshoot) * change[active].to(inputs.dtype)
            elsewhere = module(moved).float().argmax(1) != first[active]
        crossed[active[elsewhere]] = True
        active = active[~elsewhere]
    distance = change.flatten(1).norm(dim=1)
    return torch.where(stepped, distance, torch.nan), crossed


def _step(module: nn.Module, x: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Return the step to the nearest linearised border, float64 like `x`, and whether there is one, bool (B,)."""
    x = x.detach().requires_grad_()
    logits = module(x).float()
    each = torch.arange(len(x), device=x.device)

    def slope(chosen: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(chosen.sum(), x, retain_graph=True)
        return gradient.flatten(1).double()

    own = slope(logits[each, first])
    nearest = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    step = torch.zeros_like(own)
    for k in range(logits.shape[1]):
        w = slope(logits[:, k]) - own
        f = (logits[:, k] - logits[each, first]).detach().double().abs()
        length = w.norm(dim=1)
        apart = torch.where(length > 0, f / length, torch.inf).masked_fill(first == k, torch.inf)
        closer = apart < nearest
        nearest = torch.where(closer, apart, nearest)
        step[closer] = (f / length.square())[closer, None] * w[closer]
    return step.view(x.shape), nearest.isfinite()
