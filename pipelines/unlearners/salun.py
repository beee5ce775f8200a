"""Random labels, learned by those weights alone that the forget set pulls at most: SalUn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.loop import EVAL_BATCH, Learner, fit
from tracesift.pipelines.unlearners.contract import SGD, Trained, unlearner
from tracesift.pipelines.unlearners.random_labels import relabelled


@unlearner(reference="Fan et al., SalUn, ICLR 2024")
def salun(
    trained: Trained,
    forget: Tensor,
    retain: Tensor,
    *,
    seed: int,
    weights: Tensor | None = None,
    share: float = 0.5,
    epochs: int = 10,
    lr: float = 0.01,
) -> nn.Module:
    """Return the model after `random_labels` in which only its salient weights may change.

    A weight is salient if the gradient of the forget set's loss, at the given model, is among the largest in absolute
    value of all weights: m = [ |grad L(forget)| >= its quantile ].

    Parameters
    ----------
    trained
        Left as it is.
    forget, retain : int64 arrays
        Distinct rows (f,) and (r,); the two are mixed.
    seed
        Of the labels, which are drawn once, the order and the augmentation.
    weights
        Factor of each row's loss (N,); brought to mean 1 over either set.
    share
        Of the weights that may change, in (0, 1]; 0.5, the median, in the paper.
    epochs, lr
        Of SGD with momentum 0.9 and weight decay 5e-4, at a constant rate, in the recipe's batches; the paper takes 10
        epochs and tunes the rate.

    Returns
    -------
    torch.nn.Module
        In eval mode. All other parameters are, bit for bit, those of the given model: the authors' code masks gradients
        alone, so that weight decay still moves them. Running statistics of normalisation are no parameters and do move.

    Raises
    ------
    BadInput
        Sets that share a row, an empty one, weights that are none, a single class, or a `share` outside (0, 1].

    References
    ----------
    Fan et al., ICLR 2024.

    Examples
    --------
    >>> salun(trained, forget, retain, seed=0)  # doctest: +SKIP
    """
    if not 0 < share <= 1:
        raise BadInput(f"salun: share is that of the weights that may change, in (0, 1], not {share}")
    learner = trained.learner(len(forget) + len(retain), epochs, lr=lr, **SGD)
    frozen = [~mask for mask in salient(trained, learner, forget, weights, share)]
    parameters = list(learner.module.parameters())
    before = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def restore() -> None:
        for parameter, mask, value in zip(parameters, frozen, before, strict=True):
            parameter.copy_(torch.where(mask, value, parameter))

    rows, labels = torch.cat([forget, retain]), relabelled(trained, forget, seed)
    for _ in fit(learner, trained.inputs, labels, rows, seed=seed, weights=weights, after_batch=restore):
        pass
    return learner.module


def salient(
    trained: Trained, learner: Learner, forget: Tensor, weights: Tensor | None, share: float
) -> list[Tensor]:
    """Return for each parameter which of its entries are salient, bool: `share` of all, the earlier of equals."""
    learner.module.eval()
    learner.module.zero_grad()
    for rows in forget.split(EVAL_BATCH):
        (trained.losses(learner(trained.inputs.batch(rows)), rows, weights).sum() / len(forget)).backward()
    parameters = list(learner.module.parameters())
    pulls = torch.cat(
        [
            (torch.zeros_like(one) if one.grad is None else one.grad.to_dense()).abs().flatten()
            for one in parameters
        ]
    )
    learner.module.zero_grad()
    chosen = torch.zeros_like(pulls, dtype=torch.bool)
    chosen[pulls.argsort(descending=True, stable=True)[: round(share * len(pulls))]] = True
    parts = chosen.split([one.numel() for one in parameters])
    return [part.view_as(one) for part, one in zip(parts, parameters, strict=True)]
