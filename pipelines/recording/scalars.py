"""The per-sample scalars of one batch of logits, as the vocabulary names them; pure tensor arithmetic.

Everything is float32 whatever the network computed in, because half-precision log-probabilities lose the
small losses that separate clean samples. With one class there is no other class: both margins are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

KL_EPS = 1e-8
"""Added inside the logarithms of `kl_step`, as in the reference code of TDDS."""


def scalars(
    logits: Tensor, labels: Tensor, fields: Sequence[str], *, previous: Tensor | None = None
) -> dict[str, Tensor]:
    """Return the asked-for `fields` of each sample, on the device of `logits`, without waiting for it.

    Parameters
    ----------
    logits
        (B, K), any floating type. NaN and infinities pass through; such a sample counts as not correct.
    labels
        Given labels as class indices, (B,) int64.
    fields
        Names of `catalog.schema.SCALAR_FIELDS`.
    previous
        Probabilities of the same samples one epoch earlier, (B, K); NaN rows where there is none. Needed for
        `kl_step` alone.

    Returns
    -------
    dict
        Field -> (B,) float32; `correct` is bool and `pred` int64.

    References
    ----------
    Pleiss et al. 2020 (margin); Paul et al. 2021 (error_norm); Zhang et al. 2024, TDDS (kl_step: sum over
    classes of |p_t (log p_t - log p_{t-1})|, the absolute value inside the sum).

    Examples
    --------
    >>> row = scalars(torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([0]), ("margin", "correct"))
    >>> row["margin"].item(), row["correct"].item()
    (1.0, True)
    """
    logits = logits.float()
    column = labels[:, None]  # (B, 1)
    log_probs = torch.log_softmax(logits, dim=1)
    probs = log_probs.exp()
    only_class = logits.shape[1] == 1
    absent = torch.full((), float("nan") if only_class else float("-inf"), device=logits.device)
    pred = logits.argmax(1)
    make: dict[str, Callable[[], Tensor]] = {
        "loss": lambda: -log_probs.gather(1, column)[:, 0],
        "correct": lambda: (pred == labels) & logits.isfinite().all(1),
        "margin": lambda: _gap(logits, column, absent),
        "prob_label": lambda: probs.gather(1, column)[:, 0],
        "prob_margin": lambda: _gap(probs, column, absent),
        "error_norm": lambda: probs.scatter_add(1, column, -torch.ones_like(column, dtype=probs.dtype)).norm(
            dim=1
        ),
        "entropy": lambda: torch.special.entr(probs).sum(1),
        "kl_step": lambda: _kl_step(probs, previous),
        "pred": lambda: pred,
    }
    return {name: make[name]() for name in fields}


def _gap(values: Tensor, column: Tensor, absent: Tensor) -> Tensor:
    """Return the label's value minus the largest other."""
    others = values.scatter(1, column, absent.expand_as(column))
    return values.gather(1, column)[:, 0] - others.amax(1)


def _kl_step(probs: Tensor, previous: Tensor | None) -> Tensor:
    if previous is None:
        return torch.full_like(probs[:, 0], float("nan"))
    return (probs * ((probs + KL_EPS).log() - (previous + KL_EPS).log())).abs().sum(1)
