"""Facility location: picks such that every sample is near one of them, each weighing as many as it stands for.

The paper's symbols: f(A) = sum over i of the largest s_ij over j in A, with s_ij = max d - d_ij. So adding j gains the
sum over i of what d(i, A) falls by, and d(i, nothing) is max d. A pick's weight is the number of samples that it is
the nearest pick of, so that a weighted sum over the picks stands for the sum over all.

All pairs are looked at, which takes 4 N^2 bytes for a class of N; or only pairs of near neighbours, and a sample
without a picked neighbour counts as if it were as far from the picks as any known pair.

Where we differ from the reference implementation: it counts from one, so that its weights add up to N and the picks
again; and beyond its first batch it skips most of the data.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from tracesift.catalog.compiled import loop
from tracesift.catalog.nearest_rows import Metric
from tracesift.catalog.neighbor_graph import NeighborGraph, graph_among, neighbor_graph
from tracesift.catalog.schema import BadInput
from tracesift.selectors.budget import Quota
from tracesift.selectors.contract import selector
from tracesift.selectors.geometry.distances import LANES, Space, laid_out, shared, space
from tracesift.selectors.geometry.lazy_greedy import lazy_greedy
from tracesift.selectors.geometry.nearest_pick import NearestPick
from tracesift.selectors.geometry.picking import Picks, pick_by_class

LARGEST = 40_000
"""Samples of a class of which all pairs are looked at: 6.4 GB of distances."""


@selector(
    version=1,
    reference="Mirzasoleiman, Bilmes and Leskovec 2020 (CRAIG), section 3; Minoux 1978 for the lazy steps",
)
def facility_location(
    frame: pl.DataFrame,
    embedding: np.ndarray,
    *,
    size: int,
    graph: NeighborGraph | None = None,
    metric: Metric = "euclidean",
    neighbors: int | None = None,
    per_class: bool = True,
    quota: Quota = "proportional",
) -> pl.DataFrame:
    """Pick samples one by one so that the distances of all samples to their nearest pick fall the most.

    Parameters
    ----------
    embedding : ndarray (N, D)
        Features of an evaluation without augmentation, or gradients of the last layer; rows of zeros and copies
        may occur.
    graph : NeighborGraph, optional
        The nearest neighbours among all N samples, by the same `metric`; read only with `neighbors`, and searched
        where it is not passed.
    metric : {"euclidean", "cosine"}
        The distance d: Euclidean, or 1 - cos.
    neighbors : int, optional
        Look only at pairs of which one is among the other's `neighbors` nearest of the class; at all pairs where None.
        Needed for classes of more than 40,000.
    per_class : bool
        Run within each class, by quotas.
    quota : {"proportional", "equal"}
        How the budget is divided among classes.

    Returns
    -------
    polars.DataFrame
        A kept sample weighs the number of samples of its class that it is the nearest pick of, itself included; the
        weights add up to N.

    Raises
    ------
    BadInput
        For a class too large for all pairs, or a graph that does not fit.

    Notes
    -----
    Greedy picks reach (1 - 1/e) of the largest f. Distances, and what they fall by, are kept in single precision;
    gains are added up in float64 in a fixed order. Ties go to the smaller `sample_id`, those of the weights to the
    earlier pick.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcde"), "label": ["x"] * 5})
    >>> result = facility_location(frame, np.array([[0.0], [1.0], [2.0], [9.0], [9.5]]), size=2)
    >>> result["weight"].to_list()
    [0.0, 0.0, 3.0, 2.0, 0.0]
    """
    where = space(embedding, metric, "facility_location")
    _check_graph(graph, frame.height, neighbors, metric)

    def pick(rows: np.ndarray, count: int, of: str) -> Picks:
        if neighbors is None or rows.size == 1:
            places, gains, number, near = _among_all(where, rows, count, metric, of)
        else:
            near_ones = (
                neighbor_graph(embedding[rows], neighbors, metric=metric)
                if graph is None
                else graph_among(graph, embedding, rows)
            )
            places, gains, number, near = _among_neighbors(where, rows, count, near_ones, neighbors)
        weights = np.bincount(number, minlength=count).astype(np.float64)
        told = [
            f"gain {gain:.6g}; stands for {weight:.0f} samples{of}"
            for gain, weight in zip(gains, weights, strict=True)
        ]

        def left_told(left: np.ndarray) -> list[str]:
            which = np.searchsorted(rows, left)
            ids = frame["sample_id"].gather(rows[places[number[which]]])
            return [
                f"'{name}' stands for it, {far:.4g} away" for name, far in zip(ids, near[which], strict=True)
            ]

        return Picks(rows[places], told, left_told, weights)

    return pick_by_class(frame, size, pick, per_class=per_class, quota=quota)


def _check_graph(graph: NeighborGraph | None, samples: int, neighbors: int | None, metric: Metric) -> None:
    if neighbors is None:
        return
    if neighbors < 1:
        raise BadInput(f"facility_location: neighbors must be 1 or more, not {neighbors}")
    if graph is None:
        return
    if graph.metric != metric:
        raise BadInput(
            f"facility_location: the graph is by {graph.metric}, not {metric}; pass metric='{graph.metric}'"
        )
    if graph.index.shape[1] < min(neighbors, samples - 1):
        raise BadInput(
            f"facility_location: {neighbors} neighbours wanted, the graph has {graph.index.shape[1]}; lower neighbors, "
            "or search again"
        )


def _among_all(
    where: Space, rows: np.ndarray, count: int, metric: Metric, of: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return places in `rows` and gains of the picks, and for each sample the number and distance of its pick."""
    if rows.size > LARGEST:
        raise BadInput(
            f"facility_location: the pairs of {rows.size:,} samples{of} take {rows.size**2 * 4e-9:.0f} GB; pass "
            "neighbors=30 to look at near pairs only, or select per_class"
        )
    laid = laid_out(where, rows)
    lanes = laid.rows.size
    distance, gains = np.empty((rows.size, lanes), dtype=np.float32), np.empty(rows.size)
    empty = np.zeros(lanes, dtype=bool)
    empty[: rows.size] = where.empty[rows]
    cosine = int(metric == "cosine")
    shared(lambda first, last: _pairs(laid.blocks, empty, cosine, distance, first, last), distance)
    shared(lambda first, last: _mirror(distance, first, last), distance)
    near, number = np.zeros(lanes, dtype=np.float32), np.zeros(lanes, dtype=np.int64)
    near[: rows.size] = distance[:, : rows.size].max()
    shared(lambda first, last: _gains(distance, near, gains, first, last), distance)
    taken: list[int] = []

    def take(place: int) -> None:
        _cover(distance[place], near, number, len(taken))
        number[place] = len(taken)  # also where an earlier pick is a copy of it
        taken.append(place)

    def gain(place: int) -> float:
        return float(_gain(distance[place], near))

    places, gained = lazy_greedy(gains, gain, take, count)
    return places, gained, number[: rows.size], near[: rows.size].astype(np.float64)


