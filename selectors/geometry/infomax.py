"""InfoMax: the subset whose importance, less the similarity of its members, is largest.

max sum_i w_i x_i - lambda sum_ij S_ij x_i x_j over subsets of the size asked for. S holds the cosines of the k nearest
neighbours alone, in either direction and never below zero; it is never N x N.

The published solver repeats x <- m softmax(w - 2 lambda S x), which looks for a subset that is the top of its own
marginal values w - 2 lambda S x. Rounded, its x is seldom one: so single members are exchanged for others until no such
exchange raises the objective, neighbours of each other among them. The same is done with the greedy subset, and the
better of both is returned, which is therefore never worse than greedy. The exchange and the greedy start are ours, and
so is counting importance from 0 to 1; k, lambda and the number of iterations could not be checked against the paper.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from tracesift.catalog.compiled import loop
from tracesift.catalog.neighbor_graph import NeighborGraph
from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import selector
from tracesift.selectors.geometry.symmetric_edges import Edges, symmetric_edges
from tracesift.selectors.ranking import Nulls, outcome, score_column, score_values

DIGITS = 6
"""Decimals of similarities, and of x in units of its mean: an exponential's last bits depend on the machine."""


@selector(
    version=2,
    columns=("score",),
    experimental=True,
    reference="Tan et al. 2025 (InfoMax), the objective and the softmax iteration",
)
def infomax(
    frame: pl.DataFrame,
    embedding: np.ndarray,
    *,
    size: int,
    graph: NeighborGraph | None = None,
    score: str = "el2n",
    k: int = 5,
    redundancy: float = 0.3,
    iterations: int = 20,
    nulls: Nulls = None,
) -> pl.DataFrame:
    """Keep the samples of largest importance less pairwise redundancy, by InfoMax's iteration and exchanges.

    Parameters
    ----------
    embedding : array of shape (N, D)
        Vectors whose cosines say how redundant two samples are.
    graph : NeighborGraph, optional
        Their graph by cosine, at least `k` neighbours each; searched where None, approximately above 200,000
        samples.
    score : str
        Column of the importance, high is kept first; counted from 0 to 1 between its extremes.
    k : int
        Neighbours of each sample.
    redundancy : float
        The paper's lambda, 0 or more.
    iterations : int
        Repetitions of the softmax step.
    nulls : {"keep", "drop"}, optional
        Samples without `score`: kept as part of the budget, or left out; without it an error.

    Raises
    ------
    BadInput
        Infinite scores, a graph by another measure or of too few neighbours, or a budget above the samples that have
        a score.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": ["x"] * 3, "el2n": [1.0, 0.9, 0.5]})
    >>> infomax(frame, np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), size=2, k=1, redundancy=0.5)["role"].to_list()
    ['keep', 'drop', 'keep']
    """
    if k < 1 or iterations < 0 or not redundancy >= 0:
        raise BadInput(
            f"infomax: k={k} must be 1 or more, iterations={iterations} and redundancy={redundancy} 0 or more"
        )
    values = score_values(frame, score_column(frame, score, "infomax"), nulls, "infomax")
    if np.isinf(values).any():
        raise BadInput(
            f"infomax: '{score}' is infinite for {int(np.isinf(values).sum())} of {values.size} samples"
        )
    missing = np.isnan(values)
    always = missing if nulls == "keep" else np.zeros_like(missing)
    left = size - int(always.sum())
    if not 0 <= left <= int((~missing).sum()):
        raise BadInput(
            f"infomax: a budget of {size} does not fit: {int(missing.sum())} of {frame.height} have no '{score}' "
            f"(nulls={nulls!r}); change the budget or nulls"
        )
    edges = symmetric_edges("infomax", embedding, np.where(missing, -1, 0), k, graph, "cosine")
    similarity = np.maximum(1 - edges.distance**2 / 2, 0.0).round(DIGITS)
    w = _scaled(values, missing)
    kept = maximise(edges, similarity, w, left, redundancy, iterations) if left else np.zeros_like(missing)
    shared = marginal(edges.start, edges.target, similarity, np.zeros(w.size), kept, -1.0)
    importance, redundant = pl.Series(w).round(4), pl.Series(shared).round(4)
    reason = (
        pl.when(pl.Series(missing)).then(pl.lit(f"{score} is missing; nulls='{nulls}'"))
        .otherwise(pl.format(
            f"importance {{}} of 1, similarity {{}} with kept neighbours, worth {{}} (redundancy={redundancy:g})",
            importance, redundant, pl.Series(w - 2 * redundancy * shared).round(4),
        ))
    )  # fmt: skip
    return outcome(frame, kept | always, reason)


