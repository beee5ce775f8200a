"""Pictures of a label-specific small signal in the report, and the words beside them."""

import base64
import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tracesift.flows.reporting.unlearnable import (
    AVERAGED,
    in_sentences,
    picture,
    residual_examples,
    residual_levels,
    truth_in_words,
)
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.protection.class_patches import class_patches
from tracesift.scorers.unlearnable.residual_views import View, views_for

MEAN = View(name="mean3_core12", filter="mean", size=3, core=12)
POISONED = {"verdict": "poisoned", "best_view": "mean3_core12", "views": {}}


@pytest.fixture(scope="module")
def spoiled():
    """Grey 12 x 12 noise images of two labels; the first half of each carries the patch of its label."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    images = rng.integers(118, 139, (120, 1, 12, 12)).astype(np.uint8)
    carries = np.tile(np.repeat([True, False], 30), 2)
    images[carries] = class_patches(images[carries], labels[carries], seed=0, eps=8).inputs
    frame = pl.DataFrame(
        {
            "id": [f"s{at:03d}" for at in range(120)],
            "label": np.array(["cat", "dog"])[labels],
            "split": ["train"] * 120,
            "image": [png(image[0]) for image in images],
        }
    )
    return open_dataset(frame, id="id", image="image"), images, carries


def png(levels):
    file = io.BytesIO()
    Image.fromarray(levels).save(file, format="PNG")
    return file.getvalue()


def flags(dataset, carries, flagged):
    ids = [f"s{at:03d}" for at in range(120)]
    score = np.where(carries, 3.0, 0.0) + np.arange(120) / 1000
    return pl.DataFrame(
        {"flag": ["unlearnable"] * 120, "sample_id": ids, "flagged": flagged, "score": score},
        schema_overrides={"flagged": pl.Boolean},
    )


def pixels(shown):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(shown["uri"].split(",")[1])))).astype(int)


def test_flagged_beside_unflagged_at_one_scale(spoiled):
    dataset, images, carries = spoiled
    rows = residual_examples(dataset, flags(dataset, carries, carries.tolist()), POISONED)
    assert [row["label"] for row in rows] == [
        "dog",
        "cat",
    ]  # as many flagged each; the highest score is a dog's
    dog = rows[0]
    assert dog["flagged"]
    assert (dog["upper"]["count"], dog["lower"]["count"]) == (30, 30)
    assert [item["sample_id"] for item in dog["upper"]["examples"]] == ["s089", "s088"]  # highest score first
    assert [item["sample_id"] for item in dog["lower"]["examples"]] == ["s090"]  # lowest first
    shown = dog["upper"]["examples"][0]
    assert (shown["image"]["width"], shown["image"]["height"]) == (96, 96)
    assert (shown["residual"]["width"], shown["residual"]["height"]) == (96, 96)
    assert (pixels(shown["image"]) == images[89, 0]).all()
    # The pattern shows in the mean of those that carry it, and not in the mean of the others.
    contrast = {name: pixels(dog[name]["mean"]).std() for name in ("upper", "lower")}
    assert contrast["upper"] > 1.5 * contrast["lower"]


def test_where_nothing_is_flagged_the_ends_stand_against_each_other(spoiled):
    dataset, _, carries = spoiled
    said = {"verdict": "suspect", "best_view": "mean3_core12", "views": {}}
    rows = residual_examples(dataset, flags(dataset, carries, [None] * 120), said)
    assert not rows[0]["flagged"]
    assert (rows[0]["upper"]["count"], rows[0]["lower"]["count"]) == (12, 12)
    assert rows[0]["upper"]["examples"][0]["sample_id"] == "s089"


def test_nothing_is_shown_without_a_sign(spoiled):
    dataset, _, carries = spoiled
    answers = flags(dataset, carries, carries.tolist())
    for said in (None, {"verdict": "clean"}, {"verdict": "cannot tell"}):
        assert residual_examples(dataset, answers, said) == []
    texts = open_dataset(pl.DataFrame({"text": [f"line {at}" for at in range(60)], "label": ["x", "y"] * 30}))
    assert residual_examples(texts, answers, POISONED) == []
    assert residual_examples(dataset, answers.with_columns(score=pl.lit(None, pl.Float64)), POISONED) == []
    everything = answers.with_columns(flagged=pl.lit(value=True))
    assert residual_examples(dataset, everything, POISONED) == []  # no others to compare with


def test_at_most_so_many_are_averaged(spoiled, monkeypatch):
    dataset, _, carries = spoiled
    monkeypatch.setattr("tracesift.flows.reporting.unlearnable.AVERAGED", 10)
    rows = residual_examples(dataset, flags(dataset, carries, carries.tolist()), POISONED)
    assert (rows[0]["upper"]["count"], rows[0]["upper"]["averaged"]) == (30, 10)
    assert AVERAGED >= 100


def test_amplified_around_a_middle_grey():
    residual = np.array([[[0.0], [1.0], [-2.0], [100.0], [-100.0]]])
    assert np.asarray(picture(residual)).tolist() == [[128, 136, 112, 255, 0]]
    colour = np.zeros((2, 2, 3))
    assert picture(colour).mode == "RGB"


@pytest.mark.parametrize("view", views_for(20, 20), ids=lambda view: view.name)
def test_residuals_are_grey_levels_in_every_view(view):
    """One pixel 9 levels (impulse: 200) above a flat ground of 40."""
    flat = np.full((1, 20, 20, 1), 40, dtype=np.uint8)
    height = 200 if view.filter == "impulse" else 9
    flat[0, 10, 10] += height
    out = residual_levels(flat, view)[0, :, :, 0]
    wanted = {"mean": 8.0, "median": 9.0, "impulse": 102.0}[view.filter]
    assert out[10, 10] == pytest.approx(0.0 if wanted >= view.core and view.filter != "impulse" else wanted)
    assert out[0, 0] == 0


def test_the_evidence_in_words():
    line = {
        "separation": 5.24,
        "separation_of_clouds": 2.8,
        "separation_needed": 3.5,
        "gap": 2.31,
        "gap_of_clouds": 0.9,
        "gap_needed": 1.5,
        "fires": True,
        "near": True,
    }
    views = {"mean3_core12": line, "impulse": {**line, "fires": False}}
    text = in_sentences({"verdict": "poisoned", "best_view": "mean3_core12", "views": views})
    assert "1 of 2 ways to look at small residuals shows the signal" in text
    assert "(off the 3x3 mean by under 12 grey levels)" in text
    assert (
        "two groups 5.24 deviations apart on average (2.80 if every label were one group; 3.50 needed)"
        in text
    )
    assert (
        "the label shows 2.31 deviations more in the upper group than the lower (0.90 if it were one; 1.50 needed)"
        in text
    )
    pixel = {
        "class": 4,
        "row": 0,
        "column": 27,
        "holders": 1170,
        "of_class": 2600,
        "expected": 4.2,
        "fires": True,
    }
    said = in_sentences(
        {"verdict": "poisoned", "best_view": "lone_pixels", "views": views, "lone_pixels": [pixel]}
    )
    assert said.startswith("1 label has one pixel of a full colour in the same place of many images.")
    assert "in row 0 and column 27, is in 1,170 of 2,600 images of its label" in said
    assert "4 or fewer would need no signal" in said
    rare = {"verdict": "poisoned", "lone_pixels": [{**pixel, "expected": 0.0}] * 2}
    assert in_sentences(rare).endswith("the places around it and the other labels hardly have any.")
    assert in_sentences({"verdict": "clean", "best_view": "mean3_core12", "views": views}) == ""
    assert in_sentences(None) == ""
    assert in_sentences({"verdict": "poisoned", "views": {"mean c8": {"D": 4.9}}}) == ""


def test_the_truth_in_words():
    truth = {
        "known": 3000,
        "changed": 1200,
        "told": 2900,
        "found": 798,
        "flagged": 805,
        "scorers": {"residual_shortcut": {"auroc": 0.976}},
    }
    assert truth_in_words(truth) == (
        "tracesift protect is known to have changed 1,200 of 3,000 training samples. The flag finds 798 of them (recall "
        "66.5 %), and of the 805 that it flags 7 are unchanged (false flags, 0.9 %). The AUROC of residual_shortcut is 0.976."
    )
    assert "of the 799 that it flags 1 is unchanged" in truth_in_words({**truth, "flagged": 799})
    silent = truth_in_words({**truth, "found": 0, "flagged": 0, "scorers": {}})
    assert silent.endswith("The flag finds 0 of them (recall 0.0 %), and flags nothing else.")
    assert truth_in_words(None) == ""
