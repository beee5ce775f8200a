"""Herding: the nearest, never the farthest; the mean of the picks runs to the mean like 1/n."""

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import select
from tracesift.selectors.geometry import distances


def frame_of(count, labels=None):
    return pl.DataFrame({"sample_id": [f"s{i:05d}" for i in range(count)], "label": labels or ["x"] * count})


def in_order(result):
    """Row numbers of the kept samples, in the order that their reasons give."""
    kept = result.with_row_index().filter(pl.col("role") == "keep")
    place = kept["reason"].str.extract(r"picked (\d+)").cast(pl.Int64)
    return kept["index"].gather(place.arg_sort()).to_list()


def herd(points, budget, labels=None, **params):
    return select("herding", frame_of(len(points), labels), budget=budget, seed=0, embedding=points, **params)


def by_definition(points, count, worst=False):
    mu, picks = points.mean(0), []
    for step in range(count):
        away = np.linalg.norm((step + 1) * mu - points[picks].sum(0) - points, axis=1)
        order = np.argsort(-away if worst else away, kind="stable")
        picks.append(next(int(row) for row in order if row not in picks))
    return picks


def test_by_hand():
    line = np.array(
        [[0.0], [4.0], [5.0], [11.0]]
    )  # mean 5: 5 itself, then 10 - 5 = 5: 4 is nearest, then 15 - 9 = 6
    result = herd(line, 3)
    assert in_order(result) == [2, 1, 3]
    assert result["reason"].to_list() == [
        "left, 5 from the mean; the picks match it without",
        "picked 2nd of 3 of label 'x', the mean of the picks is then 0.5 from the mean",
        "picked 1st of 3 of label 'x', the mean of the picks is then 0 from the mean",
        "picked 3rd of 3 of label 'x', the mean of the picks is then 1.667 from the mean",
    ]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_agrees_with_the_definition_in_another_style(metric):
    points = np.random.default_rng(0).normal(loc=1, size=(150, 5))
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    assert in_order(herd(points, 60, metric=metric)) == by_definition(
        points if metric == "euclidean" else unit, 60
    )


def test_it_takes_the_nearest_and_not_the_farthest():
    points = np.random.default_rng(1).normal(size=(100, 3))
    points[7] = 60.0
    picks = in_order(herd(points, 10))
    farthest = by_definition(points, 10, worst=True)
    assert farthest[0] == 7
    assert 7 not in picks
    assert picks != farthest
    mu = points.mean(0)
    assert np.linalg.norm(points[picks].mean(0) - mu) < np.linalg.norm(points[farthest].mean(0) - mu) / 10


def test_the_mean_of_the_picks_runs_to_the_mean_like_one_over_n():
    points = np.random.default_rng(2).normal(size=(8000, 4))
    picks, mu = in_order(herd(points, 512)), points.mean(0)
    errors = {n: np.linalg.norm(points[picks[:n]].mean(0) - mu) for n in (8, 32, 128, 512)}
    spread = np.linalg.norm(points - mu, axis=1).mean()
    for n, error in errors.items():
        assert n * error < 2 * spread  # 1/n with a constant; a random draw has sqrt(n) times the spread
    assert errors[512] < errors[8] / 16
    drawn = np.random.default_rng(3).permutation(8000)[:512]
    assert errors[512] < np.linalg.norm(points[drawn].mean(0) - mu) / 5


def test_each_class_is_matched_by_itself_unless_asked_otherwise():
    points = np.concatenate([np.arange(5.0), 100 + np.arange(5.0)])[:, None]
    labels = ["a"] * 5 + ["b"] * 5
    assert sorted(in_order(herd(points, 2, labels))) == [2, 7]
    assert in_order(herd(points, 1, labels, per_class=False)) == [4]  # the mean of all is 52


def test_edges_copies_zero_rows_and_the_whole_budget():
    points = np.zeros((5, 3))
    assert in_order(herd(points, 2)) == [0, 1]  # all tie: by id
    assert in_order(herd(points, 2, metric="cosine")) == [0, 1]
    assert sorted(in_order(herd(points, 5))) == [0, 1, 2, 3, 4]
    assert in_order(herd(np.ones((1, 2)), 1)) == [0]
    with pytest.raises(BadInput, match=r"metric='.*' must be"):
        herd(points, 2, metric="l1")


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_leave_no_trace(monkeypatch, threads):
    points = np.random.default_rng(4).normal(size=(500, 6)).astype(np.float32)
    plain = herd(points, 50)
    monkeypatch.setattr(distances, "SHARE", 64)
    monkeypatch.setattr(distances.os, "cpu_count", lambda: threads)
    assert plain.equals(herd(points, 50))
