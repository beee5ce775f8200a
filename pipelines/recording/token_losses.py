"""One loss per sample for models that answer at every token."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

IGNORED = -100
"""The label of a token that takes no part, as in torch and transformers."""


@torch.no_grad()
def token_losses(logits: Tensor, labels: Tensor, *, shifted: bool) -> tuple[Tensor, Tensor]:
    """Return the mean loss over a sample's tokens, and how many they are.

    Parameters
    ----------
    logits : tensor of shape (B, L, V)
    labels : tensor of shape (B, L)
        Token ids; -100 where a token takes no part (prompts, padding).
    shifted
        Whether the logits at a place are for the token after it, as causal language models give them.

    Returns
    -------
    losses : tensor of shape (B,), float32
        In nats; NaN where a sample has no token that takes part.
    tokens : tensor of shape (B,), int64

    Examples
    --------
    >>> logits = torch.zeros(2, 3, 4)
    >>> losses, tokens = token_losses(logits, torch.tensor([[1, 2, 3], [1, 2, -100]]), shifted=True)
    >>> losses.tolist() == [torch.tensor(4.0).log().item()] * 2, tokens.tolist()
    (True, [2, 1])
    """
    if shifted:
        logits, labels = logits[:, :-1], labels[:, 1:]
    taken = labels != IGNORED
    each = cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    tokens = taken.sum(dim=1)
    return each.sum(dim=1) / tokens, tokens  # 0 / 0 is NaN
