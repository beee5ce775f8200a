"""Exact unlearning: a fresh model that never sees the forget set, which all other methods are measured against."""

from __future__ import annotations

from torch import Tensor, nn

from tracesift.pipelines.loop import fit
from tracesift.pipelines.unlearners.contract import Trained, unlearner


@unlearner(reference="Cao, Yang, S&P 2015; the gold standard of every paper since")
def retrain(
    trained: Trained,
    forget: Tensor,
    retain: Tensor,
    *,
    seed: int,
    weights: Tensor | None = None,
    epochs: int | None = None,
) -> nn.Module:
    """Return a fresh model, trained on the retain set by the recipe of the given one.

    Parameters
    ----------
    trained
        Only its recipe and its data are used, not its weights. What its inputs were scaled by, such as means over
        columns, is kept and may come from all rows.
    forget, retain : int64 arrays
        Distinct rows (f,) and (r,); the forget set is left out and nothing more.
    seed
        Of initial weights, order and augmentation; take several, and compare with their mean.
    weights
        Factor of each row's loss (N,); brought to mean 1 over the retain set.
    epochs
        The recipe's own where None.

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
    >>> retrain(trained, forget, retain, seed=0)  # doctest: +SKIP
    """
    module = trained.model.build(trained.inputs.input_shape, trained.num_classes)
    learner = trained.learner(len(retain), epochs or trained.model.recipe.epochs, module=module)
    for _ in fit(learner, trained.inputs, trained.labels, retain, seed=seed, weights=weights):
        pass
    return learner.module
