"""The shared work behind `residual_shortcut` and `residual_verdict`: every view once, then score and verdict.

Steps (ours; no network is trained): small residuals of the images (`residual_views`), two groups per class
in each view (`view_separation`), a sum of the views weighted by how far apart their groups are, and a gate.
The gate asks two things of one and the same view: there are two groups (separation D), and the upper one
carries the label (gap, in log-odds of a discriminant that knows nothing of the groups). Label noise and a
smooth class texture lift the gap alone, noise that is not tied to the label lifts D alone.

Both are held against what the same set shows when each of its classes is made one cloud (`one_cloud`), so that
they mean the same at every size and number of classes. A run on permuted labels is no help as a reference: its
gap stays near 0.9 whatever the set.

The conditions were set on two seeds of Fashion-MNIST, as it is, on a sensor noise floor and with uneven classes, and on
digits: poisoned, clean, with 20 % wrong labels, and with noise that is not tied to the label.
There natural classes come to 1.12 times the
separation of clouds (digits, of 17 grey levels, to 1.37) and 1.75 times their gap; label noise and small sets move
them little. Noise that is not tied to the label reaches 2.3 times the separation on a black background, and, because it
shows the outline of the object, 2.24 times the gap; so more is asked there.

Single pixels of a full colour are counted besides, exactly and over the whole image (`lone_pixels`): one in each image
is too little for a discriminant where images are large or in colour.
"""

from __future__ import annotations

import hashlib
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracesift.catalog.schema import BadInput
from tracesift.scorers.unlearnable.lone_pixels import LonePixel, lone_pixels
from tracesift.scorers.unlearnable.one_cloud import one_cloud
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
"""Values per image that the views look at; of larger images the central window (32 x 32 in colour fits whole)."""

