"""AutoCoreset: a weighted subset whose sum of losses is that of all samples, under every model asked.

The losses under models q_1 ... q_d are a matrix; a weighted subset that keeps its row sum, a vector-summation
coreset, has the same total loss under each of them. These models are the queries. The paper trains them on its own
coresets, one after another: `fitted_queries` does, and returns such a matrix. By default they are the checkpoints of
one recorded training, so the matrix is the recorded trajectories and nothing is trained. A constant column beside them
keeps the total weight.

* ``caratheodory``: any such sum is a positive combination of d + 1 rows. The samples are cut at random into parts, each
  large enough for d + 1 members, and in each part one sample after the other is put into weights of the others, until
  as many are left as the budget gives it. Sums are exact.
* ``sensitivity``: samples are drawn with probability proportional to the length of their row, weighted by its inverse.
  Drawn systematically in random order, which gives that probability exactly, so many different samples exactly, and
  sums that are right on average (before the weights are scaled to the number of samples).
* ``median_of_means``: of 100 uniform draws the one whose mean row is nearest to that of all.

Each loss counts in units of its root mean square. The constant column leaves no row without length, which would divide
by zero; and nothing is kept between calls.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput
from tracesift.selectors.budget import Quota, quotas
from tracesift.selectors.contract import selector
from tracesift.selectors.ranking import class_codes, seeded_keys

Form = Literal["caratheodory", "sensitivity", "median_of_means"]
DRAWS = 100
RANK = 1e-12
"""Length, in units of the longest row, below which what is left of a row is rounding."""
LEAST = 1e-12
"""Weight of a member whose part in the sums is zero."""


@selector(version=1, random=True, reference="Maalouf et al. 2023 (AutoCoreset), with checkpoints as queries")
def autocoreset(
    frame: pl.DataFrame,
    loss: np.ndarray,
    *,
    size: int,
    seed: int,
    form: Form = "caratheodory",
    checkpoints: int | None = None,
    per_class: bool = True,
    quota: Quota = "proportional",
) -> pl.DataFrame:
    """Keep samples with weights whose losses add up to those of all samples, at every checkpoint of a training.

    Parameters
    ----------
    loss : array of shape (T, N)
        Losses of every sample at the same checkpoints, or under other queries.
    form : {"caratheodory", "sensitivity", "median_of_means"}
        How the members are found; see the module.
    checkpoints : int, optional
        How many of the T are matched, evenly spaced back from the last one; all by default. By ``caratheodory`` m
        members match at most m - 1, so a class with a smaller quota matches fewer, which its reasons say.
    per_class : bool
        Match the sums of each class with its own samples, and so the weight of each class.
    quota : {"proportional", "equal"}
        How the budget is divided among classes.

    Returns
    -------
    polars.DataFrame
        Weights are positive and add up to N. Where the budget leaves a class without a member, its weight goes to
        the others in proportion, and the sums with it.

    Raises
    ------
    BadInput
        Missing or infinite losses, an unknown form, or a number of checkpoints that is not there.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcd"), "label": ["x"] * 4})
    >>> result = autocoreset(frame, np.array([[1.0, 2.0, 3.0, 6.0]]), size=2, seed=0)
    >>> weight = result["weight"].to_numpy()
    >>> (weight > 0).sum(), (weight @ [1, 2, 3, 6]).round(9), weight.sum().round(9)
    (np.int64(2), np.float64(12.0), np.float64(4.0))
    """
    epochs = len(loss)
    bad = ~np.isfinite(loss).all(axis=0)
    if bad.any():
        raise BadInput(
            f"autocoreset: the loss is missing or infinite at some checkpoint for {bad.sum()} of {bad.size} samples; "
            "record with mode epoch_end, or leave them out"
        )
    if checkpoints is not None and not 1 <= checkpoints <= epochs:
        raise BadInput(
            f"autocoreset: checkpoints must be 1 to {epochs}, the recorded ones, not {checkpoints}"
        )
    asked = epochs if checkpoints is None else checkpoints
    _, codes = class_codes(frame, per_class=per_class)
    keys = seeded_keys(frame, seed, "autocoreset")
    counts = np.bincount(codes)
    shares = np.array(quotas(counts.tolist(), size, rule=quota))
    weight, matched = np.zeros(frame.height), np.zeros(counts.size, dtype=np.int64)
    off = np.zeros(counts.size)
    for code, share in enumerate(shares):
        rows = np.flatnonzero(codes == code)
        rows = rows[np.argsort(keys[rows], kind="stable")]
        matched[code] = min(asked, share - 1) if form == "caratheodory" else asked
        if share:
            points = _points(loss, rows, int(matched[code]))
            if form == "caratheodory":
                found = in_parts(points, int(share))
            elif form == "sensitivity":
                found = drawn_by_sensitivity(points, int(share), _fraction(seed))
            else:
                found = best_draw(points, int(share), keys[rows])
            weight[rows] = found * (rows.size / _sum(found))
            off[code] = _off(loss, rows, weight[rows])
    if (shares == 0).any():
        weight *= frame.height / counts[shares > 0].sum()
    kept = pl.Series(weight > 0)
    verdict = (
        pl.when(kept)
        .then(pl.format("weight {}", pl.Series(weight).round_sig_figs(4)))
        .otherwise(pl.lit("its losses are in the weights of others"))
    )
    about = [
        f": {form}, {_many(share, 'member')} for {_many(count, 'sample')}"
        + (
            f", {match} of {epochs} queries matched, sums over all queries off by up to {100 * apart:.4g} %"
            if share
            else ""
        )
        for share, count, match, apart in zip(shares, counts, matched, off.round(8), strict=True)
    ]
    reason = pl.concat_str(verdict, pl.Series(about).gather(codes))
    return frame.select(
        "sample_id",
        role=pl.when(kept).then(pl.lit("keep")).otherwise(pl.lit("drop")),
        weight=pl.Series(weight),
        reason=reason,
    )


def in_parts(points: np.ndarray, count: int) -> np.ndarray:
    """Return Caratheodory weights (n,) of exactly `count` members, for points (p, n) in the order to work in."""
    parts = max(1, count // len(points))
    weight = np.zeros(points.shape[1])
    for number, columns in enumerate(np.array_split(np.arange(points.shape[1]), parts)):
        members = count // parts + (number < count % parts)
        weight[columns] = caratheodory(np.ascontiguousarray(points[:, columns]), members)
    return weight


def drawn_by_sensitivity(points: np.ndarray, count: int, fraction: float) -> np.ndarray:
    """Return weights (n,) of a systematic draw, the inverse probability of each of `count` different samples."""
    probability = inclusion(points, count)
    certain = probability >= 1
    weight = certain.astype(np.float64)
    rest = np.flatnonzero(~certain)
    wanted = count - int(certain.sum())
    if wanted:
        upper = np.cumsum(probability[rest])
        upper *= wanted / upper[-1]
        drawn = rest[np.searchsorted(upper, fraction + np.arange(wanted), side="right")]
        weight[drawn] = 1 / probability[drawn]
    return weight


def inclusion(points: np.ndarray, count: int) -> np.ndarray:
    """Return the probability (n,) with which each sample is drawn: proportional to its length, at most 1."""
    length = np.zeros(points.shape[1])
    for column in points:
        length += column * column
    length = np.sqrt(length)
    probability, free = np.ones(length.size), np.ones(length.size, dtype=bool)
    while free.any():
        share = (count - int((~free).sum())) * length[free] / _sum(length[free])
        probability[free] = share
        certain = share >= 1 - 1e-9
        if not certain.any():
            break
        probability[np.flatnonzero(free)[certain]] = 1.0
        free[np.flatnonzero(free)[certain]] = False
    return probability


def best_draw(points: np.ndarray, count: int, keys: np.ndarray) -> np.ndarray:
    """Return equal weights (n,) of the uniform draw, out of `DRAWS`, whose mean is nearest to that of all points."""
    mean = np.array([_sum(column) for column in points]) / points.shape[1]
    best, chosen = np.inf, np.arange(count)
    for draw in range(DRAWS):
        members = np.sort(np.argsort(_mixed(keys, draw), kind="stable")[:count])
        apart = np.array([_sum(column[members]) for column in points]) / count - mean
        distance = _sum(apart * apart)
        if distance < best:
            best, chosen = distance, members
    weight = np.zeros(points.shape[1])
    weight[chosen] = points.shape[1] / count
    return weight


def _off(loss: np.ndarray, rows: np.ndarray, weight: np.ndarray) -> float:
    """Return by which share the weighted sum of losses is off, under the query where that is most."""
    most = 0.0
    for column in loss:
        values = column[rows].astype(np.float64)
        whole = _sum(values)
        if whole:  # losses that are all zero are so in every subset
            most = max(most, abs(_sum(values * weight) / whole - 1))
    return most


def _many(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _points(loss: np.ndarray, rows: np.ndarray, checkpoints: int) -> np.ndarray:
    """Return (1 + checkpoints, n): a constant, and losses in units of their root mean square."""
    at = len(loss) - 1 - np.arange(checkpoints) * len(loss) // max(checkpoints, 1)
    points = np.ones((1 + checkpoints, rows.size))
    for place, t in enumerate(at, start=1):
        column = loss[t, rows].astype(np.float64)
        unit = np.sqrt(_sum(column * column) / rows.size)
        points[place] = column / unit if unit > 0 else 1.0  # losses that are all zero ask nothing
    return points


def _fraction(seed: int) -> float:
    """Return where a systematic draw starts, in [0, 1)."""
    key = seeded_keys(pl.DataFrame({"sample_id": ["start of the draw"]}), seed, "autocoreset")
    return int(key[0] >> np.uint64(11)) / 2**53


def _mixed(keys: np.ndarray, draw: int) -> np.ndarray:
    """Return other pseudo-random numbers for another draw, by the finalizer of SplitMix64."""
    z = keys + np.uint64((draw * 0x9E3779B97F4A7C15) % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _sum(values: np.ndarray) -> float:
    return float(np.cumsum(values)[-1])  # one after the other, unlike sum()


def caratheodory(points: np.ndarray, count: int) -> np.ndarray:
    """Return weights (n,) of exactly `count` members with the sums of all points (p, n).

    `count` is at least p, or n where there are fewer points. Members without a part in the sums, where several leave
    at once, weigh `LEAST`.
    """
    samples = points.shape[1]
    weight = np.ones(samples)
    if count >= samples:
        return weight
    coordinates, basis = _basis(points)
    member = _eliminate(coordinates, basis, weight, samples - count)
    weight[~member] = 0.0
    weight[member] = np.maximum(weight[member], LEAST)
    return weight


@loop
def _basis(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates (n, r) of the points in an orthonormal basis of their span, and r independent points.

    Gram and Schmidt, the longest remainder first, each direction made orthogonal twice.
    """
    size, samples = points.shape
    rest = points.copy()
    directions, coordinates = np.zeros((size, size)), np.zeros((size, samples))
    basis = np.empty(size, dtype=np.int64)
    used = np.zeros(samples, dtype=np.bool_)
    longest, rank = 0.0, 0
    while rank < size:
        length = np.zeros(samples)
        for a in range(size):
            for i in range(samples):
                length[i] += rest[a, i] * rest[a, i]
        pick = -1
        for i in range(samples):
            if not used[i] and (pick < 0 or length[i] > length[pick]):
                pick = i
        if pick < 0:
            break
        if rank == 0:
            longest = np.sqrt(length[pick])
        if np.sqrt(length[pick]) <= RANK * longest:
            break
        direction = rest[:, pick].copy()
        for _ in range(2):
            for b in range(rank):
                dot = 0.0
                for a in range(size):
                    dot += direction[a] * directions[b, a]
                for a in range(size):
                    direction[a] -= dot * directions[b, a]
            norm = 0.0
            for a in range(size):
                norm += direction[a] * direction[a]
            norm = np.sqrt(norm)
            for a in range(size):
                direction[a] /= norm
        directions[rank] = direction
        for a in range(size):
            for i in range(samples):
                coordinates[rank, i] += direction[a] * points[a, i]
        for a in range(size):
            for i in range(samples):
                rest[a, i] -= direction[a] * coordinates[rank, i]
        used[pick], basis[rank] = True, pick
        rank += 1
    return coordinates[:rank].T.copy(), basis[:rank].copy()