def _among_neighbors(
    where: Space, rows: np.ndarray, count: int, graph: NeighborGraph, neighbors: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return what `_among_all` does, from the pairs of near neighbours; the graph is that of `rows`."""
    index = graph.index[:, :neighbors]
    known = graph.distance[:, :neighbors].astype(np.float32)
    start = np.zeros(rows.size + 1, dtype=np.int64)
    _count_pairs(index, start)
    np.cumsum(start, out=start)
    others, distance = np.empty(start[-1], dtype=np.int32), np.empty(start[-1], dtype=np.float32)
    _fill_pairs(index, known, start[:-1].copy(), others, distance)
    farthest = known.max() or 1.0  # where all known pairs are copies, any distance tells who has no pick yet
    near = np.full(rows.size, farthest, dtype=np.float32)
    number, gains = np.full(rows.size, -1, dtype=np.int64), np.empty(rows.size)
    _sparse_gains(start, others, distance, near, gains)
    taken: list[int] = []

    def take(chosen: int) -> None:
        pairs = slice(start[chosen], start[chosen + 1])
        nearer = distance[pairs] < near[others[pairs]]
        which = others[pairs][nearer]
        near[which], number[which] = distance[pairs][nearer], len(taken)
        number[chosen] = len(taken)  # also where an earlier pick is a copy of it
        taken.append(chosen)

    def gain(chosen: int) -> float:
        return float(_sparse_gain(start, others, distance, near, chosen))

    places, gained = lazy_greedy(gains, gain, take, count)
    # whoever's pick is no farther than the last of its own neighbours has no nearer pick that the graph does not know
    unsure = np.flatnonzero((number < 0) | (near > known[:, -1]))
    far = near.astype(np.float64)
    if unsure.size:
        number[unsure], far[unsure] = _nearest_of(where, rows[unsure], rows[places], graph.metric)
    number[places], far[places] = np.arange(count), 0.0
    return places, gained, number, far


def _nearest_of(
    where: Space, rows: np.ndarray, picks: np.ndarray, metric: Metric
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number and distance of the nearest pick of each of `rows`, measured in the space."""
    nearest = NearestPick(where, rows, picks.size)
    numbers = np.flatnonzero(~where.empty[picks])
    for row in picks[numbers]:
        nearest.add(int(row))
    if metric == "euclidean":
        return nearest.number(), np.sqrt(nearest.squared())
    # one without a direction has cosine 0 to all
    far = nearest.squared() / 2 if numbers.size else np.full(rows.size, np.inf)
    number = numbers[nearest.number()] if numbers.size else np.zeros(rows.size, dtype=np.int64)
    blank = np.flatnonzero(where.empty[picks])[:1]
    far[where.empty[rows]], number[where.empty[rows]] = 1.0, 0
    if blank.size:
        number[far > 1], far[far > 1] = blank[0], 1.0
    return number, far


@loop
def _pairs(
    blocks: np.ndarray, empty: np.ndarray, cosine: int, distance: np.ndarray, first: int, last: int
) -> None:  # fmt: skip
    """Measure the samples from `first` to `last` against those of their own block and of later ones."""
    point, sums = np.empty(blocks.shape[1]), np.empty(LANES)
    for sample in range(first, last):
        for d in range(blocks.shape[1]):
            point[d] = blocks[sample // LANES, d, sample % LANES]
        for b in range(sample // LANES, blocks.shape[0]):
            for lane in range(LANES):
                sums[lane] = 0.0
            for d in range(blocks.shape[1]):
                for lane in range(LANES):
                    step = blocks[b, d, lane] - point[d]
                    sums[lane] += step * step
            for lane in range(LANES):
                other = b * LANES + lane
                if cosine == 0:
                    distance[sample, other] = np.sqrt(sums[lane])
                elif (empty[sample] or empty[other]) and other != sample:
                    distance[sample, other] = 1.0
                else:
                    distance[sample, other] = sums[lane] / 2


@loop
def _mirror(distance: np.ndarray, first: int, last: int) -> None:
    """Fill in the pairs with samples of earlier blocks, which have been measured from there: they are the same."""
    for start in range(first, last, LANES):
        stop = min(start + LANES, last)
        for at in range(0, stop, LANES):
            for sample in range(start, stop):
                for earlier in range(at, min(at + LANES, sample // LANES * LANES)):
                    distance[sample, earlier] = distance[earlier, sample]


@loop
def _gains(distance: np.ndarray, near: np.ndarray, out: np.ndarray, first: int, last: int) -> None:
    sums = np.empty(LANES)
    for place in range(first, last):
        for lane in range(LANES):
            sums[lane] = 0.0
        for b in range(near.size // LANES):
            for lane in range(LANES):
                nearer = near[b * LANES + lane] - distance[place, b * LANES + lane]
                sums[lane] += nearer if nearer > 0 else np.float32(0)
        out[place] = 0.0
        for lane in range(LANES):
            out[place] += sums[lane]


@loop
def _gain(distance: np.ndarray, near: np.ndarray) -> float:
    """Return what `_gains` has for one sample, from its distances."""
    sums = np.zeros(LANES)
    for b in range(near.size // LANES):
        for lane in range(LANES):
            nearer = near[b * LANES + lane] - distance[b * LANES + lane]
            sums[lane] += nearer if nearer > 0 else np.float32(0)
    total = 0.0
    for lane in range(LANES):
        total += sums[lane]
    return total


@loop
def _cover(distance: np.ndarray, near: np.ndarray, number: np.ndarray, pick: int) -> None:
    for sample in range(near.size):
        if distance[sample] < near[sample]:
            near[sample], number[sample] = distance[sample], pick


@loop
def _count_pairs(index: np.ndarray, counts: np.ndarray) -> None:
    """Count the pairs of each sample at counts[sample + 1]: itself, its neighbours, and whose neighbour it is."""
    for sample in range(index.shape[0]):
        counts[sample + 1] += 1
        for k in range(index.shape[1]):
            other = index[sample, k]
            mutual = False
            for back in range(index.shape[1]):
                mutual |= index[other, back] == sample
            counts[sample + 1] += 1
            if not mutual:
                counts[other + 1] += 1


@loop
def _fill_pairs(
    index: np.ndarray, known: np.ndarray, at: np.ndarray, others: np.ndarray, distance: np.ndarray
) -> None:  # fmt: skip
    for sample in range(index.shape[0]):
        others[at[sample]], distance[at[sample]] = sample, 0.0
        at[sample] += 1
        for k in range(index.shape[1]):
            other = index[sample, k]
            mutual = False
            for back in range(index.shape[1]):
                mutual |= index[other, back] == sample
            others[at[sample]], distance[at[sample]] = other, known[sample, k]
            at[sample] += 1
            if not mutual:
                others[at[other]], distance[at[other]] = sample, known[sample, k]
                at[other] += 1


@loop
def _sparse_gains(
    start: np.ndarray, others: np.ndarray, distance: np.ndarray, near: np.ndarray, out: np.ndarray
) -> None:  # fmt: skip
    for place in range(out.size):
        out[place] = 0.0
        for pair in range(start[place], start[place + 1]):
            out[place] += max(np.float64(near[others[pair]]) - np.float64(distance[pair]), 0.0)


@loop
def _sparse_gain(
    start: np.ndarray, others: np.ndarray, distance: np.ndarray, near: np.ndarray, place: int
) -> float:  # fmt: skip
    total = 0.0
    for pair in range(start[place], start[place + 1]):
        total += max(np.float64(near[others[pair]]) - np.float64(distance[pair]), 0.0)
    return total
