"""CLD selection: the same number of highest scores in every class."""

from collections import Counter

import polars as pl
import pytest

from tracesift.selectors.contract import select


@pytest.fixture
def classes():
    sizes = {"a": 10, "b": 4, "c": 1}
    return pl.DataFrame(
        [
            {"sample_id": f"{label}{i}", "label": label, "cld": -i / 10}
            for label, size in sizes.items()
            for i in range(size)
        ]
    )


def kept(frame, budget, **params):
    result = select("cld_per_class", frame, budget=budget, seed=0, **params)
    return result.filter(pl.col("role") == "keep")["sample_id"].to_list()


def test_the_same_k_in_each_class_and_the_rest_redistributed(classes):
    assert kept(classes, 3) == ["a0", "b0", "c0"]
    assert kept(classes, 9) == ["a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3", "c0"]
    assert Counter(name[0] for name in kept(classes, 12)) == {"a": 7, "b": 4, "c": 1}


def test_equals_the_top_of_each_class_where_it_divides(frame):
    found = set(kept(frame, 18))
    ranked = frame.sort(["cld", "sample_id"], descending=[True, False])
    assert found == {name for part in ranked.partition_by("label") for name in part["sample_id"][:6]}


def test_proportional_quotas_are_another_set(classes):
    assert Counter(name[0] for name in kept(classes, 9, quota="proportional")) == {"a": 6, "b": 2, "c": 1}


def test_a_class_without_scores_is_left_out_only_on_request(classes):
    absent = classes.with_columns(pl.when(pl.col("label") != "c").then("cld"))
    assert Counter(name[0] for name in kept(absent, 6, nulls="drop")) == {"a": 3, "b": 3}
