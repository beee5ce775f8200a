"""Forgetting by going on without: the trained model is trained further on the retain set alone."""

from __future__ import annotations

from torch import Tensor, nn

from tracesift.pipelines.loop import fit
from tracesift.pipelines.unlearners.contract import SGD, Trained, unlearner


@unlearner(reference="Golatkar, Achille, Soatto, CVPR 2020; Warnecke et al., NDSS 2023")
def fine_tune(
    trained: Trained,
    forget: Tensor,
    retain: Tensor,
    *,
    seed: int,
    weights: Tensor | None = None,
    epochs: int = 10,
    lr: float = 0.01,
) -> nn.Module:
    """Return the model after further training on the retain set: the least that an unlearning method must beat.

    Parameters
    ----------
    trained
        Left as it is.
    forget, retain : int64 arrays
        Distinct rows (f,) and (r,); the forget set takes no part.
    seed
        Of order and augmentation.
    weights
        Factor of each row's loss (N,); brought to mean 1 over the retain set.
    epochs, lr
        Of SGD with momentum 0.9 and weight decay 5e-4, at a constant rate, in the recipe's batches. 10 and 0.01 are
        those of Jia et al., NeurIPS 2023, for ResNet-18.

    Returns
    -------
    torch.nn.Module
        In eval mode.

    Raises
    ------
    BadInput
        Sets that share a row, an empty one, or weights that are none.

    Examples
    --------
    >>> fine_tune(trained, forget, retain, seed=0)  # doctest: +SKIP
    """
    learner = trained.learner(len(retain), epochs, lr=lr, **SGD)
    for _ in fit(learner, trained.inputs, trained.labels, retain, seed=seed, weights=weights):
        pass
    return learner.module
