"""Leave out what a flag of unlearnable samples says yes to, and keep all others.

Where part of a set carries a label-specific small signal, a model trained on the rest learns the content. What the
flag cannot tell (null) is never acted upon: a verdict of "suspect" drops nothing.
"""

from __future__ import annotations

from collections import Counter

import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.selectors.budget import exact_share
from tracesift.selectors.contract import selector


@selector(
    version=1,
    budget=False,
    columns=("flag", "score"),
    reference="ours; dropping what one flag says yes to",
)
def depoison(
    frame: pl.DataFrame,
    *,
    flag: str = "unlearnable",
    score: str = "residual_shortcut",
    max_drop: float | None = None,
) -> pl.DataFrame:
    """Drop the samples that are flagged as unlearnable; keep all others.

    Parameters
    ----------
    flag : str
        Column: a Boolean; null = cannot tell, and kept.
    score : str
        Column: what the flag judges by, high = surest. It orders the drops where `max_drop` is given, and stands in
        the reasons; without `max_drop` it may be absent.
    max_drop : float, optional
        Most that may be dropped, as a share in [0, 1] of all samples; the highest scores go first, those without a
        score last. No bound by default, since a protected set may well be changed for the most part.

    Returns
    -------
    polars.DataFrame
        `sample_id`, `role` (keep or drop), `weight`, `reason`. At least one sample of each label is kept: the one
        that would be dropped last.

    Raises
    ------
    BadInput
        A missing column, a flag that is no Boolean, a score that is no number, or a `max_drop` that is no share.

    Examples
    --------
    >>> frame = pl.DataFrame(
    ...     {"sample_id": list("abcd"), "label": list("xxxy"), "unlearnable": [True, True, None, False],
    ...      "residual_shortcut": [2.0, 3.0, 2.5, 0.1]}
    ... )
    >>> depoison(frame)["role"].to_list()
    ['drop', 'drop', 'keep', 'keep']
    >>> depoison(frame, max_drop=0.25)["role"].to_list()
    ['keep', 'drop', 'keep', 'keep']
    """
    scored = _checked(frame, flag, score, max_drop)
    number = pl.col(score).cast(pl.Float64).fill_nan(None) if scored else pl.lit(None, pl.Float64)
    rows = frame.select("sample_id", "label", yes=flag, number=number).sort(
        ["number", "sample_id"], descending=[True, False], nulls_last=True
    )
    limit = frame.height if max_drop is None else int(exact_share(max_drop) * frame.height)
    flagged, left, dropped, rank = int(rows["yes"].sum() or 0), Counter(frame["label"].to_list()), 0, 0
    roles, reasons = [], []
    for label, yes, value in rows.select("label", "yes", "number").iter_rows():
        shown = "" if not scored else f"no {score}" if value is None else f"{score} {value:.4g}"
        if not yes:
            said = f"not flagged by {flag}" if yes is False else f"{flag} is null: cannot tell, so kept"
            roles.append("keep")
            reasons.append(f"{said} ({shown})" if shown else said)
            continue
        rank += 1
        said = f"flagged by {flag}" + (f": {shown}, rank {rank} of the {flagged} flagged" if shown else "")
        if left[label] == 1:
            role, why = "keep", f"kept, the last of its label {label}"
        elif dropped == limit:
            role, why = "keep", f"kept, since max_drop={max_drop:g} leaves room for {limit}"
        else:
            role, why, dropped = "drop", "dropped", dropped + 1
            left[label] -= 1
        roles.append(role)
        reasons.append(f"{said}; {why}")
    weights = [float(role == "keep") for role in roles]
    decided = rows.select(
        "sample_id", role=pl.Series(roles), weight=pl.Series(weights), reason=pl.Series(reasons)
    )
    return frame.select("sample_id").join(decided, on="sample_id", maintain_order="left")


def _checked(frame: pl.DataFrame, flag: str, score: str, max_drop: float | None) -> bool:
    """Refuse what cannot be used; tell whether there is a score to order by."""
    if max_drop is not None and not 0 <= max_drop <= 1:
        raise BadInput(f"depoison: max_drop must be a share in [0, 1], not {max_drop!r}")
    if flag not in frame.columns:
        raise BadInput(
            f"depoison: the frame has no column '{flag}'; run the flag unlearnable and join its answer"
        )
    if frame.schema[flag] not in (pl.Boolean, pl.Null):
        raise BadInput(f"depoison: '{flag}' must be Boolean (null = cannot tell), not {frame.schema[flag]}")
    if score not in frame.columns:
        if max_drop is not None:
            raise BadInput(
                f"depoison: max_drop={max_drop:g} drops by the score '{score}', which the frame does not have; "
                "name the flag's score (score=), or leave max_drop out"
            )
        return False
    if not (frame.schema[score].is_numeric() or frame.schema[score] == pl.Null):
        raise BadInput(
            f"depoison: '{score}' is {frame.schema[score]}, not numbers; name the flag's score (score=)"
        )
    return True
