"""TracIn: the recorded training once more, with the products of the samples' gradients at several checkpoints of it.

A step on a sample moves the loss of another by the learning rate times the product of their gradients, to first order.
TracIn adds this up over checkpoints.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.gradients import (
    all_gradients,
    by_last_layer,
    check_last_layer,
    check_parameters,
    mean_gradient,
)
from tracesift.pipelines.jobs.contract import job
from tracesift.pipelines.jobs.workbench import Workbench, at_least
from tracesift.pipelines.loop import Learner
from tracesift.pipelines.projection import Projection

CHECKPOINTS = 5


def ended(signals: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> str | None:
    """Return how many checkpoints there are, where fewer than usual; None where there are enough.

    Examples
    --------
    >>> ended({"tracin_self": np.zeros((4, 3))}, {"checkpoints": None})
    '3 checkpoints, the end of each epoch, where 5 are usual: more epochs (--epochs) have more'
    >>> ended({"tracin_self": np.zeros((4, 3))}, {"checkpoints": 3})
    '3 checkpoints, as asked, where 5 are usual'
    """
    name = next((one for one in ("tracin_self", "tracin_val") if one in signals), None)
    count = CHECKPOINTS if name is None else signals[name].shape[1]
    if count >= CHECKPOINTS:
        return None
    told = f"{count} checkpoint{'s' if count > 1 else ''}, "
    if settings["checkpoints"] is not None:
        return f"{told}as asked, where {CHECKPOINTS} are usual"
    return f"{told}the end of each epoch, where {CHECKPOINTS} are usual: more epochs (--epochs) have more"


@job(
    version=2,
    reference="Pruthi, Liu, Kale, Sundararajan, Estimating training data influence by tracing gradient descent, "
    "NeurIPS 2020",
    ended=ended,
)
def tracin(
    bench: Workbench,
    *,
    epochs: int | None = None,
    checkpoints: int | None = None,
    parameters: Literal["last", "all"] = "last",
    pairs: bool = False,
    dimension: int = 512,
) -> dict[str, np.ndarray]:
    """Train as the recording did, and multiply gradients of the loss at evenly spaced checkpoints.

    Parameters
    ----------
    bench
        Model, recipe and seed of the recording.
    epochs
        How long the model trains; as the recording by default.
    checkpoints
        C, ends of epochs, the last one among them; 5 by default, or as many as there are epochs.
    parameters
        ``"last"``: the gradient by weights and bias of the last layer, in closed form, as in the paper's larger
        experiments. ``"all"``: by all of them, exact, one backward pass per sample and checkpoint; not of texts.
    pairs
        Also keep what the product of any two samples follows from; `tracesift influence tracin`
        reads it.
    dimension
        For pairs by all parameters: the length to which gradients are projected at random, so that products of two are
        estimates. The gradients of a model with no more parameters stay as they are, and their products are exact.

    Returns
    -------
    dict
        ``tracin_self``, float32 (N, C): eta_c |g_c|^2. ``tracin_val``, float32 (N, C): eta_c <g_c, v_c> with v the
        gradient of the mean validation loss, above 0 where a step on the sample lowers it; not made without validation
        samples. With `pairs` and the last layer ``tracin_error``, float32 (N, C, K): sqrt(eta_c) (p - onehot(y)), and
        ``tracin_hidden``, float32 (N, C, D), the layer's input; by all parameters ``tracin_gradient``, float32 (N, C,
        dimension or less): sqrt(eta_c) times the projected gradient; each also with ``val_`` before its name,
        (M, C, ...).

    Raises
    ------
    BadInput
        More checkpoints than epochs; a last layer that is no linear one with a bias; or gradients by all parameters of
        texts.

    Notes
    -----
    eta_c is the mean learning rate of the steps since the checkpoint before, as the paper has it for a rate that is
    constant between checkpoints; at the end of a one-cycle schedule the rate itself is almost 0. Gradients are of the
    sample alone, in eval mode and without augmentation. The derivation is that of plain gradient descent; where the
    recipe's optimiser is another (AdamW), steps have other directions and lengths, and the sum is a stand-in.

    References
    ----------
    Pruthi et al., NeurIPS 2020, section 3 (TracInCP); the appendix for the last layer.
    """
    epochs = bench.epochs if epochs is None else epochs
    count = min(CHECKPOINTS, epochs) if checkpoints is None else checkpoints
    at_least("tracin", epochs=(epochs, 1), checkpoints=(count, 1), dimension=(dimension, 1))
    if count > epochs:
        raise BadInput(
            f"job 'tracin': {count} checkpoints of {epochs} epochs; each is the end of one, so ask for fewer "
            "checkpoints or more epochs"
        )
    check_parameters("tracin", parameters, bench)
    ends = [round(epochs * (number + 1) / count) for number in range(count)]
    return bench.part(0, 1, partial(_train, bench, epochs, ends, parameters, dimension if pairs else 0))


def _train(
    bench: Workbench, epochs: int, ends: list[int], parameters: str, pairs: int, seed: int
) -> dict[str, np.ndarray]:
    learner = bench.learner(len(bench.train), epochs)
    if parameters == "last":
        check_last_layer("tracin", learner.module, bench)
    project = Projection(pairs, seed=seed) if pairs else None
    measure = _by_last_layer if parameters == "last" else _by_all_parameters
    found: list[dict[str, Tensor]] = []
    before = 0
    for epoch in bench.fit(learner, bench.train, seed=seed):
        if epoch + 1 in ends:
            rate = float(np.mean([learner.rate(step) for step in range(before, learner.step)]))
            before = learner.step
            found.append(measure(learner, bench, rate, project))
    return {name: np.stack([one[name].float().cpu().numpy() for one in found], axis=1) for name in found[0]}


def _by_last_layer(
    learner: Learner, bench: Workbench, rate: float, project: Projection | None
) -> dict[str, Tensor]:
    error, hidden = by_last_layer(learner, bench, bench.train)
    found = {"tracin_self": rate * error.square().sum(1) * (1 + hidden.square().sum(1))}
    if project is not None:
        found |= {"tracin_error": rate**0.5 * error, "tracin_hidden": hidden}
    if len(validation := _validation(bench)):
        val_error, val_hidden = by_last_layer(learner, bench, validation)
        weights, bias = val_error.T @ val_hidden / len(val_error), val_error.mean(0)
        found["tracin_val"] = rate * (((error @ weights) * hidden).sum(1) + error @ bias)
        if project is not None:
            found |= {"val_tracin_error": rate**0.5 * val_error, "val_tracin_hidden": val_hidden}
    return found


def _by_all_parameters(
    learner: Learner, bench: Workbench, rate: float, project: Projection | None
) -> dict[str, Tensor]:
    validation = _validation(bench)
    towards = mean_gradient(learner, bench, validation) if len(validation) else None
    parts: dict[str, list[Tensor]] = defaultdict(list)
    for gradients in all_gradients(learner, bench, bench.train):
        parts["tracin_self"].append(rate * gradients.double().square().sum(1))
        if towards is not None:
            parts["tracin_val"].append(rate * gradients.double() @ towards)
        if project is not None:
            parts["tracin_gradient"].append(rate**0.5 * _shortened(gradients, project))
    if project is not None:
        for gradients in all_gradients(learner, bench, validation):
            parts["val_tracin_gradient"].append(rate**0.5 * _shortened(gradients, project))
    return {name: torch.cat(part) for name, part in parts.items()}


def _shortened(gradients: Tensor, project: Projection) -> Tensor:
    """Return the gradients projected, or as they are where there is nothing to shorten: then products are exact."""
    return gradients.float() if gradients.shape[1] <= project.dimension else project(gradients)


def _validation(bench: Workbench) -> Tensor:
    return torch.from_numpy(bench.dataset.rows("val"))
