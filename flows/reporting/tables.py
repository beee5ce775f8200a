"""The report's tables and sentences, worked out from frames: classes, flags, verdict, evaluation.

Everything here is arithmetic on small frames and returns plain rows for the template.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from tracesift.flows.progress import counted
from tracesift.flows.reporting.worklist import WORTH_A_LOOK

MAX_REASONS = 5

DIRECTION_WORDS = {
    "hard": "high: hard to learn",
    "easy": "high: easy to learn",
    "suspicious": "high: more likely mislabeled or poisoned",
    "clean": "high: more likely right",
    "keep": "high: worth keeping",
    "outlier": "high: unusual",
    "redundant": "high: repeated elsewhere",
    "uncertain": "high: the estimate is less sure",
}

NOT_JUDGED = ("samples", "steps")
"""What a training says of itself beside how well it did; the tables hold it already."""

LOWER_IS_BETTER = ("loss",)
"""Metrics of an evaluation of which less is more."""

WORDS = {
    "reading": "in one sentence",
    # label_noise
    "needed_probability": "flagged from this probability of being wrong",
    "expected_right": "flagged labels that are probably right after all",
    "set_apart": "called wrong because training sets them apart",
    "set_apart_flagged": "of these flagged, since no person looked at them",
    "flagged_by_every_seed": "flagged by every seed by itself",
    "flagged_by_some_seed": "flagged by at least one seed",
    "training_dynamics": "what the training shows",
    "second_witness": "asked beside the training",
    # label_noise_rate, noise_transition_hoc
    "class": "class",
    "rate": "share of wrong labels",
    "at_least": "at least",
    "shown": "more than overlapping classes explain",
    "anchors": "samples that models are surest of",
    "most_often": "most often labeled instead",
    "share_of_wrong": "share of the wrong ones labeled so",
    "classes_told": "classes that can be told",
    "classes_silent": "classes that cannot be told",
    "prior": "share of each true class",
    "transition": "probability of each label, by true class",
    "clusterability": "how often neighbours share the true class",
    # duplicates
    "rates": "duplicates among the training samples",
    "eps": "counted from a cosine of 1 minus",
    "share": "share that duplicates an earlier one",
    "train_in_other_splits": "training samples that are in val or test too",
    "leaked_into": "found in training, too",
    "of": "of so many",
    # loss_change_concentration
    "top": "samples that count as changing most",
    "shares": "their share of the loss change, from epoch to epoch",
    "largest": "the largest such share",
    "step": "step of the largest share",
    # residual_verdict
    "samples_judged": "samples looked at",
    "classes_judged": "classes looked at",
    "smallest_class": "needed: images in the median class",
    "folds": "folds of the cross-fitting",
    "best_view": "view that comes nearest to a signal",
    "views": "view",
    "fires": "shows a signal",
    "near": "shows perhaps one",
    "separation": "distance between two groups",
    "separation_of_clouds": "their distance if each label were one group",
    "separation_needed": "distance needed",
    "gap": "how far they tell the label",
    "gap_of_clouds": "the same if each label were one group",
    "gap_needed": "needed for that",
    "blank": "share of images with nothing in it",
    "strong_classes": "classes that show one alone",
    "untied_classes": "classes that do not take part",
    "lone_pixels": "lone pixels",
    "row": "row",
    "column": "column",
    "colour": "colour",
    "holders": "images that have it",
    "of_class": "images of the label",
    "expected": "so many need no signal",
}
"""Keys of diagnostics in words, in the order in which they are shown; of any other, the key is read as words."""

_SIGNAL = "a label-specific small signal"

SIMPLE_NETWORKS = "`tracesift record --job simple_networks`, then `tracesift score simple_network_detection`"
"""What looks for a signal in all images of a class, which the verdict does not see."""

VERDICTS = {
    "poisoned": (
        f"Yes: part of this dataset carries {_SIGNAL}.",
        "A model can learn that signal instead of the content; look at the pictures before calling it an attack.",
    ),
    "suspect": (
        f"Perhaps: there is one of the two signs of {_SIGNAL}, not both, so no sample is flagged for it.",
        "Compare with a set of the same size and kind that you trust.",
    ),
    "clean": (
        f"No: no sign that samples carry {_SIGNAL}.",
        f"Where all of a class may be changed, ask simple networks: {SIMPLE_NETWORKS}.",
    ),
}
CANNOT_TELL = "Cannot tell whether samples carry a label-specific small signal."


def flag_rows(flags: pl.DataFrame, classes: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return per flag the counts of yes, no and cannot tell, with the reasons for the latter.

    Reasons are grouped; the most frequent are named and the rest counted. Reasons that differ in numbers and in the
    quoted names of `classes` alone are one group.
    """
    rows = []
    for (name,), part in flags.sort("flag").group_by("flag", maintain_order=True):
        undecided = part.filter(pl.col("flagged").is_null())
        reasons = _grouped_reasons(undecided, classes)
        rules = part["threshold"].drop_nulls().unique().sort()
        rows.append(
            {
                "flag": name,
                "yes": part["flagged"].sum() or 0,
                "no": int((~part["flagged"]).sum() or 0),
                "unknown": undecided.height,
                "rule": _rule(rules),
                "reasons": reasons.head(MAX_REASONS).to_dicts(),
                "other_reasons": max(reasons.height - MAX_REASONS, 0),
            }
        )
    return rows


