"""Forgetting by contraction: the outputs of the forget set are drawn to one point, the origin, where no class is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tracesift.pipelines.unlearners.contract import SGD, Trained, paired, unlearner


@unlearner(reference="Jung, Jung, Bae, Lee, OPC: one-point-contraction unlearning, arXiv 2507.07754, 2025")
def one_point_contraction(
    trained: Trained,
    forget: Tensor,
    retain: Tensor,
    *,
    seed: int,
    weights: Tensor | None = None,
    epochs: int = 10,
    lr: float = 0.01,
) -> nn.Module:
    """Return the model after minimising L(retain) + |logits(forget)|, the mean Euclidean norm.

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
        Factor of each row's loss or norm (N,); brought to mean 1 over either set.
    epochs, lr
        Of SGD with momentum 0.9 and weight decay 5e-4, at a constant rate, over the retain set in the recipe's
        batches. Both are ours: those of the paper were not at hand.

    Returns
    -------
    torch.nn.Module
        In eval mode.

    Raises
    ------
    BadInput
        Sets that share a row, an empty one, or weights that are none.

    Notes
    -----
    The paper argues by features and takes the norm of the logits, both terms alike, as here. A small norm of the
    logits does not force a small one of the features: measure those where deep forgetting is what matters. The
    forgotten samples end in uniform doubt, which a retrained model need not have about them.

    References
    ----------
    Jung et al., 2025; the loss as its abstract and its reviews at ICLR 2026 (OpenReview EetMA6RCpD) give it.

    Examples
    --------
    >>> one_point_contraction(trained, forget, retain, seed=0)  # doctest: +SKIP
    """
    learner = trained.learner(len(retain), epochs, lr=lr, **SGD)
    learner.module.train()
    for kept, gone, views in paired(forget, retain, learner.recipe.batch_size, seed, epochs):
        keeping = trained.losses(learner(trained.inputs.batch(kept, views)), kept, weights).mean()
        norms = torch.linalg.vector_norm(learner(trained.inputs.batch(gone, views)), dim=1)
        if weights is not None:
            norms = norms * weights[gone.to(trained.device)]
        learner.descend(keeping + norms.mean())
    return learner.module