# By kind of view: ridge in units of the mean variance; and, in units of what the set shows when each class is one
# cloud, the separation that clean sets reach, and the conditions on separation, gap and the product of both.
_RULES = {
    "mean": {"ridge": 4.0, "clean": 1.12, "separation": 1.25, "gap": 1.7, "product": 2.2},
    "median": {"ridge": 1.0, "clean": 1.12, "separation": 1.25, "gap": 1.7, "product": 2.2},
    "impulse": {"ridge": 0.1, "clean": 3.0, "separation": 6.0, "gap": 1.8, "product": 15.0},
}
_NEAR = 0.97  # of the conditions, from which a set is at least suspect
_ALONE = 1.35
"""Times the conditions on separation and gap that a single class must reach alone, in a view by mean and in one by
median: chance and noise that is not tied to the label lift one class in one kind (to 2.2 times), hardly in both (1.25).
Views of impulses have no say: single pixels that stand out are never a cloud, and of a hundred classes one has ten
images with an odd one; those of a single class are counted by `lone_pixels`."""
_LEAST = {"mean": 2.5, "median": 2.5, "impulse": 2.2}  # separation of clouds, at least, and
_LEAST_GAP = 0.65  # their gap: below the conditions times these, no reference is needed
_REFERENCED = 12_000  # samples that the references of a set hold together, at least
_MANY = 3_000  # samples, from which small classes are enough: what counts is the mean over classes
_FLAT = 0.05  # share of pixels in flat surroundings from which any noise shows the outlines of objects
_ON_FLAT = {"mean": 2.35, "median": 2.35, "impulse": 2.1}  # the gap then, as outlines tell the label, and
_BLANK = 0.05  # share of images without any residual from which a cored view is not heard
_TOP = 8.0  # position between the groups beyond which more says nothing
_MOST = 9.0  # weight of a view, at most, and of a lone pixel


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
        The median class must hold this many images, half as many of 3,000 in all, or the verdict is "cannot tell".

    Returns
    -------
    ResidualAnalysis
        What `residual_shortcut` and `residual_verdict` return, for the price of one of them.
    """
    images, labels = _checked(images, labels)
    looked = _looked_at(images, labels)
    layout, score = looked.layout, looked.score.copy()
    sizes = layout.bounds[:, -1] - layout.bounds[:, 0]
    needed = smallest_class if len(layout.order) < _MANY else smallest_class / 2
    if len(layout.classes) < 2 or np.median(sizes) < needed:
        return ResidualAnalysis(score=score, verdict=_cannot_tell(layout, len(images), smallest_class))
    verdict = {
        **_judge(deepcopy(looked.lines), looked.untied, looked.lone, layout),
        **_counts(layout, len(images), smallest_class),
    }
    rows, columns = _window(images[:1]).shape[1:3]
    if (rows, columns) != images.shape[1:3]:
        seen = f"the central {rows} x {columns} of {images.shape[1]} x {images.shape[2]} pixels"
        verdict["reason"] += f"; but for single pixels, only {seen} were looked at"
    return ResidualAnalysis(score=score, verdict=verdict)


@dataclass(frozen=True, kw_only=True)
class _Looked:
    """What the views of one set show, before anything is judged."""

    layout: Layout
    score: Floats
    lines: dict[str, dict[str, Any]]  # by view, the answers of the gate
    untied: list[int]  # classes whose upper group does not carry the label
    lone: list[LonePixel]  # of classes in the layout


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
        return _Looked(layout=layout, score=score, lines={}, untied=[], lone=[])
    window = _window(images)[layout.order]
    views = views_for(*window.shape[1:3])
    flat = _flat_share(window) >= _FLAT
    found, lines = [], {}
    for view in views:
        seen = view_of(window, view)
        found.append(separate(seen, layout, ridge=_RULES[view.filter]["ridge"]))
        lines[view.name] = _ask(view, seen, found[-1], layout, flat=flat)
    _hear_single_classes(views, lines)
    lone = [one for one in lone_pixels(images, labels) if one.label in layout.classes]
    score[layout.order] = _weigh(views, found, layout, lines, [one for one in lone if one.fires])
    return _Looked(layout=layout, score=score, lines=lines, untied=_untied(found, lines, layout), lone=lone)


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


def _flat_share(window: NDArray[np.uint8]) -> float:
    """Return the share of pixels, over all images, whose 3x3 neighbourhood is of one level."""
    same = np.zeros(len(window), dtype=np.int64)
    for start in range(0, len(window), 512):
        block = window[start : start + 512]
        there = np.ones(block[:, 1:-1, 1:-1].shape, dtype=bool)
        for row in range(3):
            for column in range(3):
                height, width = block.shape[1] - 2, block.shape[2] - 2
                there &= block[:, row : row + height, column : column + width] == block[:, 1:-1, 1:-1]
        same[start : start + 512] = there.reshape(len(block), -1).sum(axis=1)
    return float(same.sum() / max(window[:, 1:-1, 1:-1].size, 1))


def _weigh(
    views: tuple[View, ...],
    found: list[Separation],
    layout: Layout,
    lines: dict[str, dict[str, Any]],
    lone: list[LonePixel],
) -> Floats:
    """Sum the views; those that meet the gate, or nearly, by the square of their separation over clean sets'.

    In each class the lower group's mean is 0 and the within-group deviation 1, so that a class with the
    signal stands out from one without. The unsplit score takes part only in views whose groups are hardly
    apart: there it is the steadier of the two. In a class with a lone pixel, to have it or not takes the place of
    the impulse view, which asks the same less exactly.
    """
    total = np.zeros(len(layout.order))
    for label in {one.label for one in lone}:
        holders = np.concatenate([one.holders for one in lone if one.label == label])
        total[np.isin(layout.order, holders)] += _MOST * _TOP
    for view, one in zip(views, found, strict=True):
        line = lines[view.name]
        heard = line["fires"] or line["near"]
        clean = _RULES[view.filter]["clean"] * (line["separation_of_clouds"] or np.inf)
        excess = max(line["separation"] / clean - 1.0, 0.0) if heard else 0.0
        weight = min(excess**2, _MOST) + (0.02 if view.filter != "impulse" else 0.0)
        for group, label in enumerate(layout.classes):
            if view.filter == "impulse" and any(one.label == label for one in lone):
                continue
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


def _ask(
    view: View, seen: NDArray[np.int8], one: Separation, layout: Layout, *, flat: bool
) -> dict[str, Any]:
    """Put the two questions of the gate to one view.

    Where many images are blank in it, the groups are those with and without noise of any kind. Such a view is no
    witness.
    """
    rule = dict(_RULES[view.filter])
    if flat:
        rule["gap"] = _ON_FLAT[view.filter]
    blank = float((~seen.any(axis=1)).mean())
    heard = view.filter == "impulse" or blank <= _BLANK
    least, least_gap = rule["separation"] * _LEAST[view.filter], rule["gap"] * _LEAST_GAP
    asked = (one.separation.mean() >= _NEAR * least and one.gap.mean() >= _NEAR * least_gap) or (
        (one.separation >= _ALONE * least) & (one.gap >= _ALONE * least_gap)
    ).any()
    clouds = _clouds(view, seen, layout, one.upper) if heard and asked else None
    line: dict[str, Any] = {
        "separation": round(float(one.separation.mean()), 4),
        "separation_of_clouds": None,
        "separation_needed": round(least, 4),
        "gap": round(float(one.gap.mean()), 4),
        "gap_of_clouds": None,
        "gap_needed": None,
        "fires": False,
        "near": False,
        "blank": round(blank, 4),
        "strong_classes": [],
    }
    if clouds is None or not all(values.mean() > 0 for values in clouds):
        return line
    apart, told = _times(one.separation, clouds[0]), _times(one.gap, clouds[1])
    strong = (apart >= rule["separation"] * _ALONE) & (told >= rule["gap"] * _ALONE)
    of_clouds = [float(values.mean()) for values in clouds]
    times = line["separation"] / of_clouds[0], line["gap"] / of_clouds[1]
    met = min(times[0] / rule["separation"], times[1] / rule["gap"], times[0] * times[1] / rule["product"])
    return line | {
        "separation_of_clouds": round(of_clouds[0], 4),
        "separation_needed": round(rule["separation"] * of_clouds[0], 4),
        "gap_of_clouds": round(of_clouds[1], 4),
        "gap_needed": round(max(rule["gap"], rule["product"] / times[0]) * of_clouds[1], 4),
        "fires": bool(met >= 1.0),
        "near": bool(met >= _NEAR),
        "strong_classes": [int(index) for index in layout.classes[strong]],
    }


def _hear_single_classes(views: tuple[View, ...], lines: dict[str, dict[str, Any]]) -> None:
    """Keep the strong classes that a view by mean and one by median agree on; where there are such, the view fires."""
    seen: dict[str, set[int]] = {kind: set() for kind in _RULES}
    for view in views:
        seen[view.filter].update(lines[view.name]["strong_classes"])
    agreed = seen["mean"] & seen["median"]
    for view in views:
        line = lines[view.name]
        heard = agreed if view.filter != "impulse" else set()
        line["strong_classes"] = [index for index in line["strong_classes"] if index in heard]
        line["fires"] = line["fires"] or bool(line["strong_classes"])


def _untied(found: list[Separation], lines: dict[str, dict[str, Any]], layout: Layout) -> list[int]:
    """Return the classes whose upper group carries the label no more than one of clouds would.

    Asked of each in the view that sets its groups furthest apart, of those that are heard. What falls into two groups
    for another reason (two kinds of background) then stands beside the poisoned classes, and looks like them.
    """
    heard = [
        (one, line)
        for one, line in zip(found, lines.values(), strict=True)
        if line["gap_of_clouds"] and (line["fires"] or line["near"])
    ]
    if not heard:
        return [int(index) for index in layout.classes]
    apart = np.array([one.separation / line["separation_needed"] for one, line in heard])  # (views, K)
    told = np.array([one.gap / line["gap_of_clouds"] for one, line in heard])
    clearest = told[apart.argmax(axis=0), np.arange(len(layout.classes))]
    return [int(index) for index in layout.classes[clearest < 1.0]]


def _clouds(
    view: View, seen: NDArray[np.int8], layout: Layout, upper: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Return separation and gap (K,) of the same set with each class one cloud; of a small set, of several draws."""
    draws = int(np.clip(np.ceil(_REFERENCED / len(seen)), 1, 8))
    found = [
        separate(one_cloud(seen, layout, upper, seed), layout, ridge=_RULES[view.filter]["ridge"])
        for seed in range(draws)
    ]
    return (
        np.mean([one.separation for one in found], axis=0),
        np.mean([one.gap for one in found], axis=0),
    )


