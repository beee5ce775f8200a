"""The best division of numbers on a line, against all divisions and against scikit-learn."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracesift.pipelines.dynamic.kmeans_1d import kmeans_1d


def cost(values, group):
    """Sum of squares within groups, exactly."""
    total = Fraction(0)
    for one in set(group):
        members = [Fraction(value) for value, of in zip(values, group, strict=True) if of == one]
        mean = sum(members) / len(members)
        total += sum((member - mean) ** 2 for member in members)
    return total


def least_cost(values, groups):
    """The best of all divisions of the sorted values into intervals."""
    values = sorted(values)
    return min(
        cost(values, np.searchsorted(cuts, np.arange(len(values)), side="right").tolist())
        for number in range(groups)
        for cuts in combinations(range(1, len(values)), number)
    )


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.integers(-20, 20), min_size=1, max_size=9), st.integers(1, 5))
def test_no_division_is_better(values, groups):
    group = kmeans_1d(np.array(values, dtype=np.float64), groups)
    assert cost(values, group.tolist()) == least_cost(values, groups)
    assert set(group.tolist()) == set(range(min(groups, len(set(values)))))
    of_value = dict(zip(values, group.tolist(), strict=True))
    assert group.tolist() == [of_value[value] for value in values]  # equal values share a group
    assert [of_value[value] for value in sorted(values)] == sorted(group.tolist())


def test_of_equally_good_divisions_the_one_with_the_earliest_start():
    assert kmeans_1d(np.array([2.0, 0.0, 1.0]), 2).tolist() == [1, 0, 1]


def test_small_groups_far_from_zero():
    # Sums of squares of numbers near 1e6 have lost the digits that tell 0.1 from 0.2.
    values = 1e6 + np.array([0.1, 0.11, 0.2, 0.21, 0.9])
    assert kmeans_1d(values, 3).tolist() == [0, 0, 1, 1, 2]


def test_never_worse_than_scikit_learn_and_the_same_in_any_order():
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(0)
    values = rng.exponential(size=4000) ** 2
    group = kmeans_1d(values, 10)
    within = sum(((values[group == g] - values[group == g].mean()) ** 2).sum() for g in range(10))
    sklearn = KMeans(10, random_state=0, n_init=1).fit(values[:, None])
    assert within <= sklearn.inertia_ * (1 + 1e-12)
    order = rng.permutation(len(values))
    np.testing.assert_array_equal(kmeans_1d(values[order], 10), group[order])
    means = [values[group == g].mean() for g in range(10)]
    assert means == sorted(means)


@pytest.mark.parametrize(("values", "groups", "expected"), [([2.0], 3, [0]), ([5, 5, 1, 5], 4, [1, 1, 0, 1])])
def test_fewer_distinct_values_than_groups(values, groups, expected):
    assert kmeans_1d(np.array(values, dtype=float), groups).tolist() == expected
