"""The figures: what they hold, what they leave out and that they say so, and that they draw."""

import json
import re

import numpy as np
import polars as pl
import pytest
import vl_convert

from tracesift.flows.reporting.charts import anchor, data_map, evaluation_curve, evaluation_dots, histogram


def mapped(n, **more):
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "sample_id": [f"s{i:05d}" for i in range(n)],
            "label": ["0"] * n,
            "cartography_confidence": rng.random(n),
            "cartography_variability": rng.random(n) / 2,
            "cartography_correctness": rng.integers(0, 13, n).astype(float),
            **more,
        }
    )


def values(figure):
    """The rows inside a specification; they stand there once, however many layers use them."""
    (rows,) = figure.spec["datasets"].values()
    return rows


def draws(figure):
    svg = vl_convert.vegalite_to_svg(figure.spec)
    return svg.count("<path")


def test_the_map_shows_every_sample_when_there_are_few():
    scores = mapped(40)
    figure = data_map(scores, linked=["s00003"])
    rows = {row["sample_id"]: row for row in values(figure)}
    assert len(rows) == 40
    assert rows["s00003"]["href"] == "#s-s00003"
    assert sum("href" in row for row in rows.values()) == 1
    row = rows["s00007"]
    assert row["x"] == round(scores["cartography_variability"][7], 4)  # across: variability
    assert row["y"] == round(scores["cartography_confidence"][7], 4)  # up: confidence
    assert row["c"] == pytest.approx(
        scores["cartography_correctness"][7] / scores["cartography_correctness"].max(), abs=1e-4
    )
    assert "drawn" not in figure.note
    assert draws(figure) > 40


def test_many_points_are_subsampled_and_said_so():
    scores = mapped(9_000)
    linked = [f"s{i:05d}" for i in range(0, 9_000, 90)]
    figure = data_map(scores, linked=linked)
    rows = values(figure)
    assert len(rows) == 5_000
    assert {row["sample_id"] for row in rows if "href" in row} == set(linked)
    assert (
        "5,000 of 9,000 points are drawn: the 100 from the worklist and a random 4,900 of the others (seed 0)"
        in figure.note
    )
    shuffled = data_map(scores.sample(9_000, shuffle=True, seed=3), linked=linked[::-1])
    assert json.dumps(shuffled.spec) == json.dumps(figure.spec)
    assert values(data_map(scores, linked=linked, seed=1)) != rows


def test_a_worklist_larger_than_the_limit_does_not_overflow_it():
    scores = mapped(50)
    assert len(values(data_map(scores, linked=scores["sample_id"].to_list(), limit=10))) == 10


def test_samples_without_a_value_are_counted_not_drawn():
    scores = mapped(10).with_columns(
        cartography_confidence=pl.Series([None, float("nan"), float("inf"), *[0.5] * 7], dtype=pl.Float64)
    )
    figure = data_map(scores)
    assert len(values(figure)) == 7
    assert "Left out, without a value: 3 samples." in figure.note


@pytest.mark.parametrize("missing", ["cartography_confidence", "cartography_variability"])
def test_a_map_that_cannot_be_drawn_says_why(missing):
    figure = data_map(mapped(5).drop(missing))
    assert figure.spec is None
    assert missing in figure.note
    assert "tracesift score" in figure.note
    assert data_map(mapped(5).drop("cartography_correctness")).spec is not None
    assert data_map(mapped(3).clear()).spec is None


def test_any_id_makes_a_link():
    assert anchor("</script> \"'é") == "#s-%3C%2Fscript%3E%20%22%27%C3%A9"


