"""The shared work behind `residual_shortcut` and `residual_verdict`: every view once, then score and verdict.

Steps (ours; no network is trained): small residuals of the images (`residual_views`), two groups per class
in each view (`view_separation`), a sum of the views weighted by how far apart their groups are, and a gate.
The gate asks two things of one and the same view: there are two groups (separation D), and the upper one
carries the label (gap, in log-odds of a discriminant that knows nothing of the groups). Label noise and a
smooth class texture lift the gap alone, noise that is not tied to the label lifts D alone.

Where the gate's numbers come from: clean sets of 144 to 2,000 images a class (Fashion-MNIST as it is and on a
sensor noise floor, digits, windows of two colour photographs), the same with 20 % wrong labels, and the same
with untied noise. A bell curve cut in the middle gives D = 2.65; these sets gave 2.8 to 3.4, digits up to 4.0,
gaps of 0.7 to 1.85, and a product of at most 1.18 times that of the two conditions. The gap's own level grows
with size, so a small set is judged more mildly than it could be. A run on permuted labels is no help as a
reference: its gap stays near 0.9 whatever the set.
"""

from __future__ import annotations

import hashlib
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracesift.catalog.schema import BadInput
from tracesift.scorers.unlearnable.residual_views import View, view_of, views_for
from tracesift.scorers.unlearnable.view_separation import (
    FOLDS,
    Floats,
    Layout,
    Separation,
    lay_out,
    otsu_cut,
    separate,
    spread_within,
)

WINDOW = 3072
"""Values per image that are looked at; of larger images the central window (32 x 32 in colour fits whole)."""

# By kind of view: ridge in units of the mean variance, separation of clean sets, and the two conditions.
_RULES = {
    "mean": {"ridge": 4.0, "clean": 3.2, "separation": 3.5, "gap": 1.5},
    "median": {"ridge": 1.0, "clean": 3.2, "separation": 3.5, "gap": 1.5},
    "impulse": {"ridge": 0.1, "clean": 8.0, "separation": 15.0, "gap": 2.0},
}
_ONE_CLASS = {"separation": 2.0, "gap": 2.5}  # times the two conditions, in a single class
_FIRES = 1.33  # separation times gap, in units of the product of the two conditions: clean digits reach 1.18
_NEAR = 1.25  # the same from which a set is at least suspect
_BLANK = 0.05  # share of images without any residual from which a cored view is not heard
_TOP = 8.0  # position between the groups beyond which more says nothing


@dataclass(frozen=True, kw_only=True)
class ResidualAnalysis:
    """Score per sample and verdict per set, from one pass over the views."""

    score: Floats  # (N,) suspicious; NaN where the class is too small
    verdict: dict[str, Any]  # see `residual_verdict`


def residual_analysis(
    images: NDArray[np.uint8], labels: NDArray[np.int64], *, smallest_class: int = 100
) -> ResidualAnalysis:
    """Look for a small label-specific signal in the images; return the score and the verdict together.

    Parameters
    ----------
    images : (N, H, W, C) uint8
        Grey levels over the full range 0 to 255, not scaled down.
    labels : (N,) int
        Class indices.
    smallest_class
        The median class must hold this many images, or the verdict is "cannot tell".

    Returns
    -------
    ResidualAnalysis
        What `residual_shortcut` and `residual_verdict` return, for the price of one of them.
    """
    images, labels = _checked(images, labels)
    looked = _looked_at(images, labels)
    layout, score = looked.layout, looked.score.copy()
    sizes = layout.bounds[:, -1] - layout.bounds[:, 0]
    if len(layout.classes) < 2 or np.median(sizes) < smallest_class:
        return ResidualAnalysis(score=score, verdict=_cannot_tell(layout, len(images), smallest_class))
    verdict = {**_judge(deepcopy(looked.lines)), **_counts(layout, len(images), smallest_class)}
    return ResidualAnalysis(score=score, verdict=verdict)


@dataclass(frozen=True, kw_only=True)
class _Looked:
    """What the views of one set show, before anything is judged."""

    layout: Layout
    score: Floats
    lines: dict[str, dict[str, Any]]  # by view, the answers of the gate


_last: dict[bytes, _Looked] = {}
"""What the last set showed, by a hash of all that it depends on. Score and verdict of one set are asked for one
after the other, and again for every seed of a recording, whose images are the same."""


