"""Toneva's removals: the slice of the published script, its random baseline, and its subsampling of the easy end."""

from collections import Counter

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import select


def make(scores):
    ids = [f"s{i:03d}" for i in range(len(scores))]
    return pl.DataFrame({"sample_id": ids, "label": ["x"] * len(ids), "forgetting_events": scores})


def removed(frame, seed=0, **params):
    result = select("removal_protocol", frame, budget=None, seed=seed, **params)
    return [int(name[1:]) for name in result.filter(pl.col("role") == "drop")["sample_id"]]


def published(scores, keep_lowest_n, remove_n):
    """The slice of the sorted list that the script leaves out, here by a stable sort."""
    order = sorted(range(len(scores)), key=lambda i: scores[i])
    return sorted(order[keep_lowest_n : keep_lowest_n + remove_n])


def test_by_hand():
    frame = make([5, 0, 2, 0, 9])  # in order: 1, 3, 2, 0, 4
    assert removed(frame, remove_n=2) == [1, 3]
    assert removed(frame, remove_n=1) == [1]  # of two zeros the first id
    assert removed(frame, keep_lowest_n=1, remove_n=3) == [0, 2, 3]
    assert removed(frame, keep_lowest_n=4, remove_n=1) == [4]
    assert removed(frame) == []


@pytest.mark.parametrize(("keep_lowest_n", "remove_n"), [(0, 17), (10, 5), (43, 17), (59, 1), (20, 0)])
def test_the_window_is_the_published_slice(keep_lowest_n, remove_n):
    scores = np.random.default_rng(0).integers(0, 6, 60).tolist()
    got = removed(make(scores), keep_lowest_n=keep_lowest_n, remove_n=remove_n)
    assert got == published(scores, keep_lowest_n, remove_n)


def test_a_negative_number_removes_at_random():
    frame = make(list(range(40)))
    first = removed(frame, keep_lowest_n=-1, remove_n=10)
    assert len(first) == 10
    assert first == removed(frame, keep_lowest_n=-7, remove_n=10)
    assert set(removed(frame, keep_lowest_n=-1, remove_n=5)) < set(first)
    draws = Counter(
        i for seed in range(200) for i in removed(frame, seed=seed, keep_lowest_n=-1, remove_n=10)
    )
    assert all(25 < draws[i] < 78 for i in range(40))  # 50 expected, standard deviation 6
    with_subsample = removed(frame, keep_lowest_n=-1, remove_n=10, remove_subsample=3)
    assert with_subsample == first  # the script never reaches the subsample there


def test_the_subsample_thins_the_easy_end_and_ignores_remove_n():
    frame = make([0] * 20 + [1] * 20)
    got = removed(frame, keep_lowest_n=12, remove_n=15, remove_subsample=5)
    assert len(got) == 5
    assert set(got) < set(range(12))
    assert got == removed(frame, keep_lowest_n=12, remove_subsample=5)
    draws = Counter(
        i for seed in range(100) for i in removed(frame, seed=seed, keep_lowest_n=12, remove_subsample=6)
    )
    assert set(draws) == set(range(12))


def test_what_it_refuses():
    frame = make(list(range(10)))
    for params in (
        {"remove_n": 10},
        {"remove_n": 11, "keep_lowest_n": -1},
        {"remove_n": 4, "keep_lowest_n": 7},
        {"remove_subsample": 4, "keep_lowest_n": 3},
        {"remove_subsample": 1},
    ):
        with pytest.raises(BadInput, match="cannot be removed"):
            removed(frame, **params)
    for params in ({"remove_n": -1}, {"remove_subsample": -2}, {"remove_n": 1.5}, {"keep_lowest_n": True}):
        with pytest.raises(BadInput, match="removal_protocol"):
            removed(frame, **params)
    with pytest.raises(BadInput, match="missing"):
        removed(make([1.0, None, 2.0]), remove_n=1)