def test_histogram_by_hand():
    scores = pl.DataFrame(
        {"sample_id": list("abcdef"), "forgetting_events": [0.0, 0.0, 1.0, 3.0, None, float("nan")]}
    )
    figure = histogram(scores, "forgetting_events", flagged=["d", "e"])
    rows = values(figure)
    assert [(row["lo"], row["hi"], row["all"], row["flagged"]) for row in rows] == [
        (-0.5, 0.5, 2, 0), (0.5, 1.5, 1, 0), (1.5, 2.5, 0, 0), (2.5, 3.5, 1, 1),
    ]  # fmt: skip
    assert [row["share"] for row in rows] == [0.5, 0.25, 0.0, 0.25]
    assert [row["flagged_share"] for row in rows] == [0, 0, 0, 1]
    assert figure.note == "2 of 6 without a value."
    assert draws(figure) >= 4


def test_a_histogram_is_its_own_whatever_was_drawn_before():
    """The specification of a kind of histogram is made once: of each, only data and name are its own."""
    ids = [f"s{i}" for i in range(30)]
    scores = pl.DataFrame(
        {"sample_id": ids, "a": np.linspace(0, 1, 30), "few": [1.0, 2.0, 3.0] * 10, "other": [2.0, 3.0] * 15}
    )
    first = histogram(scores, "a", flagged=["s1"])
    kept = json.dumps(first.spec)
    plain = histogram(scores, "a")
    assert [len(figure.spec["layer"]) for figure in (first, plain)] == [2, 1]
    assert [sum(row["flagged"] for row in values(figure)) for figure in (first, plain)] == [1, 0]
    few, other = (histogram(scores, name) for name in ("few", "other"))
    ticks = [figure.spec["layer"][0]["encoding"]["x"]["axis"]["values"] for figure in (few, other)]
    assert ticks == [[1, 2, 3], [2, 3]]
    assert [figure.spec["description"] for figure in (few, other)] == [
        "Histogram of few",
        "Histogram of other",
    ]
    assert [len(values(figure)) for figure in (few, other)] == [3, 2]
    assert json.dumps(first.spec) == kept
    first.spec["layer"].clear()
    assert json.dumps(histogram(scores, "a", flagged=["s1"]).spec) == kept


@pytest.mark.parametrize(("most", "width"), [(1, 1), (2, 1), (5, 1), (6, 1), (40, 1), (41, 2), (1000, 26)])
def test_bars_of_counts_hold_whole_numbers_as_many_each(most, width):
    counts = np.arange(most + 1)
    scores = pl.DataFrame({"sample_id": counts.astype(str), "x": counts.astype(float)})
    figure = histogram(scores, "x")
    rows = values(figure)
    assert {row["hi"] - row["lo"] for row in rows} == {width}
    assert [row["all"] for row in rows[:-1]] == [width] * (len(rows) - 1)
    assert sum(row["all"] for row in rows) == most + 1
    assert (rows[0]["first"], rows[0]["last"], rows[-1]["last"] >= most) == (0, width - 1, True)
    labels = re.findall(r">([^<>%]+)</text>", vl_convert.vegalite_to_svg(figure.spec))
    assert 2 <= len(labels) <= 7
    assert all(0 <= int(label.replace(",", "")) <= most + width for label in labels)


def test_histogram_counts_everybody_even_in_long_tails():
    n = 1_000
    data = np.random.default_rng(0).normal(size=n)
    data[:3] = [1e6, -1e6, 2e6]
    figure = histogram(pl.DataFrame({"sample_id": [str(i) for i in range(n)], "x": data}), "x")
    rows = values(figure)
    assert sum(row["all"] for row in rows) == n
    assert rows[0]["lo"] > -10
    assert figure.note == "3 beyond the drawn range are counted in the outermost bars."
    assert len(rows) == 40
    data[:2] = 0.0
    figure = histogram(pl.DataFrame({"sample_id": [str(i) for i in range(n)], "x": data}), "x")
    assert figure.note == "1 beyond the drawn range is counted in the outermost bars."


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ([2.5, 2.5, 2.5], "All 3 samples have the value 2.5."),
        ([None, None, float("nan")], "No sample has a value."),
    ],
)
def test_nothing_to_spread_out(column, said):
    figure = histogram(
        pl.DataFrame({"sample_id": list("abc"), "x": column}, schema_overrides={"x": pl.Float64}), "x"
    )
    assert figure.spec is None
    assert figure.note == said


