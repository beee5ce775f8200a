"""Turn label-noise flags into a cleaned set: relabel, drop, or give less weight.

One decision in three forms. A wrong label does not make the suggestion right, so in mode `auto` a flagged sample
gets the suggested label only where that is near certain to be the true one; of the others the worst are dropped,
at most `max_drop` of all samples; the rest stay with a weight that falls with the confidence of the flag. A null
flag (cannot tell) is never acted upon. Where a person verified the label, that person's word is the reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.selectors.budget import exact_share
from tracesift.selectors.contract import selector
from tracesift.selectors.flags.label_noise import CONFIRMED

STEPS: dict[str, tuple[str, ...]] = {
    "drop": ("drop",),
    "relabel": ("relabel",),
    "reweight": ("reweight",),
    "auto": ("relabel", "drop", "reweight"),
}
NOT_REACHED = "not reached"
UNKNOWN_WEIGHT = 0.5
"""Weight of a flagged sample whose confidence is not known."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of one flagged sample."""

    role: str
    weight: float
    new_label: str | None
    said: str
    """How sure the flag is."""
    then: str
    sure: str = ""
    """How sure the new label is."""


@selector(
    version=4,
    budget=False,
    columns=("flag", "confidence", "suggestion", "certainty", "verified"),
    reference="ours; dropping, relabelling and reweighting from one flag",
)
def denoise(
    frame: pl.DataFrame,
    *,
    mode: Literal["auto", "drop", "relabel", "reweight"] = "auto",
    max_drop: float = 0.05,
    relabel_confidence: float = 0.95,
    min_weight: float = 0.1,
    flag: str = "label_noise",
    confidence: str = "confidence",
    suggestion: str = "suggestion",
    certainty: str = "preferred_label_posterior",
    verified: str = "verified_label",
) -> pl.DataFrame:
    """Drop, relabel or down-weight the samples that are flagged as mislabeled; keep all others.

    Parameters
    ----------
    mode : {"auto", "drop", "relabel", "reweight"}
        Which of the three may be used; with one of them, the flagged samples that it does not reach stay as
        they are.
    max_drop : float
        Most that may be dropped, as a share in [0, 1] of all samples; the most confident flags go first.
    relabel_confidence : float
        Least probability that the suggestion is the true label. Only mode `relabel` takes the confidence of the
        flag where the frame has no column `certainty`; mode `auto` does not relabel without it.
    min_weight : float
        Least weight; otherwise it is 1 - confidence.
    flag, confidence, suggestion, certainty, verified : str
        Columns: a Boolean (null = cannot tell), the probability that the label is wrong, the label to use
        instead (may be absent, except in mode `relabel`), the probability that this one is right, and the label that
        a person verified, null where nobody looked (the last two may be absent).

    Returns
    -------
    polars.DataFrame
        `sample_id`, `role` (keep, drop or relabel), `weight`, `reason`, `new_label` (null unless relabelled).
        At least one sample of each label stays under it.

    Examples
    --------
    >>> frame = pl.DataFrame(
    ...     {"sample_id": list("abcd"), "label": list("xxyy"), "label_noise": [True, False, None, False],
    ...      "confidence": [0.99, 0.0, None, 0.0], "suggestion": ["y", None, None, None],
    ...      "preferred_label_posterior": [0.98, 0.0, 0.4, 0.0]}
    ... )
    >>> denoise(frame).select("role", "new_label").row(0)
    ('relabel', 'y')
    """
    _check(frame, mode, max_drop, relabel_confidence, min_weight, flag, confidence, suggestion)
    sureness = certainty if certainty in frame.columns else confidence if mode == "relabel" else None
    wanted = ["sample_id", "label", flag, confidence, suggestion, certainty, verified]
    wanted = [name for name in wanted if name in frame.columns]
    frame = frame.select(list(dict.fromkeys(wanted)))  # so that no other column can collide with ours
    known = set(frame["label"].unique())
    rows = frame.with_row_index("row").filter(pl.col(flag).fill_null(value=False))
    rows = rows.with_columns(
        pl.col(confidence).cast(pl.Float64).fill_nan(None).alias("sure"),
        (pl.col(suggestion) if suggestion in frame.columns else pl.lit(None, pl.String)).alias("instead"),
        (pl.col(sureness) if sureness else pl.lit(None)).cast(pl.Float64).fill_nan(None).alias("right"),
    ).sort(["sure", "sample_id"], descending=[True, False], nulls_last=True)
    left = Counter(frame["label"].to_list())
    decisions: dict[int, Decision] = {}
    for step in STEPS[mode]:
        limit = int(exact_share(max_drop) * frame.height) if step == "drop" else frame.height
        for row, label, sure, instead, right in rows.select(
            "row", "label", "sure", "instead", "right"
        ).iter_rows():
            if row in decisions or limit == 0:
                continue
            good = instead in known and instead != label and right is not None and right >= relabel_confidence
            if step == "reweight" or (left[label] > 1 and (step == "drop" or good)):
                decisions[row] = _decide(step, sure, instead, right, min_weight)
                left[label] -= step != "reweight"
                limit -= 1
    person = frame[verified].to_list() if verified in frame.columns else [None] * frame.height
    return _result(frame, rows, decisions, person, flag, mode, max_drop)


