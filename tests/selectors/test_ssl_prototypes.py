from collections import Counter

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import select


def make(values, labels=None):
    ids = [f"s{i:03d}" for i in range(len(values))]
    return pl.DataFrame(
        {"sample_id": ids, "label": labels or ["x"] * len(ids), "ssl_prototypes": np.asarray(values, float)}
    )


def kept(frame, budget, **params):
    result = select("ssl_prototypes", frame, budget=budget, seed=0, **params)
    return [int(name[1:]) for name in result.filter(pl.col("role") == "keep")["sample_id"]]


def test_the_side_by_rule_or_by_name():
    frame = make(np.arange(10) / 10)
    assert kept(frame, 0.5) == [5, 6, 7, 8, 9]
    assert kept(frame, 0.4) == [0, 1, 2, 3]
    assert kept(frame, 0.4, side="farthest") == [6, 7, 8, 9]
    assert kept(frame, 0.5, side="nearest") == [0, 1, 2, 3, 4]
    assert "farthest first" in select("ssl_prototypes", frame, budget=5, seed=0)["reason"][0]
    with pytest.raises(BadInput, match="'auto', 'farthest' or 'nearest'"):
        kept(frame, 5, side="hardest")


def by_definition(values, labels, size, balance):
    """Each class first gets the floor of its share times `balance`, then the best of the others fill up."""
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    sure = []
    for label in sorted(set(labels)):
        members = [i for i in order if labels[i] == label]
        sure += members[: int(balance * size * len(members) / len(values) + 1e-9)]
    rest = [i for i in order if i not in sure]
    return sorted(sure + rest[: size - len(sure)])


@pytest.mark.parametrize("balance", [0.0, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("size", [1, 7, 40, 79, 80])
def test_the_floor_of_each_class(balance, size):
    rng = np.random.default_rng(0)
    labels = ["far"] * 40 + ["near"] * 30 + ["rare"] * 10
    values = np.r_[rng.uniform(1, 2, 40), rng.uniform(0, 1, 40)].round(1)  # with ties
    there = kept(make(values, labels), size, side="farthest", balance=balance)
    assert there == by_definition(values, labels, size, balance)


def test_without_a_floor_a_class_may_vanish_and_with_one_it_keeps_half_its_share():
    labels = ["far"] * 50 + ["near"] * 50
    frame = make(np.r_[np.linspace(1, 2, 50), np.linspace(0, 1, 50) * 0.9], labels)
    assert Counter(labels[i] for i in kept(frame, 40, side="farthest")) == {"far": 40}
    there = kept(frame, 40, side="farthest", balance=0.5)
    assert Counter(labels[i] for i in there) == {"far": 30, "near": 10}
    reasons = select("ssl_prototypes", frame, budget=40, seed=0, side="farthest", balance=0.5)["reason"]
    assert reasons.str.contains("kept for its class, by balance=0.5").sum() == 10
    for wrong in (-0.1, 1.5, True):
        with pytest.raises(BadInput, match="balance"):
            kept(frame, 40, balance=wrong)


def test_missing_values():
    frame = make([0.1, np.nan, 0.3, 0.2])
    with pytest.raises(BadInput, match="for 1 of 4 samples"):
        kept(frame, 2)
    assert kept(frame, 2, nulls="drop") == [2, 3]
    assert kept(frame, 2, nulls="keep") == [1, 2]
    with pytest.raises(BadInput, match="4 samples wanted, 3 of 4"):
        kept(frame, 4, nulls="drop")
