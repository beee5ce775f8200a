"""AutoCoreset's queries where they are not recorded: models fitted on coresets, one after the other.

The first models are fitted on uniform samples of all classes. Then a coreset is made by the losses under all models so
far, a model is fitted on it, and its losses join the others, until five rounds in a row have not lowered the loss on
all data. What is returned are the losses that the best coreset was made by, so that `autocoreset` makes that one.

A loss is a function of the user: it fits a model on weighted samples and says each sample's loss under it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.selectors.budget import Quota, quotas
from tracesift.selectors.gradients.autocoreset import Form, autocoreset
from tracesift.selectors.ranking import class_codes, seeded_keys

Losses: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]
"""(vectors (N, D), labels (N,) as numbers from 0, weights (N,), seed) -> losses (N,), under a model fitted on the
samples that have a weight."""

ROUNDS = 100
"""Rounds after which the loop ends whatever it has lowered."""
LEAST = 1e-12
"""Probability of a class that a model was not shown."""
DIGITS = 6
"""Decimals that are kept of a loss: what is behind them differs from processor to processor."""


def fitted_queries(
    frame: pl.DataFrame,
    vectors: np.ndarray,
    losses: Losses,
    *,
    size: int,
    seed: int,
    queries: int | np.ndarray = 3,
    patience: int = 5,
    form: Form = "caratheodory",
    per_class: bool = True,
    quota: Quota = "proportional",
) -> np.ndarray:
    """Return the losses of all samples under the models that the best coreset is made by.

    Parameters
    ----------
    frame : DataFrame of N rows
        `sample_id` and `label`.
    vectors : array of shape (N, D)
        What `losses` fits on, in the order of the frame.
    losses : function
        See `Losses`.
    size : int
        Members of a coreset.
    queries : int or array of shape (Q, N)
        How many models are fitted on uniform samples at first, or the losses to begin with.
    patience : int
        Rounds without a lower loss on all data after which the loop ends. By ``caratheodory`` it also ends where no
        class has members enough to match a further query.
    form, per_class, quota
        As of `autocoreset`.

    Returns
    -------
    array of shape (Q', N)
        Losses, in the order of the frame; `autocoreset` with these, this size and this seed makes the coreset on which
        the model of the lowest total loss was fitted.

    Raises
    ------
    BadInput
        Vectors or losses that are not finite or of another shape, no first query, or no patience.

    References
    ----------
    Maalouf et al., AutoCoreset, ICML 2023, algorithm 2.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcd"), "label": ["x"] * 4})
    >>> def squares(vectors, labels, weight, seed):
    ...     return (vectors[:, 0] - weight @ vectors[:, 0] / weight.sum()) ** 2
    >>> fitted_queries(frame, np.array([[0.0], [1.0], [2.0], [3.0]]), squares, size=3, seed=0, queries=1).shape
    (2, 4)
    """
    order = frame["sample_id"].arg_sort().to_numpy()
    sample, points = frame[order].with_columns(pl.col("label").cast(pl.String)), vectors[order]
    if not np.isfinite(points).all():
        raise BadInput("autocoreset: vectors hold NaN or infinity; record or embed these samples again")
    if patience < 1:
        raise BadInput(f"autocoreset: patience={patience} must be 1 or more")
    codes = class_codes(sample, per_class=True)[1]

    def asked(weight: np.ndarray) -> np.ndarray:
        return checked_losses(losses(points, codes, weight, seed), len(codes))

    if isinstance(queries, int):
        if queries < 1:
            raise BadInput(f"autocoreset: queries={queries} must be 1 or more")
        rows = [asked(covering(sample, codes, size, seed, draw)) for draw in range(queries)]
    else:
        rows = [checked_losses(row[order], len(codes)) for row in queries]
    chosen, lowest, since = len(rows), np.inf, 0
    counts = np.bincount(codes).tolist() if per_class else [len(codes)]
    room = max(quotas(counts, size, rule=quota)) - 1 if form == "caratheodory" else len(rows) + ROUNDS
    for made in range(ROUNDS):
        if since == patience or (made and len(rows) > room):
            break
        coreset = autocoreset(
            sample, np.stack(rows), size=size, seed=seed, form=form, per_class=per_class, quota=quota
        )
        under = asked(coreset["weight"].to_numpy())
        total = float(np.cumsum(under)[-1])
        since = 0 if total < lowest else since + 1
        if total < lowest:
            chosen, lowest = len(rows), total
        rows.append(under)
    result = np.empty((chosen, len(codes)))
    result[:, order] = rows[:chosen]
    return result


def covering(frame: pl.DataFrame, codes: np.ndarray, size: int, seed: int, draw: int) -> np.ndarray:
    """Return equal weights (N,) of a uniform sample with a member of each class, or of as many as have room."""
    keys = seeded_keys(frame, seed, f"autocoreset query {draw}")
    order = np.argsort(keys, kind="stable")
    later = np.ones(len(codes), dtype=bool)
    later[np.unique(codes[order], return_index=True)[1]] = False  # the first of each class comes first
    members = order[np.argsort(later, kind="stable")][:size]
    weight = np.zeros(len(codes))
    weight[members] = len(codes) / size
    return weight


def checked_losses(losses: np.ndarray, samples: int) -> np.ndarray:
    """Return losses as float64 (N,), or refuse what is none."""
    values = np.asarray(losses)
    if values.shape != (samples,) or values.dtype.kind not in "fiu":
        raise BadInput(
            f"autocoreset: a loss has to return one number a sample, ({samples},), and not {values.dtype} of shape "
            f"{values.shape}"
        )
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise BadInput(
            f"autocoreset: the losses of {bad} of {samples} samples are NaN or infinite; mend the loss"
        )
    return values.astype(np.float64)


def logistic_losses(vectors: np.ndarray, labels: np.ndarray, weight: np.ndarray, seed: int) -> np.ndarray:
    """Return the cross-entropy of each sample (N,) under logistic regression fitted on the weighted ones.

    Columns are standardised over all samples; C = 1 of scikit-learn, whose penalty does not grow with the weights. A
    class that was not among the fitted ones has probability 1e-12. Rounded to 6 decimals.

    Examples
    --------
    >>> x, y = np.array([[0.0], [1.0], [8.0], [9.0]]), np.array([0, 0, 1, 1])
    >>> (logistic_losses(x, y, np.array([2.0, 0, 0, 2]), 0) < 0.5).tolist()
    [True, True, True, True]
    """
    from sklearn.linear_model import (
        LogisticRegression,
    )  # a second of import that listing the selectors spares
    from threadpoolctl import threadpool_limits

    values = vectors.astype(np.float64)
    spread = values.std(axis=0)
    values = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    shown = np.flatnonzero(weight > 0)
    known = np.unique(labels[shown])
    probability = np.full((len(labels), int(labels.max()) + 1), LEAST)
    if len(known) == 1:
        probability[:, known] = 1.0
    else:
        with threadpool_limits(1):
            model = LogisticRegression(C=1.0, max_iter=2000)
            model.fit(values[shown], labels[shown], sample_weight=weight[shown])
            probability[:, known] = model.predict_proba(values)
    own = probability[np.arange(len(labels)), labels]
    return (-np.log(np.maximum(own, LEAST))).round(DIGITS)
