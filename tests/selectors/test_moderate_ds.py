"""Moderate coreset: the middle of the order, over all or by class, and kept instead of dropped."""

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.geometry.class_centroid_distance import class_centroid_distance
from tracesift.selectors.contract import select


def make(values, labels=None):
    ids = [f"s{i:03d}" for i in range(len(values))]
    return pl.DataFrame(
        {
            "sample_id": ids,
            "label": labels or ["x"] * len(ids),
            "class_centroid_distance": np.asarray(values, float),
        }
    )


def kept(frame, budget, **params):
    result = select("moderate_ds", frame, budget=budget, seed=0, **params)
    return [int(name[1:]) for name in result.filter(pl.col("role") == "keep")["sample_id"]]


def test_by_hand():
    values = [5, 1, 9, 3, 7]
    assert kept(make(values), 1) == [0]
    assert kept(make(values), 2) == [0, 3]  # the half rank goes towards the centre
    assert kept(make(values), 3) == [0, 3, 4]
    assert kept(make(values), 5) == [0, 1, 2, 3, 4]


def published_drops(distances, rate):
    """The published function, by its description: ids outside the two rounded ranks around the middle."""
    n = len(distances)
    low, high = round(n * (0.5 - rate / 2)), round(n * (0.5 + rate / 2))
    order = sorted(range(n), key=lambda i: (distances[i], i))
    return set(order[:low]) | set(order[high:])


@pytest.mark.parametrize("rate", [0.2, 0.3, 0.4, 0.6, 0.8])
def test_the_kept_are_those_that_the_published_code_does_not_drop(rate):
    values = np.random.default_rng(0).normal(size=200)
    assert set(kept(make(values), rate)) == set(range(200)) - published_drops(values, rate)


def test_sizes_are_exact_where_the_published_window_is_off_by_one():
    values = np.arange(10.0)
    assert [10 - len(published_drops(values, size / 10)) for size in (3, 5)] == [2, 6]
    for size in range(1, 11):
        assert len(kept(make(values), size)) == size


def test_one_window_for_all_starves_a_compact_class_and_one_each_does_not():
    values = np.r_[np.linspace(0, 1, 40), np.linspace(10, 12, 60)]
    frame = make(values, ["compact"] * 40 + ["wide"] * 60)
    whole = kept(frame, 20)
    assert whole == list(range(40, 60))
    each = kept(frame, 20, per_class=True)
    assert each == [*range(16, 24), *range(64, 76)]


def test_neither_end_is_kept_whatever_the_sign():
    values = np.random.default_rng(1).normal(size=99)
    there = kept(make(values), 33)
    assert there == kept(make(-values), 33)
    assert np.abs(values[there]).max() < np.sort(np.abs(values))[50]


def test_strays_and_prototypes_are_left_out(frame):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(300, 8))
    x[:20] *= 5
    x[20:40] *= 0.05
    there = kept(make(class_centroid_distance(x, np.zeros(300, dtype=int))), 0.5)
    assert min(there) >= 40


def test_missing_values():
    frame = make([1, np.nan, 3, 2, np.nan], list("xxxyy"))
    with pytest.raises(BadInput, match="for 2 of 5 samples"):
        kept(frame, 1)
    assert kept(frame, 1, nulls="drop") == [3]
    assert kept(frame, 3, nulls="keep") == [1, 3, 4]
    assert kept(frame, 2, nulls="drop", per_class=True) == [0, 3]
    with pytest.raises(BadInput, match="4 samples wanted, 3 of 5"):
        kept(frame, 4, nulls="drop")
    with pytest.raises(BadInput, match="2 without must be kept"):
        kept(frame, 1, nulls="keep")
    reasons = select("moderate_ds", frame, budget=1, seed=0, nulls="drop")["reason"]
    assert reasons[1] == "class_centroid_distance is missing; nulls='drop'"
    assert (
        reasons[3]
        == "class_centroid_distance=2.0: rank 2 of 3 from the centre; kept are the middle ranks 2 to 2"
    )
