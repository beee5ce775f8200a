"""Two teachers, one after the other: a network that knows nothing, on what is forgotten, then the given one."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import generator
from tracesift.pipelines.unlearners.contract import SGD, Trained, batches, divergences, unlearner


@unlearner(
    reference="Zhang et al., Machine unlearning methodology based on stochastic teacher network, ADMA 2023"
)
def stochastic_teacher(
    trained: Trained,
    forget: Tensor,
    retain: Tensor,
    *,
    seed: int,
    weights: Tensor | None = None,
    alpha: float = 0.1,
    erase_epochs: int = 1,
    epochs: int = 1,
    lr: float = 0.01,
) -> nn.Module:
    """Return the model after it has learned from a random network on the forget set, and from itself on the retain set.

    First KL(random | student) is minimised on the forget set, then L + alpha KL(given | student) on the retain set.

    Parameters
    ----------
    trained
        The second teacher, left as it is. The first is one of its kind, freshly built: where building loads pretrained
        weights, these are kept and only the head is random.
    forget, retain : int64 arrays
        Distinct rows (f,) and (r,).
    seed
        Of the random network, order and augmentation.
    weights
        Factor of each row's loss and divergence (N,); brought to mean 1 over either set.
    alpha
        Of the second divergence, 0 or more.
    erase_epochs, epochs
        Over the forget set, then over the retain set; 1 and 1, as the paper claims that one is enough.
    lr
        Of SGD with momentum 0.9 and weight decay 5e-4, at a constant rate, in the recipe's batches; it begins anew for
        the second part.

    Returns
    -------
    torch.nn.Module
        In eval mode.

    Raises
    ------
    BadInput
        Sets that share a row, an empty one, weights that are none, an `alpha` below 0, or no epoch of erasing.

    Notes
    -----
    Unlike `scrub`, which flees its teacher on the forget set, the student here goes to a place that is known. Two
    teachers in one step are another method, that of Chundawat et al., AAAI 2023.

    The first part is in eval mode, which is ours: batches of one class would be normalised by their own statistics, and
    what they learn so would be gone once the retain set has set the running ones again.

    References
    ----------
    Zhang et al., ADMA 2023 (arXiv 2308.14322). The two parts are those of its abstract; the losses, alpha and the rate
    are those of a public re-implementation, as the paper's own were not at hand.

    Examples
    --------
    >>> stochastic_teacher(trained, forget, retain, seed=0)  # doctest: +SKIP
    """
    if alpha < 0 or erase_epochs < 1:
        raise BadInput(
            f"stochastic_teacher: alpha={alpha}, erase_epochs={erase_epochs}; 0 or more, and at least 1"
        )
    stranger = trained.model.build(trained.inputs.input_shape, trained.num_classes).to(trained.device).eval()
    student, original = deepcopy(trained.module), deepcopy(trained.module).eval()

    def weighted(values: Tensor, rows: Tensor) -> Tensor:
        return (values if weights is None else values * weights[rows.to(trained.device)]).mean()

    erasing = trained.learner(len(forget), erase_epochs, module=student, lr=lr, **SGD)
    student.eval()
    for epoch in range(erase_epochs):
        views = generator(seed, epoch, 3)
        for rows in batches(forget, erasing.recipe.batch_size, seed, epoch, 2):
            x = trained.inputs.batch(rows, views)
            with torch.no_grad():
                target = stranger(x).float()
            erasing.descend(weighted(divergences(erasing(x), target), rows))

    mending = trained.learner(len(retain), epochs, module=student, lr=lr, **SGD)
    student.train()
    for epoch in range(epochs):
        views = generator(seed, epoch, 1)
        for rows in batches(retain, mending.recipe.batch_size, seed, epoch):
            x = trained.inputs.batch(rows, views)
            with torch.no_grad():
                target = original(x).float()
            logits = mending(x)
            follow = weighted(divergences(logits, target), rows)
            mending.descend(trained.losses(logits, rows, weights).mean() + alpha * follow)
    return student
