"""D2 pruning: importance passed along a graph of neighbours, and taken back from the neighbours of what is kept.

Forward: v_i = s_i + sum_j exp(-d_ij) s_j over the neighbours j of the symmetric k-nearest-neighbour graph, so that
important samples in dense regions come first. Reverse: the sample of the largest v is kept and every neighbour j loses
exp(-gamma d_ij) v, so that the next one is seldom its copy; again and again. The published code has no bandwidth in
the forward kernel, as here.

Both kernels say nothing where distances are large: exp(-d) of raw features of 512 dimensions is zero, and the method
becomes the ranking of s. So distances are counted in units of their median here (`scale=1` is the published raw
distance), the median of exp(-d) stands in every reason, and one that vanishes is an error.

A graph that is passed is made symmetric like one that is searched here (the published code symmetrises only the
latter), and nothing is ever N x N. The published CIFAR runs first cut the hardest samples and then run the method
within each class and each of 25 strata of the score: `--where`, `per_class` and `strata` do that here.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from tracesift.catalog.compiled import loop
from tracesift.catalog.nearest_rows import Metric
from tracesift.catalog.neighbor_graph import NeighborGraph
from tracesift.catalog.schema import BadInput
from tracesift.selectors.budget import Quota, quotas
from tracesift.selectors.by_score.ccs import bins, water_fill
from tracesift.selectors.contract import selector
from tracesift.selectors.geometry.symmetric_edges import symmetric_edges
from tracesift.selectors.ranking import Nulls, class_codes, outcome, score_column, score_values

FLOOR = 1e-7
"""Least importance, as in the published code: a sample without any still hands something on."""
DIGITS = 12
"""Decimals of exp(-d), whose last bits depend on the machine."""
VANISHED = 1e-6


@selector(
    version=1,
    columns=("score",),
    reference="Maharana, Yadav, Bansal 2024 (D2 pruning), section 3, and its code",
)
def d2_pruning(
    frame: pl.DataFrame,
    embedding: np.ndarray,
    *,
    size: int,
    graph: NeighborGraph | None = None,
    score: str = "forgetting_events",
    k: int = 10,
    metric: Metric = "euclidean",
    gamma: float = 0.1,
    scale: float | None = None,
    per_class: bool = False,
    strata: int = 1,
    quota: Quota = "proportional",
    nulls: Nulls = None,
) -> pl.DataFrame:
    """Keep important samples of dense regions, and few neighbours of what is kept, by message passing on a graph.

    Parameters
    ----------
    embedding : array of shape (N, D)
        Vectors whose distances count.
    graph : NeighborGraph, optional
        Neighbours known already by the same `metric`, at least `k` of each; searched in `embedding` where None,
        approximately above 200,000 samples.
    score : str
        Column of the importance, high is kept first; shifted by its minimum where that is negative.
    k : int
        Neighbours of each sample; the published example takes 5.
    metric : {"euclidean", "cosine"}
        Distances of the vectors as they are, or scaled to length 1, sqrt(2 - 2 cos).
    gamma : float
        How far the reverse pass reaches: the neighbours of what is kept lose exp(-gamma d) of its priority.
    scale : float, optional
        Unit of the distances; None for the median distance of neighbours, 1 for the published raw distance.
    per_class, strata : bool, int
        Run within each class, and in each of so many equal-width strata of the score; classes share the budget by
        `quota`, the strata of a class evenly as in `ccs`. Neighbours elsewhere then do not count.
    quota : {"proportional", "equal"}
        How the budget is divided among classes.
    nulls : {"keep", "drop"}, optional
        Samples without `score`: kept as part of the budget, or left out; without it an error.

    Raises
    ------
    BadInput
        The median of exp(-d) vanishes under `scale`, a graph by another metric or of too few neighbours, infinite
        scores, or a budget above the samples that have a score.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcd"), "label": ["x"] * 4, "el2n": [0.9, 0.8, 0.7, 0.1]})
    >>> where = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> d2_pruning(frame, where, size=2, score="el2n", k=1)["role"].to_list()  # not both of the first two
    ['keep', 'drop', 'keep', 'drop']
    """
    if k < 1 or strata < 1 or not gamma >= 0 or (scale is not None and not scale > 0):
        raise BadInput(
            f"d2_pruning: k={k}, strata={strata} must be 1 or more, gamma={gamma} 0 or more, scale > 0"
        )
    values = score_values(frame, score_column(frame, score, "d2_pruning"), nulls, "d2_pruning")
    if np.isinf(values).any():
        raise BadInput(
            f"d2_pruning: '{score}' is infinite for {int(np.isinf(values).sum())} of {values.size} samples"
        )
    missing = np.isnan(values)
    always = missing if nulls == "keep" else np.zeros_like(missing)
    left = size - int(always.sum())
    if not 0 <= left <= int((~missing).sum()):
        raise BadInput(
            f"d2_pruning: a budget of {size} does not fit: {int(missing.sum())} of {frame.height} have no "
            f"'{score}' (nulls={nulls!r}); change the budget or nulls"
        )
    group, room = _groups(frame, values, missing, left, per_class=per_class, strata=strata, quota=quota)
    edges = symmetric_edges("d2_pruning", embedding, group, k, graph, metric)
    unit = _unit(edges.distance) if scale is None else scale
    kernel = np.exp(-edges.distance / unit).round(DIGITS)
    typical = float(np.median(kernel)) if kernel.size else 1.0
    if typical < VANISHED:
        raise BadInput(
            f"d2_pruning: the median exp(-distance) of neighbours is {typical:.3g} with scale={unit:.4g}, so "
            f"neighbours count nothing and only '{score}' would; leave scale out, or set it near the median "
            f"distance of neighbours, {_unit(edges.distance):.4g}"
        )
    importance = np.where(missing, 0.0, values)
    importance = np.maximum(importance - min(0.0, float(importance[~missing].min(initial=0.0))), FLOOR)
    priority = forward_pass(edges.start, edges.target, kernel, importance)
    suppression = np.exp(-gamma * edges.distance / unit).round(DIGITS)
    place, last = reverse_pass(edges.start, edges.target, suppression, priority, group, room, left)
    kept = (place >= 0) | always
    value, before, after = (pl.Series(x).round_sig_figs(4) for x in (importance, priority, last))
    reason = (
        pl.when(pl.Series(missing)).then(pl.lit(f"{score} is missing; nulls='{nulls}'"))
        .when(pl.Series(kept)).then(pl.format(
            "choice {} of {}: importance {}, {} with its neighbours', {} beside those kept before "
            f"(median exp(-d) {typical:.3g})",
            pl.Series(place + 1), pl.lit(left), value, before, after,
        ))
        .otherwise(pl.format(
            "importance {}, {} with its neighbours', {} beside those kept "
            f"(median exp(-d) {typical:.3g})", value, before, after,
        ))
    )  # fmt: skip
    return outcome(frame, kept, reason)


def _groups(
    frame: pl.DataFrame, values: np.ndarray, missing: np.ndarray, size: int, *, per_class: bool, strata: int,
    quota: Quota,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return each sample's group, -1 without a score, and how many of each group are kept."""
    names, codes = class_codes(frame, per_class=per_class)
    there = np.bincount(codes[~missing], minlength=names.size)
    group, room = np.full(frame.height, -1), np.zeros(names.size * strata, dtype=np.int64)
    shares = quotas(np.bincount(codes).tolist(), size, rule=quota, upper=there.tolist())
    for code, share in enumerate(shares):
        rows = np.flatnonzero(~missing & (codes == code))
        if rows.size:
            stratum = bins(values[rows], strata)
            group[rows] = code * strata + stratum
            room[code * strata : (code + 1) * strata] = water_fill(
                np.bincount(stratum, minlength=strata), share
            )
    return group, room


