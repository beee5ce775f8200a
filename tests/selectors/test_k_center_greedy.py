"""k-center: the order by hand, the guarantee against every subset, and that nothing is passed over wrongly."""

from itertools import combinations

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import select
from tracesift.selectors.geometry import distances
from tracesift.selectors.geometry.distances import space
from tracesift.selectors.geometry.nearest_pick import NearestPick
from tracesift.selectors.ranking import seeded_keys


def frame_of(count, labels=None):
    return pl.DataFrame({"sample_id": [f"s{i:05d}" for i in range(count)], "label": labels or ["x"] * count})


def in_order(result):
    """Row numbers of the kept samples, in the order that their reasons give."""
    kept = result.with_row_index().filter(pl.col("role") == "keep")
    place = kept["reason"].str.extract(r"picked (\d+)").cast(pl.Int64)
    return kept["index"].gather(place.arg_sort()).to_list()


def by_definition(points, first, count):
    """The rule of the paper over the whole matrix of distances."""
    squared = ((points[:, None] - points[None]) ** 2).sum(-1)
    picks = [first]
    while len(picks) < count:
        far = squared[:, picks].min(1)
        far[picks] = -1
        picks.append(int(far.argmax()))
    return picks


def radius(points, picks):
    return np.sqrt(((points[:, None] - points[None, list(picks)]) ** 2).sum(-1).min(1).max())


def test_by_hand():
    line = np.array([[0.0], [1.0], [2.0], [9.0], [4.0]])  # mean 3.2: the central one is 4 at row 4
    result = select("k_center_greedy", frame_of(5), budget=4, seed=0, embedding=line, first="central")
    assert in_order(result) == [
        4,
        3,
        0,
        2,
    ]  # 9 is 5 away, 0 is 4 away, then 1 and 2: 2 is 2 from 0 and 4, 1 is 1
    assert result["reason"].to_list() == [
        "picked 3rd of 4, 4 from the nearest picked before it",
        "left, 1 from the nearest pick; none is farther than 1",
        "picked 4th of 4, 2 from the nearest picked before it",
        "picked 2nd of 4, 5 from the nearest picked before it",
        "picked 1st of 4, the sample nearest to the mean",
    ]


@pytest.mark.parametrize("seed", range(12))
def test_the_radius_is_at_most_twice_the_least_possible(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(11, 2)) * rng.choice([1, 10], size=(11, 1))
    for count in (1, 2, 3, 4):
        best = min(radius(points, subset) for subset in combinations(range(11), count))
        picks = in_order(select("k_center_greedy", frame_of(11), budget=count, seed=seed, embedding=points))
        assert radius(points, picks) <= 2 * best + 1e-12


@pytest.mark.parametrize("shape", ["clusters", "cloud", "copies"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_passing_over_samples_changes_nothing(shape, dtype):
    rng = np.random.default_rng(5)
    points = rng.normal(size=(900, 6))
    if shape == "clusters":
        points += 30 * rng.normal(size=(12, 6))[rng.integers(0, 12, 900)]
    if shape == "copies":
        points = points.round(0)
    points = points.astype(dtype)
    frame = frame_of(900)
    result = select("k_center_greedy", frame, budget=200, seed=3, embedding=points)
    first = int(seeded_keys(frame, 3, "k_center_greedy").argmin())
    assert in_order(result) == by_definition(points.astype(np.float64), first, 200)


@pytest.mark.parametrize("scale", [1e25, 1e-30])
def test_what_overflows_in_single_precision_is_measured_all_the_same(scale):
    points = (np.random.default_rng(6).normal(size=(300, 5)) * scale).astype(np.float32)
    frame = frame_of(300)
    first = int(seeded_keys(frame, 0, "k_center_greedy").argmin())
    result = select("k_center_greedy", frame, budget=100, seed=0, embedding=points)
    assert in_order(result) == by_definition(points.astype(np.float64), first, 100)


def test_samples_are_indeed_passed_over(monkeypatch):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2000, 4)) + 50 * rng.normal(size=(8, 4))[rng.integers(0, 8, 2000)]
    nearest = NearestPick(space(points, "euclidean", "k_center_greedy"), np.arange(2000), 200)
    grouped = []
    monkeypatch.setattr(
        NearestPick, "_group", lambda self, group=NearestPick._group: (grouped.append(1), group(self))
    )
    row = 0
    for _ in range(200):
        nearest.add(row)
        row = nearest.farthest[0]
    assert grouped


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_leave_no_trace(monkeypatch, threads):
    points = np.random.default_rng(2).normal(size=(700, 5)).astype(np.float32)
    plain = select("k_center_greedy", frame_of(700), budget=90, seed=0, embedding=points)
    monkeypatch.setattr(distances, "SHARE", 64)
    monkeypatch.setattr(distances.os, "cpu_count", lambda: threads)
    assert plain.equals(select("k_center_greedy", frame_of(700), budget=90, seed=0, embedding=points))


