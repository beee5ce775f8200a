"""Gradients of single samples: by all parameters with automatic differentiation, by the last layer in closed form.

Of a last linear layer with inputs h, the gradient of any function of the logits is the outer product of its gradient
by the logits and [1, h]. So two short vectors stand for K (D + 1) numbers. All are taken in eval mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.embedding.embeddings import features
from tracesift.pipelines.jobs.workbench import Workbench
from tracesift.pipelines.loop import Learner, predict

GRADIENTS = 1 << 26
"""How many numbers the gradients of one batch may take, 256 MB of float32; each sample has one per parameter."""

Output = Callable[[Tensor, Tensor], Tensor]
"""A number for each sample, from logits (B, K) and labels (B,)."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of each sample (B,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of each sample's label (B,): its logit minus the log-sum-exp of the others.

    Examples
    --------
    >>> log_odds(torch.tensor([[0.0, 3.0]]), torch.tensor([1])).tolist()
    [3.0]
    """
    own = labels[:, None] == torch.arange(logits.shape[-1], device=logits.device)
    return logits.gather(-1, labels[:, None])[:, 0] - logits.masked_fill(own, -torch.inf).logsumexp(-1)


def by_all_parameters(module: nn.Module, output: Output) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function from inputs (B, ...) and labels (B,) to gradients of `output`, float32 (B, P).

    Parameters are flattened in the module's own order; those that need no gradient are left out.
    """
    module.eval()
    weights = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
    others = {name: p.detach() for name, p in module.named_parameters() if not p.requires_grad}
    others |= dict(module.named_buffers())

    def of_one(given: dict[str, Tensor], x: Tensor, label: Tensor) -> Tensor:
        logits = torch.func.functional_call(module, {**given, **others}, (x[None],))
        return output(logits.float(), label[None]).sum()

    each = torch.func.vmap(torch.func.grad(of_one), in_dims=(None, 0, 0))

    def gradients(x: Tensor, labels: Tensor) -> Tensor:
        return torch.cat([part.flatten(1) for part in each(weights, x, labels).values()], dim=1)

    return gradients


def all_gradients(
    learner: Learner, bench: Workbench, rows: Tensor, output: Output = cross_entropy
) -> Iterator[Tensor]:
    """Yield the gradients (B, P) of all of `rows`, batch after batch."""
    gradients = by_all_parameters(learner.module, output)
    size = max(1, GRADIENTS // number_of_parameters(learner.module))
    for batch in rows.split(size):
        yield gradients(bench.inputs.batch(batch), bench.labels[batch.to(bench.device)])


def number_of_parameters(module: nn.Module) -> int:
    """Return P, the number of parameters that are trained."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def mean_gradient(learner: Learner, bench: Workbench, rows: Tensor, output: Output = cross_entropy) -> Tensor:
    """Return the gradient (P,) of the mean of `output` over `rows`, float64, by one pass backwards a batch."""
    module = learner.module.eval()
    parameters = [p for p in module.parameters() if p.requires_grad]
    total = torch.zeros(number_of_parameters(module), dtype=torch.float64, device=bench.device)
    for batch in rows.split(512):
        logits = module(bench.inputs.batch(batch)).float()
        parts = torch.autograd.grad(output(logits, bench.labels[batch.to(bench.device)]).sum(), parameters)
        total += torch.cat([part.flatten() for part in parts]).double()
    return total / len(rows)


def by_last_layer(
    learner: Learner, bench: Workbench, rows: Tensor, output: Output = cross_entropy
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `output` by the logits (n, K) and the last layer's inputs (n, D), float64 on the CPU."""
    outer = []
    for batch, logits in predict(learner, bench.inputs, rows):
        given = logits.double().clone().requires_grad_()
        labels = bench.labels[batch.to(bench.device)]
        outer.append(torch.autograd.grad(output(given, labels).sum(), given)[0].cpu())
    return torch.cat(outer), torch.from_numpy(features(learner.module, bench.inputs, rows)).double()


def check_parameters(job: str, parameters: str, bench: Workbench) -> None:
    """Refuse a value of a job's setting `parameters` that there is not, or that this kind of data does not allow."""
    if parameters not in ("last", "all"):
        raise BadInput(f"job '{job}': parameters is 'last' or 'all', not {parameters!r}")
    if parameters == "all" and bench.dataset.kind == "text":
        raise BadInput(f"job '{job}': parameters=all takes images and tables; for texts use parameters=last")


def check_last_layer(job: str, module: nn.Module, bench: Workbench) -> None:
    """Refuse a model for which the closed form does not hold."""
    linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    if not linear or linear[-1].out_features != bench.dataset.num_classes or linear[-1].bias is None:
        raise BadInput(
            f"job '{job}': the last layer of model {bench.model.name} is no linear layer with a bias for "
            f"{bench.dataset.num_classes} classes; choose another model with --model"
        )
