"""Choosers of forget sets: which samples they take, worked by hand, and that the rest is retained."""

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import find, names, select

CHOOSERS = [name for name in names() if find(name).chooses == "forget"]


def make(**columns):
    size = len(next(iter(columns.values())))
    ids = [f"s{at:03d}" for at in range(size)]
    return pl.DataFrame({"sample_id": ids, "label": ["x"] * size, **columns})


def forgotten(name, frame, budget, seed=0, **params):
    result = select(name, frame, budget=budget, seed=seed, **params)
    return [int(one[1:]) for one in result.filter(pl.col("role") == "forget")["sample_id"]]


def test_all_of_them_are_found():
    assert CHOOSERS == [
        "class_forget_set", "easiest_forget_set", "entanglement_strata", "group_forget_set", "memorization_strata",
        "mu_coreset", "random_forget_set", "sharpness_partition", "worst_case_forget_set",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["worst_case_forget_set", "easiest_forget_set"])
def test_the_highest_weights_go_ties_by_id_and_the_others_are_retained(name):
    column = {"worst_case_forget_set": "worst_case_weight", "easiest_forget_set": "easiest_weight"}[name]
    frame = make(**{column: [0.0, 1.0, 0.5, 1.0, 0.5]})
    assert forgotten(name, frame, 2) == [1, 3]
    assert forgotten(name, frame, 3) == [1, 2, 3]
    result = select(name, frame, budget=3, seed=0)
    assert result["role"].to_list() == ["retain", "forget", "forget", "forget", "retain"]
    assert result["weight"].to_list() == [1.0] * 5
    assert result["reason"][2] == f"{column}=0.5: rank 3 of 5, highest first; forgotten are ranks 1 to 3"


def test_strata_of_memorization_by_hand():
    frame = make(memorization_subset=[0.0, 0.9, 0.5, 0.45, -0.1, 0.1, 1.0])
    assert forgotten("memorization_strata", frame, 2, part="low") == [0, 4]
    assert forgotten("memorization_strata", frame, 2, part="high") == [1, 6]
    assert forgotten("memorization_strata", frame, 2, part="medium") == [2, 3]
    assert forgotten("memorization_strata", frame, 3, part="mix") == [2, 4, 6]
    assert forgotten("memorization_strata", frame, 4, part="mix") == [0, 2, 4, 6]
    assert forgotten("memorization_strata", frame, 5, part="mix") == [0, 2, 3, 4, 6]


def test_medium_is_half_memorized_and_not_the_middle_of_the_order():
    frame = make(memorization_subset=[0.0, 0.0, 0.0, 0.0, 0.5, 1.0])
    assert forgotten("memorization_strata", frame, 1, part="medium") == [4]
    assert forgotten("memorization_strata", frame, 1, part="medium", middle=0.0) == [0]


@pytest.mark.parametrize("name", ["memorization_strata", "entanglement_strata"])
@pytest.mark.parametrize("part", ["low", "medium", "high", "mix"])
def test_every_size_of_every_part_is_exact(name, part):
    values = np.random.default_rng(0).integers(0, 9, 40) / 8
    frame = make(memorization_subset=values, entanglement_distance=values)
    assert [len(forgotten(name, frame, size, part=part)) for size in range(1, 41)] == list(range(1, 41))


def published_group(distances, groups, index):
    """The authors' groups: sorted by distance, cut into equal ones."""
    order = sorted(range(len(distances)), key=lambda at: distances[at])
    size = len(order) // groups
    return sorted(order[index * size : (index + 1) * size])


@pytest.mark.parametrize(("part", "index"), [("low", 3), ("medium", 12), ("high", 14)])
def test_strata_of_entanglement_are_the_published_groups(part, index):
    distances = np.random.default_rng(1).normal(size=150)
    frame = make(entanglement_distance=distances)
    assert forgotten("entanglement_strata", frame, 10, part=part) == published_group(distances, 15, index)


def test_strata_of_entanglement_elsewhere_and_mixed():
    frame = make(entanglement_distance=np.arange(100.0)[::-1])  # sample 99 is nearest
    near = [99 - at for at in range(100)]
    assert forgotten("entanglement_strata", frame, 3, part="low", begin=0.0) == sorted(near[:3])
    assert forgotten("entanglement_strata", frame, 3, begin=0.49) == sorted(near[49:52])
    assert forgotten("entanglement_strata", frame, 6, part="mix") == sorted(
        near[20:22] + near[80:82] + near[93:95]
    )
    # nine tenths from the high end reach down to what there is
    assert forgotten("entanglement_strata", frame, 90, part="high") == sorted(near[10:])
    with pytest.raises(BadInput, match="begin"):
        forgotten("entanglement_strata", frame, 3, part="mix", begin=0.1)