def test_column_names_never_reach_an_expression():
    figure = histogram(pl.DataFrame({"sample_id": list("abc"), "a.b[0]'": [1.0, 2.0, 4.5]}), "a.b[0]'")
    assert set(values(figure)[0]) == {"lo", "hi", "mid", "all", "flagged", "share", "flagged_share"}
    assert draws(figure) > 2


SUMMARY = pl.DataFrame(
    {
        "subset": ["full", "a30", "a30-random", "a10"], "control_of": [None, None, "a30", None],
        "selector": ["full", "ccs", "random", "ccs"], "mean": [0.9, 0.8, 0.7, 0.6], "std": [0.01, 0.02, None, 0.04],
        "seeds": [3, 3, 1, 3], "share": [1.0, 0.3, 0.3, 0.1],
    }
)  # fmt: skip


def test_evaluation_dots_hold_mean_and_spread():
    figure = evaluation_dots(SUMMARY, "accuracy")
    rows = values(figure)
    assert [(row["subset"], row["kind"]) for row in rows] == [
        ("full", "subset"),
        ("a30", "subset"),
        ("a30-random", "control"),
        ("a10", "subset"),
    ]
    assert (rows[1]["lo"], rows[1]["hi"]) == pytest.approx((0.78, 0.82))
    assert rows[2]["lo"] == rows[2]["hi"] == 0.7  # one seed: no spread is known
    assert draws(figure) >= 4


def test_a_curve_needs_more_than_one_share():
    assert evaluation_curve(SUMMARY.head(3), "accuracy") is None
    figure = evaluation_curve(SUMMARY, "accuracy")
    assert draws(figure) > 4


def test_no_point_of_a_curve_hides_another():
    more = pl.DataFrame(
        {"subset": ["denoised", "b30"], "selector": ["denoise", "aum"], "share": [0.998, 0.3]}
    )
    same = SUMMARY.join(more, on=["subset", "selector", "share"], how="full", coalesce=True)
    rows = {row["subset"]: row for row in values(evaluation_curve(same.fill_null(0.8), "accuracy"))}
    assert {row["share"] for row in rows.values()} == {1.0, 0.998, 0.3, 0.1}  # what the tooltip says
    for group in (["full", "denoised"], ["a30", "b30", "a30-random"]):
        places = sorted(rows[name]["x"] for name in group)
        assert min(np.diff(places)) >= 0.013
    places = [rows[name]["x"] for name in ("a30", "b30", "a30-random")]
    assert np.mean(places) == pytest.approx(0.3, abs=1e-4)
    assert rows["a10"]["x"] == 0.1


def test_no_point_of_a_curve_lies_beyond_the_whole_set():
    whole = pl.DataFrame({"subset": list("bcd"), "selector": list("bcd"), "share": [1.0, 1.0, 0.999]})
    few = pl.DataFrame({"subset": list("ef"), "selector": ["ccs", "e"], "share": [0.002, 0.001]})
    more = pl.concat([SUMMARY.select("subset", "selector", "share"), whole, few])
    figure = evaluation_curve(more.with_columns(mean=0.8, std=0.1), "accuracy")
    places = [row["x"] for row in values(figure)]
    assert min(places) >= 0
    assert max(places) == 1
    assert min(np.diff(sorted(place for place in places if place > 0.9))) >= 0.013
    assert '"domain": [0, 1' in json.dumps(figure.spec)


def test_a_value_that_is_no_number_is_left_out_of_the_drawing():
    broken = SUMMARY.with_columns(mean=pl.Series([0.9, float("nan"), None, 0.6]))
    assert [row["subset"] for row in values(evaluation_dots(broken, "loss"))] == ["full", "a10"]
    assert evaluation_curve(broken, "loss") is None
    assert evaluation_dots(broken[1:3], "loss").spec is None
