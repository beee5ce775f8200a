"""What the models of subset training say of a sample, and its means over those that trained on it and the others."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tracesift.catalog.schema import BadInput

Of = Literal["correct", "prob_label", "margin"]

_SUREST = 2.0**-24
"""How near to 0 and 1 a probability in float32 is taken to be, so that margins stay finite (below 16.7)."""


def answers(of: Of, correct: np.ndarray, prob_label: np.ndarray) -> np.ndarray:
    """Return of what the mean is taken, an array of shape (N, R).

    Parameters
    ----------
    of : {"correct", "prob_label", "margin"}
        Whether the model is right; the probability p that it gives the label; or log(p / (1 - p)), the logit of the
        label above all others together.
    correct, prob_label : arrays of shape (N, R)

    Examples
    --------
    >>> p = np.array([[0.5, 1.0]], dtype=np.float32)
    >>> answers("margin", p > 0.5, p).round(2).tolist()
    [[0.0, 16.64]]
    """
    if of == "correct":
        return correct
    if of == "prob_label":
        return prob_label
    if of == "margin":
        p = np.clip(prob_label.astype(np.float64), _SUREST, 1 - _SUREST)
        return np.log(p) - np.log1p(-p)
    raise BadInput(f"of is 'correct', 'prob_label' or 'margin', not {of!r}")


def in_and_out(
    trained: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the two means and the two counts, float64 (N,) each; a mean over no model is NaN.

    Parameters
    ----------
    trained : bool array of shape (N, R)
    values : array of shape (N, R)

    Examples
    --------
    >>> [side.tolist() for side in in_and_out(np.array([[True, False, False]]), np.array([[1.0, 0.5, 0.0]]))]
    [[1.0], [0.25], [1.0], [2.0]]
    """
    values = values.astype(np.float64)
    inside, outside = trained.sum(axis=1).astype(np.float64), (~trained).sum(axis=1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return (
            np.where(trained, values, 0.0).sum(axis=1) / inside,
            np.where(trained, 0.0, values).sum(axis=1) / outside,
            inside,
            outside,
        )
