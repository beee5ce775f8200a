"""Flag: the given label is probably wrong. Three answers per sample: yes, no, cannot tell.

The rule in one sentence: *a label is called wrong when networks that never saw the sample prefer another class and
the label is wrong with a probability of at least 0.8, by the better of two estimates; nothing speaks against it when
the network that trained on it and those that never saw it both accept it; otherwise we cannot tell.* A label that a
person has looked at is no open question: it is never flagged again, and the reason gives that person's word.

The first estimate is `wrong_label_posterior`: cross-fitted probabilities and how often labels are wrong where models
are surest. The second is the probability of belonging to a separate low group of training margins. That group must
exist: a mixture of one to three Gaussians, its number of components by BIC, whose lowest part is apart from the next
(Ashman's D >= 2) and mostly rejected by the cross-fitted networks (>= 80 %, and at least 50 points more often than
the rest), and it may not be so large that labels would be right less often than drawn at random. Both are silent,
and then nothing is flagged, on hard data, overlapping classes and pure noise. Nor is anything said of a class that
the cross-fitted networks cannot recognise, nor of one that would be flagged by more than half where others would not.
Without cross-fitting the network that trained on the labels takes their place: it rejects a label where it preferred
another on average over training, and is not heard on a class that it has not learned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.selectors.flags.contract import flag
from tracesift.selectors.flags.low_group import LowGroup, find_low_group
from tracesift.selectors.flags.witness import Witness, cross_fitted, in_sample, numbers

SMALLEST_LOSS = 1e-3
"""Keeps the logarithm finite for a sample that was fitted perfectly."""
MEANINGS = {"aum": "mean logit margin", "mean_loss": "mean loss"}
END = {"aum": "more", "mean_loss": "less"}
CONFIRMED = "a person confirmed this label"
"""Reason of a sample whose given label a person found right."""
SUREST = 0.999999
"""An estimate is never certain."""


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """What the network that trained on the labels says: `values` (N,), high = clean, from one column."""

    column: str
    values: np.ndarray
    accepted: np.ndarray
    """(N,) bool: on average over training the label was preferred; by the loss, surely so."""


@flag(
    version=8,
    columns=(
        "aum", "mean_loss", "oos_margin", "oos_pred", "wrong_label_posterior",
        "elr_target_disagreement", "loss_gmm", "suggestion", "verified_label",
    ),
    reference="ours, from Pleiss et al. 2020 (margin), Li et al. 2020 (mixture), Liu and Tao 2016 (anchors)",
)  # fmt: skip
def label_noise(
    frame: pl.DataFrame,
    *,
    min_class: int = 10,
    probability: float | None = None,
    separation: float | None = None,
) -> pl.DataFrame:
    """Say of every sample whether its label is wrong: True, False or null (cannot tell).

    Parameters
    ----------
    frame : polars.DataFrame
        `sample_id`, `label`, and the evidence. First witness: `aum` (mean logit margin in training, low =
        suspicious) or `mean_loss`; with both, `mean_loss` is used where only it shows a low group. Second
        witness: `oos_margin` (cross-fitted P[label] minus the largest other) with `oos_pred` (label name).
        Beside these two, `wrong_label_posterior`. Without them the evidence is in-sample only and the terms are
        stricter. Optional: `elr_target_disagreement`, `loss_gmm` (asked in-sample only), `split` (only `train` is
        judged), `verified_label` (what a person said the label is, null where nobody looked), `suggestion`. A missing
        number means not observed: that sample is answered with null.
    min_class : int
        Labels carried by fewer samples are not judged.
    probability : float, optional
        Least probability that a label is wrong; 0.8, in-sample 0.99.
    separation : float, optional
        Least Ashman's D between the low group and the rest; 2, in-sample 3.

    Returns
    -------
    polars.DataFrame
        Sorted by `sample_id`: `flagged` (bool or null), `score` (the confidence), `threshold` (`probability`),
        `reason`, `suggestion` (the class preferred to the label, else null), `confidence` (estimated probability
        that the label is wrong: `wrong_label_posterior`, or that of the low group, lowered but never raised by
        the likelihood ratio of the second witness's answer, whichever is higher; a posterior below one half is a
        lower estimate that says nothing; null where there is no estimate) and `suspicion` (mean share of the
        samples that look cleaner, over `aum`, `mean_loss`, `elr_target_disagreement` and the second witness: an
        order, no probability). All samples are ranked best by the sum of both, null confidences as 0. Of a label that
        a person looked at, `with_verified` says what is answered.

    Raises
    ------
    BadInput
        Without any training dynamics, or with half of the out-of-sample columns.

    References
    ----------
    Pleiss et al. 2020, section 3 (area under the margin); Li et al. 2020, section 3.1 (mixture over the
    losses); Liu and Tao 2016, section 4 (anchors); Ashman et al. 1994 (D).

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": ["a", "b"], "label": ["x", "y"], "aum": [1.0, -2.0]})
    >>> label_noise(frame).select("flagged", "reason").row(0)
    (None, 'cannot tell: fewer than 10 samples carry this label')
    """
    return judge_labels(frame, min_class=min_class, probability=probability, separation=separation)[0]


def judge_labels(
    frame: pl.DataFrame,
    *,
    min_class: int = 10,
    probability: float | None = None,
    separation: float | None = None,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return what `label_noise` answers, and what it found in the dataset as a whole.

    Parameters
    ----------
    frame, min_class, probability, separation
        As for `label_noise`.

    Returns
    -------
    answers : polars.DataFrame
    findings : dict
        `training_dynamics`, whether they show a separate low group; `second_witness`, who was asked beside the
        training network; `needed_probability`; `expected_right`, how many of the flagged labels are probably
        right after all; `set_apart`, how many labels are called wrong because of that low group, and
        `set_apart_flagged`, how many of these no person has looked at.
    """
    frame = _checked(frame)
    in_train = (frame["split"] == "train").to_numpy()
    every_dynamics, choices = _dynamics(frame), []
    asked = cross_fitted if "oos_margin" in frame.columns else in_sample
    witness = asked(frame, min_class)
    for dynamics in every_dynamics:
        judged = np.isfinite(dynamics.values) & witness.observed & in_train
        least = probability if probability is not None else (0.8 if witness.out_of_sample else 0.99)
        apart = separation if separation is not None else (2.0 if witness.out_of_sample else 3.0)
        usable = judged & (witness.mute == "")
        # labels of K classes drawn at random are wrong as often as this: beyond it there is nothing to learn from
        most = 1 - 1 / max(frame["label"].n_unique(), 2)
        group = find_low_group(dynamics.values, witness, usable, separation=apart, most=most)
        choices.append((dynamics, group, judged))
    dynamics, group, judged = next((choice for choice in choices if choice[1].found), choices[0])
    low = _low_confidence(witness, group, judged & (witness.mute == ""))
    posterior = _posterior(frame, witness)
    confidence = np.minimum(np.fmax(low, posterior), SUREST)
    rejects = witness.rejects if witness.out_of_sample else witness.surely
    wrong = rejects & (confidence >= least)
    witness = _without_flooded(frame, witness, judged, wrong)
    by_group = np.isnan(posterior) | (low > posterior)
    answers = _answers(frame, dynamics, witness, group, judged, wrong, confidence)
    answers = answers.with_columns(by_group=pl.Series(by_group))
    called, is_open = judged & (witness.mute == "") & wrong, frame["verified_label"].is_null().to_numpy()
    set_apart = int((called & by_group).sum())
    # the group is what is suspicious; called wrong is only the part of it in which everything else agrees
    part = f"; {set_apart / max(judged.sum(), 1):.1%} of the samples are called wrong because of it"
    findings = {
        "training_dynamics": f"{dynamics.column}: {group.note}{part if group.found else ''}",
        "second_witness": witness.name,
        "needed_probability": least,
        "expected_right": round(float((1 - confidence)[called & is_open].sum()), 1),
        "set_apart": set_apart,
        "set_apart_flagged": int((called & by_group & is_open).sum()),
    }
    return with_verified(_explained(frame, answers, dynamics, witness, least), frame), findings


