"""A student that disobeys its teacher on what is to be forgotten, and follows it on everything else: SCRUB."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import generator
from tracesift.pipelines.unlearners.contract import SGD, Trained, batches, divergences, unlearner


@unlearner(reference="Kurmanji et al., Towards unbounded machine unlearning, NeurIPS 2023")
def scrub(
    trained: Trained,
    forget: Tensor,
    retain: Tensor,
    *,
    seed: int,
    weights: Tensor | None = None,
    alpha: float = 0.001,
    gamma: float = 0.99,
    temperature: float = 4.0,
    epochs: int = 3,
    max_epochs: int = 2,
    lr: float = 5e-4,
    forget_batch: int = 512,
    retain_batch: int = 128,
) -> nn.Module:
    """Return the model after epochs that maximise, then minimise, its distance to what it was.

    In each of the first `max_epochs` epochs the divergence from the teacher, which is the given model, is maximised on
    the forget set; in every epoch alpha d(retain) + gamma L(retain) is then minimised. The last epochs only mend.

    Parameters
    ----------
    trained
        The teacher, left as it is.
    forget, retain : int64 arrays
        Distinct rows (f,) and (r,).
    seed
        Of order and augmentation.
    weights
        Factor of each row's loss and divergence (N,); brought to mean 1 over either set.
    alpha, gamma
        Of the divergence and of the cross-entropy on the retain set.
    temperature
        T of d = T^2 KL(teacher | student), both softmaxes at logits / T.
    epochs, max_epochs
        How many in all, and how many begin with a max-step; 3 and 2 in the authors' code.
    lr
        Of SGD with momentum 0.9 and weight decay 5e-4. The authors divide it by 10 after epochs 3, 5 and 9; with their
        3 epochs it is constant, as here.
    forget_batch, retain_batch
        512 and 128 in the authors' code.

    Returns
    -------
    torch.nn.Module
        In eval mode. Rewinding to the epoch whose forget error suits (SCRUB+R) is not done.

    Raises
    ------
    BadInput
        Sets that share a row, an empty one, weights that are none, or `max_epochs` that is more than `epochs`.

    References
    ----------
    Kurmanji et al., NeurIPS 2023; defaults of the authors' code for its larger experiments.

    Examples
    --------
    >>> scrub(trained, forget, retain, seed=0)  # doctest: +SKIP
    """
    if not 1 <= max_epochs <= epochs:
        raise BadInput(f"scrub: max_epochs={max_epochs} of epochs={epochs}; at least 1, and no more than all")
    learner = trained.learner(len(retain), epochs, lr=lr, batch_size=retain_batch, **SGD)
    teacher = deepcopy(learner.module).eval()
    student = learner.module.train()

    def distances(logits: Tensor, x: Tensor, rows: Tensor) -> Tensor:
        with torch.no_grad():
            target = teacher(x).float()
        by_row = divergences(logits, target, temperature)
        return by_row if weights is None else by_row * weights[rows.to(trained.device)]

    for epoch in range(epochs):
        views = generator(seed, epoch, 1)
        if epoch < max_epochs:
            for rows in batches(forget, forget_batch, seed, epoch, 2):
                x = trained.inputs.batch(rows, views)
                learner.descend(-distances(learner(x), x, rows).mean())
        for rows in batches(retain, retain_batch, seed, epoch):
            x = trained.inputs.batch(rows, views)
            logits = learner(x)
            kept = trained.losses(logits, rows, weights).mean()
            learner.descend(gamma * kept + alpha * distances(logits, x, rows).mean())
    return student
