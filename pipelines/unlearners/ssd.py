"""No training at all: weights that matter for the forget set far more than for all data are dampened: SSD."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.loop import Learner
from tracesift.pipelines.unlearners.contract import Trained, unlearner


@unlearner(reference="Foster, Schoepf, Brintrup, Selective synaptic dampening, AAAI 2024")
def ssd(
    trained: Trained,
    forget: Tensor,
    retain: Tensor,
    *,
    seed: int,
    weights: Tensor | None = None,
    alpha: float = 10.0,
    lambda_: float = 1.0,
    batch_size: int = 1,
) -> nn.Module:
    """Return the model with the weights dampened that are specialised to the forget set.

    With the diagonals of the Fisher information I_f over the forget set and I_D over both sets, every weight with I_f >
    alpha I_D is multiplied by min(lambda I_D / I_f, 1).

    Parameters
    ----------
    trained
        Left as it is.
    forget, retain : int64 arrays
        Distinct rows (f,) and (r,); D is both together.
    seed
        Changes nothing: the method draws nothing.
    weights
        Factor of each row's loss (N,); brought to mean 1 over either set. It enters squared.
    alpha
        How many times more a weight must matter for the forget set; 10 in the paper for most tasks. Smaller takes more.
        As the forget set is part of D, I_f / I_D is at most n / f: a large forget set needs a smaller alpha.
    lambda_
        Strength of the dampening; 1 in the paper. Smaller dampens more.
    batch_size
        1 is the Fisher information. The authors' code squares the gradients of whole batches, which is faster and
        another quantity: name their batch size to have that.

    Returns
    -------
    torch.nn.Module
        In eval mode; running statistics of normalisation are those of the given model.

    Raises
    ------
    BadInput
        Sets that share a row, an empty one, weights that are none, a setting that is not above 0, or an `alpha` of
        n / f or more, with which no weight can be selected.

    References
    ----------
    Foster et al., AAAI 2024.

    Examples
    --------
    >>> ssd(trained, forget, retain, seed=0)  # doctest: +SKIP
    """
    if not alpha > 0 or not lambda_ > 0 or batch_size < 1:
        raise BadInput(f"ssd: alpha={alpha}, lambda_={lambda_}, batch_size={batch_size}; all are above 0")
    most = (len(forget) + len(retain)) / len(forget)
    if batch_size == 1 and alpha >= most:
        raise BadInput(
            f"ssd: with alpha={alpha} no weight can be selected: {len(forget)} of {len(forget) + len(retain)} samples "
            f"are to be forgotten, so I_f is at most {most:.3g} times I_D; take a smaller alpha"
        )
    learner = trained.learner(len(forget), 1)
    everything = torch.cat([forget, retain]).sort().values
    of_forget, of_all = (
        importances(trained, learner, rows, weights, batch_size) for rows in (forget, everything)
    )
    with torch.no_grad():
        for parameter, special, general in zip(learner.module.parameters(), of_forget, of_all, strict=True):
            factor = (lambda_ * general / special).clamp(max=1.0)
            parameter.copy_(torch.where(special > alpha * general, parameter * factor, parameter))
    return learner.module


def importances(
    trained: Trained, learner: Learner, rows: Tensor, weights: Tensor | None, batch_size: int
) -> list[Tensor]:
    """Return for each parameter the mean over batches of its squared gradient, in eval mode."""
    module = learner.module.eval()
    totals = [torch.zeros_like(one) for one in module.parameters()]
    parts = rows.split(batch_size)
    for part in parts:
        module.zero_grad()
        trained.losses(learner(trained.inputs.batch(part)), part, weights).mean().backward()
        for total, one in zip(totals, module.parameters(), strict=True):
            if one.grad is not None:
                total += one.grad.to_dense().square()
    module.zero_grad()
    return [total / len(parts) for total in totals]