def left_standing(members: pl.DataFrame, *, mode: str, max_drop: float) -> str | None:
    """Say how many doubtful labels stay in training, and whether that is because no more may be dropped.

    Parameters
    ----------
    members : polars.DataFrame
        What `denoise` returned.
    mode, max_drop
        As it was asked for.

    Returns
    -------
    str or None
        A sentence without its full stop; None where every doubtful label was relabelled or dropped.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcd"), "label": "x", "label_noise": [True, True, False, None],
    ...                       "confidence": [0.9, 0.8, 0.0, None]})
    >>> left_standing(denoise(frame, max_drop=0.25), mode="auto", max_drop=0.25)
    '1 doubtful label is kept at a lower weight: no more than 25 % of all (1) may be dropped (max_drop)'
    """
    lighter = int(((members["role"] == "keep") & (members["weight"] < 1)).sum())
    untouched = int(members["reason"].str.contains(f"kept: {NOT_REACHED}", literal=True).sum())
    if not lighter + untouched:
        return None
    count = lighter + untouched
    said = f"{count} doubtful label{' is' if count == 1 else 's are'} kept"
    said += " at a lower weight" if lighter else " as they are"
    most = int(exact_share(max_drop) * members.height)
    if "drop" in STEPS[mode] and int((members["role"] == "drop").sum()) >= most:
        said += f": no more than {100 * max_drop:.4g} % of all ({most}) may be dropped (max_drop)"
    return said


def _decide(
    step: str, sure: float | None, instead: str | None, right: float | None, min_weight: float
) -> Decision:
    said = "confidence unknown" if sure is None else f"confidence {_below_one(sure)}"
    if step == "relabel":
        return Decision(
            role="relabel", weight=1.0, new_label=instead, said=said,
            then=f"label becomes '{instead}'", sure=f", right with a probability of {_below_one(right)}",
        )  # fmt: skip
    if step == "drop":
        return Decision(role="drop", weight=0.0, new_label=None, said=said, then="dropped")
    weight = round(max(min_weight, 1 - sure), 6) if sure is not None else max(min_weight, UNKNOWN_WEIGHT)
    return Decision(
        role="keep", weight=weight, new_label=None, said=said, then=f"kept with weight {weight:g}"
    )


def _below_one(probability: float | None) -> str:
    """Write a probability with three decimals; an estimate is never certain."""
    if probability is None:
        return "unknown"
    return "over 0.999" if 0.9995 <= probability < 1 else f"{probability:.3f}"


def _result(
    frame: pl.DataFrame,
    rows: pl.DataFrame,
    decisions: dict[int, Decision],
    person: list[str | None],
    flag: str,
    mode: str,
    max_drop: float,
) -> pl.DataFrame:
    given, asked = frame["label"].to_list(), frame[flag].to_list()
    roles, weights = ["keep"] * frame.height, np.ones(frame.height)
    labels: list[str | None] = [None] * frame.height
    reasons = [
        CONFIRMED if verified == label
        else f"{flag} is null: cannot tell, so kept" if answer is None
        else f"not flagged by {flag}"
        for label, answer, verified in zip(given, asked, person, strict=True)
    ]  # fmt: skip
    for row in rows["row"]:
        decision = decisions.get(row)
        seen = person[row] is not None and person[row] != given[row]
        why = f"a person verified the label as '{person[row]}'" if seen else f"flagged by {flag}"
        if decision is None:
            then = f"kept: {NOT_REACHED} by mode '{mode}', max_drop={max_drop:g}, or the last of its label"
            reasons[row] = f"{why}; {then}" if seen else f"{why}: {then}"
            continue
        roles[row], weights[row], labels[row] = decision.role, decision.weight, decision.new_label
        told = (
            f"{why}; {decision.then}" if seen else f"{why}: {decision.said}; {decision.then}{decision.sure}"
        )
        reasons[row] = told
    return frame.select("sample_id").with_columns(
        pl.Series("role", roles),
        pl.Series("weight", weights),
        pl.Series("reason", reasons),
        pl.Series("new_label", labels, dtype=pl.String),
    )


def _check(
    frame: pl.DataFrame, mode: str, max_drop: float, relabel_confidence: float, min_weight: float,
    flag: str, confidence: str, suggestion: str,
) -> None:  # fmt: skip
    shares = {"max_drop": max_drop, "relabel_confidence": relabel_confidence, "min_weight": min_weight}
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise BadInput(f"denoise: {name} must be a share in [0, 1], not {value!r}")
    for column in (flag, confidence) if mode != "relabel" else (flag, confidence, suggestion):
        if column not in frame.columns:
            raise BadInput(
                f"denoise: the frame has no column '{column}'; run the flag label_noise and join its answer"
            )
    if frame.schema[flag] not in (pl.Boolean, pl.Null):
        raise BadInput(f"denoise: '{flag}' must be Boolean (null = cannot tell), not {frame.schema[flag]}")
    wrong = frame.filter(~pl.col(confidence).cast(pl.Float64).fill_nan(None).is_between(0, 1)).height
    if wrong:
        raise BadInput(f"denoise: '{confidence}' lies outside [0, 1] for {wrong} of {frame.height} samples")
