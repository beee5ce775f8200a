"""Classes of which a selection keeps no sample though it had candidates: said, since no table of counts shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from tracesift.flows.progress import counted
from tracesift.flows.selecting.written import was_candidate
from tracesift.selectors.contract import find, names

NAMED = 3
"""So many classes are named, those of most candidates; the others are counted."""


def emptied(
    candidates: pl.Series, kept: pl.Series, selector: str, params: Mapping[str, Any] | None = None
) -> str | None:
    """Say which classes have candidates and no kept sample, and what to do about it; None where there are none.

    Published methods that rank all samples together do this, and are left to.

    Parameters
    ----------
    candidates, kept
        Label of each sample that could be kept, and of each that is.
    selector, params
        What chose; unnamed parameters have their defaults.

    Examples
    --------
    >>> emptied(pl.Series(list("aaabbc")), pl.Series(["a", "a"]), "semdedup")
    "no sample is kept of 2 of 3 classes, 'b' (2 candidates) and 'c' (1); another selector may keep some"
    """
    sizes = candidates.drop_nulls().cast(pl.String).alias("label").value_counts(name="of")
    lost = sizes.filter(~pl.col("label").is_in(kept.cast(pl.String).implode()))
    if lost.is_empty():
        return None
    lost = lost.sort(-pl.col("of").cast(pl.Int64), "label")
    parts = [f"'{label}' ({of:,})" for label, of in lost.head(NAMED).iter_rows()]
    parts[0] = f"'{lost['label'][0]}' ({counted(lost['of'][0], 'candidate')})"
    if len(lost) > NAMED:
        parts.append(f"{len(lost) - NAMED:,} more ({lost['of'][NAMED:].sum():,})")
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return (
        f"no sample is kept of {len(lost):,} of {len(sizes):,} classes, {listed}; "
        f"{_advice(selector, params or {}, enough=len(kept) >= len(sizes))}"
    )


def emptied_in(members: pl.DataFrame, selector: str, params: Mapping[str, Any]) -> str | None:
    """Say the same of a subset that was written; None where the selector divides by another rule than what to keep.

    Parameters
    ----------
    members
        `role`, `reason`, `label` and `new_label`, and `label_before`: the label under which it was a candidate.
    """
    if selector not in names() or selector == "forget_ready" or find(selector).chooses != "keep":
        return None
    trained = members.filter(pl.col("role") != "drop").select(pl.coalesce("new_label", "label")).to_series()
    return emptied(members.filter(was_candidate())["label_before"], trained, selector, params)


def _advice(selector: str, params: Mapping[str, Any], *, enough: bool) -> str:
    facts = find(selector)
    if enough and {**facts.defaults, **params}.get("per_class") is False:
        return "--param per_class=true of select divides the budget among the classes"
    return f"{'a larger --keep or another' if facts.budget else 'another'} selector may keep some"
