"""Flag: the image carries a label-specific small signal. Three answers per sample: yes, no, cannot tell.

The rule in one sentence: *only where the verdict on the whole set is "poisoned", and only in classes whose
scores fall into two groups at least 3.5 deviations apart, the upper group is flagged; the cut is Otsu's, or lower
where the lower group ends.* Any score of this kind falls into two halves in clean data too, about 2.65 deviations
apart, so neither condition can be left out. Otsu's cut lies midway between the two groups, whatever their widths: in
busy pictures, which hide much of a signal, a quarter of the upper group lay below it. The lower group ends 3.5 of its
robust deviations above its median. A class in which nearly all images have the same lone pixel stays open: it may be
what the class looks like. So does one whose upper group carries the label no more than chance would (`untied_classes`
of the verdict): it falls into two groups for another reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.selectors.flags.contract import flag

SIGNAL = "carries a label-specific small signal"
_NEARLY_ALL = 0.9  # of the images of a class
_MAD_OF_NORMAL = 0.6745  # median absolute deviation of a normal curve, in standard deviations
_OUTLYING = 3.5  # modified z-score from which Iglewicz and Hoaglin call a value an outlier


@flag(
    version=3,
    columns=("residual_shortcut",),
    reference="ours; the cut is Otsu 1979 or Iglewicz and Hoaglin 1993, the distance of the groups Ashman et al. 1994",
)
def unlearnable(
    frame: pl.DataFrame,
    *,
    verdict: Mapping[str, Any] | None = None,
    separation: float = 3.5,
    min_class: int = 30,
) -> pl.DataFrame:
    """Say of every image whether it carries a label-specific small signal: True, False or null (cannot tell).

    Not "attack": a watermark or a camera that is tied to one class looks the same.

    Parameters
    ----------
    frame : polars.DataFrame
        `sample_id`, `label` and the score `residual_shortcut` (missing or null where it was not computed).
    verdict : mapping, optional
        What the diagnostic `residual_verdict` says of the whole set. Without it nothing can be told; "clean"
        means no sample is flagged; "suspect" and "cannot tell" leave every sample open. In the rows of `lone_pixels`,
        `class` is the label, and `untied_classes` holds labels.
    separation : float
        Least distance between the means of the two groups of a class, in pooled standard deviations.
    min_class : int
        Classes with fewer scored samples are not judged.

    Returns
    -------
    polars.DataFrame
        Sorted by `sample_id`: `flagged`, `score` (`residual_shortcut`), `threshold` (the cut of the class,
        null where there are no two groups), `reason`.

    Raises
    ------
    BadInput
        Missing columns, repeated ids, an unknown verdict, or a verdict "poisoned" without scores.

    References
    ----------
    Otsu, "A Threshold Selection Method from Gray-Level Histograms", 1979, for the cut.
    Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993, for the end of the lower group: a modified z-score
    of 3.5.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": ["a", "b"], "label": ["x", "x"], "residual_shortcut": [0.1, 2.0]})
    >>> unlearnable(frame, verdict={"verdict": "clean"})["flagged"].to_list()
    [False, False]
    >>> unlearnable(frame, verdict=None)["flagged"].to_list()
    [None, None]
    """
    if min_class < 10:
        raise BadInput(
            f"unlearnable: min_class is {min_class}; two groups cannot be told from under 10 samples"
        )
    frame = _checked(frame, verdict)
    said = None if verdict is None else verdict["verdict"]
    if said in _OPEN:
        return _answers(frame, pl.lit(None, pl.Boolean), pl.lit(None, pl.Float64), pl.lit(_OPEN[said]))
    if said == "clean":
        silent = pl.lit(
            "no label-specific small signal was found in this set; one in all images of a class would not be"
        )
        return _answers(frame, pl.lit(value=False), pl.lit(None, pl.Float64), silent)
    labels, score = frame["label"].to_numpy(), frame["residual_shortcut"].fill_null(float("nan")).to_numpy()
    flagged: list[bool | None] = [None] * len(frame)
    threshold: list[float | None] = [None] * len(frame)
    reason = [""] * len(frame)
    pixels = _firing_pixels(verdict)
    untied = {str(one) for one in (verdict or {}).get("untied_classes", ())}
    for label in frame["label"].unique(maintain_order=True):
        rows = np.flatnonzero((labels == label) & np.isfinite(score))
        pixel = pixels.get(label, {"share": 0.0, "text": ""})
        cut, text = _cut(score[rows], separation, min_class, midway=bool(pixel["text"]))
        told = len(rows) >= min_class
        if pixel["share"] > _NEARLY_ALL:
            cut, told = None, False
            text = f"cannot tell: {pixel['text']}; so few are without it that the label itself may look so"
        elif cut is not None and label in untied and not pixel["text"]:
            cut, told = None, False
            text = (
                f"cannot tell: this label's scores fall into two groups ({text}), but the upper one carries the label "
                "no more than chance would, so something else tells them apart"
            )
        for row in rows:
            threshold[row], reason[row] = cut, _in_words(float(score[row]), cut, text)
            if cut is not None and pixel["text"]:
                reason[row] += f"; {pixel['text']}"
            if told:
                flagged[row] = cut is not None and bool(score[row] > cut)
    return _answers(
        frame, pl.Series(flagged, dtype=pl.Boolean), pl.Series(threshold, dtype=pl.Float64), pl.Series(reason)
    )


def _firing_pixels(verdict: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return by label the share of its images with its commonest lone pixel, and where that is in words."""
    rows = [row for row in (verdict or {}).get("lone_pixels", ()) if row["fires"]]
    return {
        str(row["class"]): {
            "share": row["holders"] / row["of_class"],
            "text": f"a lone pixel of colour {', '.join(map(str, row['colour']))} in row {row['row']}, "
            f"column {row['column']} is in {row['holders']:,} of {row['of_class']:,} images of this label",
        }
        for row in sorted(rows, key=lambda row: row["holders"])
    }