def maximise(
    edges: Edges, similarity: np.ndarray, w: np.ndarray, size: int, redundancy: float, iterations: int
) -> np.ndarray:
    """Return the better of the published iteration's subset and the greedy one, both after exchanges; see the module.

    Importance is -inf where a sample is no candidate.
    """
    start, target = edges.start, edges.target
    x = np.full(w.size, size / w.size)
    value = w
    for _ in range(iterations):
        value = marginal(start, target, similarity, w, x, 2 * redundancy)
        x = np.exp(value - value.max())
        x = (x * (w.size / np.cumsum(x)[-1])).round(DIGITS) * (size / w.size)
    value = marginal(start, target, similarity, w, x, 2 * redundancy)
    rounded = np.zeros(w.size, dtype=bool)
    rounded[np.argsort(-value, kind="stable")[:size]] = True
    found = [
        exchange(start, target, similarity, w, begin, size, 2 * redundancy)
        for begin in (rounded, np.zeros(w.size, dtype=bool))
    ]
    return max(found, key=lambda kept: _objective(edges, similarity, w, kept, redundancy))


def _scaled(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Return importance from 0 to 1, -inf where it is missing."""
    low, high = (values[~missing].min(), values[~missing].max()) if not missing.all() else (0.0, 0.0)
    return np.where(missing, -np.inf, (values - low) / ((high - low) or 1.0))


def _objective(
    edges: Edges, similarity: np.ndarray, w: np.ndarray, kept: np.ndarray, redundancy: float
) -> float:
    value = marginal(edges.start, edges.target, similarity, w, kept, redundancy)
    return round(float(np.cumsum(value[kept])[-1]), 9)


@loop
def marginal(
    start: np.ndarray, target: np.ndarray, similarity: np.ndarray, w: np.ndarray, x: np.ndarray, factor: float
) -> np.ndarray:
    """Return w - factor S x."""
    value = w.copy()
    for i in range(w.size):
        shared = 0.0
        for edge in range(start[i], start[i + 1]):
            shared += similarity[edge] * x[target[edge]]
        value[i] -= factor * shared
    return value


@loop
def exchange(
    start: np.ndarray, target: np.ndarray, similarity: np.ndarray, w: np.ndarray, begin: np.ndarray, size: int,
    factor: float,
) -> np.ndarray:  # fmt: skip
    """Fill a subset up greedily, then swap members for others until no swap of two is a gain.

    Swapping i for j gains value[j] - value[i], and factor S_ij more where they are neighbours: j is worth more once i
    is gone. Two tournament trees know the largest value outside and the smallest inside; where that swap is no gain,
    a round over the members swaps each for the neighbour of largest gain. A swap that raises the objective by less
    than rounding could make up is none.
    """
    samples, kept = w.size, begin.copy()
    leaves = 1
    while leaves < samples:
        leaves *= 2
    value = np.full(leaves, -np.inf)  # of each sample beside the members
    value[:samples] = w
    count = 0
    for i in range(samples):
        if kept[i]:
            count += 1
        for edge in range(start[i], start[i + 1]):
            if kept[target[edge]]:
                value[i] -= factor * similarity[edge]
    best, least = np.empty(2 * leaves, dtype=np.int64), np.empty(2 * leaves, dtype=np.int64)
    outside, inside = np.full(leaves, -np.inf), np.full(leaves, np.inf)
    for i in range(leaves):
        best[leaves + i], least[leaves + i] = i, i
        if i < samples and kept[i]:
            inside[i] = value[i]
        else:
            outside[i] = value[i]
    for node in range(leaves - 1, 0, -1):
        one, other = best[2 * node], best[2 * node + 1]
        best[node] = one if outside[one] >= outside[other] else other
        one, other = least[2 * node], least[2 * node + 1]
        least[node] = one if inside[one] <= inside[other] else other
    at, looked = 0, 0  # where the round is, and how many samples it has passed since the last swap
    while True:
        enters, leaves_again = best[1], -1
        if count == size:
            leaves_again = least[1]
            if not outside[enters] > inside[leaves_again] + 1e-9:
                enters = -1
                while enters < 0 and looked < samples:
                    most = 1e-9
                    for edge in range(start[at], start[at + 1] if kept[at] else start[at]):
                        j = target[edge]
                        gain = value[j] - value[at] + factor * similarity[edge]
                        if not kept[j] and gain > most:
                            most, enters, leaves_again = gain, j, at
                    at, looked = (at + 1) % samples, looked + 1
                if enters < 0:
                    return kept
        looked = 0
        for turn in range(2):
            i, sign = (enters, 1.0) if turn == 0 else (leaves_again, -1.0)
            if i < 0:
                continue
            kept[i] = turn == 0
            count += 1 if turn == 0 else -1
            for edge in range(start[i] - 1, start[i + 1]):  # the sample itself first
                j = i
                if edge >= start[i]:
                    j = target[edge]
                    value[j] -= sign * factor * similarity[edge]
                inside[j] = value[j] if kept[j] else np.inf
                outside[j] = -np.inf if kept[j] else value[j]
                node = (leaves + j) // 2
                while node >= 1:
                    one, other = best[2 * node], best[2 * node + 1]
                    best[node] = one if outside[one] >= outside[other] else other
                    one, other = least[2 * node], least[2 * node + 1]
                    least[node] = one if inside[one] <= inside[other] else other
                    node //= 2
