"""Forget sets of low, medium or high entanglement with the rest, or a third of each, by the distance to the centre."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import selector
from tracesift.selectors.forget_sets.by_rank import Nulls, forget_set, places_of, reasons, scored

BEGINS = {"low": 3 / 15, "medium": 12 / 15, "high": 14 / 15}
"""Share of the order at which a part begins: the 4th, 13th and last of the authors' 15 groups on CIFAR."""


@selector(
    version=1,
    columns=("score",),
    chooses="forget",
    reference="Zhao et al. 2024 (RUM), NeurIPS, section 4; their code",
)
def entanglement_strata(
    frame: pl.DataFrame,
    *,
    size: int,
    part: Literal["low", "medium", "high", "mix"] = "high",
    score: str = "entanglement_distance",
    begin: float | None = None,
    nulls: Nulls = None,
) -> pl.DataFrame:
    """Forget `size` samples from one place in the order by the distance to the centre of all; retain the others.

    Parameters
    ----------
    part : {"low", "medium", "high", "mix"}
        Where the samples stand: they begin at 3/15, 12/15 or 14/15 of the order, as in the authors' sets on CIFAR, or
        earlier where fewer than `size` would follow. ``"mix"``: a third from each place, the remainder of the division
        to low, then to medium; no sample counts twice.
    score : str
        Column of distances, `entanglement_distance`.
    begin : float, optional
        Share of the order at which they begin, for other sets than those; the authors take other places for
        other datasets.
    nulls : {"retain"}, optional
        Samples without a value are never chosen; without it they are an error.

    Notes
    -----
    Distance is what the authors sort by and not what they mean: how entangled the chosen set is with the others,
    `tracesift.scorers.forgetting.entanglement` says. A set of more than a fifteenth of the samples at the high end
    reaches into the medium one.

    Examples
    --------
    >>> frame = pl.DataFrame({
    ...     "sample_id": list("abcde"), "label": ["x"] * 5, "entanglement_distance": [0.5, 0.1, 0.9, 0.2, 0.3],
    ... })
    >>> entanglement_strata(frame, size=1, part="low")["role"].to_list()
    ['retain', 'retain', 'retain', 'forget', 'retain']
    """
    if begin is not None and (part == "mix" or not 0 <= begin < 1):
        raise BadInput(
            f"entanglement_strata: begin is a share of the order in [0, 1), for one part and not for mix; got {begin}"
        )
    column, values, known = scored(frame, score, size, "entanglement_strata", nulls)
    parts: dict[str, int] = {part: size}
    if part == "mix":
        parts = {one: (size + 2 - at) // 3 for at, one in enumerate(BEGINS)}
    places = places_of(values)
    chosen = np.zeros(frame.height, dtype=bool)
    told = []
    for one in ("high", "low", "medium"):
        if not (count := parts.get(one, 0)):
            continue
        free = np.flatnonzero(~chosen & (places < known))
        free = free[np.argsort(places[free])]
        # 3/15 of 15 is 3, whatever the last bit says
        first = int((BEGINS[one] if begin is None else begin) * known + 1e-9)
        at = min(int(np.searchsorted(places[free], first)), free.size - count)
        chosen[free[at : at + count]] = True
        told.append(f"{count} from rank {places[free[at]] + 1}")
    rule = f"of {known}, nearest to the centre first; forgotten are {', '.join(told)}"
    return forget_set(frame, chosen, reasons(frame, column, places, rule))