def with_verified(answers: pl.DataFrame, verified: pl.DataFrame) -> pl.DataFrame:
    """Put a person's word over the answers of `label_noise`.

    Parameters
    ----------
    answers : polars.DataFrame
        What `label_noise` returned.
    verified : polars.DataFrame
        `sample_id`, `label` and `verified_label`; rows without the last say nothing.

    Returns
    -------
    polars.DataFrame
        The answers. Not flagged are: a label that was confirmed, with a confidence of 0 that it is wrong and no
        suggestion; and one that a person found to be another, with that one as the suggestion and no confidence, since
        nothing is estimated any more.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": ["a", "b"], "label": ["x", "y"], "aum": [1.0, -2.0]})
    >>> seen = frame.with_columns(verified_label=pl.Series(["x", "x"]))
    >>> with_verified(label_noise(frame), seen).select("flagged", "confidence", "reason").rows()
    [(False, 0.0, 'a person confirmed this label'), (False, None, "a person verified the label as 'x'")]
    """
    said = verified.select("sample_id", given=pl.col("label").cast(pl.String), said="verified_label")
    joined = answers.join(said, on="sample_id", how="left", maintain_order="left")
    seen, right = pl.col("said").is_not_null(), pl.col("said") == pl.col("given")
    sure = pl.when(right).then(0.0)
    return joined.with_columns(
        flagged=pl.when(seen).then(statement=False).otherwise("flagged"),
        score=pl.when(seen).then(sure).otherwise("score"),
        confidence=pl.when(seen).then(sure).otherwise("confidence"),
        reason=pl.when(right)
        .then(pl.lit(CONFIRMED))
        .when(seen)
        .then(verified_as(pl.col("said")))
        .otherwise("reason"),
        suggestion=pl.when(seen & ~right).then("said").when(~seen).then("suggestion"),
    ).drop("given", "said")


