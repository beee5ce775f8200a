"""GraNd: several models are trained a little, and the gradient of each sample's loss is measured in each.

By default the gradient of the last layer alone, whose norm follows from two others: |p - y| sqrt(1 + |h|^2).
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import numpy as np
import torch

from tracesift.pipelines.embedding.embeddings import features
from tracesift.pipelines.gradients import all_gradients, check_last_layer, check_parameters
from tracesift.pipelines.jobs.contract import job
from tracesift.pipelines.jobs.workbench import Workbench, at_least
from tracesift.pipelines.loop import Learner, predict
from tracesift.pipelines.recording.scalars import scalars


@job(reference="Paul, Ganguli, Dziugaite, Deep learning on a data diet, NeurIPS 2021")
def grand(
    bench: Workbench,
    *,
    epochs: int | None = None,
    initialisations: int = 10,
    parameters: Literal["last", "all"] = "last",
) -> dict[str, np.ndarray]:
    """Train several models for a few epochs, and measure each sample's gradient norm in each of them.

    Parameters
    ----------
    bench
        Models differ in their initial weights and the order of their batches.
    epochs
        After how many epochs it is measured; a tenth of the recording's by default, as epoch 20 of 200 in the
        paper. The schedule is that of the recording's whole training. At 0, before any training, the paper's
        finding could not be reproduced (Kirsch 2023).
    initialisations
        How many models, the paper's R.
    parameters
        ``"all"`` also measures the gradient by all parameters, one backward pass per sample; not of texts.

    Returns
    -------
    dict
        ``early_error_norm`` and ``early_feature_norm``, and for ``"all"`` also ``early_gradient_norm``; float32
        (N, R), in eval mode.

    Raises
    ------
    BadInput
        The model's last layer is no linear one with a bias, or its gradients by all parameters cannot be taken
        sample by sample (texts).

    References
    ----------
    Paul, Ganguli, Dziugaite, NeurIPS 2021, definition 2.1; the last layer alone as in DeepCore (Guo et al. 2022).
    """
    epochs = math.ceil(bench.epochs / 10) if epochs is None else epochs
    at_least("grand", epochs=(epochs, 0), initialisations=(initialisations, 1))
    check_parameters("grand", parameters, bench)
    made = [
        bench.part(number, initialisations, partial(_one_model, bench, epochs, parameters))
        for number in range(initialisations)
    ]
    return {name: np.stack([one[name] for one in made], axis=1) for name in made[0]}


def _one_model(bench: Workbench, epochs: int, parameters: str, seed: int) -> dict[str, np.ndarray]:
    learner = bench.learner(len(bench.train), max(bench.epochs, epochs))
    check_last_layer("grand", learner.module, bench)
    if epochs:
        next(epoch for epoch in bench.fit(learner, bench.train, seed=seed) if epoch + 1 == epochs)
    errors = [
        scalars(logits, bench.labels[rows.to(bench.device)], ("error_norm",))["error_norm"]
        for rows, logits in predict(learner, bench.inputs, bench.train)
    ]
    hidden = features(learner.module, bench.inputs, bench.train)
    norms = {
        "early_error_norm": torch.cat(errors).cpu().numpy(),
        "early_feature_norm": np.linalg.norm(hidden.astype(np.float64), axis=1).astype(np.float32),
    }
    return norms | ({"early_gradient_norm": gradient_norms(learner, bench)} if parameters == "all" else {})


def gradient_norms(learner: Learner, bench: Workbench) -> np.ndarray:
    """Return the norm of the gradient of each training sample's loss by all parameters, float32 (N,)."""
    norms = [
        gradients.double().square().sum(1).sqrt().float()
        for gradients in all_gradients(learner, bench, bench.train)
    ]
    return torch.cat(norms).cpu().numpy()
