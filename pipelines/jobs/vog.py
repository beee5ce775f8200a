"""Variance of gradients: what each pixel means for the given label, at every checkpoint of one training."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.jobs.contract import job
from tracesift.pipelines.jobs.workbench import Workbench, at_least
from tracesift.pipelines.loop import EVAL_BATCH, Learner


@job(
    reference="Agarwal, D'souza, Hooker, Estimating example difficulty using variance of gradients, CVPR 2022",
    kinds=("image", "tabular"),
    because="a text has no pixels that a gradient could be taken by",
)
def vog(
    bench: Workbench, *, epochs: int | None = None, first: int | None = None, last: int | None = None
) -> dict[str, np.ndarray]:
    """Train one model and follow, from checkpoint to checkpoint, the gradient of the label's logit by the input.

    Parameters
    ----------
    bench
        Images, as large as the model takes them, or a table: one row of D columns stands for its pixels.
    epochs
        How long the model trains, at least 2, as the recording by default; each epoch's end is a checkpoint.
    first, last
        The checkpoints that count, from 1 and including both; by default the last third. Late in training hard
        samples vary most; early it is the easy ones, whose logits grow, and the order is reversed.

    Returns
    -------
    dict
        ``input_gradient_variance``, float32 (N, H, W): at each pixel the population variance over the
        checkpoints of the gradient of the given label's logit, before the softmax, averaged over the colours.
        Sixteen bytes for each of them are in use while the model trains.

    Raises
    ------
    BadInput
        Texts, or checkpoints that there are not.

    References
    ----------
    Agarwal, D'souza, Hooker, CVPR 2022, section 2.
    """
    epochs = bench.epochs if epochs is None else epochs
    last = epochs if last is None else last
    first = max(1, min(last - 1, epochs - epochs // 3)) if first is None else first
    at_least("vog", epochs=(epochs, 2), first=(first, 1))
    if not first < last <= epochs:
        raise BadInput(
            f"job 'vog': it takes two or more of the checkpoints 1 to {epochs}, not {first} to {last}; change first= "
            "or last="
        )
    return bench.part(0, 1, partial(_follow, bench, epochs, first, last))


def _follow(bench: Workbench, epochs: int, first: int, last: int, seed: int) -> dict[str, np.ndarray]:
    learner = bench.learner(len(bench.train), epochs)
    shape = (1, *bench.inputs.input_shape)[-2:]
    mean, squares = np.zeros((2, len(bench.train), *shape))
    for epoch in bench.fit(learner, bench.train, seed=seed):
        if first <= epoch + 1 <= last:
            count = epoch + 2 - first
            for start in range(0, len(bench.train), EVAL_BATCH):
                rows = slice(start, start + EVAL_BATCH)
                given = label_gradients(learner, bench, bench.train[rows]).cpu().numpy().astype(np.float64)
                off = given - mean[rows]
                mean[rows] += off / count
                squares[rows] += off * (given - mean[rows])
        if epoch + 1 == last:
            break
    return {"input_gradient_variance": (squares / (last - first + 1)).astype(np.float32)}


def label_gradients(learner: Learner, bench: Workbench, rows: Tensor) -> Tensor:
    """Return the gradient of the given label's logit by each input of `rows`, mean of the colours, (n, H, W)."""
    module = learner.module.eval()
    x = bench.inputs.batch(rows).requires_grad_()
    logits = module(x).float()
    (gradient,) = torch.autograd.grad(logits.gather(1, bench.labels[rows.to(bench.device)][:, None]).sum(), x)
    return gradient.mean(1) if gradient.ndim == 4 else gradient[:, None]
