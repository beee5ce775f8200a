"""The recorder's work on one batch of logits, compiled for the processor at hand and called by address.

A call of a compiled function with some twenty arrays takes longer to look at the arrays than a batch takes to
record. So the loop is compiled as a C function over the addresses of tensors, which `record_on_cpu` checks and
calls. Importing this module imports numba, half a second, which is left to the first batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types  # type: ignore[attr-defined]
from numba.core import cgutils
from numba.extending import intrinsic

FIELDS = (
    "loss", "correct", "margin", "prob_label", "prob_margin", "error_norm", "entropy", "kl_step", "pred",
    "presentations", "nonfinite",
)  # fmt: skip
"""What the loop can write, in the order of the numbers that it is given."""

PLACES = len(FIELDS) + 8 + 3
"""How many numbers those are: a row of the table for each of `FIELDS`, then eight addresses and three sizes."""

_FINITE = np.finfo(np.float32).max
_LEAST = np.int32(-(2**31))


@njit
def _largest(words, start, stop, largest):  # type: ignore[no-untyped-def]
    """Return the largest of `words[start:stop]` and `largest`, in the order of the floats that the words are.

    Of whole numbers the compiler takes many at a time; of floats it may not, for the sake of NaN, which is not
    here. A negative float is ordered by its magnitude, downwards.
    """
    for k in range(start, stop):
        word = words[k]
        largest = max(largest, np.int32(word ^ ((word >> np.int32(31)) & np.int32(0x7FFFFFFF))))
    return largest


@njit(error_model="numpy")
def _place(  # type: ignore[no-untyped-def]
    rows, given, presented, shown, words, lookup, own, claims, with_latest, latest, counters, position
):
    """Find the position of each row, and note that it was presented."""
    spare = len(claims) - 1
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
        words[shown, i] += 1
        if with_latest:
            latest[i] = presented + b


@njit(error_model="numpy")
def _record_batch(  # type: ignore[no-untyped-def]
    rows, logits, bits, given, presented, places, words, floats, lookup, own, claims, latest, counters, previous,
    elr_target, beta, kl_eps,
):  # fmt: skip
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
    follows = elr_target.shape[0] > 0  # who else asks for the latest presentation?
    _place(rows, given, presented, shown, words, lookup, own, claims, follows, latest, counters, position)
    p = np.empty(classes)
    kept = np.empty(1, np.int32)
    kept_float = kept.view(np.float32)
    for b in range(len(rows)):
        i, y = position[b], given[b]
        if y < 0 or y >= classes:
            counters[2] += 1
            y = min(max(y, 0), classes - 1)
        target = i if claims[i] == presented + b else spare
        z = logits[b]

        finite, best = True, 0
        for k in range(classes):
            finite &= abs(z[k]) <= _FINITE
        other = np.float32(-np.inf if classes > 1 else np.nan)
        if finite:
            if classes > 1:
                word = _largest(bits[b], y + 1, classes, _largest(bits[b], 0, y, _LEAST))
                kept[0] = word ^ ((word >> np.int32(31)) & np.int32(0x7FFFFFFF))
                other = kept_float[0]
            most = other if other > z[y] else z[y]
            if pred >= 0 or z[y] == most:
                while z[best] != most:
                    best += 1
        else:  # NaN counts as the largest, the first of several
            for k in range(classes):
                if z[k] > z[best] or (z[k] != z[k] and z[best] == z[best]):
                    best = k
                if k != y and (z[k] > other or z[k] != z[k]):
                    other = z[k]
            most = z[best]
        if not finite:
            words[nonfinite, target] = 1
        if pred >= 0:
            words[pred, target] = best
        if correct >= 0:
            words[correct, target] = finite and z[y] == most and best == y
        if margin >= 0:
            floats[margin, target] = np.float64(z[y]) - np.float64(other) + 0.0  # never a negative zero
        if not with_probs:
            continue

        total = 0.0
        for k in range(classes):
            p[k] = np.exp(np.float64(z[k]) - np.float64(most))
            total += p[k]
        for k in range(classes):
            p[k] /= total
        if loss >= 0:
            floats[loss, target] = np.log(total) - (np.float64(z[y]) - np.float64(most))
        if prob_label >= 0:
            floats[prob_label, target] = p[y]
        if prob_margin >= 0:
            highest = -np.inf if classes > 1 else np.nan
            for k in range(classes):
                if k != y and (p[k] > highest or p[k] != p[k]):
                    highest = p[k]
            floats[prob_margin, target] = p[y] - highest
        if error_norm >= 0:
            square = 0.0
            for k in range(classes):
                off = p[k] - 1.0 if k == y else p[k]
                square += off * off
            floats[error_norm, target] = np.sqrt(square)
        if entropy >= 0:
            surprise, log_total = 0.0, np.log(total)
            for k in range(classes):
                if p[k] != 0.0:  # NaN goes in
                    surprise += p[k] * (log_total - (np.float64(z[k]) - np.float64(most)))
            floats[entropy, target] = surprise
        if kl_step >= 0:
            moved = 0.0
            for k in range(classes):
                moved += abs(p[k] * np.log((p[k] + kl_eps) / (np.float64(previous[i, k]) + kl_eps)))
            floats[kl_step, target] = moved
        if previous.shape[0] > 0:
            for k in range(classes):
                previous[target, k] = p[k]
        if follows:
            to = i if latest[i] == presented + b else spare
            clipped = 0.0
            for k in range(classes):
                clipped += min(max(p[k], 1e-4), 1 - 1e-4)
            for k in range(classes):
                share = min(max(p[k], 1e-4), 1 - 1e-4) / clipped
                elr_target[to, k] = beta * np.float64(elr_target[i, k]) + (1 - beta) * share


def _cast(_typing, address):  # type: ignore[no-untyped-def]
    def generate(_context, builder, _signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


_pointer: Any = intrinsic(_cast)
"""From an address, an integer, to the pointer that `carray` takes."""


@cfunc(
    types.void(types.intp, types.intp, types.intp, *[types.int64] * 3, types.intp, *[types.float64] * 2),
    cache=True,
    error_model="numpy",
)
def record_batch(rows, logits, given, size, classes, presented, places, beta, kl_eps):  # type: ignore[no-untyped-def]
    """Record `size` rows of `classes` logits; addresses are of memory that lies without gaps.

    `places` are `PLACES` int64 numbers, as `record_on_cpu` writes them: rows of the table, addresses, sizes.
    """
    known = carray(_pointer(places), PLACES, np.int64)
    columns = known[: len(FIELDS)]
    at = len(FIELDS)
    words, lookup, own, claims = known[at], known[at + 1], known[at + 2], known[at + 3]
    latest, counters, previous, elr_target = known[at + 4], known[at + 5], known[at + 6], known[at + 7]
    names, dataset_size, slots = known[at + 8], known[at + 9], known[at + 10]
    _record_batch(
        carray(_pointer(rows), size, np.int64),
        carray(_pointer(logits), (size, classes), np.float32),
        carray(_pointer(logits), (size, classes), np.int32),
        carray(_pointer(given), size, np.int64),
        presented,
        columns,
        carray(_pointer(words), (names, slots), np.int32),
        carray(_pointer(words), (names, slots), np.float32),
        carray(_pointer(lookup), dataset_size, np.int64),
        carray(_pointer(own), slots, np.int64),
        carray(_pointer(claims), slots, np.int64),
        carray(_pointer(latest), slots, np.int64),
        carray(_pointer(counters), 4, np.int32),
        carray(_pointer(previous), (slots if previous else 0, classes), np.float32),
        carray(_pointer(elr_target), (slots if elr_target else 0, classes), np.float32),
        beta,
        kl_eps,
    )
