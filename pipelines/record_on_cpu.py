"""The recorder's work on one batch, as one compiled loop for the CPU.

`tracesift.pipelines.buffers` says it in some forty tensor operations, which is right for a GPU, where they queue
up while the model computes. On a CPU each of them costs more than its arithmetic. Here the same definitions
are one loop over the batch, in float64; a test holds the two against each other.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from torch import Tensor

from tracesift.pipelines.scalars import KL_EPS

FIELDS = (
    "loss", "correct", "margin", "prob_label", "prob_margin", "error_norm", "entropy", "kl_step", "pred",
    "presentations", "nonfinite",
)  # fmt: skip
"""What the loop can write, in the order of its own table of places."""


class BatchLoop:
    """Writes batches into the buffers of one epoch after another, through views of the same memory.

    Parameters
    ----------
    table
        One row of 32-bit words per name, (F, N + 1) int32.
    names
        Of the rows.
    lookup
        Dataset row -> position among the training samples, -1 for the others, int64.
    labels
        The dataset's own, (N + 1,) int64.
    claims, latest
        First and last presentation of each sample, (N + 1,) int64.
    counters
        outside, last_outside, label_outside, relabelled.
    spans
        ``previous`` and ``elr_target`` where kept, (N + 1, K) float32.
    beta
        Decay of `elr_target`.
    """

    def __init__(
        self,
        table: Tensor,
        names: tuple[str, ...],
        *,
        lookup: Tensor,
        labels: Tensor,
        claims: Tensor,
        latest: Tensor,
        counters: Tensor,
        spans: dict[str, Tensor],
        beta: float,
    ) -> None:
        words = table.numpy()
        nothing = np.empty((0, 0), dtype=np.float32)
        self._places = np.array([names.index(name) if name in names else -1 for name in FIELDS])
        self._memory = (
            words, words.view(np.float32), lookup.numpy(), labels.numpy(), claims.numpy(), latest.numpy(),
            counters.numpy(), spans["previous"].numpy() if "previous" in spans else nothing,
            spans["elr_target"].numpy() if "elr_target" in spans else nothing,
        )  # fmt: skip
        self._beta = beta

    def add(self, rows: Tensor, logits: Tensor, labels: Tensor, presented: int) -> None:
        """Write rows (B,) int64, logits (B, K) of any floating type and labels (B,) of any integer type."""
        parts = (rows.contiguous(), logits.float().contiguous(), labels.long().contiguous())
        _record()(
            *(part.numpy() for part in parts), presented, self._places, *self._memory, self._beta, KL_EPS
        )


@cache
def _record() -> Any:
    from numba import njit  # half a second of import, paid at the first batch alone

    return njit(cache=True, error_model="numpy")(_record_batch)


def _record_batch(
    rows: np.ndarray, logits: np.ndarray, given: np.ndarray, presented: int, places: np.ndarray,
    words: np.ndarray, floats: np.ndarray, lookup: np.ndarray, own: np.ndarray, claims: np.ndarray,
    latest: np.ndarray, counters: np.ndarray, previous: np.ndarray, elr_target: np.ndarray, beta: float,
    kl_eps: float,
) -> None:  # fmt: skip
    loss, correct, margin, prob_label, prob_margin, error_norm, entropy, kl_step, pred, shown, nonfinite = (
        places[0], places[1], places[2], places[3], places[4], places[5], places[6], places[7], places[8],
        places[9], places[10],
    )  # fmt: skip
    spare, classes = len(claims) - 1, logits.shape[1]
    with_probs = (
        max(loss, prob_label, prob_margin, error_norm, entropy, kl_step) >= 0
        or previous.shape[0] > 0
        or elr_target.shape[0] > 0
    )
    position = np.empty(len(rows), np.int64)
    for b in range(len(rows)):
        row = rows[b]
        i = lookup[row] if 0 <= row < len(lookup) else -1
        if i < 0:
            counters[0] += 1
            counters[1] = max(counters[1], min(max(row, -(2**31) + 2), 2**31 - 1))
            i = spare
        elif given[b] != own[i]:
            counters[3] += 1
        position[b] = i
        claims[i] = min(claims[i], presented + b)
        latest[i] = presented + b
        words[shown, i] += 1
    p = np.empty(classes)
    for b in range(len(rows)):
        i, y = position[b], given[b]
        if y < 0 or y >= classes:
            counters[2] += 1
            y = min(max(y, 0), classes - 1)
        target = i if claims[i] == presented + b else spare
        z = logits[b]

        finite, best = True, 0
        for k in range(classes):
            finite &= np.isfinite(z[k])
            if z[k] > z[best] or (z[k] != z[k] and z[best] == z[best]):
                best = k
        words[nonfinite, target] = not finite
        if pred >= 0:
            words[pred, target] = best
        if correct >= 0:
            words[correct, target] = finite and best == y
        if margin >= 0:
            other = np.float32(-np.inf if classes > 1 else np.nan)
            for k in range(classes):
                if k != y and (z[k] > other or z[k] != z[k]):
                    other = z[k]
            floats[margin, target] = np.float64(z[y]) - np.float64(other)
        if not with_probs:
            continue

        total = 0.0
        for k in range(classes):
            p[k] = np.exp(np.float64(z[k]) - np.float64(z[best]))
            total += p[k]
        for k in range(classes):
            p[k] /= total
        if loss >= 0:
            floats[loss, target] = np.log(total) - (np.float64(z[y]) - np.float64(z[best]))
        if prob_label >= 0:
            floats[prob_label, target] = p[y]
        if prob_margin >= 0:
            most = -np.inf if classes > 1 else np.nan
            for k in range(classes):
                if k != y and (p[k] > most or p[k] != p[k]):
                    most = p[k]
            floats[prob_margin, target] = p[y] - most
        if error_norm >= 0:
            square = 0.0
            for k in range(classes):
                off = p[k] - 1.0 if k == y else p[k]
                square += off * off
            floats[error_norm, target] = np.sqrt(square)
        if entropy >= 0:
            surprise = 0.0
            for k in range(classes):
                if p[k] != 0.0:  # NaN goes in
                    surprise -= p[k] * np.log(p[k])
            floats[entropy, target] = surprise
        if kl_step >= 0:
            moved = 0.0
            for k in range(classes):
                moved += abs(p[k] * np.log((p[k] + kl_eps) / (np.float64(previous[i, k]) + kl_eps)))
            floats[kl_step, target] = moved
        if previous.shape[0] > 0:
            for k in range(classes):
                previous[target, k] = p[k]
        if elr_target.shape[0] > 0:
            to = i if latest[i] == presented + b else spare
            clipped = 0.0
            for k in range(classes):
                clipped += min(max(p[k], 1e-4), 1 - 1e-4)
            for k in range(classes):
                share = min(max(p[k], 1e-4), 1 - 1e-4) / clipped
                elr_target[to, k] = beta * np.float64(elr_target[i, k]) + (1 - beta) * share
