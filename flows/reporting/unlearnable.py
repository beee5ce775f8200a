"""What the report shows of a label-specific small signal: the evidence in words, and pictures of it, amplified.

Every picture is of what the model reads, and beside it, pixel for pixel, what the verdict was reached by: how far each
pixel lies off its surroundings, edges of objects left out, times eight around a middle grey. The mean over many such
pictures of one label shows a pattern that they share, and is plain grey where they share none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from tracesift.flows.reporting.previews import thumbnail
from tracesift.flows.reporting.tables import view_in_words
from tracesift.flows.reporting.worklist import UNTOLD
from tracesift.pipelines.dataset import Dataset
from tracesift.scorers.unlearnable.residual_views import View, view_of, views_for

AMPLIFIED = 8
"""A residual of this many times less than the range fills it."""

LABELS = 6
"""Rows of examples."""

OF_UPPER, OF_LOWER = 2, 1
"""How many samples with and without the signal stand in a row; more make it wider than the page."""

AVERAGED = 200
"""At most as many samples of a label go into a mean picture."""

SHOWN = ("poisoned", "suspect")
_MIDDLE = 128


def residual_examples(
    dataset: Dataset, flags: pl.DataFrame, verdict: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Return a row per label of images with their residual: some that carry the signal, and some that do not.

    Parameters
    ----------
    dataset
        The images, as models read them.
    flags
        Answers of the flag `unlearnable` among others. Where it flags nothing, the fifth of each label with the highest
        score stands against the fifth with the lowest.
    verdict
        What `residual_verdict` said.

    Returns
    -------
    list of dict
        Labels with the most flagged samples first; empty unless the verdict is "poisoned" or "suspect". `label`,
        `flagged` (whether the upper group is the flagged one), `upper` and `lower`: each `count`, `averaged`, `mean`
        (the mean residual of so many) and `examples` (`sample_id`, `image`, `residual`), with pictures as the template
        shows them.
    """
    said = verdict or {}
    if said.get("verdict") not in SHOWN or dataset.kind != "image":
        return []
    assert not isinstance(dataset.inputs, list | pl.DataFrame)
    answers = (
        flags.filter((pl.col("flag") == "unlearnable") & pl.col("score").is_finite())
        .join(dataset.samples.with_row_index("row").select("sample_id", "row", "label"), on="sample_id")
        .sort(["score", "sample_id"], descending=[True, False])
    )
    decided = bool(answers["flagged"].any())
    height, width = dataset.inputs[np.array([0])].shape[1:3]
    view = _view(said.get("best_view"), height, width)
    order = (
        answers.group_by("label")
        .agg(yes=pl.col("flagged").sum(), best=pl.col("score").max())
        .sort(["yes", "best", "label"], descending=[True, True, False])
    )
    rows = []
    for label in order["label"].head(LABELS):
        of_label = answers.filter(pl.col("label") == label)
        fifth = max(1, of_label.height // 5)
        upper = of_label.filter(pl.col("flagged")) if decided else of_label.head(fifth)
        lower = of_label.filter(pl.col("flagged").not_()) if decided else of_label.tail(fifth)
        if upper.height and lower.height:
            rows.append(
                {
                    "label": label,
                    "flagged": decided,
                    "upper": _group(dataset, upper, view, OF_UPPER),
                    "lower": _group(dataset, lower.reverse(), view, OF_LOWER),
                }
            )
    return rows


def _view(name: str | None, height: int, width: int) -> View:
    """Return the view that the verdict names; its window may be smaller than the image, so the name alone decides."""
    known = {view.name: view for size in ((height, width), (8, 8), (32, 32)) for view in views_for(*size)}
    return known.get("impulse" if name == "lone_pixels" else str(name), known["mean3_core12"])


def _group(dataset: Dataset, rows: pl.DataFrame, view: View, shown: int) -> dict[str, Any]:
    at = rows["row"].head(AVERAGED).to_numpy()
    assert not isinstance(dataset.inputs, list | pl.DataFrame)
    images = np.asarray(dataset.inputs[at])
    residuals = residual_levels(images, view)
    return {
        "count": rows.height,
        "averaged": len(at),
        "mean": thumbnail(picture(residuals.mean(0))),
        "examples": [
            {"sample_id": sample_id, "image": thumbnail(_as_image(image)), "residual": thumbnail(picture(residual))}
            for sample_id, image, residual in zip(rows["sample_id"].head(shown), images, residuals, strict=False)
        ],
    }  # fmt: skip


def residual_levels(images: NDArray[np.uint8], view: View) -> NDArray[np.float64]:
    """Return what a view keeps of the images, in grey levels (N, H, W, C).

    Examples
    --------
    >>> flat = np.full((1, 5, 5, 1), 100, dtype=np.uint8)
    >>> flat[0, 2, 2] = 109
    >>> residual_levels(flat, View(name="mean3_core12", filter="mean", size=3, core=12))[0, 2, 1:4, 0].tolist()
    [-1.0, 8.0, -1.0]
    """
    kept = view_of(images, view).reshape(images.shape).astype(np.float64)
    scale = {"mean": 1 / view.size**2, "median": 1.0, "impulse": float(view.core)}[view.filter]
    return kept * scale


def picture(residual: NDArray[np.float64]) -> Image.Image:
    """Return one residual (H, W, C) as a picture: zero is grey 128, and each level counts eight times."""
    levels = np.clip(np.rint(_MIDDLE + AMPLIFIED * residual), 0, 255).astype(np.uint8)
    return _as_image(levels)


def _as_image(levels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)


def in_sentences(verdict: Mapping[str, Any] | None) -> str:
    """Return what the verdict "poisoned" or "suspect" rests on, as a person would say it; nothing for any other.

    Examples
    --------
    >>> line = {"separation": 5.24, "separation_of_clouds": 2.8, "separation_needed": 3.5, "fires": True}
    >>> line |= {"gap": 2.31, "gap_of_clouds": 1.0, "gap_needed": 1.7}
    >>> in_sentences({"verdict": "poisoned", "best_view": "mean3_core8", "views": {"mean3_core8": line}})[:60]
    '1 of 1 ways to look at small residuals shows the signal. In '
    """
    said = verdict or {}
    pixels = [row for row in said.get("lone_pixels", ()) if row["fires"]]
    if pixels:
        return _of_lone_pixels(pixels)
    line = (said.get("views") or {}).get(said.get("best_view"))
    needed = (
        "separation", "separation_of_clouds", "separation_needed", "gap", "gap_of_clouds", "gap_needed",
    )  # fmt: skip
    if said.get("verdict") not in SHOWN or line is None or any(line.get(key) is None for key in needed):
        return ""
    views: Mapping[str, Mapping[str, Any]] = said["views"]
    fires = sum(bool(one.get("fires")) for one in views.values())
    seen = view_in_words(str(said["best_view"]))
    return (
        f"{fires} of {len(views)} ways to look at small residuals {'shows' if fires == 1 else 'show'} the signal. "
        f"In the clearest ({seen}), the images of a label fall into two groups {line['separation']:.2f} deviations "
        f"apart on average ({line['separation_of_clouds']:.2f} if every label were one group; "
        f"{line['separation_needed']:.2f} needed), and the label shows {line['gap']:.2f} deviations more in the upper "
        f"group than the lower ({line['gap_of_clouds']:.2f} if it were one; {line['gap_needed']:.2f} needed)."
    )


def _of_lone_pixels(rows: Sequence[Mapping[str, Any]]) -> str:
    labels, clearest = len({row["class"] for row in rows}), rows[0]
    return (
        f"{labels:,} {'label has' if labels == 1 else 'labels have'} one pixel of a full colour in the same place of "
        f"many images. The clearest, in row {clearest['row']} and column {clearest['column']}, is in "
        f"{clearest['holders']:,} of {clearest['of_class']:,} images of its label; "
        + (
            f"by the places around it and the other labels, {clearest['expected']:,.0f} or fewer would need no signal."
            if clearest["expected"] >= 1
            else "the places around it and the other labels hardly have any."
        )
    )


def truth_in_words(truth: Mapping[str, Any] | None) -> str:
    """Return how the flag did against what `tracesift protect` changed; nothing where that is not known.

    Examples
    --------
    >>> said = truth_in_words({"known": 10, "changed": 4, "told": 9, "found": 3, "flagged": 5, "scorers": {}})
    >>> said.split(". ")[1]
    'The flag finds 3 of them (recall 75.0 %), and of the 5 that it flags 2 are unchanged (false flags, 40.0 %).'
    """
    if truth is None or not truth["changed"]:
        return ""
    found, flagged = truth["found"], truth["flagged"]
    wrong = flagged - found
    score = truth["scorers"].get("residual_shortcut")
    known = f"tracesift protect is known to have changed {truth['changed']:,} of {truth['known']:,} training samples."
    if not truth["told"]:
        return f"{known} {UNTOLD}"
    return (
        f"{known} The flag finds {found:,} of them (recall {_percent(found, truth['changed'])}), and "
        + (
            f"of the {flagged:,} that it flags {wrong:,} {'is' if wrong == 1 else 'are'} unchanged (false flags, "
            f"{_percent(wrong, flagged)})."
            if flagged
            else "flags nothing else."
        )
        + (f" The AUROC of residual_shortcut is {score['auroc']:.3f}." if score else "")
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"
