"""The rank selectors top_k, bottom_k and inverse."""

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import select


def kept(result):
    return result.filter(pl.col("role") == "keep")["sample_id"].to_list()


@pytest.fixture
def six():
    return pl.DataFrame(
        {
            "sample_id": list("fedcba"),
            "label": list("yyxxxx"),
            "el2n": [0.1, 0.2, 0.5, 0.5, 0.5, 0.9],
            "aum": range(6),
        }
    )


def test_ties_break_by_ascending_id(six):
    # a=0.9, then b, c and d share 0.5: the two smallest ids of the three are kept
    assert kept(select("top_k", six, budget=3, seed=0, score="el2n")) == ["a", "b", "c"]
    assert kept(select("bottom_k", six, budget=4, seed=0, score="el2n")) == ["b", "c", "e", "f"]


def test_per_class_quotas_by_hand(six):
    # classes x: a b c d, y: e f; three kept, ideals 2 and 1
    assert kept(select("top_k", six, budget=3, seed=0, score="el2n", per_class=True)) == ["a", "b", "e"]
    assert kept(select("bottom_k", six, budget=3, seed=0, score="el2n", per_class=True)) == ["b", "c", "f"]


def test_a_small_class_is_not_emptied():
    frame = pl.DataFrame(
        {"sample_id": [f"{i:03d}" for i in range(100)], "label": ["big"] * 99 + ["small"], "s": range(100)}
    )
    assert "099" not in kept(select("bottom_k", frame, budget=10, seed=0, score="s"))
    assert "099" in kept(select("bottom_k", frame, budget=10, seed=0, score="s", per_class=True))


def test_top_and_bottom_divide_the_samples(frame):
    distinct = frame.with_columns(pl.col("aum_prob_sum").alias("s"))
    top = set(kept(select("top_k", distinct, budget=20, seed=0, score="s")))
    bottom = set(kept(select("bottom_k", distinct, budget=40, seed=0, score="s")))
    assert top | bottom == set(frame["sample_id"])


@pytest.mark.parametrize(("of", "same_as"), [("top_k", "bottom_k"), ("bottom_k", "top_k")])
@pytest.mark.parametrize("per_class", [False, True])
def test_inverse_takes_the_opposite_end(frame, of, same_as, per_class):
    params = {"score": "aum_prob_sum", "per_class": per_class}
    opposite = kept(select("inverse", frame, budget=0.3, seed=0, of=of, **params))
    assert opposite == kept(select(same_as, frame, budget=0.3, seed=0, **params))
    assert opposite != kept(select(of, frame, budget=0.3, seed=0, **params))


def test_inverse_of_cld_keeps_its_quotas(frame):
    plain, opposite = (
        frame.join(select(name, frame, budget=12, seed=0, **params), on="sample_id").filter(
            pl.col("role") == "keep"
        )
        for name, params in (("cld_per_class", {}), ("inverse", {"of": "cld_per_class"}))
    )
    assert sorted(plain["label"]) == sorted(opposite["label"])
    assert opposite["cld"].mean() < plain["cld"].mean()


def test_inverse_of_what_has_no_opposite(six):
    with pytest.raises(BadInput, match="'ccs' has no opposite end"):
        select("inverse", six, budget=1, seed=0, score="el2n", of="ccs")


def test_the_only_score_need_not_be_named(six):
    assert kept(select("top_k", six.drop("aum"), budget=1, seed=0)) == ["a"]
    with pytest.raises(BadInput, match=r"say which score.*el2n.*aum"):
        select("top_k", six, budget=1, seed=0)


def test_one_gap_is_told_as_well_as_many(six):
    for gaps in (1, 3):
        holed = six.with_columns(pl.Series("el2n", [None] * gaps + [0.5] * (6 - gaps)))
        with pytest.raises(
            BadInput, match=rf"'el2n' is missing \(null or NaN\) for {gaps} of 6 samples; pass"
        ):
            select("top_k", holed, budget=1, seed=0, score="el2n")


def test_infinite_scores_rank_at_the_ends(six):
    endless = six.with_columns(pl.Series("el2n", [np.inf, 0.2, 0.5, 0.5, 0.5, -np.inf]))
    assert kept(select("top_k", endless, budget=1, seed=0, score="el2n")) == ["f"]
    assert kept(select("bottom_k", endless, budget=1, seed=0, score="el2n")) == ["a"]


def test_missing_values_rank_behind_infinite_ones(six):
    holes = six.with_columns(pl.Series("el2n", [None, -np.inf, 0.5, 0.5, 0.5, 0.9]))
    assert kept(select("top_k", holes, budget=5, seed=0, score="el2n", nulls="drop")) == [
        "a",
        "b",
        "c",
        "d",
        "e",
    ]
    assert "f" in kept(select("top_k", holes, budget=1, seed=0, score="el2n", nulls="keep"))
    with pytest.raises(BadInput, match="5 possible"):
        select("top_k", holes, budget=6, seed=0, score="el2n", nulls="drop")
    more = six.with_columns(pl.Series("el2n", [None, None, 0.5, 0.5, 0.5, 0.9]))
    with pytest.raises(BadInput, match="asks for 2 samples"):
        select("top_k", more, budget=1, seed=0, score="el2n", nulls="keep")
    with pytest.raises(BadInput, match=r"nulls='.*' must be"):
        select("top_k", more, budget=1, seed=0, score="el2n", nulls="first")


def test_reasons_hold_score_rank_and_rule(six):
    result = select("top_k", six, budget=2, seed=0, score="el2n")
    assert result["reason"][0] == "el2n=0.9: rank 1 of 6, highest first; kept are ranks 1 to 2"
    by_class = select("top_k", six, budget=3, seed=0, score="el2n", per_class=True)
    assert by_class["reason"][5] == "el2n=0.1: rank 2 of 2 of label 'y', highest first; kept are ranks 1 to 1"