def test_halves_by_sharpness():
    frame = make(sharpness=[0.3, 0.1, 0.5, 0.2, 0.4])
    assert forgotten("sharpness_partition", frame, 3, part="flat") == [0, 1, 3]
    assert forgotten("sharpness_partition", frame, 1, part="flat") == [1]
    assert forgotten("sharpness_partition", frame, 2, part="sharp") == [2, 4]
    with pytest.raises(BadInput, match="sharp half has 2"):
        forgotten("sharpness_partition", frame, 3, part="sharp")


@pytest.mark.parametrize("name", [name for name in CHOOSERS if "part" in find(name).defaults])
def test_parts_that_there_are_not(name):
    frame = make(**{str(find(name).needs[0]): [0.1, 0.2]})
    with pytest.raises(BadInput, match="'hard'"):
        forgotten(name, frame, 1, part="hard")


def test_random_draws_are_nested_and_can_keep_to_the_classes():
    frame = make(x=range(60)).with_columns(label=pl.Series(["a"] * 45 + ["b"] * 15))
    small, large = (set(forgotten("random_forget_set", frame, size, seed=3)) for size in (9, 20))
    assert small < large
    drawn = forgotten("random_forget_set", frame, 12, per_class=True)
    assert sum(at < 45 for at in drawn) == 9
    assert forgotten("random_forget_set", frame, 12, seed=1) != forgotten(
        "random_forget_set", frame, 12, seed=2
    )


def test_a_class_whole_or_in_part():
    frame = make(x=range(30)).with_columns(label=pl.Series([0, 1, 2] * 10))
    assert forgotten("class_forget_set", frame, None, label="1") == list(range(1, 30, 3))
    assert forgotten("class_forget_set", frame, None, label=1) == list(range(1, 30, 3))
    part = forgotten("class_forget_set", frame, None, label="1", count=4)
    assert len(part) == 4
    assert all(at % 3 == 1 for at in part)
    assert part != forgotten("class_forget_set", frame, None, label="1", count=4, seed=1)
    for params, message in (
        ({}, "names the class"),
        ({"label": "7"}, "0, 1, 2"),
        ({"label": "1", "count": 11}, "10"),
    ):
        with pytest.raises(BadInput, match=message):
            forgotten("class_forget_set", frame, None, **params)


def test_a_group_by_any_column():
    frame = make(author=["p", "q", None, "p"], flag=[True, False, None, True], year=[1, 2, 1, None])
    assert forgotten("group_forget_set", frame, None, column="author", value="p") == [0, 3]
    assert forgotten("group_forget_set", frame, None, column="flag", value=False) == [1]
    assert forgotten("group_forget_set", frame, None, column="year", value=1) == [0, 2]
    assert forgotten("group_forget_set", frame, None, column="year", value=1, count=1) in ([0], [2])
    numbers = make(site=[0.0, 1.0, None, 1.0], code=["01", "1", "1", None], big=[2**53, 2**53 + 1, 2, 3])
    assert forgotten("group_forget_set", numbers, None, column="site", value=1) == [1, 3]
    assert forgotten("group_forget_set", numbers, None, column="code", value="01") == [0]
    assert forgotten("group_forget_set", numbers, None, column="big", value=2**53 + 1) == [1]
    for params, message in (
        ({"column": "auhtor", "value": "p"}, "did you mean 'author'"),
        ({"column": "author"}, "value=VALUE, got 'author' and None; there are"),
        ({"column": "author", "value": "z"}, "no sample has author = z; there are p, q$"),
    ):
        with pytest.raises(BadInput, match=message):
            forgotten("group_forget_set", frame, None, **params)


def test_a_coreset_of_a_forget_set():
    frame = make(grand=[0.1, 0.9, 0.4, 0.8], class_centroid_distance=[9.0, 1.0, 2.0, 3.0])
    assert forgotten("mu_coreset", frame, 2, rule="top", score="grand") == [1, 3]
    assert forgotten("mu_coreset", frame, 0.5, rule="moderate", score="class_centroid_distance") == [2, 3]
    assert len({tuple(forgotten("mu_coreset", frame, 2, seed=seed)) for seed in range(6)}) > 1
    result = select("mu_coreset", frame, budget=2, seed=0, rule="top", score="grand")
    assert result["role"].to_list() == ["drop", "forget", "drop", "forget"]
    assert result["weight"].to_list() == [0, 1, 0, 1]
    assert result["reason"][0].startswith("outside the coreset of the forget set: grand=0.1: rank 4 of 4")
    for params in ({"rule": "top"}, {"score": "grand"}, {"rule": "grand", "score": "grand"}):
        with pytest.raises(BadInput, match="mu_coreset"):
            forgotten("mu_coreset", frame, 2, **params)
