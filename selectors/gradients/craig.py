"""CRAIG: medoids of the gradients, each weighted by how many samples it stands for.

A weighted subset whose gradient is close to the whole one: sum_i min_{j in A} |g_i - g_j| bounds the error of the
gradient estimate, and F(A) = sum_i (d_0 - min_{j in A} |g_i - g_j|) is monotone and submodular, so the greedy subset
reaches at least 1 - 1/e of the best. The gradients are those by the last layer, as in the paper's experiments with
networks. A weight is the exact number of samples nearest to the member, itself among them; counts that start at one
before the samples are added give N + |A| instead of N.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from tracesift.catalog.compiled import loop
from tracesift.selectors.budget import Quota, quotas
from tracesift.selectors.contract import selector
from tracesift.selectors.geometry.lazy_greedy import lazy_greedy
from tracesift.selectors.gradients.last_layer import LastLayer, check_classes, last_layer
from tracesift.selectors.ranking import class_codes

KEPT_UP_TO = 8192
"""Samples of a class whose distances are all kept, half a gigabyte of them."""


@selector(
    version=1, reference="Mirzasoleiman, Bilmes, Leskovec 2020 (CRAIG), algorithm 1 with last-layer gradients"
)
def craig(
    frame: pl.DataFrame,
    probs_last: np.ndarray,
    labels: np.ndarray,
    embedding: np.ndarray,
    *,
    size: int,
    per_class: bool = True,
    quota: Quota = "proportional",
) -> pl.DataFrame:
    """Keep the samples whose last-layer gradients represent all others, weighted by how many each stands for.

    Parameters
    ----------
    probs_last : array of shape (N, K)
        Probabilities of the trained model.
    labels : array of shape (N,)
        Class indices, the columns of `probs_last`.
    embedding : array of shape (N, D)
        Input of the model's last layer.
    per_class : bool
        Choose within each class, as the paper does; the time goes with the square of the class sizes.
    quota : {"proportional", "equal"}
        How the budget is divided among classes.

    Returns
    -------
    polars.DataFrame
        Weights are whole numbers that add up to N. A class that the budget leaves without a member counts for the
        nearest member of another.

    Raises
    ------
    BadInput
        Probabilities or labels are none, or do not fit the frame.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": ["x", "x", "x"]})
    >>> craig(frame, np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]]), np.zeros(3, int), np.ones((3, 1)), size=2)[
    ...     "weight"
    ... ].to_list()
    [2.0, 0.0, 1.0]
    """
    check_classes("craig", probs_last, labels, frame, signal="probs_last")
    _, codes = class_codes(frame, per_class=per_class)
    counts = np.bincount(codes)
    place = np.full(frame.height, -1)  # the how-manieth choice of its class
    owner, distance = np.full(frame.height, -1), np.zeros(frame.height)
    shares = quotas(counts.tolist(), size, rule=quota)
    for code, share in enumerate(shares):
        rows = np.flatnonzero(codes == code)
        if share:
            gradients = last_layer(probs_last[rows], labels[rows], embedding[rows])
            chosen, nearest, apart = facility_location(gradients, share)
            place[rows[chosen]] = np.arange(share)
            owner[rows], distance[rows] = rows[nearest], apart
    kept, rest = np.flatnonzero(place >= 0), np.flatnonzero(owner < 0)
    if rest.size:
        rows = np.concatenate([kept, rest])
        gradients = last_layer(probs_last[rows], labels[rows], embedding[rows])
        squares = gradients.squares()
        apart = np.array([gradients.distances(j, squares)[kept.size :] for j in range(kept.size)])
        owner[rest], distance[rest] = kept[apart.argmin(axis=0)], apart.min(axis=0)
    stands_for = np.bincount(owner, minlength=frame.height)
    return _explained(frame, place, np.array(shares)[codes], stands_for, owner, distance, per_class=per_class)


def facility_location(
    gradients: LastLayer, count: int, *, kept_up_to: int = KEPT_UP_TO
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose `count` medoids greedily; return them in order, and for each sample the nearest and its distance.

    The auxiliary element that the paper starts from lies at the largest distance that there can be. Ties go to the
    first sample; a medoid is always its own. All distances are kept for up to `kept_up_to` samples, and measured again
    where more are.
    """
    squares = gradients.squares()
    samples = squares.size
    kept = gradients.all_distances(squares) if samples <= kept_up_to else None

    def distances(j: int) -> np.ndarray:
        return gradients.distances(j, squares) if kept is None else kept[j]

    nearest = np.full(samples, samples)
    apart = np.full(samples, 2 * np.sqrt(squares.max()))

    def take(j: int) -> None:
        there = distances(j)
        closer = (there < apart) | ((there == apart) & (j < nearest))
        nearest[closer], apart[closer] = j, there[closer]

    gains = np.array([_gain(apart, distances(j)) for j in range(samples)])
    chosen, _ = lazy_greedy(gains, lambda j: _gain(apart, distances(j)), take, count)
    nearest[chosen], apart[chosen] = chosen, 0.0
    return chosen, nearest, apart


@loop
def _gain(apart: np.ndarray, distances: np.ndarray) -> float:
    total = 0.0
    for i in range(apart.size):
        total += max(apart[i] - distances[i], 0.0)
    return total


def _explained(
    frame: pl.DataFrame, place: np.ndarray, share: np.ndarray, stands_for: np.ndarray, owner: np.ndarray,
    distance: np.ndarray, *, per_class: bool,
) -> pl.DataFrame:  # fmt: skip
    kept = pl.Series(place >= 0)
    near = pl.Series(distance).round_sig_figs(4)
    of = pl.format(" of label '{}'", "label") if per_class else pl.lit("")
    chosen = pl.format(
        "choice {} of {}{}: its gradient stands for {} sample(s)",
        pl.Series(place + 1), pl.Series(share), of, pl.Series(stands_for),
    )  # fmt: skip
    dropped = pl.format(
        "its gradient is {} from that of {}, which stands for it", near, frame["sample_id"][owner]
    )
    return frame.select(
        "sample_id",
        role=pl.when(kept).then(pl.lit("keep")).otherwise(pl.lit("drop")),
        weight=pl.when(kept).then(pl.Series(stands_for, dtype=pl.Float64)).otherwise(0.0),
        reason=pl.when(kept).then(chosen).otherwise(dropped),
    )
