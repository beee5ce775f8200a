"""SemDeDup, the rate of duplicates for several eps, and leakage between splits."""

import doctest
from importlib import import_module

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput, MissingSignal
from tracesift.scorers.geometry.dup_similarity import dup_similarity
from tracesift.selectors.contract import select
from tracesift.selectors.geometry.duplicate_rates import duplicate_rates
from tracesift.selectors.geometry.leakage_report import leakage_report


def names_of(count):
    return pl.DataFrame({"sample_id": [f"s{i:03d}" for i in range(count)], "label": ["x"] * count})


def dropped(x, seed=0, **params):
    result = select("semdedup", names_of(len(x)), budget=None, seed=seed, embedding=x, **params)
    return [int(name[1:]) for name in result.filter(pl.col("role") == "drop")["sample_id"]]


@pytest.fixture
def copies():
    """100 samples and near copies of the first 30."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 16))
    return np.vstack([x, x[:30] + rng.normal(0, 0.01, (30, 16))])


@pytest.mark.parametrize("module", ["semdedup", "duplicate_rates", "leakage_report"])
def test_examples_run(module):
    assert doctest.testmod(import_module(f"tracesift.selectors.geometry.{module}")).failed == 0


def test_one_of_each_planted_pair_goes(copies):
    gone = dropped(copies)
    assert len(gone) == 30
    assert {i - 100 if i >= 100 else i for i in gone} == set(range(30))
    assert dropped(copies, eps=1e-6) == []
    assert dropped(copies, order="easy") != gone


def test_it_drops_what_the_score_is_above_for_every_eps(copies):
    score = dup_similarity(copies)
    for eps in (0.001, 0.02, 0.3, 0.5):
        assert dropped(copies, eps=eps) == np.flatnonzero(score > 1 - eps).tolist()
    rates = duplicate_rates(score, (0.02, 0.5))
    assert rates == {0.02: 30 / 130, 0.5: float((score > 0.5).mean())}
    assert duplicate_rates(np.array([np.nan, 1.0]), [0.1]) == {0.1: 0.5}
    with pytest.raises(BadInput, match="eps"):
        duplicate_rates(score, [1.0])


def test_chains_as_published_and_among_kept_ones():
    angles = np.radians(np.r_[0, 10, 20, 30, 40, np.full(60, -60)])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert dropped(x, order="easy")[:4] == [1, 2, 3, 4]
    assert [i for i in dropped(x, order="easy", compare="kept") if i < 5] == [1, 3]
    result = select("semdedup", names_of(65), budget=None, seed=0, embedding=x, order="easy")
    assert result["reason"][2] == (
        "cosine 0.984808 with 's001', which comes before it in cluster 1 and is dropped itself: above 0.98 (eps=0.02)"
    )


def test_reasons_of_the_kept():
    x = np.array([[1.0, 0], [0, 1], [0.6, 0.8], [0, 0]])
    reasons = select("semdedup", names_of(4), budget=None, seed=0, embedding=x, order="random")["reason"]
    assert reasons[3] == "no vector to compare, so it duplicates nothing"
    assert sum("nothing alike comes before it in cluster 1" in one for one in reasons) >= 1
    assert sum("not above 0.98" in one for one in reasons) >= 1
    assert not dropped(x)


def test_the_seed_draws_the_random_order(copies):
    drawn = {tuple(dropped(copies, seed=seed, order="random")) for seed in range(4)}
    assert len(drawn) == 4
    assert all(len(gone) == 30 for gone in drawn)


def test_a_single_sample_one_class_and_all_alike():
    assert dropped(np.ones((1, 3))) == []
    assert dropped(np.ones((9, 3))) == list(range(1, 9))
    assert dropped(np.zeros((4, 3))) == []
    assert dropped(np.ones((9, 3)), clusters=50) == list(range(1, 9))


def test_what_it_refuses(copies):
    for eps in (0, 1, -0.1, True, float("nan")):
        with pytest.raises(BadInput, match="eps"):
            dropped(copies, eps=eps)
        with pytest.raises(BadInput, match="eps"):
            leakage_report(copies, copies, eps)
    with pytest.raises(BadInput, match="'earlier' or 'kept'"):
        dropped(copies, compare="all")
    with pytest.raises(BadInput, match="'hard', 'easy' or 'random'"):
        dropped(copies, order="first")
    with pytest.raises(BadInput, match="at least 1"):
        dropped(copies, clusters=0)
    with pytest.raises(MissingSignal, match="embedding"):
        select("semdedup", names_of(3), budget=None, seed=0)
    with pytest.raises(BadInput, match="one encoder"):
        leakage_report(copies, copies[:, :3])


def test_leaks_are_found_with_their_twins(copies):
    report = leakage_report(copies[:100], copies[100:])
    assert sorted(report["train_row"]) == list(range(30))
    assert (report["train_row"] == report["other_row"]).all()
    assert report["cosine"].is_sorted(descending=True)
    unit = copies / np.linalg.norm(copies, axis=1, keepdims=True)
    expected = [round(float(unit[i] @ unit[100 + j]), 6) for i, j, _ in report.rows()]
    np.testing.assert_allclose(report["cosine"], expected, atol=1e-6)
    assert leakage_report(copies[:100], copies[100:], 1e-6).is_empty()
    assert len(leakage_report(copies[:100], copies[:5])) == 5


def test_leakage_without_vectors_or_samples():
    x = np.eye(3)
    for train, other in ((np.zeros((2, 3)), x), (x, np.zeros((2, 3))), (x[:0], x), (x, x[:0])):
        report = leakage_report(train, other)
        assert report.is_empty()
        assert report.columns == ["train_row", "other_row", "cosine"]
    assert leakage_report(np.vstack([np.zeros(3), x]), x[[2]]).rows() == [(3, 0, 1.0)]