_OPEN: dict[str | None, str] = {
    None: "cannot tell: there is no verdict on the whole set (residual_verdict); it needs images",
    "cannot tell": "cannot tell: too few images a class for a verdict on the whole set",
    "suspect": "cannot tell: small residuals fall into two groups, but too weakly tied to the label",
}


def _checked(frame: pl.DataFrame, verdict: Mapping[str, Any] | None) -> pl.DataFrame:
    """Return the frame sorted by `sample_id`, with the score column there."""
    for column in ("sample_id", "label"):
        if column not in frame.columns or frame[column].null_count():
            raise BadInput(
                f"unlearnable: column '{column}' is missing or holds nulls; the frame has {frame.columns}"
            )
    if frame["sample_id"].n_unique() != frame.height:
        raise BadInput("unlearnable: a sample_id stands there twice; ids must be unique")
    said = None if verdict is None else verdict.get("verdict")
    if verdict is not None and said not in ("clean", "poisoned", "suspect", "cannot tell"):
        raise BadInput(f"unlearnable: the verdict is '{said}'; pass what `residual_verdict` returned")
    if "residual_shortcut" not in frame.columns:
        if said in ("clean", "poisoned"):
            raise BadInput(
                "unlearnable: there is a verdict but no score; run `tracesift score residual_shortcut` first"
            )
        frame = frame.with_columns(pl.lit(None, pl.Float64).alias("residual_shortcut"))
    return frame.with_columns(pl.col("residual_shortcut").cast(pl.Float64).fill_nan(None)).sort("sample_id")


def _answers(
    frame: pl.DataFrame,
    flagged: pl.Expr | pl.Series,
    threshold: pl.Expr | pl.Series,
    reason: pl.Expr | pl.Series,
) -> pl.DataFrame:
    """Return the columns of a flag; where a verdict was reached, a sample without a score stays open."""
    return frame.with_columns(
        flagged=flagged, score=pl.col("residual_shortcut"), threshold=threshold, reason=reason
    ).select(
        "sample_id",
        pl.when(pl.col("score").is_not_null()).then("flagged").alias("flagged"),
        "score",
        "threshold",
        pl.when(pl.col("score").is_not_null() | pl.col("reason").str.starts_with("cannot tell"))
        .then("reason")
        .otherwise(
            pl.lit("cannot tell: no residual_shortcut score; too few images of its label, or not scored")
        )
        .alias("reason"),
    )


def _cut(score: np.ndarray, separation: float, min_class: int, *, midway: bool) -> tuple[float | None, str]:
    """Return the cut of one class, or None and why there is none; midway where a lone pixel sets the groups apart."""
    if len(score) < min_class:
        return None, f"cannot tell: fewer than {min_class} scored samples carry this label"
    middle = _otsu(score)
    apart = _distance(score, score > middle)
    if apart < separation:
        return (
            None,
            f"this label's scores fall into no two groups ({apart:.2f} deviations apart, of {separation:g} needed)",
        )
    place = middle if midway else min(middle, _end(score[score <= middle], middle))
    return place, f"the two lie {apart:.2f} deviations apart"


def _end(lower: np.ndarray, middle: float) -> float:
    """Return where the lower group ends by its median absolute deviation; `middle` where more than half are equal."""
    median = np.median(lower)
    deviation = np.median(np.abs(lower - median)) / _MAD_OF_NORMAL
    return float(median + _OUTLYING * deviation) if deviation > 0 else middle


def _in_words(value: float, place: float | None, text: str) -> str:
    if place is None:
        return text
    if value > place:
        side = f"{SIGNAL}: residual_shortcut {value:.4g} > {place:.4g}, its label's upper group"
    else:
        side = f"no such signal: residual_shortcut {value:.4g} <= {place:.4g}, its label's lower group"
    return f"{side} ({text})"


def _otsu(values: np.ndarray) -> float:
    """Return the cut with the largest variance between the sides; each side keeps at least one in fifty."""
    ordered = np.sort(values)
    count, smallest = len(ordered), max(2, len(ordered) // 50)
    below = np.arange(smallest, count - smallest + 1)
    between = np.cumsum(ordered - ordered.mean())[below - 1] ** 2 / (below * (count - below))
    at = below[int(np.argmax(between))]
    return float((ordered[at - 1] + ordered[at]) / 2)


def _distance(values: np.ndarray, upper: np.ndarray) -> float:
    high, low = values[upper], values[~upper]
    if not len(high) or not len(low):
        return 0.0
    pooled = np.sqrt((high.var() * len(high) + low.var() * len(low)) / (len(values) - 2))
    return float((high.mean() - low.mean()) / pooled) if pooled > 0 else np.inf