def _looked_at(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> _Looked:
    """Return what the views of this set show; worked out anew where the last set was another."""
    content = hashlib.blake2b(repr((images.shape, WINDOW)).encode(), digest_size=32)
    content.update(np.ascontiguousarray(images).data)
    content.update(np.ascontiguousarray(labels, dtype=np.int64).data)
    key = content.digest()
    looked = _last.get(key)
    if looked is None:
        looked = _look(images, labels)
        _last.clear()
        _last[key] = looked
    return looked


def _look(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> _Looked:
    layout = lay_out(images, labels)
    score = np.full(len(images), np.nan)
    if len(layout.classes) < 2:
        return _Looked(layout=layout, score=score, lines={})
    window = _window(images)[layout.order]
    views = views_for(*window.shape[1:3])
    found, blank = [], []
    for view in views:
        seen = view_of(window, view)
        blank.append(float((~seen.any(axis=1)).mean()))
        found.append(separate(seen, layout, ridge=_RULES[view.filter]["ridge"]))
    lines = {
        view.name: _ask(view, one, layout, empty)
        for view, one, empty in zip(views, found, blank, strict=True)
    }
    score[layout.order] = _weigh(views, found, layout, lines)
    return _Looked(layout=layout, score=score, lines=lines)


def _checked(
    images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or images.dtype != np.uint8:
        raise BadInput(
            f"images have shape {images.shape} and type {images.dtype}; the residual views need "
            "(samples, rows, columns, channels) of uint8 with the full range 0 to 255"
        )
    if labels.shape != images.shape[:1]:
        raise BadInput(f"there are {len(images)} images but labels have shape {labels.shape}; pass one each")
    return images, labels


def _window(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the central window of at most WINDOW values, square where the image allows it."""
    _, height, width, channels = images.shape
    if height * width * channels <= WINDOW:
        return images
    side = int(np.sqrt(WINDOW / channels))
    rows = min(height, max(side, WINDOW // channels // width))
    columns = min(width, WINDOW // channels // rows)
    top, left = (height - rows) // 2, (width - columns) // 2
    return images[:, top : top + rows, left : left + columns]


def _weigh(
    views: tuple[View, ...], found: list[Separation], layout: Layout, lines: dict[str, dict[str, Any]]
) -> Floats:
    """Sum the views; those that meet the gate, or nearly, by the square of their separation over clean sets'.

    In each class the lower group's mean is 0 and the within-group deviation 1, so that a class with the
    signal stands out from one without. The unsplit score takes part only in views whose groups are hardly
    apart: there it is the steadier of the two.
    """
    total = np.zeros(len(layout.order))
    for view, one in zip(views, found, strict=True):
        line = lines[view.name]
        heard = line["fires"] or line["near"]
        excess = max(line["separation"] / _RULES[view.filter]["clean"] - 1.0, 0.0) if heard else 0.0
        weight = min(excess, 3.0) ** 2 + (0.02 if view.filter != "impulse" else 0.0)
        for group in range(len(layout.classes)):
            part = layout.whole(group)
            place = _above_lower_group(one.split[part])
            deviation = one.unsplit[part].std()
            if excess < 1.0 and deviation > 0:
                centred = (one.unsplit[part] - one.unsplit[part].mean()) / deviation
                place = place + (1.0 - excess) * centred
            total[part] += weight * place
    return np.round(total, 9)


def _above_lower_group(values: Floats) -> Floats:
    upper = values > otsu_cut(values, smallest=max(2, len(values) // 50))
    deviation = spread_within(values, upper)
    if deviation == 0 or upper.all() or not upper.any():
        return np.zeros_like(values)
    return np.minimum((values - values[~upper].mean()) / deviation, _TOP)


def _ask(view: View, one: Separation, layout: Layout, blank: float) -> dict[str, Any]:
    """Put the two questions of the gate to one view; `blank` is the share of images without any residual in it.

    Where many are blank, the groups are those with and without noise of any kind. Such a view is no witness.
    """
    rule = _RULES[view.filter]
    separation, gap = float(one.separation.mean()), float(one.gap.mean())
    strong = (one.separation >= rule["separation"] * _ONE_CLASS["separation"]) & (
        one.gap >= rule["gap"] * _ONE_CLASS["gap"]
    )
    both = separation >= rule["separation"] and gap >= rule["gap"]
    product = separation * gap / (rule["separation"] * rule["gap"])
    heard = view.filter == "impulse" or blank <= _BLANK
    return {
        "separation": round(separation, 4),
        "separation_needed": rule["separation"],
        "gap": round(gap, 4),
        "gap_needed": rule["gap"],
        "fires": heard and (bool(both and product >= _FIRES) or bool(strong.any())),
        "near": heard and bool(separation > 0 and product >= _NEAR),
        "blank": round(blank, 4),
        "strong_classes": [int(index) for index in layout.classes[strong]],
    }


def _judge(lines: dict[str, dict[str, Any]]) -> dict[str, Any]:
    fires = any(line["fires"] for line in lines.values())
    near = any(line["near"] for line in lines.values())
    verdict = "poisoned" if fires else "suspect" if near else "clean"
    best = max(
        lines, key=lambda name: (lines[name]["fires"], lines[name]["near"], _share_of_needed(lines[name]))
    )
    return {"verdict": verdict, "reason": _REASONS[verdict], "best_view": best, "views": lines}


def _share_of_needed(line: dict[str, Any]) -> float:
    return float(line["separation"] / line["separation_needed"])


_REASONS = {
    "poisoned": "part of the images carries a label-specific small signal (an attack, or a watermark or "
    "camera tied to a class: they look the same)",
    "suspect": "small residuals fall into two groups, but the tie to the label is too weak to flag samples",
    "clean": "no label-specific small signal was found; sample-wise noise in a small share can stay unseen",
    "cannot tell": "too few images a class to tell a planted signal from chance",
}


def _cannot_tell(layout: Layout, samples: int, smallest_class: int) -> dict[str, Any]:
    return {
        "verdict": "cannot tell",
        "reason": _REASONS["cannot tell"],
        "best_view": None,
        "views": {},
        **_counts(layout, samples, smallest_class),
    }


def _counts(layout: Layout, samples: int, smallest_class: int) -> dict[str, Any]:
    return {
        "samples": samples,
        "samples_judged": len(layout.order),
        "classes_judged": len(layout.classes),
        "smallest_class": smallest_class,
        "folds": FOLDS,
    }
