"""Denoising: relabel, drop and reweight from one flag."""

import math

import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import select
from tracesift.selectors.decisions.denoise import left_standing


def make(rows):
    columns = ["sample_id", "label", "label_noise", "confidence", "suggestion"]
    schema = dict(zip(columns, [pl.String, pl.String, pl.Boolean, pl.Float64, pl.String], strict=True))
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.with_columns(
        preferred_label_posterior="confidence"
    )  # as if every wrong label had one right one


@pytest.fixture
def ten():
    return make(
        [
            ("s0", "x", True, 0.99, "y"),  # sure and suggested
            ("s1", "x", True, 0.97, None),  # sure, nothing to suggest
            ("s2", "x", True, 0.93, "y"),
            ("s3", "x", True, 0.91, "y"),
            ("s4", "x", None, 0.80, "y"),  # cannot tell
            ("s5", "x", False, 0.01, None),
            ("s6", "y", True, None, "x"),  # confidence unknown
            ("s7", "y", False, 0.02, None),
            ("s8", "y", False, 0.02, None),
            ("s9", "y", False, 0.02, None),
        ]
    )


def act(frame, **params):
    result = select("denoise", frame, budget=None, seed=0, **params)
    return {row["sample_id"]: row for row in result.iter_rows(named=True)}


def roles(frame, **params):
    return {name: row["role"] for name, row in act(frame, **params).items() if row["role"] != "keep"}


def test_auto_by_hand(ten):
    rows = act(ten, max_drop=0.1)
    assert {name for name, row in rows.items() if row["role"] == "relabel"} == {"s0"}
    assert rows["s0"]["new_label"] == "y"
    assert rows["s0"]["weight"] == 1
    assert {name for name, row in rows.items() if row["role"] == "drop"} == {"s1"}  # the worst that is left
    assert rows["s2"]["weight"] == pytest.approx(0.1)  # 1 - 0.93 is below the least weight
    assert rows["s6"]["weight"] == 0.5
    assert rows["s4"]["weight"] == 1
    assert "cannot tell" in rows["s4"]["reason"]
    assert rows["s5"]["reason"] == "not flagged by label_noise"
    assert "flagged by label_noise: confidence 0.970; dropped" in rows["s1"]["reason"]


def test_the_three_modes_from_one_decision(ten):
    assert roles(ten, mode="drop", max_drop=0.2) == {"s0": "drop", "s1": "drop"}
    assert roles(ten, mode="relabel") == {"s0": "relabel"}
    assert roles(ten, mode="relabel", relabel_confidence=0.9) == {
        "s0": "relabel",
        "s2": "relabel",
        "s3": "relabel",
    }
    assert roles(ten, mode="reweight") == {}
    assert act(ten, mode="reweight")["s0"]["weight"] == pytest.approx(0.1)
    assert act(ten, mode="reweight", min_weight=0)["s0"]["weight"] == pytest.approx(0.01)
    assert act(ten, mode="drop", max_drop=0.2)["s2"]["weight"] == 1


@pytest.mark.parametrize(("max_drop", "dropped"), [(0, 0), (0.05, 0), (0.1, 1), (0.29, 2), (0.4, 4), (1, 5)])
def test_the_cap_counts_all_samples_and_rounds_down(ten, max_drop, dropped):
    assert len(roles(ten, mode="drop", max_drop=max_drop)) == dropped


def test_the_direction_of_the_confidence_matters(ten):
    turned = ten.with_columns((1 - pl.col("confidence")).alias("confidence"))
    assert roles(turned, mode="drop", max_drop=0.1) == {"s3": "drop"}


def test_a_class_is_never_emptied():
    frame = make([("a", "x", True, 0.99, "y"), ("b", "x", True, 0.98, "y"), ("c", "y", False, 0.0, None)])
    for mode in ("auto", "relabel", "drop"):
        acted = roles(frame, mode=mode, max_drop=1.0)
        assert set(acted) == {"a"}
    assert "last of its label" in act(frame, mode="drop", max_drop=1.0)["b"]["reason"]
    assert act(frame, max_drop=1.0)["b"]["weight"] == pytest.approx(0.1)


def test_a_wrong_label_is_not_replaced_by_a_doubtful_one(ten):
    doubtful = ten.with_columns(
        preferred_label_posterior=pl.when(pl.col("sample_id") == "s3").then(0.96).otherwise(0.9)
    )
    assert roles(doubtful, max_drop=0.1) == {"s3": "relabel", "s0": "drop"}
    assert roles(doubtful, mode="relabel") == {"s3": "relabel"}
    assert "label becomes 'y', right with a probability of 0.960" in act(doubtful)["s3"]["reason"]
    unknown = ten.drop("preferred_label_posterior")
    assert roles(unknown, max_drop=0.1) == {"s0": "drop"}
    assert roles(unknown, mode="relabel") == {"s0": "relabel"}  # who asks for it gets it from the confidence
    other = doubtful.rename({"preferred_label_posterior": "mine"})
    assert roles(other, max_drop=0.1, certainty="mine") == {"s3": "relabel", "s0": "drop"}


