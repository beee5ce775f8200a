"""The forget set that is hardest to unlearn: unlearn, see what the model still knows, and forget that instead.

Two levels. The lower one unlearns with the weights w of the present forget set, from the recorded weights on. The upper
one moves w against each sample's loss under the unlearned model, and back onto {0 <= w <= 1, sum w = m}. So w gathers
on samples whose loss stays low whatever is forgotten. How the unlearned model depends on w is left out of the upper
gradient, as in the authors' code: an upper step costs one pass over the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.capped_simplex import onto_capped_simplex
from tracesift.pipelines.jobs.contract import job
from tracesift.pipelines.jobs.workbench import Workbench, at_least
from tracesift.pipelines.loop import fit, predict
from tracesift.pipelines.unlearners.contract import Trained, find

PUBLISHED = "sign_fine_tune"


@job(
    reference="Fan, Liu, Hero, Liu, Challenging forgets: unveiling the worst-case forget sets in machine unlearning, "
    "ECCV 2024"
)
def worst_case(
    bench: Workbench,
    *,
    size: float | int = 0.1,
    by: Literal["sample", "class"] = "sample",
    rounds: int = 10,
    method: str = PUBLISHED,
    epochs: int | None = None,
    lr: float | None = None,
    settings: Mapping[str, Any] | None = None,
    w_lr: float = 0.01,
    gamma: float = 0.0,
    binarise: int = 20,
    start: Literal["uniform", "random"] = "uniform",
    easiest: bool = False,
) -> dict[str, np.ndarray]:
    """Search for the forget set that an unlearning method is worst at, by bi-level optimisation.

    Parameters
    ----------
    bench
        The recording's own network, and its data.
    size
        m, the size of the forget set: a share of the training samples (of the classes where `by` is ``"class"``), or a
        number of them; a tenth in the paper.
    by
        Weigh samples, or whole classes; a class's loss is then the mean over its samples.
    rounds
        Upper steps, each after an unlearning of its own.
    method
        The lower level. ``"sign_fine_tune"``, as published: on all samples, each weighted by 1 - w, by the signs of the
        gradients. Or any method of `pipelines.unlearners`: it forgets the m samples (classes) of highest weight, with
        losses weighted by w over these and by 1 - w over the others.
    epochs, lr
        Of the lower level; 10 and 0.01 as published, or the method's own.
    settings
        Further settings of a method of `pipelines.unlearners`.
    w_lr
        Length of an upper step: a round moves a weight by `w_lr` times the difference of its loss to that of the
        others.
    gamma
        Of the penalty gamma |w|^2; 0 in the paper by sample, 1e-4 by class.
    binarise
        After as many rounds the m highest weights become 1 and the others 0, unless that is the last round.
    start
        ``"uniform"``: all weights are the same, and the sum of a sample's losses over the rounds decides, however
        short the steps. ``"random"``, as published: m samples drawn at random have weight 1, and with a `w_lr` of 0.01
        losses have to differ by many nats before one is replaced.
    easiest
        Search with the opposite sign, for the set that is easiest to unlearn.

    Returns
    -------
    dict
        ``worst_case_weight``, float64 (N,), and ``unlearn_loss``, float32 (N,), the losses of the last round; with
        `easiest` only ``easiest_weight``, float64 (N,).

    Raises
    ------
    BadInput
        No recorded network of this model, an impossible size, an unknown method or setting, an unlearning that
        diverged, or steps too short to replace a single sample of a random start.

    Notes
    -----
    Losses of the upper step are taken in eval mode and without augmentation. The authors' code by sample leaves the
    network in train mode, so that batches leak into the losses; by class it divides mean losses by the number of
    samples once more, and its budget is a tenth less than the set it starts from.

    References
    ----------
    Fan et al., ECCV 2024, section 4 and algorithm 1.
    """
    number = bench.dataset.num_classes if by == "class" else len(bench.train)
    _check(method, settings)
    at_least(
        "worst_case", rounds=(rounds, 1), binarise=(binarise, 1), epochs=(1 if epochs is None else epochs, 1)
    )
    for name, value in (("w_lr", w_lr), ("gamma", gamma), ("lr", 0.0 if lr is None else lr)):
        if not value >= 0:
            raise BadInput(f"job 'worst_case': {name} is {value}, it must be at least 0")
    forgotten = _size(size, number, "classes" if by == "class" else "training samples")
    trained = Trained(
        module=bench.recorded("worst_case"), model=bench.model, inputs=bench.inputs, labels=bench.labels,
        num_classes=bench.dataset.num_classes, device=bench.device, threads=bench.threads,
    )  # fmt: skip
    own = bench.labels[bench.train.to(bench.device)].cpu().numpy()
    groups = own if by == "class" else np.arange(len(own))
    unlearn = partial(_unlearned, bench, trained, method, epochs, lr, settings)
    weight = first = _first(number, forgotten, start, bench.seed)
    sign = -1.0 if easiest else 1.0
    for at in range(rounds):
        if at and at % binarise == 0:
            weight = _highest(weight, forgotten).astype(np.float64)

        def upper(seed: int, weight: np.ndarray = weight) -> dict[str, np.ndarray]:
            module = unlearn(weight[groups], _highest(weight, forgotten)[groups], seed)
            loss = losses(bench, trained, module)
            each = np.bincount(groups, loss, number) / np.maximum(np.bincount(groups, minlength=number), 1)
            moved = weight - sign * w_lr * (each + 2 * gamma * weight)
            return {"weight": onto_capped_simplex(moved, forgotten), "loss": loss}

        made = bench.part(at, rounds, upper)
        weight = made["weight"]
    if start == "random" and (_highest(weight, forgotten) == (first == 1)).all():
        raise BadInput(
            f"job 'worst_case': after {rounds} rounds the set is still the one that was drawn at random; raise w_lr "
            f"above {w_lr:g}, or take start=uniform"
        )
    if easiest:
        return {"easiest_weight": weight[groups]}
    return {"worst_case_weight": weight[groups], "unlearn_loss": made["loss"].astype(np.float32)}


def losses(bench: Workbench, trained: Trained, module: nn.Module) -> np.ndarray:
    """Return the loss of every training sample, float64 (N,), in eval mode and without augmentation."""
    learner = trained.learner(1, 1, module=module)
    parts = [
        F.cross_entropy(logits.double(), bench.labels[rows.to(bench.device)], reduction="none").cpu()
        for rows, logits in predict(learner, bench.inputs, bench.train)
    ]
    found = torch.cat(parts).numpy()
    if not np.isfinite(found).all():
        raise BadInput(
            f"job 'worst_case': after unlearning {int((~np.isfinite(found)).sum())} of {len(found)} losses are not "
            "finite; lower lr or epochs"
        )
    return found


def sign_fine_tune(
    trained: Trained, rows: Tensor, weights: Tensor, *, seed: int, epochs: int = 10, lr: float = 0.01
) -> nn.Module:
    """Return the trained model after steps of length `lr` along the signs of the gradient of the weighted loss.

    Parameters
    ----------
    trained
        Left as it is.
    rows
        Rows that are trained on (n,).
    weights
        Factor of each row's loss (N,), on the model's device; their scale does not matter.
    seed
        Of order and augmentation.
    epochs, lr
        As published; there is neither momentum nor decay, and a constant rate. The sparse gradients of n-grams keep
        their Adam, over the signs.
    """
    learner = trained.learner(
        len(rows), epochs, lr=lr, optimizer="sgd", momentum=0.0, weight_decay=0.0, schedule="constant"
    )
    for parameter in learner.module.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(_take_sign)
    for _ in fit(learner, trained.inputs, trained.labels, rows, seed=seed, weights=weights):
        pass
    return learner.module


def _take_sign(parameter: Tensor) -> None:
    assert parameter.grad is not None
    gradient = parameter.grad.coalesce() if parameter.grad.is_sparse else parameter.grad
    parameter.grad = gradient.sign()


def _unlearned(
    bench: Workbench,
    trained: Trained,
    method: str,
    epochs: int | None,
    lr: float | None,
    settings: Mapping[str, Any] | None,
    weight: np.ndarray,
    highest: np.ndarray,
    seed: int,
) -> nn.Module:
    """Run the lower level, given each training sample's weight (N,) and whether it is among the highest (N,)."""
    asked: dict[str, Any] = {
        name: value for name, value in (("epochs", epochs), ("lr", lr)) if value is not None
    }
    whole = torch.zeros(len(bench.labels), dtype=torch.float64)
    if method == PUBLISHED:
        whole[bench.train] = torch.from_numpy(1 - weight)
        return sign_fine_tune(trained, bench.train, whole.float().to(bench.device), seed=seed, **asked)
    whole[bench.train] = torch.from_numpy(np.where(highest, weight, 1 - weight))
    forget, retain = (bench.train[torch.from_numpy(part)] for part in (highest, ~highest))
    return find(method).function(
        trained, forget, retain, seed=seed, weights=whole, **{**asked, **(settings or {})}
    )


