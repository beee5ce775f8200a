"""Leaving out what is flagged as unlearnable."""

import math

import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import columns_needed, select


@pytest.fixture
def ten():
    rows = [
        ("s0", "x", True, 3.25),
        ("s1", "x", True, 4.5),
        ("s2", "x", True, 2.0),
        ("s3", "x", None, 9.0),  # cannot tell, however high
        ("s4", "x", False, 0.5),
        ("s5", "x", False, None),
        ("s6", "y", True, None),  # flagged without a score: dropped last
        ("s7", "y", True, 3.25),
        ("s8", "y", False, -1.0),
        ("s9", "y", None, math.nan),
    ]
    schema = {
        "sample_id": pl.String,
        "label": pl.String,
        "unlearnable": pl.Boolean,
        "residual_shortcut": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def act(frame, **params):
    result = select("depoison", frame, budget=None, seed=0, **params)
    return {row["sample_id"]: row for row in result.iter_rows(named=True)}


def dropped(frame, **params):
    return {name for name, row in act(frame, **params).items() if row["role"] == "drop"}


def test_by_hand(ten):
    rows = act(ten)
    assert {name for name, row in rows.items() if row["role"] == "drop"} == {"s0", "s1", "s2", "s6", "s7"}
    assert {row["role"] for row in rows.values()} == {"keep", "drop"}
    assert all(row["weight"] == (row["role"] == "keep") for row in rows.values())
    assert (
        rows["s1"]["reason"]
        == "flagged by unlearnable: residual_shortcut 4.5, rank 1 of the 5 flagged; dropped"
    )
    assert (
        rows["s6"]["reason"]
        == "flagged by unlearnable: no residual_shortcut, rank 5 of the 5 flagged; dropped"
    )
    assert rows["s3"]["reason"] == "unlearnable is null: cannot tell, so kept (residual_shortcut 9)"
    assert rows["s4"]["reason"] == "not flagged by unlearnable (residual_shortcut 0.5)"
    assert rows["s9"]["reason"] == "unlearnable is null: cannot tell, so kept (no residual_shortcut)"


@pytest.mark.parametrize(
    ("max_drop", "wanted"),
    [
        (0, set()),
        (0.09, set()),
        (0.1, {"s1"}),
        (0.29, {"s1", "s0"}),  # 0.29 of ten is two; of equal scores the first id goes first
        (0.3, {"s1", "s0", "s7"}),
        (0.4, {"s1", "s0", "s7", "s2"}),
        (1, {"s1", "s0", "s7", "s2", "s6"}),
    ],
)
def test_the_surest_go_first_and_the_cap_counts_all_samples(ten, max_drop, wanted):
    assert dropped(ten, max_drop=max_drop) == wanted
    left = [row["reason"] for row in act(ten, max_drop=max_drop).values() if "leaves room" in row["reason"]]
    assert len(left) == 5 - len(wanted)


def test_the_direction_of_the_score_matters(ten):
    turned = ten.with_columns(-pl.col("residual_shortcut"))
    assert dropped(turned, max_drop=0.1) == {"s2"}


def test_what_cannot_be_told_is_never_acted_upon(ten):
    assert dropped(ten.with_columns(unlearnable=pl.lit(None, pl.Boolean))) == set()
    assert dropped(ten.with_columns(unlearnable=pl.lit(None))) == set()
    assert dropped(ten.with_columns(unlearnable=pl.lit(value=False))) == set()


def test_a_label_is_never_emptied(ten):
    all_of_y = ten.with_columns(unlearnable=pl.col("label") == "y")
    rows = act(all_of_y)
    assert dropped(all_of_y) == {"s6", "s7", "s8"}  # s9 has no score and the last id
    assert rows["s9"]["reason"].endswith("kept, the last of its label y")
    assert rows["s9"]["weight"] == 1


def test_without_a_score_the_flag_alone_decides(ten):
    bare = ten.drop("residual_shortcut")
    assert dropped(bare) == dropped(ten)
    assert act(bare)["s1"]["reason"] == "flagged by unlearnable; dropped"
    with pytest.raises(BadInput, match="drops by the score 'residual_shortcut'"):
        dropped(bare, max_drop=0.1)


def test_another_flag_with_its_own_score(ten):
    mine = ten.rename({"unlearnable": "row", "residual_shortcut": "number"}).with_columns(
        yes=pl.lit(value=True)
    )
    assert dropped(mine, flag="row", score="number", max_drop=0.1) == {"s1"}
    assert columns_needed("depoison", {"flag": "row"}) == ["row", "residual_shortcut"]


@pytest.mark.parametrize(
    ("change", "params", "message"),
    [
        (lambda f: f.drop("unlearnable"), {}, "no column 'unlearnable'"),
        (lambda f: f.with_columns(unlearnable=pl.lit("yes")), {}, "must be Boolean"),
        (lambda f: f.with_columns(residual_shortcut=pl.lit("high")), {}, "not numbers"),
        (lambda f: f, {"max_drop": 1.1}, "max_drop must be a share"),
        (lambda f: f, {"max_drop": math.nan}, "max_drop must be a share"),
        (lambda f: f, {"flag": "unlearned"}, "no column 'unlearned'"),
    ],
)
def test_what_cannot_be_used_is_refused(ten, change, params, message):
    with pytest.raises(BadInput, match=message):
        dropped(change(ten), **params)
