"""Descent on what is kept, ascent on what is forgotten, in one step: NegGrad+."""

from __future__ import annotations

from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearners.contract import SGD, Trained, paired, unlearner


@unlearner(reference="Kurmanji et al., Towards unbounded machine unlearning, NeurIPS 2023 (NegGrad+)")
def gradient_ascent(
    trained: Trained,
    forget: Tensor,
    retain: Tensor,
    *,
    seed: int,
    weights: Tensor | None = None,
    beta: float = 0.95,
    epochs: int = 5,
    lr: float = 0.01,
) -> nn.Module:
    """Return the model after minimising beta L(retain) - (1 - beta) L(forget).

    Every batch of the retain set is paired with one of the forget set, which begins anew when it is through.

    Parameters
    ----------
    trained
        Left as it is.
    forget, retain : int64 arrays
        Distinct rows (f,) and (r,).
    seed
        Of order and augmentation.
    weights
        Factor of each row's loss (N,); brought to mean 1 over either set.
    beta
        Share of the retain set's mean loss, in (0, 1]. The loss on the forget set has no upper bound, so a small one
        destroys the model.
    epochs, lr
        Of SGD with momentum 0.9 and weight decay 5e-4, at a constant rate, over the retain set in the recipe's
        batches. The paper tunes beta, epochs and rate for each dataset; these are ours.

    Returns
    -------
    torch.nn.Module
        In eval mode.

    Raises
    ------
    BadInput
        Sets that share a row, an empty one, weights that are none, or a `beta` outside (0, 1].

    References
    ----------
    Kurmanji et al., NeurIPS 2023.

    Examples
    --------
    >>> gradient_ascent(trained, forget, retain, seed=0)  # doctest: +SKIP
    """
    if not 0 < beta <= 1:
        raise BadInput(f"gradient_ascent: beta is the share of the retain loss, in (0, 1], not {beta}")
    learner = trained.learner(len(retain), epochs, lr=lr, **SGD)
    learner.module.train()
    for kept, gone, views in paired(forget, retain, learner.recipe.batch_size, seed, epochs):
        keeping, going = (
            trained.losses(learner(trained.inputs.batch(rows, views)), rows, weights).mean()
            for rows in (kept, gone)
        )
        learner.descend(beta * keeping - (1 - beta) * going)
    return learner.module
