"""Uncertainty: the least confident are kept, with classes and without, by each of three measures."""

from collections import Counter

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.selectors.contract import columns_needed, select

MEASURES = ("least_confidence", "prediction_entropy", "prediction_margin")


def kept(frame, budget, **params):
    result = select("uncertainty", frame, budget=budget, seed=0, **params)
    return result.filter(pl.col("role") == "keep")["sample_id"].to_list()


@pytest.fixture
def scored():
    """60 samples of two classes; the ids from s40 on are the unsure ones."""
    rng = np.random.default_rng(0)
    labels = np.where(np.arange(60) % 3 == 0, "a", "b")
    size = np.where(np.arange(60) < 40, 5.0, 1.0) + rng.uniform(0, 0.3, 60)
    logits = (
        np.eye(4)[rng.integers(0, 4, 60)] * size[:, None] + 50
    )  # a large offset, which no probability sees
    logits[40:] += 100
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    frame = compute(list(MEASURES), {"probs_last": probs / probs.sum(axis=1, keepdims=True)})
    ids = pl.Series("sample_id", [f"s{i:02d}" for i in range(60)])
    return frame.with_columns(ids, pl.Series("label", labels)), -logits.max(axis=1)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_least_confident_are_kept(scored, measure):
    frame, _ = scored
    assert kept(frame, 20, measure=measure) == [f"s{i}" for i in range(40, 60)]
    assert columns_needed("uncertainty", {"measure": measure}) == [measure]


@pytest.mark.parametrize("measure", MEASURES)
def test_both_branches_keep_the_same_end(scored, measure):
    # the published branch without classes keeps the most confident
    frame, _ = scored
    for per_class in (False, True):
        mean = frame.filter(pl.col("sample_id").is_in(kept(frame, 12, measure=measure, per_class=per_class)))[
            measure
        ]
        assert mean.min() > frame[measure].quantile(0.6)
    shares = Counter(int(name[1:]) % 3 == 0 for name in kept(frame, 12, measure=measure, per_class=True))
    assert shares == {True: 4, False: 8}


def test_raw_logits_would_keep_others(scored):
    # by its largest logit every sample from s40 on looks surer than all before
    frame, by_logit = scored
    wrong = frame.with_columns(pl.Series("least_confidence", by_logit))
    assert set(kept(wrong, 20)).isdisjoint(kept(frame, 20))


def test_missing_values_and_measures():
    frame = pl.DataFrame(
        {"sample_id": list("abc"), "label": ["x"] * 3, "least_confidence": [0.1, None, float("nan")]}
    )
    with pytest.raises(BadInput, match=r"'least_confidence' is missing .* for 2 of 3 samples"):
        kept(frame, 1)
    assert kept(frame, 1, nulls="drop") == ["a"]
    assert kept(frame, 2, nulls="keep") == ["b", "c"]
    with pytest.raises(BadInput, match="measure='entropy' must be 'least_confidence'"):
        kept(frame, 1, measure="entropy")
    with pytest.raises(BadInput, match="no column 'prediction_margin'"):
        kept(frame, 1, measure="prediction_margin")