def _times(values: Floats, reference: Floats) -> Floats:
    return np.divide(values, reference, out=np.zeros_like(values), where=reference > 0)


def _judge(
    lines: dict[str, dict[str, Any]], untied: list[int], lone: list[LonePixel], layout: Layout
) -> dict[str, Any]:
    clearest = {one.label: one for one in reversed(lone)}  # of each class; they come by falling excess
    pixels = [_in_row(one, layout) for one in lone if clearest[one.label] is one]
    fires = any(found["fires"] for found in (*lines.values(), *pixels))
    near = any(line["near"] for line in lines.values())
    verdict = "poisoned" if fires else "suspect" if near or pixels else "clean"
    best = max(
        lines, key=lambda name: (lines[name]["fires"], lines[name]["near"], _share_of_needed(lines[name]))
    )
    return {
        "verdict": verdict,
        "reason": _REASONS["suspect pixel" if verdict == "suspect" and not near else verdict],
        "best_view": "lone_pixels" if any(row["fires"] for row in pixels) else best,
        "views": lines,
        "untied_classes": untied if fires else [],
        "lone_pixels": pixels,
    }


def _in_row(one: LonePixel, layout: Layout) -> dict[str, Any]:
    group = int(np.searchsorted(layout.classes, one.label))
    return {
        "class": one.label,
        "row": one.row,
        "column": one.column,
        "colour": list(one.colour),
        "holders": len(one.holders),
        "of_class": int(layout.bounds[group, -1] - layout.bounds[group, 0]),
        "expected": round(one.expected, 1),
        "fires": one.fires,
    }


def _share_of_needed(line: dict[str, Any]) -> float:
    return float(line["separation"] / max(line["separation_needed"], 1e-9))


_REASONS = {
    "poisoned": "part of the images carries a label-specific small signal (an attack, or a watermark or "
    "camera tied to a class: they look the same)",
    "suspect": "small residuals fall into two groups, but the tie to the label is too weak to flag samples",
    "suspect pixel": "some images of a label have one pixel of the same colour in the same place, too few to flag them",
    "clean": "no label-specific small signal was found; a signal in all images of a class or in under about a tenth of "
    "them, a weak one in a few of the classes only, and noise that differs from image to image or makes images harder "
    "(Bayes-error noise) in a part of them, can stay unseen",
    "cannot tell": "too few images a class to tell a planted signal from chance",
}


def _cannot_tell(layout: Layout, samples: int, smallest_class: int) -> dict[str, Any]:
    return {
        "verdict": "cannot tell",
        "reason": _REASONS["cannot tell"],
        "best_view": None,
        "views": {},
        "untied_classes": [],
        "lone_pixels": [],
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
