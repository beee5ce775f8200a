"""Shares, counts and quotas: hand-worked cases and brute force over every division."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracesift.catalog.schema import BadInput
from tracesift.selectors.budget import quotas, resolve_size


@pytest.mark.parametrize(
    ("budget", "total", "size"),
    [
        (0.29, 100, 29),
        (0.3, 10, 3),
        (0.5, 5, 3),
        (0.25, 10, 3),
        (1, 7, 1),
        (1.0, 7, 7),
        (7, 7, 7),
        (0.1, 1797, 180),
    ],
)
def test_sizes_by_hand(budget, total, size):
    assert resolve_size(budget, total) == size


def test_a_share_of_no_sample_is_refused():
    with pytest.raises(BadInput, match="less than one sample"):
        resolve_size(0.04, 10)


@pytest.mark.parametrize(
    ("sizes", "total", "rule", "expected"),
    [
        ([90, 9, 1], 10, "proportional", [8, 1, 1]),  # ideals 9, 0.9, 0.1; the floor of one costs the largest
        ([90, 9, 1], 2, "proportional", [2, 0, 0]),  # too few for all classes: no floor
        ([1, 1, 1], 2, "proportional", [1, 1, 0]),  # equal remainders: first by name
        ([5, 3, 2], 5, "proportional", [3, 1, 1]),  # ideals 2.5, 1.5, 1: the tie goes to the first
        ([90, 9, 1], 10, "equal", [5, 4, 1]),
        ([2, 50, 50], 11, "equal", [2, 5, 4]),
        ([3, 3], 6, "equal", [3, 3]),
    ],
)
def test_quotas_by_hand(sizes, total, rule, expected):
    assert quotas(sizes, total, rule=rule) == expected


def ideals(sizes, total, rule):
    if rule == "proportional":
        return [total * size / sum(sizes) for size in sizes]
    low, high = 0.0, float(max(sizes))
    for _ in range(200):
        level = (low + high) / 2
        low, high = (level, high) if sum(min(size, level) for size in sizes) < total else (low, level)
    return [min(size, high) for size in sizes]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=4), st.data(), st.sampled_from(["proportional", "equal"])
)
def test_quotas_are_the_nearest_whole_numbers(sizes, data, rule):
    total = data.draw(st.integers(1, sum(sizes)))
    found = quotas(sizes, total, rule=rule)
    floor = 1 if total >= len(sizes) else 0
    wanted = ideals(sizes, total, rule)

    def cost(counts):
        return sum((count - ideal) ** 2 for count, ideal in zip(counts, wanted, strict=True))

    possible = [
        counts
        for counts in itertools.product(*(range(floor, size + 1) for size in sizes))
        if sum(counts) == total
    ]
    assert tuple(found) in possible
    assert cost(found) <= min(cost(counts) for counts in possible) + 1e-6


def test_bounds_are_kept_and_impossible_totals_refused():
    assert quotas([10, 10], 6, lower=[0, 5], upper=[10, 10]) == [1, 5]
    assert quotas([10, 10], 6, upper=[2, 10]) == [2, 4]
    with pytest.raises(BadInput, match="between 2 and 5"):
        quotas([10, 10], 6, upper=[2, 3])
    with pytest.raises(BadInput, match="quota must be"):
        quotas([10, 10], 6, rule="fair")
