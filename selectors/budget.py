"""From a budget to exact counts: one total, and quotas per class that add up to it.

Quotas follow the largest remainder with bounds: among all whole numbers within the bounds that add up to the
total, those nearest to the ideal shares (least sum of squared differences), ties to the first class by name.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from tracesift.catalog.schema import BadInput

Quota = Literal["proportional", "equal"]


def resolve_size(budget: Any, total: int) -> int:
    """Return the number of samples that `budget` means out of `total`.

    Parameters
    ----------
    budget : int or float
        A whole number is a count in 1..total; a float is a share in (0, 1], rounded to the nearest count,
        halves up.
    total : int
        Number of samples.

    Raises
    ------
    BadInput
        For anything else: bool, 0, negative, NaN, a share above 1, a count above `total`, a share of no
        sample.

    Examples
    --------
    >>> resolve_size(0.29, 100), resolve_size(7, 100), resolve_size(1, 100), resolve_size(1.0, 100)
    (29, 7, 1, 100)
    """
    if isinstance(budget, bool) or not isinstance(budget, int | float | np.integer | np.floating):
        raise BadInput(f"budget must be a count or a share in (0, 1], not {budget!r}")
    if isinstance(budget, int | np.integer):
        if not 1 <= budget <= total:
            raise BadInput(
                f"budget {budget} is not possible: there are {total} samples; give 1 to {total}, or a share"
            )
        return int(budget)
    if not 0 < budget <= 1:  # also catches NaN
        raise BadInput(
            f"budget {budget!r} is no share in (0, 1]; for a count give a whole number without a point"
        )
    size = math.floor(exact_share(float(budget)) * total + Fraction(1, 2))
    if size == 0:
        raise BadInput(
            f"budget {budget!r} of {total} samples is less than one sample; give a larger share or a count"
        )
    return size


def exact_share(value: float) -> Fraction:
    """Return the decimal that a person wrote, exactly: 0.1 is 1/10, not the nearest binary number."""
    return Fraction(repr(float(value)))


def quotas(
    sizes: Sequence[int],
    total: int,
    *,
    rule: Quota = "proportional",
    lower: Sequence[int] | None = None,
    upper: Sequence[int] | None = None,
) -> list[int]:
    """Divide `total` among classes.

    Parameters
    ----------
    sizes : sequence of int (K,)
        Class sizes, in the order of the class names.
    total : int
        What the quotas add up to.
    rule : {"proportional", "equal"}
        Ideal shares: proportional to the sizes, or as equal as the sizes allow (a class smaller than its
        share gives all it has, and the rest is divided equally again).
    lower, upper : sequence of int (K,), optional
        Bounds. By default no class is emptied when `total` allows one sample for each, and none exceeds its
        size.

    Returns
    -------
    list of int (K,)

    Examples
    --------
    >>> quotas([90, 9, 1], 10), quotas([90, 9, 1], 10, rule="equal")
    ([8, 1, 1], [5, 4, 1])
    """
    ceiling = list(sizes if upper is None else upper)
    occupied = sum(1 for most in ceiling if most > 0)
    floor = [min(1, most) if total >= occupied else 0 for most in ceiling] if lower is None else list(lower)
    floor = [min(least, most) for least, most in zip(floor, ceiling, strict=True)]
    if not sum(floor) <= total <= sum(ceiling):
        raise BadInput(f"cannot take {total} samples: between {sum(floor)} and {sum(ceiling)} are possible")
    if rule == "proportional":
        everything = sum(sizes)
        ideal = [Fraction(total * size, everything) for size in sizes]
    elif rule == "equal":
        ideal = _equal_shares(ceiling, total)
    else:
        raise BadInput(f"quota must be 'proportional' or 'equal', not {rule!r}")
    return _nearest_counts(ideal, total, floor, ceiling)


def _equal_shares(ceiling: Sequence[int], total: int) -> list[Fraction]:
    """Return min(ceiling, level) per class, with the one level at which they add up to `total`."""
    level, rest = Fraction(0), Fraction(total)
    for position, most in enumerate(sorted(ceiling)):
        level = rest / (len(ceiling) - position)
        if level <= most:
            break
        rest -= most
    return [min(Fraction(most), level) for most in ceiling]


def _nearest_counts(
    ideal: Sequence[Fraction], total: int, floor: Sequence[int], ceiling: Sequence[int]
) -> list[int]:
    """Round `ideal` down into the bounds, then move one at a time where it costs least.

    The cost is convex, so no sequence of single moves ends above the optimum.
    """
    counts = [
        min(max(math.floor(share), least), most)
        for share, least, most in zip(ideal, floor, ceiling, strict=True)
    ]
    step = 1 if sum(counts) <= total else -1
    bound = ceiling if step == 1 else floor
    heap = [(step * (counts[i] - ideal[i]), step * i, i) for i in range(len(counts)) if counts[i] != bound[i]]
    heapq.heapify(heap)
    for _ in range(abs(total - sum(counts))):
        cost, tie, i = heapq.heappop(heap)
        counts[i] += step
        if counts[i] != bound[i]:
            heapq.heappush(heap, (cost + 1, tie, i))
    return counts