def _unit(distance: np.ndarray) -> float:
    """Return the median distance; of those above zero where most neighbours are copies; 1 where all are."""
    median = float(np.median(distance)) if distance.size else 0.0
    if median == 0 and (distance > 0).any():
        median = float(np.median(distance[distance > 0]))
    return median or 1.0


@loop
def forward_pass(
    start: np.ndarray, target: np.ndarray, kernel: np.ndarray, importance: np.ndarray
) -> np.ndarray:
    """Return v_i = s_i + sum_j kernel_ij s_j."""
    v = importance.copy()
    for i in range(v.size):
        for edge in range(start[i], start[i + 1]):
            v[i] += kernel[edge] * importance[target[edge]]
    return v


@loop
def reverse_pass(
    start: np.ndarray, target: np.ndarray, suppression: np.ndarray, priority: np.ndarray, group: np.ndarray,
    room: np.ndarray, size: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Keep the largest v again and again; return each sample's place, -1 where not kept, and its last v.

    A tournament tree knows the winner, the first of equals: node n's children are 2n and 2n + 1, and a changed v
    plays again on its way to the root.
    """
    samples = priority.size
    leaves = 1
    while leaves < samples:
        leaves *= 2
    v = np.full(leaves, -np.inf)
    for i in range(samples):
        if group[i] >= 0:
            v[i] = priority[i]
    winner = np.empty(2 * leaves, dtype=np.int64)
    for i in range(leaves):
        winner[leaves + i] = i
    for node in range(leaves - 1, 0, -1):
        one, other = winner[2 * node], winner[2 * node + 1]
        winner[node] = one if v[one] >= v[other] else other
    place, last, left = np.full(samples, -1), priority.copy(), room.copy()
    done = 0
    while done < size:
        i = winner[1]
        taken = left[group[i]] > 0
        passed_on = v[i]
        v[i] = -np.inf
        node = (leaves + i) // 2
        while node >= 1:
            one, other = winner[2 * node], winner[2 * node + 1]
            winner[node] = one if v[one] >= v[other] else other
            node //= 2
        if not taken:
            continue  # its group is full
        place[i] = done
        done += 1
        left[group[i]] -= 1
        for edge in range(start[i], start[i + 1]):
            j = target[edge]
            if v[j] == -np.inf:
                continue
            v[j] -= suppression[edge] * passed_on
            last[j] = v[j]
            node = (leaves + j) // 2
            while node >= 1:
                one, other = winner[2 * node], winner[2 * node + 1]
                winner[node] = one if v[one] >= v[other] else other
                node //= 2
    return place, last
