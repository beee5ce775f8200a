"""Forgetting by learning something else: each sample of the forget set gets a wrong label, drawn at random."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import generator
from tracesift.pipelines.loop import fit
from tracesift.pipelines.unlearners.contract import SGD, Trained, unlearner


@unlearner(reference="Graves, Nagisetty, Ganesh, Amnesiac machine learning, AAAI 2021")
def random_labels(
    trained: Trained,
    forget: Tensor,
    retain: Tensor,
    *,
    seed: int,
    weights: Tensor | None = None,
    epochs: int = 10,
    lr: float = 0.01,
) -> nn.Module:
    """Return the model after further training on all samples, those of the forget set under random wrong labels.

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
    epochs, lr
        Of SGD with momentum 0.9 and weight decay 5e-4, at a constant rate, in the recipe's batches.

    Returns
    -------
    torch.nn.Module
        In eval mode.

    Raises
    ------
    BadInput
        Sets that share a row, an empty one, weights that are none, or a single class.

    Notes
    -----
    Later code draws from all classes, the right one too, and again in every epoch. Here a label is another one and
    stays, as in the paper.

    Examples
    --------
    >>> random_labels(trained, forget, retain, seed=0)  # doctest: +SKIP
    """
    learner = trained.learner(len(forget) + len(retain), epochs, lr=lr, **SGD)
    rows, labels = torch.cat([forget, retain]), relabelled(trained, forget, seed)
    for _ in fit(learner, trained.inputs, labels, rows, seed=seed, weights=weights):
        pass
    return learner.module


def relabelled(trained: Trained, forget: Tensor, seed: int) -> Tensor:
    """Return the labels of all rows (N,), those of `forget` replaced by one of the others, each as likely."""
    if trained.num_classes < 2:
        raise BadInput("with a single class there is no other label to give; random labels need two")
    shift = torch.randint(1, trained.num_classes, (len(forget),), generator=generator(seed, 3))
    labels = trained.labels.clone()
    there = forget.to(trained.device)
    labels[there] = (labels[there] + shift.to(trained.device)) % trained.num_classes
    return labels
