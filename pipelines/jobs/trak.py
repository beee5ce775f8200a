"""TRAK: influence in a model made linear at its end, with random projections of gradients for features.

Near its last weights a network's output is about linear in them, with the gradient as features. For a logistic
regression on given features it is known what leaving out a sample does, up to one Newton step; projected to fewer
dimensions that is cheap. Several trainings are averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    log_odds,
    number_of_parameters,
)
from tracesift.pipelines.jobs.contract import job
from tracesift.pipelines.jobs.workbench import Workbench, at_least
from tracesift.pipelines.loop import Learner, predict
from tracesift.pipelines.models.contract import Model
from tracesift.pipelines.projection import Projection

DIMENSION = 2048
"""That of the authors' code."""
PER_DIMENSION = 4
"""Training samples for each dimension, at least: with fewer, features tell every sample apart from all the others."""
SMALLEST = 1e-12
"""Share of the largest eigenvalue below which a direction holds nothing but rounding of float32 features."""
BLOCK = 4096


def settle(_model: Model, kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with the parameters whose gradients are taken: the last layer's of texts, else all.

    Examples
    --------
    >>> from tracesift.pipelines.models.contract import find
    >>> settle(find("hashed_ngrams", "text"), "text", {"parameters": None})
    {'parameters': 'last'}
    """
    usual = "last" if kind == "text" else "all"
    return {**settings, "parameters": settings["parameters"] or usual}


@job(
    reference="Park, Georgiev, Ilyas, Leclerc, Madry, TRAK: attributing model behavior at scale, ICML 2023",
    settle=settle,
)
def trak(
    bench: Workbench,
    *,
    epochs: int | None = None,
    models: int = 5,
    parameters: Literal["last", "all"] | None = None,
    dimension: int | None = None,
    damping: float = 0.0,
    pairs: bool = False,
) -> dict[str, np.ndarray]:
    """Train several models on all samples, and solve for what each sample does to the log odds of the others.

    Parameters
    ----------
    bench
        Models differ in their initial weights, the order of their batches, and the projection.
    epochs
        Of each model; as the recording by default.
    models
        R; more of them make the estimate surer. The authors use up to 100.
    parameters
        ``"all"``: gradients by all of them, as published. ``"last"``: by weights and bias of the last layer, for texts
        or for large networks. None for the last layer of texts and all of the rest; the recording says which.
    dimension
        Length of the projected gradients; 2048 by default, or the largest power of two that leaves at least four
        training samples for each. Where there are no more parameters than that, gradients are taken as they are.
    damping
        lambda. At 0 the limit of small ones is meant, which leaves out directions that no training sample has.
    pairs
        Also keep the features, from which any pair follows: N R P numbers; `tracesift
        influence trak` reads them.

    Returns
    -------
    dict
        With f = log(p / (1 - p)) of the label, phi the projected gradient of f, and G = sum_i phi_i phi_i^T + lambda I:
        ``trak_self``, float32 (N, R): phi_i^T G^-1 phi_i, in [0, 1]. ``trak_val``, float32 (N, R): the same with the
        mean phi of the validation samples on one side; not made without any. ``trak_residual``, float32 (N, R): 1 -
        p_i. With `pairs` ``trak_feature``, float32 (N, R, P): phi_i, and ``val_trak_feature``, float32 (M, R, P): G^-1
        phi_v / R.

    Raises
    ------
    BadInput
        A class alone; features that tell all samples apart (too many dimensions); a last layer that is no linear one
        with a bias; or gradients by all parameters of texts.

    Notes
    -----
    The influence of i on v is the mean over models of phi_v^T G^-1 phi_i times the mean of 1 - p_i: how far leaving i
    out lowers f of v. The authors' code divides G^-1 by the mean of its absolute entries, for half precision, so that
    its scores have no scale of their own and its models are weighted; here nothing is rescaled. A model's part takes
    N P numbers in float32 and P x P in float64 while it is worked on.

    References
    ----------
    Park et al., ICML 2023, section 3 and equation 17; the authors' code for f and the averages.
    """
    epochs = bench.epochs if epochs is None else epochs
    size = _usual(len(bench.train)) if dimension is None else dimension
    at_least("trak", epochs=(epochs, 1), models=(models, 1), dimension=(size, 1))
    parameters = settle(bench.model, bench.dataset.kind, {"parameters": parameters})["parameters"]
    check_parameters("trak", parameters, bench)
    if not np.isfinite(damping) or damping < 0:
        raise BadInput(f"job 'trak': damping is {damping}, it must be at least 0")
    if bench.dataset.num_classes < 2:
        raise BadInput("job 'trak': there is one class, and no odds against it; it takes two or more")
    made = [
        bench.part(
            number,
            models,
            partial(_one_model, bench, epochs, parameters, size, damping, models if pairs else 0),
        )
        for number in range(models)
    ]
    return {name: np.stack([one[name] for one in made], axis=1) for name in made[0]}


def _usual(samples: int) -> int:
    return min(DIMENSION, 1 << max(0, (samples // PER_DIMENSION).bit_length() - 1))


def _one_model(
    bench: Workbench, epochs: int, parameters: str, dimension: int, damping: float, pairs: int, seed: int
) -> dict[str, np.ndarray]:
    learner = bench.learner(len(bench.train), epochs)
    if parameters == "last":
        check_last_layer("trak", learner.module, bench)
    for _ in bench.fit(learner, bench.train, seed=seed):
        pass
    validation = torch.from_numpy(bench.dataset.rows("val"))
    project = Projection(dimension, seed=seed)
    phi = _features(learner, bench, bench.train, parameters, project)
    whitener = inverse_root(phi, damping)
    found = {
        "trak_self": torch.cat([(part.double() @ whitener).square().sum(1) for part in phi.split(BLOCK)]),
        "trak_residual": _residual(learner, bench),
    }
    if len(validation):
        theirs = _features(learner, bench, validation, parameters, project).double()
        towards = whitener @ (whitener.T @ theirs.mean(0))
        found["trak_val"] = torch.cat([part.double() @ towards for part in phi.split(BLOCK)])
        if pairs:
            found["val_trak_feature"] = theirs @ whitener @ whitener.T / pairs
    if pairs:
        found["trak_feature"] = phi
    return {name: values.float().numpy() for name, values in found.items()}


def inverse_root(phi: Tensor, damping: float) -> Tensor:
    """Return W (P, r) in float64 with W W^T = (phi^T phi + damping I)^-1, for features phi (N, P).

    Without damping it is the limit: directions that no feature has are left out.

    Raises
    ------
    BadInput
        Without damping, as many directions as there are samples: each of them would explain itself entirely.

    Examples
    --------
    >>> root = inverse_root(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), 0.0)
    >>> (root @ root.T).tolist()
    [[0.25, 0.0], [0.0, 0.0]]
    """
    gram = torch.zeros(phi.shape[1], phi.shape[1], dtype=torch.float64)
    for part in phi.split(BLOCK):
        wide = part.double()
        gram += wide.T @ wide
    values, vectors = torch.linalg.eigh(gram)
    there = values > SMALLEST * values[-1]
    rank = int(there.sum())
    if not damping and rank >= len(phi):
        raise BadInput(
            f"job 'trak': {rank} dimensions tell all of {len(phi)} training samples apart, and each would explain "
            f"itself alone; set dimension= to {_usual(len(phi))} or so, or damping= above 0"
        )
    if damping:
        return vectors / (values.clamp(min=0) + damping).sqrt()
    return vectors[:, there] / values[there].sqrt()


def _features(
    learner: Learner, bench: Workbench, rows: Tensor, parameters: str, project: Projection
) -> Tensor:
    """Return the projected gradients of the log odds, float32 (n, P) on the CPU."""
    if parameters == "all":
        vectors: Iterator[Tensor] = all_gradients(learner, bench, rows, log_odds)
        length = number_of_parameters(learner.module)
    else:
        outer, hidden = by_last_layer(learner, bench, rows, log_odds)
        hidden = torch.cat([hidden, torch.ones(len(hidden), 1)], dim=1)
        length = outer.shape[1] * hidden.shape[1]
        both = zip(outer.split(BLOCK), hidden.split(BLOCK), strict=True)
        vectors = ((left[:, :, None] * right[:, None]).flatten(1) for left, right in both)
    return torch.cat(
        [(part if length <= project.dimension else project(part)).float().cpu() for part in vectors]
    )


def _residual(learner: Learner, bench: Workbench) -> Tensor:
    """Return 1 - p of each training sample's label, float64 (N,)."""
    return torch.cat(
        [
            torch.sigmoid(-log_odds(logits.double(), bench.labels[rows.to(bench.device)])).cpu()
            for rows, logits in predict(learner, bench.inputs, bench.train)
        ]
    )