def _grouped_reasons(undecided: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """Return reason and count, the most frequent first; what differs within a group is written as "…"."""
    reason = pl.col("reason").fill_null("no reason given").str.strip_prefix("cannot tell: ")
    # the known names and not whatever stands between quotation marks, because a name may hold one; the longest first
    quoted = [f"'{name}'" for name in sorted(classes, key=len, reverse=True)]
    pattern = pl.col("reason").str.replace_many(quoted, ["…"], leftmost=True) if quoted else pl.col("reason")
    pattern = pattern.str.replace_all(r"(> )?[-+]?\d+(\.\d+)?(e[-+]?\d+)?", "…")
    only = (
        pl.when(pl.col("reason").n_unique() == 1)
        .then(pl.col("reason").first())
        .otherwise(pl.col("pattern").first())
    )
    return (
        undecided.select(reason)
        .with_columns(pattern=pattern)
        .group_by("pattern")
        .agg(only, count=pl.len())
        .select("reason", "count")
        .sort("count", "reason", descending=[True, False])
    )


def _rule(thresholds: pl.Series) -> str:
    if not thresholds.len():
        return "no cut-off"
    if not thresholds.dtype.is_numeric():
        return str(thresholds[0]) if thresholds.len() == 1 else f"{thresholds.len()} rules"
    if thresholds.len() == 1:
        return f"{thresholds[0]:.4g}"
    return f"{thresholds[0]:.4g} to {thresholds[-1]:.4g}, by sample or class"


def empty_reason(flags: pl.DataFrame, num_samples: int) -> str:
    """Return why a worklist is empty: nothing computed, cannot tell, or nothing found."""
    if not flags.height:
        return (
            "No flag was computed, so nothing could be suspected. This is not a clean bill of health: "
            "run `tracesift curate` or `tracesift score` first."
        )
    names = ", ".join(flags["flag"].unique().sort())
    if flags["flagged"].null_count() == flags.height:
        return (
            f"Cannot tell: none of the flags ({names}) could decide about any of {num_samples:,} samples. "
            "The reasons stand under Flags."
        )
    deciding = _deciding(flags)
    undecided = deciding.filter(pl.col("flagged").is_null())["sample_id"].n_unique()
    silent = sorted(set(flags["flag"]) - set(deciding["flag"]))
    return "".join(
        (
            f"Nothing was flagged: {', '.join(deciding['flag'].unique().sort())} looked at {num_samples:,} "
            "training samples and found none to suspect.",
            f" For {undecided:,} of them at least one flag cannot tell." if undecided else "",
            f" {', '.join(silent)} cannot tell about any." if silent else "",
        )
    )


def _deciding(flags: pl.DataFrame) -> pl.DataFrame:
    """Leave out flags that are silent about the whole set: they say nothing of one class or sample."""
    decided = flags.filter(pl.col("flagged").is_not_null().any().over("flag"))
    return decided if decided.height else flags


def class_rows(
    classes: Sequence[str],
    scores: pl.DataFrame,
    flags: pl.DataFrame,
    subsets: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return one row per class: samples, flagged, undecided, most frequent suggestion, kept per subset.

    Undecided (`unknown`) is a sample that every flag cannot tell of, so that `share`, the flagged among the others, has
    the same flags above and below its line: a sample that one flag clears and another cannot tell of is decided.
    Suggestions are those for all samples of the class that a flag does not clear, in the worklist or not. A flag that
    is silent about the whole set (the picture check on a set of texts) is left out here.
    """
    per_sample = (
        _deciding(flags)
        .group_by("sample_id")
        .agg(
            pl.col("flagged").any().alias("yes"),
            pl.col("flagged").is_null().all().alias("unknown"),
        )
    )
    joined = scores.select("sample_id", pl.col("label").cast(pl.String)).join(
        per_sample, on="sample_id", how="left"
    )
    counted = joined.group_by("label").agg(
        pl.len().alias("samples"),
        pl.col("yes").sum().alias("flagged"),
        pl.col("unknown").sum().alias("unknown"),
    )
    counts = {row["label"]: row for row in counted.iter_rows(named=True)}
    confidence = _mean_by_label(scores, "cartography_confidence")
    suggested = _most_suggested(scores, flags)
    order = [*classes, *sorted(set(counts) - set(classes))]
    rows = []
    for name in order:
        row = counts.get(name, {"samples": 0, "flagged": 0, "unknown": 0})
        decided = row["samples"] - row["unknown"]
        share = row["flagged"] / decided if decided else None
        kept = [subset["counts"]["by_label"].get(name, 0) for subset in subsets]
        rows.append(
            {
                **row,
                "label": name,
                "share": share,
                "confidence": confidence.get(name),
                "suggested": suggested.get(name),
                "kept": kept,
            }
        )
    return rows


def _mean_by_label(scores: pl.DataFrame, column: str) -> dict[str, float]:
    if column not in scores.columns:
        return {}
    means = scores.group_by(pl.col("label").cast(pl.String)).agg(pl.col(column).fill_nan(None).mean())
    return {label: mean for label, mean in means.iter_rows() if mean is not None}


def _most_suggested(scores: pl.DataFrame, flags: pl.DataFrame) -> dict[str, tuple[str, int]]:
    """Return per label what most samples are suggested to be, and how many; of equals, what most flagged ones are."""
    if "suggestion" not in flags.columns:
        return {}
    labels = scores.select("sample_id", pl.col("label").cast(pl.String))
    pairs = (
        flags.filter(pl.col("flagged").fill_null(value=True))
        .join(labels, on="sample_id")
        .filter(pl.col("suggestion") != pl.col("label"))
        .unique(["sample_id", "suggestion"])
        .group_by("label", "suggestion")
        .agg(pl.len().alias("count"), pl.col("flagged").sum())
        .sort("label", "count", "flagged", "suggestion", descending=[False, True, True, False])
        .group_by("label", maintain_order=True)
        .first()
    )
    return {row["label"]: (row["suggestion"], row["count"]) for row in pairs.iter_rows(named=True)}


def verdict(found: Mapping[str, Any] | None, classes: Sequence[str]) -> dict[str, Any]:
    """Return headline, explanation and evidence of the unlearnable verdict.

    Anything but the three known verdicts reads "cannot tell", with the reason where one is given. Classes, which
    the diagnostic knows by their index, are called by their names.
    """
    if found is None:
        return {
            "headline": CANNOT_TELL,
            "explanation": "The check was not run; it works on pictures alone.",
            "evidence": {},
        }
    headline, explanation = VERDICTS.get(str(found.get("verdict")), (CANNOT_TELL, ""))
    reason = str(found.get("reason") or "").strip().removesuffix(".")
    because = f"{reason[:1].upper()}{reason[1:]}." if reason else ""
    explanation = " ".join(part for part in (because, explanation) if part)
    rest = {key: value for key, value in found.items() if key not in ("verdict", "reason")}
    if "views" in rest:
        rest["views"] = {
            view_in_words(view): _with_names(line, classes) for view, line in rest["views"].items()
        }
    pixels = rest.pop("lone_pixels", ())
    if pixels:
        rest["lone_pixels"] = [
            {**row, "class": classes[row["class"]], "colour": ", ".join(map(str, row["colour"]))}
            for row in pixels
        ]
    untied = rest.pop("untied_classes", ())
    if untied:
        rest["untied_classes"] = [classes[index] for index in untied]
    if rest.get("best_view"):
        rest["best_view"] = view_in_words(rest["best_view"])
    return {"headline": headline, "explanation": explanation, "evidence": evidence(rest)}


def in_words(key: str) -> str:
    """Return the key of a diagnostic as a person reads it.

    Examples
    --------
    >>> in_words("smallest_class"), in_words("usual_accuracy")
    ('needed: images in the median class', 'usual accuracy')
    """
    return WORDS.get(key, key.replace("_", " "))


_ORDER = {key: place for place, key in enumerate(WORDS)}


def _place(key: str) -> int:
    """Return where a key stands: as in WORDS, behind them in the order in which they came."""
    return _ORDER.get(key, len(_ORDER))


def view_in_words(name: str) -> str:
    """Return the name of a view of `residual_verdict` as what it shows of the images.

    Examples
    --------
    >>> view_in_words("mean3_core8"), view_in_words("impulse")
    ('off the 3x3 mean by under 8 grey levels', 'single pixels that stand far out')
    """
    if name == "impulse":
        return "single pixels that stand far out"
    if name == "lone_pixels":
        return "single pixels of one colour in one place"
    return re.sub(r"^(mean|median)(\d+)_core(\d+)$", r"off the \2x\2 \1 by under \3 grey levels", name)


def _with_names(line: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    return {
        key: [classes[index] for index in value] if key == "strong_classes" else value
        for key, value in line.items()
    }


def with_class_names(found: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return a diagnostic with the indices in its table `classes` written as the names of the classes.

    Examples
    --------
    >>> with_class_names({"rate": 0.1, "classes": [{"class": 1, "anchors": 9, "most_often": 0}]}, ["cat", "dog"])
    {'rate': 0.1, 'classes': [{'class': 'dog', 'anchors': 9, 'most_often': 'cat'}]}
    """
    if not isinstance(found.get("classes"), list):  # a mere number of classes names none
        return dict(found)
    rows = [
        {key: classes[value] if key in ("class", "most_often") else value for key, value in row.items()}
        for row in found["classes"]
    ]
    return {**found, "classes": rows}


def evidence(found: Mapping[str, Any]) -> dict[str, Any]:
    """Split a diagnostic into single numbers and tables, so that nested results can be read.

    Returns
    -------
    dict
        `single`: pairs (name, value); `tables`: dicts with name, columns and rows.
    """
    single: list[tuple[str, Any]] = []
    tables: list[dict[str, Any]] = []
    for name, value in sorted(found.items(), key=lambda item: _place(item[0])):
        if isinstance(value, Mapping) and value and all(isinstance(row, Mapping) for row in value.values()):
            rows = [{name: key, **row} for key, row in value.items()]
        elif (
            isinstance(value, Sequence)
            and not isinstance(value, str)
            and value
            and isinstance(value[0], Mapping)
        ):
            rows = [dict(row) for row in value]
        else:
            single.append((name, value))
            continue
        columns = sorted(dict.fromkeys(key for row in rows for key in row), key=_place)
        tables.append(
            {"name": name, "columns": columns, "rows": [[row.get(key) for key in columns] for row in rows]}
        )
    return {"single": single, "tables": tables}


def evaluation_summary(evaluations: pl.DataFrame, metric: str) -> pl.DataFrame:
    """Return mean and sample standard deviation over seeds per subset, largest first,
    each followed by its controls.

    Returns
    -------
    DataFrame
        subset, control_of, mean, std (null for one seed), seeds, share, steps.
    """
    grouped = (
        evaluations.filter(pl.col("metric") == metric)
        .group_by("subset", "control_of")
        .agg(
            pl.col("value").mean().alias("mean"),
            pl.col("value").std().alias("std"),
            pl.col("seed").n_unique().alias("seeds"),
            pl.col("share").mean(),
            pl.col("steps").mean(),
        )
    )
    family = pl.coalesce("control_of", "subset")
    size = pl.col("share").filter(pl.col("control_of").is_null()).first().over(family)
    order = [size, family, pl.col("control_of").is_not_null(), pl.col("subset")]
    return grouped.sort(order, descending=[True, False, False, False], nulls_last=True).select(
        "subset", "control_of", "mean", "std", "seeds", "share", "steps"
    )


def paired_differences(evaluations: pl.DataFrame, metric: str) -> list[dict[str, Any]]:
    """Return subset minus control, seed by seed: mean, standard deviation and in how many seeds it is above.

    Only seeds that both have are paired; `std` is null for one pair.
    """
    values = evaluations.filter(pl.col("metric") == metric)
    controls = values.filter(pl.col("control_of").is_not_null())
    pairs = controls.join(
        values.select("subset", "seed", treated="value"),
        left_on=["control_of", "seed"],
        right_on=["subset", "seed"],
    )
    difference = pl.col("treated") - pl.col("value")
    grouped = pairs.group_by(subset="control_of", control="subset").agg(
        difference.mean().alias("mean"),
        difference.std().alias("std"),
        (difference > 0).sum().alias("above"),
        pl.len().alias("pairs"),
    )
    return grouped.sort("subset", "control").to_dicts()


def status_counts(listed: pl.DataFrame) -> tuple[int, int]:
    """Return how many samples of a worklist are flagged and how many are worth a look."""
    look = listed.filter(pl.col("status") == WORTH_A_LOOK).height
    return listed.height - look, look


def order_in_words(listed: pl.DataFrame) -> str:
    """Return in which order a worklist stands, as a sentence.

    Examples
    --------
    >>> order_in_words(pl.DataFrame({"status": ["flagged"], "confidence_from": ["flag"]}))
    'The most probably wrong first.'
    """
    groups = (
        "The flagged first, then those worth a look; of each, the " if all(status_counts(listed)) else "The "
    )
    sources = set(listed["confidence_from"].drop_nulls())
    if not sources:
        return f"{groups}ids by the alphabet."
    if sources == {"rank"}:
        return f"{groups}most suspicious first; the probability that a label is wrong could not be estimated."
    rest = ", then those without an estimate, the most suspicious first" if "rank" in sources else " first"
    return f"{groups}most probably wrong{rest}."


RATES = {
    "label_noise_rate": "anchors: where out-of-sample models are surest, their answer is right",
    "confident_joint_rate": None,
    "loss_mixture_rate": None,
    "noise_transition_hoc": "neighbours: a sample and its two nearest have the same true label",
}
"""Diagnostics that estimate how many labels are wrong, and what each takes for granted; None: it says so itself."""


def noise_rates(diagnostics: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per estimate of how many labels are wrong: ``name``, ``rate`` (None: cannot tell), ``assumes``."""
    return [
        {
            "name": name,
            "rate": diagnostics[name].get("rate"),
            "assumes": assumes or diagnostics[name]["assumes"],
        }
        for name, assumes in RATES.items()
        if name in diagnostics
    ]


def noise_reading(diagnostics: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return what the surest samples say of wrong labels, and where they show none, what training sets apart.

    Examples
    --------
    >>> anchors = {"shown": None, "reading": "6.4% of the labels differ"}
    >>> noise_reading({"label_noise_rate": anchors, "label_noise": {"set_apart": 85, "set_apart_flagged": 85}})
    '6.4% of the labels differ; training sets 85 samples apart, which are flagged'
    """
    if "label_noise_rate" not in diagnostics:
        return None
    found, judged = diagnostics["label_noise_rate"], diagnostics.get("label_noise", {})
    reading, apart = str(found["reading"]), judged.get("set_apart", 0)
    if found.get("shown") or not apart:
        return reading
    flagged, seen = judged["set_apart_flagged"], apart - judged["set_apart_flagged"]
    which = (
        "which are flagged" if not seen else f"of which {flagged} are flagged and a person looked at {seen}"
    )
    return f"{reading}; training sets {counted(apart, 'sample')} apart, {which}"


def stability(diagnostics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return what several seeds have in common: ``seeds``, ``scores``, ``flags`` and ``pruned``; None for one seed."""
    if "seed_correlation" not in diagnostics:
        return None
    judged = diagnostics.get("label_noise", {})
    return {
        **diagnostics["seed_correlation"],
        "flags": judged if "flagged_by_every_seed" in judged else None,
        "pruned": diagnostics.get("subset_stability", {}).get("pruned"),
    }
