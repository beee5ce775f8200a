"""The overlap of forget and retain."""

import json

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.nearest_rows import unit_rows
from tracesift.catalog.schema import BadInput
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.embedding.embeddings import table_directions
from tracesift.selectors.contract import select
from tracesift.selectors.decisions.forget_ready import least_cosine
from tracesift.selectors.decisions.overlap_report import nearest_retained, overlap_report


@pytest.fixture
def divided():
    frame = pl.DataFrame(
        {
            "sample_id": list("edcba"),
            "label": ["y", "y", "x", "x", "x"],
            "content_hash": ["5", "4", "1", "2", "1"],
        }
    )
    result = pl.DataFrame(
        {"sample_id": list("abcde"), "role": ["forget", "forget", "retain", "neighbor", "holdout"]}
    )
    angles = np.deg2rad([200, 10, 90, 8, 0])  # e d c b a
    return result, frame, np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_by_hand(divided):
    result, frame, points = divided
    report = overlap_report(result, frame, embedding=points, thresholds=(0.9, 0.99))
    assert report["counts"] == {"forget": 2, "holdout": 1, "neighbor": 1, "retain": 1}
    assert report["exact_across"] == 1
    # a (0 deg) is nearest to d (10 deg), b (8 deg) to d
    assert report["nearest_retained"]["min"] == pytest.approx(np.cos(np.deg2rad(10)), abs=1e-5)
    assert report["nearest_retained"]["max"] == pytest.approx(np.cos(np.deg2rad(2)), abs=1e-5)
    assert report["share_above"] == {"0.9": 1.0, "0.99": 0.5}
    assert [entry["sample_id"] for entry in report["cannot_be_forgotten"]] == ["a", "b"]
    assert report["cannot_be_forgotten"][0]["copy"] == "c"
    # forget holds x twice; retained x and y once each
    assert report["label_distance"] == 0.5
    assert report["forget_rate"] == {"label 'x'": pytest.approx(2 / 3, abs=1e-6), "label 'y'": 0.0}
    assert report["forget_rate_disparity"] == pytest.approx(2 / 3, abs=1e-6)
    assert report["groups_lost"] == []
    json.dumps(report, allow_nan=False)


def test_row_order_does_not_matter(divided):
    result, frame, points = divided
    shuffle = np.array([3, 0, 4, 2, 1])
    assert overlap_report(result, frame, embedding=points) == overlap_report(
        result[shuffle], frame[shuffle], embedding=points[shuffle]
    )


def test_after_the_closure_everything_can_be_forgotten():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60, 6))
    points[30:40] = points[:10] + 0.001 * rng.normal(size=(10, 6))
    frame = pl.DataFrame({"sample_id": [f"{i:02d}" for i in range(60)], "label": ["x"] * 60})
    asked = [f"{i:02d}" for i in range(5)]
    open_set = select(
        "forget_ready", frame, budget=None, seed=0, embedding=points, forget=asked, near_duplicate=None
    )
    closed = select("forget_ready", frame, budget=None, seed=0, embedding=points, forget=asked)
    assert len(overlap_report(open_set, frame, embedding=points)["cannot_be_forgotten"]) == 5
    assert overlap_report(closed, frame, embedding=points)["cannot_be_forgotten"] == []


def test_distances_count_in_units_of_that_of_a_near_copy(divided):
    result, frame, points = divided
    # e d c b a: c is a near copy up to 90 degrees, which a is away from it and b is 82, the others up to 1
    least = np.cos(np.deg2rad([1, 1, 90, 1, 1]))
    report = overlap_report(result, frame, embedding=points, least_cosine=least, times=(0.95, 1.0, 2.0))
    assert report["nearest_retained"]["max"] == pytest.approx(1, abs=1e-3)
    assert report["nearest_retained"]["min"] == pytest.approx(
        np.sin(np.deg2rad(41)) / np.sin(np.deg2rad(45)), abs=1e-3
    )
    assert (report["share_above"], report["share_within"]["0.95"]) == (None, 0.5)
    assert "distance" in report["measured"]
    assert [(row["sample_id"], row["copy"], row["how"]) for row in report["cannot_be_forgotten"]] == [
        ("a", "c", "exact"), ("b", "c", "near"),
    ]  # fmt: skip
    nearest = nearest_retained(result, frame, embedding=points, least_cosine=np.full(5, 1.0))
    assert nearest["nearest"].to_list() == ["d", "d"]  # where nothing but the same is a copy, too


