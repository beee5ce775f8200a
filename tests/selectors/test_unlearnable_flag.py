"""The flag: silent without the verdict, exact on two clear groups, open where it cannot tell."""

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.selectors.flags.contract import find, names
from tracesift.selectors.flags.unlearnable import unlearnable

POISONED = {"verdict": "poisoned"}


@pytest.fixture
def frame():
    """Class "two" holds 30 samples with the signal among 100, class "one" none."""
    rng = np.random.default_rng(0)
    score = rng.normal(0, 1, 200)
    score[100:130] += 9
    return pl.DataFrame(
        {
            "sample_id": [f"s{index:03d}" for index in range(200)],
            "label": ["one"] * 100 + ["two"] * 100,
            "residual_shortcut": score,
        }
    )


def test_the_upper_group_is_flagged_and_only_it(frame):
    flags = unlearnable(frame, verdict=POISONED)
    assert flags.columns == ["sample_id", "flagged", "score", "threshold", "reason"]
    assert flags.filter("flagged")["sample_id"].to_list() == [f"s{index}" for index in range(100, 130)]
    assert flags["flagged"].null_count() == 0
    two = flags.filter(pl.col("sample_id") >= "s100")
    (cut,) = two["threshold"].unique()
    assert two.filter("flagged")["score"].min() > cut >= two.filter(~pl.col("flagged"))["score"].max()
    assert two.filter("flagged")["reason"][0].startswith("carries a label-specific small signal")
    one = flags.filter(pl.col("sample_id") < "s100")
    assert one["threshold"].null_count() == 100
    assert "two groups" in one["reason"][0]


def test_an_upper_group_that_reaches_down_to_the_lower_is_flagged_whole():
    rng = np.random.default_rng(0)
    lower, upper = rng.normal(0, 1, 300), np.linspace(4.5, 16, 100)
    ids = [f"s{index:03d}" for index in range(400)]
    frame = pl.DataFrame(
        {"sample_id": ids, "label": "a", "residual_shortcut": np.concatenate([lower, upper])}
    )
    flags = unlearnable(frame, verdict=POISONED)
    assert flags.filter("flagged")["sample_id"].to_list() == ids[300:]
    assert 3 < flags["threshold"][0] < 4.5  # midway between the means would be 5


def test_a_class_whose_groups_do_not_carry_the_label_stays_open(frame):
    flags = unlearnable(frame, verdict=POISONED | {"untied_classes": ["two", "one"]})
    answers = dict(zip(flags["sample_id"], flags["flagged"], strict=True))
    assert {answers[f"s{index}"] for index in range(100, 200)} == {None}
    assert not any(answers[f"s{index:03d}"] for index in range(100))  # one group: nothing to explain
    assert flags["threshold"].null_count() == 200
    assert "no more than chance" in flags.filter(pl.col("flagged").is_null())["reason"][0]


def test_a_lower_group_of_equal_values_is_cut_midway():
    values = [0.0] * 60 + [1.0] * 20 + [9.0] * 40
    frame = pl.DataFrame(
        {"sample_id": [f"s{index:03d}" for index in range(120)], "label": "a", "residual_shortcut": values}
    )
    assert unlearnable(frame, verdict=POISONED)["flagged"].to_list() == [False] * 80 + [True] * 40


@pytest.mark.parametrize("seed", range(5))
def test_one_bell_curve_gives_no_flag(seed):
    score = np.random.default_rng(seed).normal(0, 1, 300)
    frame = pl.DataFrame(
        {"sample_id": [str(i) for i in range(300)], "label": "a", "residual_shortcut": score}
    )
    assert not unlearnable(frame, verdict=POISONED)["flagged"].any()


def test_clean_verdict_flags_nobody(frame):
    flags = unlearnable(frame, verdict={"verdict": "clean"})
    assert flags["flagged"].to_list() == [False] * 200
    assert flags["score"].to_list() == frame["residual_shortcut"].to_list()


