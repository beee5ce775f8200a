"""GradMatch: a few samples with non-negative weights whose gradients add up to nearly the mean gradient.

Orthogonal matching pursuit on |sum_j x_j g_j - mean g|^2 + lambda |x|^2: the sample whose gradient correlates most with
what is left joins, and all weights are solved for again, by non-negative least squares on the normal equations. That
solution is followed exactly: a Cholesky factor grows with each sample, and where a weight would turn negative the
active set shrinks as in Lawson and Hanson's method; so a sample may leave again, and the pursuit goes on until
enough have a weight.

How near the sum of each class comes stands in the reasons. A lambda above 0 pays with distance for small and even
weights: some of the gradient is left then even where the samples could match it.

No sum of gradients with non-negative weights comes closer once nothing correlates with the rest. The pursuit then ends
with fewer samples than asked for, and so does the method's own code. Our budgets are exact: the remaining places go to
those that correlate most with the rest, at a millionth of the mean weight, which leaves the matched sum as it is; the
reason says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput
from tracesift.selectors.budget import Quota, quotas
from tracesift.selectors.contract import selector
from tracesift.selectors.gradients.last_layer import LastLayer, check_classes, last_layer
from tracesift.selectors.ranking import class_codes

FILL = 1e-6
"""Weight of a sample that only fills the budget, in units of the mean weight."""
NOTHING_LEFT = 1e-10
"""Correlation with the rest, relative to the gradients' lengths, that rounding alone can make."""


@dataclass(frozen=True)
class Matched:
    """What matching pursuit found among n samples."""

    weight: np.ndarray
    """(n,) weights of the mean gradient; 0 where not chosen."""
    correlation: np.ndarray
    """(n,) of each gradient with what is left."""
    left: float
    """Length of what is left, as a share of the mean gradient's."""


@selector(version=1, reference="Killamsetty et al. 2021 (GradMatch), algorithm 2, last-layer gradients")
def grad_match(
    frame: pl.DataFrame,
    probs_last: np.ndarray,
    labels: np.ndarray,
    embedding: np.ndarray,
    *,
    size: int,
    ridge: float = 1.0,
    per_class: bool = True,
    quota: Quota = "proportional",
) -> pl.DataFrame:
    """Keep samples with weights whose last-layer gradients add up to nearly that of all samples, by matching pursuit.

    Parameters
    ----------
    probs_last : array of shape (N, K)
        Probabilities of the trained model.
    labels : array of shape (N,)
        Class indices, the columns of `probs_last`.
    embedding : array of shape (N, D)
        Input of the model's last layer.
    ridge : float
        The paper's lambda, 0 or more; 1 is the default of DeepCore's code, the paper's own value was not checked. It
        has the unit of a squared gradient: beside squared lengths well below it, as those of a model that has learned
        its samples, all weights shrink and much of the gradient is left. With 0 the weights come as near as the samples
        can.
    per_class : bool
        Match each class's gradient with its own samples. Takes memory for quota times class size numbers.
    quota : {"proportional", "equal"}
        How the budget is divided among classes.

    Returns
    -------
    polars.DataFrame
        Weights are those of the sum over all n samples of the class (of all where `per_class` is false), n times the
        paper's, which are of the mean. They need not add up to n: with `ridge` 0 a few long gradients stand for many
        short ones, and with more they fall short of the sum that they aim at. Scale them yourself where the size of
        the loss matters. A sample that only fills the budget (see the module) weighs a millionth of n over the budget
        of its class.

        The reasons tell what is left: the length of the weighted sum's difference from the sum over the class, as a
        share of the latter's length. 0 is a match; 1 is no better than weights of 0.

    Raises
    ------
    BadInput
        Probabilities or labels are none, or do not fit the frame; a negative ridge.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": ["x", "x", "x"]})
    >>> probs = np.array([[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]])
    >>> grad_match(frame, probs, np.zeros(3, int), np.ones((3, 1)), size=1, ridge=0.0)["weight"].round(9).to_list()
    [2.0, 0.0, 0.0]
    """
    check_classes("grad_match", probs_last, labels, frame, signal="probs_last")
    if not np.isfinite(ridge) or ridge < 0:
        raise BadInput(f"grad_match: ridge must be 0 or more, not {ridge!r}")
    _, codes = class_codes(frame, per_class=per_class)
    counts = np.bincount(codes)
    weight, correlation, left = np.zeros(frame.height), np.zeros(frame.height), np.zeros(counts.size)
    filled = np.zeros(frame.height, dtype=bool)
    for code, share in enumerate(quotas(counts.tolist(), size, rule=quota)):
        rows = np.flatnonzero(codes == code)
        if share:
            found = matching_pursuit(
                last_layer(probs_last[rows], labels[rows], embedding[rows]), share, ridge
            )
            weight[rows], correlation[rows] = rows.size * found.weight, found.correlation
            left[code] = found.left
            idle = np.flatnonzero(found.weight == 0)
            more = rows[idle[np.argsort(-found.correlation[idle], kind="stable")]][
                : share - rows.size + idle.size
            ]
            filled[more], weight[more] = True, FILL * rows.size / share
    shown, rest = pl.Series(correlation).round_sig_figs(4), pl.Series(left[codes]).round(6)
    kept, weighs = pl.Series(weight > 0), pl.Series(weight).round_sig_figs(4)
    reason = (
        pl.when(pl.Series(filled))
        .then(pl.format("fills the budget: no weight brings the sum closer, {} of the gradient is left", rest))
        .when(kept)
        .then(pl.format("matched with weight {}; {} of the gradient is left", weighs, rest))
        .otherwise(pl.format("not needed: its gradient's product with what is left is {}", shown))
    )  # fmt: skip
    return frame.select(
        "sample_id",
        role=pl.when(kept).then(pl.lit("keep")).otherwise(pl.lit("drop")),
        weight=pl.Series(weight),
        reason=reason,
    )


