"""Prediction depth: what the neighbours of each sample say of it, layer by layer of a trained network."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.jobs.contract import job
from tracesift.pipelines.jobs.workbench import Workbench, at_least
from tracesift.pipelines.loop import EVAL_BATCH, Learner

WIDEST = 4096
"""Numbers per sample that a layer may have; channels of larger maps are averaged over neighbouring pixels."""
QUERIES = 1024
"""Samples that are compared with all others at a time."""
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid)


@job(
    reference="Baldock, Maennel, Neyshabur, Deep learning through the lens of example difficulty, NeurIPS 2021",
    kinds=("image", "tabular"),
    because="the input of a text model is no vector",
)
def prediction_depth(
    bench: Workbench, *, epochs: int | None = None, neighbours: int = 30
) -> dict[str, np.ndarray]:
    """Train one network, and let the nearest training samples vote for each sample's class at every layer.

    Parameters
    ----------
    bench
        Layers are the input, the output of every block (each activation of the network), and the logits. Of
        wide maps of channels, averages over neighbouring pixels are compared, at most 4096 numbers.
    epochs
        As the recording by default.
    neighbours
        How many vote, by L2 distance; the sample itself is not among them. Equal votes go to the class that
        comes first, equal distances to the sample that comes first by its id.

    Returns
    -------
    dict
        ``layer_votes``, int32 (N, L), and ``final_pred``, int32 (N,), what the network itself predicts.

    Raises
    ------
    BadInput
        Texts, whose n-grams are no vectors to compare, or fewer training samples than neighbours.

    References
    ----------
    Baldock, Maennel, Neyshabur, NeurIPS 2021, section 2.
    """
    epochs = bench.epochs if epochs is None else epochs
    at_least("prediction_depth", epochs=(epochs, 1), neighbours=(neighbours, 1))
    if neighbours >= len(bench.train):
        raise BadInput(
            f"job 'prediction_depth': {len(bench.train)} training samples have no {neighbours} neighbours; lower it"
        )
    return bench.part(0, 1, partial(_probe, bench, epochs, neighbours))


def _probe(bench: Workbench, epochs: int, neighbours: int, seed: int) -> dict[str, np.ndarray]:
    learner = bench.learner(len(bench.train), epochs)
    for _ in bench.fit(learner, bench.train, seed=seed):
        pass
    labels = bench.labels[bench.train.to(bench.device)]
    votes = []
    for number in range(_layers(learner, bench)):  # one at a time: all of them would not fit
        outputs = torch.cat(
            [_outputs(learner, bench, rows)[number] for rows in bench.train.split(EVAL_BATCH)]
        )
        votes.append(vote(outputs, labels, neighbours, bench.dataset.num_classes))
    return {
        "layer_votes": torch.stack(votes, dim=1).int().cpu().numpy(),
        "final_pred": bench.predicted(learner, bench.train).astype(np.int32),
    }


def _layers(learner: Learner, bench: Workbench) -> int:
    """Return how many layers are probed, and refuse a network whose layers cannot be told."""
    found = len(_outputs(learner, bench, bench.train[:1]))
    weighty = [layer for layer in learner.module.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    if found == 2 and len(weighty) > 1:
        raise BadInput(
            f"job 'prediction_depth': model {bench.model.name} calls its activations as functions; make them modules "
            "(nn.ReLU and the like), so that its layers can be told"
        )
    return found


@torch.inference_mode()
def _outputs(learner: Learner, bench: Workbench, rows: Tensor) -> list[Tensor]:
    """Return what each layer gives for `rows`, from the input to the logits: float32 (n, D of the layer) each."""
    module = learner.module.eval()
    x = bench.inputs.batch(rows)
    given = [_flat(x)]
    hooks = [
        layer.register_forward_hook(lambda _, __, output: given.append(_flat(output)))
        for layer in module.modules()
        if isinstance(layer, ACTIVATIONS)
    ]
    try:
        given.append(_flat(learner(x)))
    finally:
        for hook in hooks:
            hook.remove()
    return given


def _flat(output: Tensor) -> Tensor:
    """Return (n, D) in float32, a copy that later layers cannot write over."""
    if output.ndim == 4 and output[0].numel() > WIDEST:
        side = max(1, math.isqrt(WIDEST // output.shape[1]))
        output = F.adaptive_avg_pool2d(
            output.float(), (min(side, output.shape[2]), min(side, output.shape[3]))
        )
    return output.float().flatten(1).clone()


def vote(vectors: Tensor, labels: Tensor, neighbours: int, classes: int) -> Tensor:
    """Return the class that the nearest others of each vector vote for, int64 (N,).

    Parameters
    ----------
    vectors
        (N, D) float32.
    labels
        (N,) int64.

    Examples
    --------
    >>> line = torch.tensor([[0.0], [1.0], [1.5], [9.0]])
    >>> vote(line, torch.tensor([0, 1, 1, 0]), 2, 2).tolist()
    [1, 0, 0, 1]
    """
    vectors = vectors - vectors.mean(0)  # nearer to zero, fewer digits are lost
    squares = vectors.double().square().sum(1)
    ballots = F.one_hot(labels, classes).double()
    votes = []
    for start in range(0, len(vectors), QUERIES):
        rows = slice(start, start + QUERIES)
        far = squares[rows, None] + squares - 2 * (vectors[rows] @ vectors.T).double()  # (Q, N)
        far[torch.arange(len(far)), torch.arange(start, start + len(far))] = torch.inf  # not itself
        edge = far.kthvalue(neighbours, dim=1, keepdim=True).values
        nearer, at_edge = far < edge, far == edge
        room = neighbours - nearer.sum(1, keepdim=True)
        chosen = nearer | (at_edge & (at_edge.cumsum(1) <= room))
        votes.append((chosen.double() @ ballots).argmax(1))
    return torch.cat(votes)