@pytest.mark.parametrize("verdict", [None, {"verdict": "suspect"}, {"verdict": "cannot tell"}])
def test_no_verdict_no_answer(frame, verdict):
    flags = unlearnable(frame, verdict=verdict)
    assert flags["flagged"].null_count() == 200
    assert flags["reason"].str.starts_with("cannot tell").all()


def test_without_images_everything_stays_open(frame):
    flags = unlearnable(frame.drop("residual_shortcut"), verdict=None)
    assert flags["flagged"].null_count() == 200
    assert flags["score"].null_count() == 200


@pytest.mark.parametrize("verdict", ["clean", "poisoned"])
@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_sample_without_score_stays_open(frame, verdict, missing):
    ids = pl.col("sample_id").is_in(["s000", "s101"])
    holes = frame.with_columns(
        pl.when(ids).then(missing).otherwise("residual_shortcut").alias("residual_shortcut")
    )
    flags = unlearnable(holes, verdict={"verdict": verdict})
    assert flags.filter(pl.col("flagged").is_null())["sample_id"].to_list() == ["s000", "s101"]
    assert flags.filter(pl.col("score").is_null()).height == 2


def test_a_small_class_stays_open(frame):
    small = pl.concat(
        [
            frame,
            frame.head(12).with_columns(pl.lit("few").alias("label"), sample_id="x" + pl.col("sample_id")),
        ]
    )
    flags = unlearnable(small, verdict=POISONED).filter(pl.col("sample_id").str.starts_with("x"))
    assert flags["flagged"].null_count() == 12
    assert "fewer than 30" in flags["reason"][0]


def test_row_order_leaves_no_trace(frame):
    shuffled = frame.sample(fraction=1, shuffle=True, seed=3)
    assert unlearnable(shuffled, verdict=POISONED).equals(unlearnable(frame, verdict=POISONED))


def test_wrong_input_is_refused(frame):
    with pytest.raises(BadInput, match="label"):
        unlearnable(frame.drop("label"), verdict=POISONED)
    with pytest.raises(BadInput, match="twice"):
        unlearnable(pl.concat([frame, frame]), verdict=POISONED)
    with pytest.raises(BadInput, match="residual_verdict"):
        unlearnable(frame, verdict={"verdict": "maybe"})
    with pytest.raises(BadInput, match="tracesift score residual_shortcut"):
        unlearnable(frame.drop("residual_shortcut"), verdict=POISONED)
    with pytest.raises(BadInput, match="min_class"):
        unlearnable(frame, verdict=POISONED, min_class=2)


def test_it_is_found_by_its_file():
    assert "unlearnable" in names()
    assert find("unlearnable").columns == ("residual_shortcut",)


PIXEL = {
    "class": "two",
    "row": 3,
    "column": 4,
    "colour": [255],
    "holders": 30,
    "of_class": 100,
    "fires": True,
}


def test_a_lone_pixel_is_named_in_the_reasons_of_its_class(frame):
    flags = unlearnable(frame, verdict={**POISONED, "lone_pixels": [PIXEL]})
    assert flags.filter("flagged").height == 30
    two = flags.filter(pl.col("threshold").is_not_null())
    assert two.height == 100
    assert (
        two["reason"].str.contains("colour 255 in row 3, column 4 is in 30 of 100 images", literal=True).all()
    )
    unnamed = unlearnable(frame, verdict={**POISONED, "lone_pixels": [{**PIXEL, "fires": False}]})
    assert not unnamed["reason"].str.contains("lone pixel").any()


def test_a_class_in_which_nearly_all_have_the_pixel_stays_open(frame):
    flags = unlearnable(frame, verdict={**POISONED, "lone_pixels": [{**PIXEL, "holders": 91}]})
    of_two = pl.col("sample_id") >= "s100"
    assert flags.filter(of_two)["flagged"].null_count() == 100
    assert flags.filter(of_two)["reason"].str.starts_with("cannot tell: a lone pixel of colour 255").all()
    assert flags.filter(~of_two)["flagged"].to_list() == [False] * 100