@pytest.mark.parametrize("columns", [2, 6])
def test_what_the_closure_of_a_table_leaves_is_no_copy_to_the_report(columns):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, columns))
    rows[150:170] = rows[:20] + 0.001 * rng.normal(size=(20, columns))
    rows[200:, 0] = 5 + 0.1 * rows[200:, 0]  # a class that is denser
    table = pl.DataFrame(
        {"id": [f"{i:03}" for i in range(300)], **{f"x{i}": rows[:, i] for i in range(columns)},
         "label": [["a", "b"][i >= 200] for i in range(300)]}
    )  # fmt: skip
    dataset = open_dataset(table, id="id", val=0.0, test=0.0)
    frame, points = dataset.samples, table_directions(dataset, rows=np.arange(300))
    least = least_cosine(frame, unit_rows(points), np.ones(300, bool), "dense", 0)
    asked = frame["sample_id"][:20].to_list()
    found = {}
    for near in (None, "dense"):
        divided = select(
            "forget_ready", frame, budget=None, seed=0, embedding=points, forget=asked, near_duplicate=near
        )
        found[near] = overlap_report(divided, frame, embedding=points, least_cosine=least)
    assert len(found[None]["cannot_be_forgotten"]) == 20
    assert found["dense"]["cannot_be_forgotten"] == []
    assert found["dense"]["share_within"]["1"] == 0
    assert found["dense"]["share_within"]["2"] < 0.3


def test_an_empty_forget_set(divided):
    result, frame, points = divided
    report = overlap_report(result.with_columns(pl.lit("retain").alias("role")), frame, embedding=points)
    assert report["nearest_retained"] is None
    assert report["label_distance"] is None
    assert report["cannot_be_forgotten"] == []


def test_what_does_not_fit_together_is_refused(divided):
    result, frame, _ = divided
    with pytest.raises(BadInput, match="do not name the same samples"):
        overlap_report(result[:4], frame)
    with pytest.raises(BadInput, match="thresholds"):
        overlap_report(result, frame, thresholds=())


def test_lost_groups_are_named(divided):
    result, frame, _ = divided
    lost = result.with_columns(
        pl.when(pl.col("sample_id") == "d").then(pl.lit("forget")).otherwise("role").alias("role")
    )
    assert overlap_report(lost, frame)["groups_lost"] == ["label 'y'"]


def test_every_forgotten_sample_and_its_nearest_are_named(divided):
    result, frame, points = divided
    texts = ["zzzz", "pay my bills", "who", "pay my bill", "who wrote it"]  # e d c b a
    nearest = nearest_retained(result, frame, embedding=points, texts=texts)
    assert nearest.select("sample_id", "exact_copy", "nearest", "nearest_wording").rows() == [
        ("a", "c", "d", "c"), ("b", None, "d", "d"),
    ]  # fmt: skip
    assert nearest["cosine"].to_list() == pytest.approx(np.cos(np.deg2rad([10, 2])), abs=1e-5)
    assert nearest["jaccard"].to_list() == pytest.approx([0, 8 / 9], abs=1e-6)
    report = overlap_report(result, frame, texts=texts)
    assert report["nearest_wording"]["max"] == pytest.approx(8 / 9, abs=1e-6)
    assert report["share_of_words_above"] == {"0.4": 0.5, "0.5": 0.5, "0.6": 0.5}
    assert report["nearest_retained"] is None
    assert [(row["sample_id"], row["copy"], row["how"]) for row in report["cannot_be_forgotten"]] == [
        ("a", "c", "exact"), ("b", "d", "words"),
    ]  # fmt: skip
    json.dumps(report, allow_nan=False)


def test_groups_are_compared_beside_labels(divided):
    result, frame, _ = divided
    sites = frame.with_columns(site=pl.Series(["p", "p", "p", "q", "q"]))  # e d c b a
    report = overlap_report(result, sites, group="site")
    assert report["label_distance"] == 0.5
    assert report["group_distance"] == 1  # forgotten: x at q; retained: x at p, y at p
    assert overlap_report(result, frame)["group_distance"] is None


def texts_with_copies():
    rng = np.random.default_rng(2)
    words = ["".join(rng.choice(list("abcdefgh"), 5)) for _ in range(60)]
    made = [" ".join(rng.choice(words, 8)) for _ in range(40)]
    return made + [text.rsplit(" ", 1)[0] for text in made[:10]]


def test_what_copies_across_the_boundary_is_where_thresholds_were_raised_or_labels_differ():
    texts = texts_with_copies()
    frame = pl.DataFrame(
        {"sample_id": [f"{i:02d}" for i in range(50)], "label": ["x"] * 40 + ["y"] * 10,
         "label_noise": [i < 5 for i in range(50)]}
    )  # fmt: skip
    asked = frame["sample_id"][:5].to_list()

    def stuck(**params):
        divided = select("forget_ready", frame, budget=None, seed=0, arrays={"texts": texts}, **params)
        report = overlap_report(divided, frame, texts=texts)
        return [(row["sample_id"], row["copy"], row["copy_label"]) for row in report["cannot_be_forgotten"]]

    pairs = [(f"{i:02d}", f"{40 + i}", "y") for i in range(5)]
    assert stuck(forget=asked) == []
    assert stuck(forget=asked, near_words=0.95) == pairs
    assert stuck(forget=asked, near_words=None) == pairs
    assert stuck() == pairs  # the corrective set: the same wording under another label stays