def verified_as(label: pl.Expr) -> pl.Expr:
    """Return the sentence on a given label that a person found to be another."""
    return pl.format("a person verified the label as '{}'", label)


def _checked(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame sorted by `sample_id`, with the optional columns filled in."""
    for column in ("sample_id", "label"):
        if column not in frame.columns or frame[column].null_count():
            raise BadInput(
                f"label_noise: column '{column}' is missing or holds nulls; the frame has {frame.columns}"
            )
    if frame["sample_id"].n_unique() != frame.height:
        raise BadInput("label_noise: a sample_id stands there twice; ids must be unique")
    if "verified" in frame.columns and "verified_label" not in frame.columns:
        raise BadInput(
            "label_noise: column 'verified' says nothing of the label; give 'verified_label', a person's word"
        )
    nothing = pl.lit(None, pl.String)
    fills = {"split": pl.lit("train"), "verified_label": nothing, "suggestion": nothing}
    absent = [value.alias(name) for name, value in fills.items() if name not in frame.columns]
    return (
        frame.with_columns(absent)
        .with_columns(pl.col("label", "verified_label").cast(pl.String))
        .sort("sample_id")
    )


def _dynamics(frame: pl.DataFrame) -> list[Dynamics]:
    found = []
    if "aum" in frame.columns:
        values = numbers(frame, "aum")
        found.append(Dynamics(column="aum", values=values, accepted=values > 0))
    if "mean_loss" in frame.columns:
        # the logarithm, because losses pile up at zero; accepted: geometric mean probability above one half
        loss = numbers(frame, "mean_loss")
        values = -np.log(np.maximum(loss, 0) + SMALLEST_LOSS)
        found.append(Dynamics(column="mean_loss", values=values, accepted=loss < np.log(2)))
    if not found:
        raise BadInput("label_noise: needs a score 'aum' or 'mean_loss'; run `tracesift score aum`")
    return found


def _without_flooded(frame: pl.DataFrame, witness: Witness, judged: np.ndarray, wrong: np.ndarray) -> Witness:
    """Silence the witness on a class that would be flagged by more than half: it is hard or renamed.

    Unless that is what all classes are like, as under heavy noise: then twice the share of the middle one.
    """
    names, codes = np.unique(frame["label"].to_numpy(), return_inverse=True)
    there = np.bincount(codes, judged, names.size)
    share = np.bincount(codes, wrong & judged, names.size) / np.maximum(there, 1)
    seen = np.sort(share[there > 0])
    usual = seen[(seen.size - 1) // 2] if seen.size else 0.0  # of two the smaller
    flooded = (share > max(0.5, 2 * usual))[codes]
    mute = witness.mute.copy()
    mute[flooded & (mute == "")] = (
        "more than half of this label would be flagged: the label itself is in doubt"
    )
    return replace(witness, mute=mute)


def _answers(
    frame: pl.DataFrame,
    dynamics: Dynamics,
    witness: Witness,
    group: LowGroup,
    judged: np.ndarray,
    wrong: np.ndarray,
    confidence: np.ndarray,
) -> pl.DataFrame:
    """Return `flagged`, `why` (a key of the reasons), `confidence` and `suspicion`, in the frame's order."""
    speaks = judged & (witness.mute == "")
    if group.middle is not None:
        clean_side = dynamics.values >= group.middle
    else:
        # in-sample a network that memorised everything accepts every label, so this alone confirms nothing
        clean_side = dynamics.accepted & witness.out_of_sample
    divided = ~witness.surely & ~np.array(witness.out_of_sample)
    accepted = ~witness.rejects
    why = np.select(
        [~judged, ~speaks, wrong, accepted & clean_side, accepted, clean_side, divided],
        ["unseen", "mute", "wrong", "confirmed", "only_dynamics", "only_witness", "divided"],
        default="weak",
    )
    cleaner = [_share_above(clean, judged) for clean in [*_clean_sides(frame), -witness.doubt]]
    flagged = pl.when(pl.col("why") == "wrong").then(statement=True)
    return pl.DataFrame(
        {
            "why": why,
            "confidence": np.where(speaks, confidence, np.nan).round(6),
            "suspicion": _mean_there(cleaner).round(6),
        }
    ).with_columns(flagged.when(pl.col("why") == "confirmed").then(statement=False).alias("flagged"))


def _clean_sides(frame: pl.DataFrame) -> list[np.ndarray]:
    """Return what training says of each sample, each (N,) with high = clean: margin, loss, early-learning target."""
    signs = {"aum": 1.0, "mean_loss": -1.0, "elr_target_disagreement": -1.0}
    return [sign * numbers(frame, name) for name, sign in signs.items() if name in frame.columns]


def _mean_there(shares: list[np.ndarray]) -> np.ndarray:
    """Return the mean of the shares that are there, NaN where none is."""
    there = ~np.isnan(shares)
    return np.where(there, shares, 0.0).sum(axis=0) / np.where(there.any(axis=0), there.sum(axis=0), np.nan)


def _posterior(frame: pl.DataFrame, witness: Witness) -> np.ndarray:
    """Return `wrong_label_posterior` where it says something, else NaN."""
    if "wrong_label_posterior" not in frame.columns or not witness.out_of_sample:
        return np.full(frame.height, np.nan)
    posterior = numbers(frame, "wrong_label_posterior")
    return np.where(posterior >= 0.5, posterior, np.nan)


def _low_confidence(witness: Witness, group: LowGroup, speaks: np.ndarray) -> np.ndarray:
    """Lower the low-group probability by what the second witness says.

    Its likelihood ratio is capped at 1: hard but right samples trouble both witnesses, so their agreement is
    worth less than independence would make it. Capped, the probabilities hold up against planted noise;
    uncapped, not.
    """
    low = group.probability
    if not group.found:
        return low
    said = witness.rejects.astype(np.int64) + witness.surely  # 0 accepts, 1 rejects, 2 rejects surely
    ratio = np.ones(3)
    for answer in range(3):
        given = (said == answer)[speaks]
        # one imagined sample of each answer on each side keeps the ratio finite
        inside = (given @ low[speaks] + 1) / (low[speaks].sum() + 3)
        outside = (given @ (1 - low[speaks]) + 1) / ((1 - low[speaks]).sum() + 3)
        ratio[answer] = min(inside / outside, 1.0)
    odds = low * ratio[said]
    return odds / np.maximum(odds + (1 - low), 1e-12)


def _share_above(values: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """Return the share of judged samples with a strictly higher value; NaN for the others."""
    ordered = np.sort(values[judged])
    above = (ordered.size - np.searchsorted(ordered, values, side="right")) / max(ordered.size, 1)
    return np.where(judged, above, np.nan)


def _why_no_estimate(frame: pl.DataFrame, witness: Witness) -> pl.Expr:
    """Say why a rejected and suspicious label has no probability of being wrong."""
    if not witness.out_of_sample or "wrong_label_posterior" not in frame.columns:
        return pl.lit(", but training shows no separate group of suspicious samples")
    if not (numbers(frame, "wrong_label_posterior") > 0).any():
        return pl.lit(
            ", but nothing shows that labels of this dataset are wrong often enough for that to count"
        )
    return pl.format(
        ", but nothing shows that '{}' is labeled '{}' often enough for that to count", "oos_pred", "label"
    )


def _explained(
    frame: pl.DataFrame,
    answers: pl.DataFrame,
    dynamics: Dynamics,
    witness: Witness,
    least: float,
) -> pl.DataFrame:
    """Write the reasons, each with the numbers of its sample alone, and give the columns their final form."""
    column = dynamics.column
    value = pl.format("{} of {}", pl.lit(MEANINGS[column]), pl.col(column).round_sig_figs(3))
    if witness.out_of_sample:
        more = (-pl.col("oos_margin")).round(3)
        more = pl.when(more < 1).then(more.cast(pl.String)).otherwise(pl.lit("> 0.999"))
        said = pl.format(
            "{} prefer '{}' to '{}', by {} in probability", pl.lit(witness.name), "oos_pred", "label", more
        )
        preferred: pl.Expr = pl.when(pl.col("oos_pred") != pl.col("label")).then("oos_pred")
    else:
        said, preferred = pl.lit(f"the label is rejected by {witness.name}"), pl.lit(None, pl.String)
    # in-sample, that the network accepts what it was trained on is no evidence for the label
    alone = "its {} is suspicious, but {}{}" if witness.out_of_sample else "with a {}, {}{}"
    accepted = pl.lit(f"the label is accepted by {witness.name}")
    confidence = pl.col("confidence").fill_nan(None)
    percent = (100 * confidence).round(3)
    chance = (
        pl.when(percent > 99).then(pl.lit("more than 99 %"))
        .when(percent < 1).then(pl.lit("less than 1 %"))
        .otherwise(pl.format("{} %", percent.floor().cast(pl.Int64)))  # 79.99 % is below 80 %
    )  # fmt: skip
    usual = (
        f"{np.nanmedian(numbers(frame, column)):.3g}" if np.isfinite(numbers(frame, column)).any() else "–"
    )
    apart = (
        "in training its {} lies in a separate group of the most suspicious (half of all samples have "
        f"{usual} or {END[column]})"
    )
    grouped = pl.when("by_group").then(pl.format(apart, value))
    how = grouped.otherwise(pl.lit("labels of this dataset are wrong often enough for that to count"))
    short = pl.when(confidence < least).then(pl.lit(f", and {100 * least:.4g} % are needed"))
    estimated = pl.format(
        "; the label is wrong with a probability of {}{}", chance, short.otherwise(pl.lit(""))
    )
    unsure = pl.when(percent >= 1).then(estimated).otherwise(pl.lit(""))
    weak = pl.when(confidence.is_null()).then(_why_no_estimate(frame, witness)).otherwise(estimated)
    sentences = {
        "unseen": pl.lit("cannot tell: not a train sample, or not observed by both witnesses"),
        "mute": pl.format("cannot tell: {}", pl.Series(witness.mute.tolist(), dtype=pl.String)),
        "wrong": pl.format("label probably wrong: {}, and {}", said, how),
        "confirmed": pl.format(
            "nothing against the label: its {} is unsuspicious, and it is accepted by {}", value, pl.lit(witness.name)
        ),
        "only_witness": pl.format(
            "cannot tell: {}, but training learned the label, with a {}{}", said, value, unsure
        ),
        "only_dynamics": pl.format(f"cannot tell: {alone}", value, accepted, unsure),
        "divided": pl.format(
            "cannot tell: its {} is suspicious, but the label is not rejected by all of {}{}", value,
            pl.lit(witness.name), unsure,
        ),
        "weak": pl.format("cannot tell: its {} is suspicious, and {}{}", value, said, weak),
    }  # fmt: skip
    reason: pl.Expr = pl.coalesce(pl.when(pl.col("why") == key).then(text) for key, text in sentences.items())
    suggested = pl.when(pl.col("suggestion") != pl.col("label")).then("suggestion")
    frame = frame.drop(answers.columns, strict=False)  # columns of an earlier answer
    return pl.concat([frame, answers], how="horizontal").select(
        "sample_id",
        "flagged",
        confidence.alias("score"),
        pl.lit(least, pl.Float64).alias("threshold"),
        reason.alias("reason"),
        pl.coalesce(preferred, suggested).alias("suggestion"),
        confidence,
        pl.col("suspicion").fill_nan(None),
    )