def test_no_estimate_is_written_as_certain(ten):
    near = ten.with_columns(
        confidence=pl.when(pl.col("sample_id") == "s0").then(0.99999).otherwise("confidence")
    )
    assert "confidence over 0.999;" in act(near)["s0"]["reason"]


def test_useless_suggestions_are_not_followed():
    rows = [("a", "x", True, 0.99, "x"), ("b", "x", True, 0.99, "z"), ("c", "x", False, 0.0, None)]
    assert roles(make(rows), mode="relabel") == {}


def test_nothing_flagged_changes_nothing(ten):
    calm = ten.with_columns(pl.lit(None, pl.Boolean).alias("label_noise"))
    assert roles(calm) == {}
    assert {row["weight"] for row in act(calm).values()} == {1.0}


def test_foreign_columns_do_not_collide(ten):
    crowded = ten.with_columns(row=pl.lit(1), sure=pl.lit(2), instead=pl.lit("q"), role=pl.lit("forget"))
    assert act(crowded, max_drop=0.1) == act(ten, max_drop=0.1)


def test_suggestions_are_needed_only_for_relabelling(ten):
    assert roles(ten.drop("suggestion"), max_drop=0.1) == {"s0": "drop"}
    with pytest.raises(BadInput, match="no column 'suggestion'"):
        roles(ten.drop("suggestion"), mode="relabel")


@pytest.mark.parametrize(
    ("change", "params", "message"),
    [
        (lambda f: f.drop("label_noise"), {}, "no column 'label_noise'"),
        (lambda f: f.drop("confidence"), {}, "no column 'confidence'"),
        (lambda f: f.with_columns(pl.lit("yes").alias("label_noise")), {}, "must be Boolean"),
        (
            lambda f: f.with_columns(pl.lit(1.5).alias("confidence")),
            {},
            r"'confidence' lies outside \[0, 1\] for 10 of 10 samples",
        ),
        (lambda f: f, {"mode": "delete"}, "mode='delete' must be"),
        (lambda f: f, {"max_drop": 1.1}, "max_drop must be a share"),
        (lambda f: f, {"min_weight": math.nan}, "min_weight must be a share"),
        (lambda f: f, {"relabel_confidence": -0.1}, "relabel_confidence must be a share"),
    ],
)
def test_what_cannot_be_used_is_refused(ten, change, params, message):
    with pytest.raises(BadInput, match=message):
        roles(change(ten), **params)


def test_a_persons_word_is_the_reason(ten):
    """Of the flagged s0 to s3 a person found s1 and s2 to be y; s5, which is not flagged, was confirmed."""
    seen = (
        pl.when(pl.col("sample_id").is_in(["s1", "s2"]))
        .then(pl.lit("y"))
        .when(pl.col("sample_id") == "s5")
        .then("label")
    )
    told = ten.with_columns(verified_label=seen)
    word = "a person verified the label as 'y'"
    assert act(told, mode="drop", max_drop=1.0)["s1"]["reason"] == f"{word}; dropped"
    assert act(told, mode="reweight")["s1"]["reason"].startswith(f"{word}; kept with weight ")
    assert act(told, mode="relabel", relabel_confidence=0.9)["s2"]["reason"] == f"{word}; label becomes 'y'"
    assert act(told, mode="drop", max_drop=0)["s1"]["reason"].startswith(f"{word}; kept: not reached")
    assert act(told)["s5"]["reason"] == "a person confirmed this label"
    without = act(ten)
    assert {name: row["role"] for name, row in act(told).items()} == {
        name: row["role"] for name, row in without.items()
    }


def test_what_stays_of_the_doubtful_is_said(ten):
    def said(**params):
        return left_standing(
            select("denoise", ten, budget=None, seed=0, **params),
            **({"mode": "auto", "max_drop": 0.05} | params),
        )

    capped = "no more than 10 % of all (1) may be dropped (max_drop)"
    assert said(max_drop=0.1) == f"3 doubtful labels are kept at a lower weight: {capped}"
    assert said(mode="drop", max_drop=0.1) == f"4 doubtful labels are kept as they are: {capped}"
    assert said(mode="reweight") == "5 doubtful labels are kept at a lower weight"
    assert said(max_drop=1.0) is None
