"""The controls random and random_balanced."""

from collections import Counter

import polars as pl
import pytest

from tracesift.selectors.contract import select


def kept(name, frame, budget, seed=0, **params):
    result = select(name, frame, budget=budget, seed=seed, **params)
    return set(result.filter(pl.col("role") == "keep")["sample_id"])


def test_the_file_does_not_shadow_the_standard_library(request):
    folder = request.config.rootpath / "selectors"
    assert not (folder / "random.py").exists()


@pytest.mark.parametrize("name", ["random", "random_balanced"])
def test_a_larger_budget_contains_the_smaller(name, frame):
    assert kept(name, frame, 10) < kept(name, frame, 25) < kept(name, frame, 55)


def test_a_growing_dataset_keeps_its_order(frame):
    # the first 20 drawn of all 60, as far as they are in the first half, lead the draw of the half too
    half = frame.sort("sample_id")[:30]
    both = kept("random", frame, 20) & set(half["sample_id"])
    assert kept("random", half, len(both)) == both


def test_draws_are_uniform(frame):
    counts = Counter(name for seed in range(150) for name in kept("random", frame, 20, seed=seed))
    # 50 expected each, standard deviation 5.8
    assert all(20 < counts[name] < 80 for name in frame["sample_id"])


def test_every_class_gives_as_many_as_it_can(frame):
    labels = dict(frame.select("sample_id", "label").rows())
    assert Counter(labels[name] for name in kept("random_balanced", frame, 15)) == {"a": 5, "b": 5, "c": 5}
    assert Counter(labels[name] for name in kept("random_balanced", frame, 30)) == {"a": 12, "b": 12, "c": 6}
    proportional = kept("random_balanced", frame, 30, quota="proportional")
    assert Counter(labels[name] for name in proportional) == {"a": 19, "b": 8, "c": 3}


def test_the_two_controls_draw_independently(frame):
    one_class = frame.with_columns(pl.lit("x").alias("label"))
    assert kept("random", one_class, 30) != kept("random_balanced", one_class, 30)