def matching_pursuit(gradients: LastLayer, count: int, ridge: float) -> Matched:
    """Return weights of at most `count` samples that match the mean gradient; see the module."""
    target = gradients.mean()
    aim, squares = gradients.along(target), gradients.squares()
    length = _dot(target.ravel(), target.ravel())
    enough = NOTHING_LEFT * np.sqrt(squares * length)
    samples = aim.size
    columns = np.zeros((count, samples))  # inner products of the chosen with everyone
    chosen, x = np.zeros(0, dtype=np.int64), np.zeros(0)
    barred = np.zeros(samples, dtype=bool)  # in the span of the chosen, but for rounding
    factor = np.zeros((count, count))
    correlation, reached = aim, [0.0]
    while chosen.size < count:
        free = ~barred & (correlation > enough)
        free[chosen] = False
        if not free.any():
            break
        j = int(np.where(free, correlation, -np.inf).argmax())
        p = chosen.size
        columns[p] = gradients.column(j)
        if not _append(factor, p, columns[p, chosen], columns[p, j] + ridge):
            barred[j] = True
            continue
        chosen, x = np.append(chosen, j), np.append(x, 0.0)
        chosen, x = _solve(factor, columns, chosen, x, aim, ridge)
        correlation = _left(aim, columns, x)
        reached.append(_dot(x, aim[chosen]))
        if reached[-1] <= reached[-2]:
            break  # what is left is rounding
    weight = np.zeros(samples)
    weight[chosen] = x
    lost = length - _dot(x, aim[chosen]) - _dot(x, correlation[chosen])  # |mean - sum_j x_j g_j|^2
    return Matched(weight, correlation, float(np.sqrt(max(lost, 0.0) / length)) if length > 0 else 0.0)


def _solve(
    factor: np.ndarray, columns: np.ndarray, chosen: np.ndarray, x: np.ndarray, aim: np.ndarray, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the chosen that keep a positive weight, and the weights; `factor` and `columns` follow in place."""
    while True:
        z = _substitute(factor, aim[chosen])
        if (z > 0).all():
            return chosen, z
        # as far towards the solution as no weight turns negative; those that vanish leave
        towards = np.where(z > 0, np.inf, x / np.maximum(x - z, np.finfo(float).tiny))
        stay = towards > towards.min()
        x = x + towards.min() * (z - x)
        chosen, x = chosen[stay], x[stay]
        columns[: chosen.size] = columns[: stay.size][stay]
        for p in range(int(stay.argmin()), chosen.size):
            _append(factor, p, columns[p, chosen[:p]], columns[p, chosen[p]] + ridge)


def _dot(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.cumsum(np.append(0.0, one * other))[-1])  # one after the other, unlike `@`


@loop
def _append(factor: np.ndarray, p: int, row: np.ndarray, diagonal: float) -> bool:
    """Add row p to a Cholesky factor; False where it depends on the rows before."""
    for a in range(p):
        total = row[a]
        for b in range(a):
            total -= factor[a, b] * factor[p, b]
        factor[p, a] = total / factor[a, a]
    rest = diagonal
    for a in range(p):
        rest -= factor[p, a] * factor[p, a]
    if not rest > 1e-12 * diagonal:
        return False
    factor[p, p] = np.sqrt(rest)
    return True


@loop
def _substitute(factor: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve L L^T z = right with the factor's leading rows."""
    size = right.size
    z = right.copy()
    for a in range(size):
        for b in range(a):
            z[a] -= factor[a, b] * z[b]
        z[a] /= factor[a, a]
    for a in range(size - 1, -1, -1):
        z[a] /= factor[a, a]
        for b in range(a):
            z[b] -= factor[a, b] * z[a]
    return z


@loop
def _left(aim: np.ndarray, columns: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return <g_i, mean - sum_j x_j g_j>."""
    left = aim.copy()
    for a in range(x.size):
        for i in range(aim.size):
            left[i] -= x[a] * columns[a, i]
    return left