@loop
def _eliminate(points: np.ndarray, basis: np.ndarray, weight: np.ndarray, leave: int) -> np.ndarray:
    """Take `leave` points out, one after the other, without changing sum_i weight_i points_i; say who stays.

    A point outside the basis is a combination u of it. Weight moves from the point to the basis along u, or back, in
    the direction that empties one of them sooner; that one leaves, and the point takes its place in the basis.
    """
    samples, size = points.shape
    member, inside = np.ones(samples, dtype=np.bool_), np.zeros(samples, dtype=np.bool_)
    goal = np.zeros(size)
    for i in range(samples):
        for a in range(size):
            goal[a] += weight[i] * points[i, a]
    for b in range(size):
        inside[basis[b]] = True
    inverse, since = np.zeros((size, size)), -1
    u, rest = np.empty(size), np.empty(size)
    left, done = leave, False
    j = -1
    while not done:
        if since < 0 or since >= size:  # invert afresh, with row pivots
            rows = points[basis].copy()
            inverse[:] = 0.0
            for a in range(size):
                inverse[a, a] = 1.0
            for a in range(size):
                pivot = a
                for b in range(a + 1, size):
                    if abs(rows[b, a]) > abs(rows[pivot, a]):
                        pivot = b
                if pivot != a:
                    for c in range(size):
                        rows[a, c], rows[pivot, c] = rows[pivot, c], rows[a, c]
                        inverse[a, c], inverse[pivot, c] = inverse[pivot, c], inverse[a, c]
                factor = 1.0 / rows[a, a]
                for c in range(size):
                    rows[a, c] *= factor
                    inverse[a, c] *= factor
                for b in range(size):
                    factor = rows[b, a]
                    if b != a and factor != 0.0:
                        for c in range(size):
                            rows[b, c] -= factor * rows[a, c]
                            inverse[b, c] -= factor * inverse[a, c]
            since = 0
        done = left == 0
        if done:
            # what rounding took from the sums goes back to the basis
            for i in range(samples):
                if member[i]:
                    for a in range(size):
                        goal[a] -= weight[i] * points[i, a]
            rest[:] = goal
        else:
            j += 1
            while inside[j] or not member[j]:
                j += 1
            rest[:] = points[j]
        u[:] = 0.0
        for _ in range(2):  # solve, and once more for what is left
            step = np.zeros(size)
            for a in range(size):
                for b in range(size):
                    step[b] += rest[a] * inverse[a, b]
            for b in range(size):
                u[b] += step[b]
            for b in range(size):
                for a in range(size):
                    rest[a] -= step[b] * points[basis[b], a]
        if done:
            for b in range(size):
                weight[basis[b]] += u[b]
            continue
        largest = 0.0
        for b in range(size):
            largest = max(largest, abs(u[b]))
        there, back = weight[j], np.inf  # how far weight can move to the basis, and from it
        first_there, first_back = -1, -1
        for b in range(size):
            if abs(u[b]) <= 1e-10 * largest:
                continue
            ratio = max(weight[basis[b]], 0.0) / abs(u[b])
            if u[b] < 0 and ratio < there:
                there, first_there = ratio, b
            if u[b] > 0 and ratio < back:
                back, first_back = ratio, b
        move, gone = (there, first_there) if there <= back else (-back, first_back)
        for b in range(size):
            weight[basis[b]] += move * u[b]
        weight[j] -= move
        left -= 1
        if gone < 0:
            member[j] = False
            continue
        member[basis[gone]], inside[basis[gone]] = False, False
        basis[gone], inside[j] = j, True
        for a in range(size):
            share = inverse[a, gone] / u[gone]
            for b in range(size):
                inverse[a, b] -= share * u[b]
            inverse[a, gone] = share
        since += 1
    return member
