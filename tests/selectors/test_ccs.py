"""CCS: the cut, the strata, the water-filling and the repaired defects."""

from collections import Counter

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.selectors.by_score.ccs import bins, water_fill
from tracesift.selectors.contract import select


def make(scores, labels=None, **columns):
    ids = [f"s{i:04d}" for i in range(len(scores))]
    return pl.DataFrame(
        {
            "sample_id": ids,
            "label": labels or ["x"] * len(ids),
            "aum_prob_sum": np.asarray(scores, float),
            **columns,
        }
    )


def kept(frame, budget, seed=0, **params):
    result = select("ccs", frame, budget=budget, seed=seed, **params)
    return result.filter(pl.col("role") == "keep")["sample_id"].to_list()


def water_fill_by_loop(sizes, budget):
    """The rule read from the paper: fill levels one sample at a time, lowest stratum first among equals."""
    taken = [0] * len(sizes)
    for _ in range(budget):
        open_ones = [i for i, size in enumerate(sizes) if taken[i] < size]
        taken[min(open_ones, key=lambda i: taken[i])] += 1
    return taken


def test_water_filling_by_hand():
    # sizes 1, 3, 10 and 8 samples: floor(8/3)=2 -> 1; floor(7/2)=3 -> 3; 4
    assert water_fill(np.array([10, 1, 3]), 8) == [4, 1, 3]
    assert water_fill(np.array([0, 5, 5]), 3) == [0, 1, 2]
    assert water_fill(np.array([2, 2]), 4) == [2, 2]


@pytest.mark.parametrize("seed", range(20))
def test_water_filling_levels_the_strata(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 9, 6)
    for budget in range(int(sizes.sum()) + 1):
        taken = water_fill(sizes, budget)
        assert sum(taken) == budget
        assert (np.array(taken) <= sizes).all()
        assert sorted(taken) == sorted(water_fill_by_loop(sizes.tolist(), budget))


def test_bins_are_equal_in_width_and_the_last_is_closed():
    assert bins(np.array([0.0, 0.9, 1.0, 1.9, 2.0, 4.0]), 4).tolist() == [0, 0, 1, 1, 2, 3]


def test_a_negative_maximum_does_not_lose_the_top_sample():
    values = -np.arange(1.0, 11.0)
    assert bins(values, 5).max() == 4
    assert len(kept(make(values), 10)) == 10
    assert "s0000" in kept(make([-1.0] + [-100.0] * 99), 2, beta=0)  # alone in its stratum, so taken


def test_equal_scores_are_one_stratum():
    assert len(kept(make([3.0] * 20), 7, beta=0.1)) == 7


def test_the_cut_takes_the_lowest_margins_whatever_the_score():
    frame = make(range(100), el2n=np.arange(100.0)[::-1])
    chosen = kept(frame, 70, score="el2n", beta=0.3)
    assert chosen == [f"s{i:04d}" for i in range(30, 100)]


def test_the_cut_breaks_ties_by_id_and_rounds_down():
    result = select("ccs", make([0.0] * 10 + [1.0] * 9), budget=10, seed=0, beta=0.29)  # floor(0.29 * 19) = 5
    cut = result.filter(pl.col("reason").str.contains("cut"))
    assert cut["sample_id"].to_list() == [f"s{i:04d}" for i in range(5)]


def test_the_budget_is_a_share_of_all_samples_and_must_fit_beside_the_cut():
    frame = make(np.random.default_rng(0).normal(size=100))
    assert len(kept(frame, 0.7, beta=0.3)) == 70
    with pytest.raises(BadInput, match="70 remain"):
        kept(frame, 0.71, beta=0.3)
    for beta in (-0.1, 1.0, float("nan")):
        with pytest.raises(BadInput, match="beta must be"):
            kept(frame, 0.1, beta=beta)


@pytest.mark.parametrize(
    ("keep", "beta"), [(0.7, 0), (0.5, 0), (0.3, 0.1), (0.2, 0.1), (0.1, 0.3), (180, 0.3)]
)
def test_default_beta_follows_the_published_settings(keep, beta):
    frame = make(np.random.default_rng(0).normal(size=1797 if keep == 180 else 1000))
    reasons = select("ccs", frame, budget=keep, seed=0)["reason"]
    assert reasons.str.contains("cut").sum() == int(beta * frame.height)


def test_sparse_strata_are_taken_whole_and_dense_ones_thinned():
    scores = [0.0] * 90 + [25.0] * 5 + [50.0] * 5
    frame = make(scores)
    chosen = [int(name[1:]) for name in kept(frame, 20, beta=0)]
    assert Counter(scores[i] for i in chosen) == {0.0: 10, 25.0: 5, 50.0: 5}


def test_adding_a_constant_changes_nothing():
    values = np.random.default_rng(2).integers(0, 40, 80) / 4
    assert kept(make(values), 30, beta=0.1) == kept(make(values - 1000), 30, beta=0.1)


def test_draws_are_uniform_inside_a_stratum():
    frame = make([0.0] * 10 + [1.0] * 10)
    counts = Counter(name for seed in range(200) for name in kept(frame, 10, seed=seed, beta=0))
    # 200 draws of 5 in 10: 100 expected each, standard deviation 7
    assert set(counts) == set(frame["sample_id"])
    assert all(65 < count < 135 for count in counts.values())


def test_per_class_keeps_class_proportions():
    labels = ["a"] * 80 + ["b"] * 20
    frame = make(np.r_[np.linspace(0, 1, 80), np.linspace(0, 0.1, 20)], labels)
    chosen = kept(frame, 20, beta=0, per_class=True)
    assert Counter(labels[int(name[1:])] for name in chosen) == {"a": 16, "b": 4}


def test_without_a_cut_the_margins_are_not_needed():
    frame = make(range(20)).rename({"aum_prob_sum": "el2n"})
    assert len(kept(frame, 10, score="el2n")) == 10
    with pytest.raises(BadInput, match="no column 'aum_prob_sum'"):
        kept(frame, 10, score="el2n", beta=0.1)


def test_infinite_scores_fit_in_no_stratum():
    with pytest.raises(BadInput, match="infinite"):
        kept(make([1.0, 2.0, np.inf]), 2)