def test_nearest_pick_knows_whose_a_sample_is_and_takes_picks_from_outside():
    points = np.array([[0.0], [10.0], [1.0], [9.0], [5.0]])
    nearest = NearestPick(space(points, "euclidean", "x"), np.array([2, 3, 4]), 2)
    nearest.add(0)
    nearest.add(1)
    assert nearest.number().tolist() == [0, 1, 0]  # 5 is equally near: the earlier pick's
    assert nearest.squared().tolist() == [1.0, 1.0, 25.0]
    assert nearest.farthest == (4, 25.0)


def test_copies_go_last_and_the_whole_budget_is_filled():
    points = np.repeat([[0.0, 0.0], [3.0, 4.0]], 4, axis=0)
    result = select("k_center_greedy", frame_of(8), budget=8, seed=1, embedding=points)
    order = in_order(result)
    assert {order[0] // 4, order[1] // 4} == {0, 1}
    assert order[2:] == sorted(set(range(8)) - set(order[:2]))  # all at 0: by id
    assert (result["weight"] == 1).all()


def test_the_cosine_does_not_see_lengths_and_rows_of_zeros_have_a_place():
    points = np.array([[1.0, 0.0], [100.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    near = select(
        "k_center_greedy", frame_of(4), budget=2, seed=0, embedding=points, metric="cosine", first="central"
    )
    scaled = select(
        "k_center_greedy", frame_of(4), budget=2, seed=0, metric="cosine", first="central",
        embedding=points * np.array([[7.0], [0.5], [3.0], [1.0]]),
    )  # fmt: skip
    assert near.equals(scaled)
    assert in_order(
        select("k_center_greedy", frame_of(4), budget=4, seed=0, embedding=points, metric="cosine")
    )


def test_each_class_has_its_own_picks_and_quota():
    points = np.concatenate([np.zeros((6, 1)), 100 + np.arange(3.0)[:, None]])
    frame = frame_of(9, ["a"] * 6 + ["b"] * 3)
    result = select("k_center_greedy", frame, budget=3, seed=0, embedding=points, per_class=True)
    kept = result.filter(pl.col("role") == "keep").join(frame, on="sample_id")
    assert sorted(kept["label"]) == ["a", "a", "b"]
    few = select("k_center_greedy", frame, budget=1, seed=0, embedding=points, per_class=True)
    assert few["reason"].str.contains("no sample of label 'b' is picked").sum() == 3


def test_the_seed_decides_the_first_pick_only_where_it_is_drawn():
    points = np.random.default_rng(0).normal(size=(30, 2))
    drawn = {
        in_order(select("k_center_greedy", frame_of(30), budget=1, seed=s, embedding=points))[0]
        for s in range(9)
    }
    assert len(drawn) > 3
    central = [
        select("k_center_greedy", frame_of(30), budget=5, seed=s, embedding=points, first="central")
        for s in (0, 1)
    ]
    assert central[0].equals(central[1])


@pytest.mark.parametrize("wrong", [{"first": "medoid"}, {"metric": "manhattan"}])
def test_unknown_settings_are_refused(wrong):
    with pytest.raises(BadInput, match="must be"):
        select("k_center_greedy", frame_of(3), budget=1, seed=0, embedding=np.eye(3), **wrong)
