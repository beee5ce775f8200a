"""GLISTER: take the sample whose gradient step lowers the validation loss most, and look again after each step.

The gain of sample i beside the chosen S is its part in the Taylor expansion of the validation loss at
theta_S = theta - eta sum_{j in S} g_j: the inner product <g_i, grad L_V(theta_S)>, larger is better. Of the last layer
such a step is known without the layer's weights: it moves the logits of validation sample v by
-eta sum_j e_j (1 + <h_j, h_v>), so the validation gradient is computed afresh at every theta_S. Left out, as by a
callback that is never called, the method is one ranking by the first validation gradient and takes copies of the same
sample. The validation samples are those of the val split, not the training set.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.selectors.budget import Quota, quotas
from tracesift.selectors.contract import selector
from tracesift.selectors.gradients.last_layer import check_classes, last_layer
from tracesift.selectors.ranking import class_codes, outcome

TINY = 1e-30
DIGITS = 12
"""Decimals of the validation probabilities: an exponential's last bits depend on the machine."""


@selector(
    version=1,
    reference="Killamsetty et al. 2021 (GLISTER), algorithm 1 and section on the Taylor approximation",
)
def glister(
    frame: pl.DataFrame,
    probs_last: np.ndarray,
    labels: np.ndarray,
    embedding: np.ndarray,
    val_probs_last: np.ndarray,
    val_labels: np.ndarray,
    val_embedding: np.ndarray,
    *,
    size: int,
    eta: float = 0.01,
    refresh: int = 1,
    per_class: bool = False,
    quota: Quota = "proportional",
) -> pl.DataFrame:
    """Keep the samples whose last-layer gradient steps lower the validation loss, one after another.

    Parameters
    ----------
    probs_last, labels, embedding : arrays of shape (N, K), (N,), (N, D)
        Probabilities of the trained model, class indices, input of its last layer.
    val_probs_last, val_labels, val_embedding : arrays of shape (M, K), (M,), (M, D)
        The same of the validation samples.
    eta : float
        Length of the step per chosen sample; the learning rate.
    refresh : int
        Samples taken between two computations of the validation gradient. One is the method as defined; each costs
        (N + M) K (D + 1) multiplications, so of a large budget many are taken at a time.
    per_class : bool
        Fill quotas of the classes; the paper bounds the total alone.
    quota : {"proportional", "equal"}
        How the budget is divided among classes.

    Raises
    ------
    BadInput
        Probabilities or labels are none, do not fit the frame, or validation samples have other classes or
        dimensions.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": ["helps", "hurts"], "label": ["x", "y"]})
    >>> half, one = np.full((2, 2), 0.5), np.ones((2, 1))
    >>> glister(frame, half, np.array([0, 1]), one, half[:1], np.array([0]), one[:1], size=1)["role"].to_list()
    ['keep', 'drop']
    """
    check_classes("glister", probs_last, labels, frame, signal="probs_last")
    check_classes("glister", val_probs_last, val_labels, None, signal="val_probs_last")
    if not len(val_labels):
        raise BadInput("glister: there are no validation samples whose loss could fall; give a val split")
    for name, ours, theirs in (
        ("classes", probs_last.shape[1], val_probs_last.shape[1]),
        ("dimensions", embedding.shape[1], val_embedding.shape[1]),
    ):
        if ours != theirs:
            raise BadInput(f"glister: samples have {ours} {name}, validation samples {theirs}; use one model")
    if refresh < 1 or not np.isfinite(eta) or eta <= 0:
        raise BadInput(f"glister: refresh={refresh} and eta={eta} must be positive")
    _, codes = class_codes(frame, per_class=per_class)
    room = np.array(quotas(np.bincount(codes).tolist(), size, rule=quota))
    gradients = last_layer(probs_last, labels, embedding)
    gains, place = np.empty(frame.height), np.full(frame.height, -1)
    gain_when_taken = np.zeros(frame.height)
    model = _Validation(val_probs_last, val_labels, val_embedding)
    while (place >= 0).sum() < size:
        gains = gradients.along(model.gradient())
        taken = _best(gains, place >= 0, codes, room, min(refresh, size - int((place >= 0).sum())))
        place[taken] = (place >= 0).sum() + np.arange(taken.size)
        gain_when_taken[taken] = gains[taken]
        np.subtract.at(room, codes[taken], 1)
        for j in taken:
            model.step(eta, gradients.error[:, j].copy(), gradients.hidden[:, j])
    kept = place >= 0
    shown = pl.Series(np.where(kept, gain_when_taken, gains)).round_sig_figs(4)
    reason = (
        pl.when(pl.Series(kept))
        .then(pl.format("choice {} of {}: its gradient's product with the validation gradient was {} then",
                        pl.Series(place + 1), pl.lit(size), shown))
        .otherwise(pl.format("its gradient's product with the validation gradient was {} at the last choice", shown))
    )  # fmt: skip
    return outcome(frame, kept, reason)


class _Validation:
    """The validation samples while the last layer moves."""

    def __init__(self, probs: np.ndarray, labels: np.ndarray, embedding: np.ndarray) -> None:
        self._labels, self._layer = labels, last_layer(probs, labels, embedding)
        self._logits = np.log(np.maximum(probs.T.astype(np.float64), TINY))

    def gradient(self) -> np.ndarray:
        """Return the gradient of the mean validation loss (K, 1 + D) where the last layer stands now."""
        probs = np.exp(self._logits - self._logits.max(axis=0))
        error = (probs / np.cumsum(probs, axis=0)[-1]).round(DIGITS)
        error[self._labels, np.arange(self._labels.size)] -= 1.0
        return replace(self._layer, error=error).mean()

    def step(self, eta: float, error: np.ndarray, hidden: np.ndarray) -> None:
        """Move the last layer by -eta times the gradient with these factors."""
        alone = replace(self._layer, error=np.ones((1, self._labels.size)))
        self._logits -= eta * error[:, None] * alone.products(np.ones(1), hidden)  # e (1 + <h, h_v>)


def _best(
    gains: np.ndarray, taken: np.ndarray, codes: np.ndarray, room: np.ndarray, count: int
) -> np.ndarray:
    """Return up to `count` rows of the largest gains that still fit their class, ties by position."""
    left = room.copy()
    found: list[int] = []
    open_rows = np.flatnonzero(~taken & (room[codes] > 0))
    if count == 1:
        return open_rows[[gains[open_rows].argmax()]]
    for row in open_rows[np.argsort(-gains[open_rows], kind="stable")]:
        if left[codes[row]] > 0:
            left[codes[row]] -= 1
            found.append(int(row))
            if len(found) == count:
                break
    return np.array(found)