def _check(method: str, settings: Mapping[str, Any] | None) -> None:
    if method == PUBLISHED and settings:
        raise BadInput(f"job 'worst_case': {PUBLISHED} takes epochs and lr alone, not {', '.join(settings)}")
    if method != PUBLISHED:
        unknown = [name for name in settings or {} if name not in find(method).defaults]
        if unknown:
            raise BadInput(
                f"job 'worst_case': method {method} has no setting {unknown[0]}; it has "
                f"{', '.join(find(method).defaults)}"
            )


def _size(size: float | int, number: int, what: str) -> int:
    """Return m, of `number` samples or classes."""
    forgotten = round(size * number) if isinstance(size, float) else size
    if not 0 < forgotten < number:
        raise BadInput(
            f"job 'worst_case': size {size} of {number} {what} leaves none to forget or none to retain; give a share "
            "such as 0.1, or a number"
        )
    return forgotten


def _first(number: int, forgotten: int, start: str, seed: int) -> np.ndarray:
    if start == "uniform":
        return np.full(number, forgotten / number)
    weight = np.zeros(number)
    weight[np.random.default_rng(seed).permutation(number)[:forgotten]] = 1.0
    return weight


def _highest(weight: np.ndarray, forgotten: int) -> np.ndarray:
    """Return which are the m highest, the earlier of equals; samples are in the order of their ids."""
    highest = np.zeros(len(weight), dtype=bool)
    highest[np.argsort(-weight, kind="stable")[:forgotten]] = True
    return highest
