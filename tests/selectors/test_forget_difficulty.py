import doctest

import numpy as np
import polars as pl
import pytest
from scipy.stats import rankdata

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import find
from tracesift.selectors.decisions import forget_difficulty
from tracesift.selectors.decisions.forget_difficulty import AXES, difficulty, strata


def test_examples_run_and_every_axis_is_a_score():
    assert doctest.testmod(forget_difficulty).failed == 0
    for name in AXES:
        assert find(name).name == name


@pytest.mark.parametrize("name", AXES)
def test_each_axis_is_turned_its_own_way(name):
    values = np.random.default_rng(0).integers(0, 20, 50).astype(float)
    frame = pl.DataFrame({"sample_id": [f"s{at:02d}" for at in range(50)], name: values})
    hard = -values if AXES[name].hard == "low" else values
    expected = (rankdata(hard) - 0.5) / 50
    np.testing.assert_allclose(difficulty(frame)[f"hard_by_{name}"], expected, rtol=1e-12)


def test_the_two_meanings_stay_apart_where_they_contradict_one_another():
    """A sample known by heart: the worst to bring near retraining, and the first to be lost by unlearning."""
    ids = ["by_heart", "redundant"]
    frame = pl.DataFrame(
        {"sample_id": ids, "memorization_subset": [1.0, 0.0], "worst_case_weight": [0.0, 1.0]}
    )
    found = difficulty(frame)
    assert found["hard_by_memorization_subset"].to_list() == [0.75, 0.25]
    assert found["hard_by_worst_case_weight"].to_list() == [0.25, 0.75]
    assert found.columns == ["sample_id", "hard_by_memorization_subset", "hard_by_worst_case_weight"]
    assert {AXES[name].meaning for name in ("memorization_subset", "worst_case_weight")} == {
        "far_from_retrained", "still_known",
    }  # fmt: skip


def test_missing_scores_stay_missing_and_rows_come_sorted():
    frame = pl.DataFrame(
        {"sample_id": list("dcba"), "last_loss": [1.0, None, float("nan"), 2.0], "el2n": [0.0] * 4}
    )
    found = difficulty(frame)
    assert found["sample_id"].to_list() == list("abcd")
    assert found["hard_by_last_loss"].to_list() == [0.25, None, None, 0.75]
    for broken in (frame.drop("last_loss"), frame.drop("sample_id"), pl.concat([frame, frame])):
        with pytest.raises(BadInput):
            difficulty(broken)


def test_thirds_by_hand_and_equal_values_together():
    assert (
        strata(list("abcdef"), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]).to_list()
        == ["low"] * 2 + ["medium"] * 2 + ["high"] * 2
    )
    assert strata(list("cab"), [0.5, 0.5, 0.5]).to_list() == [None] * 3
    assert strata(["a"], [0.5]).to_list() == [None]
    assert strata(list("abcdef"), [0.5] * 5 + [0.9]).to_list() == ["medium"] * 5 + ["high"]
    assert strata(list("abcdef"), [0.1, None] + [0.5] * 4).to_list() == ["low", None] + ["medium"] * 4
    assert strata(list("abcd"), [None, 3.0, float("nan"), 1.0]).to_list() == [None, "medium", None, "low"]
    assert strata(list("abcde"), [1, 2, 3, 4, 5]).to_list() == ["low", "low", "medium", "medium", "high"]
    assert strata([], []).to_list() == []


def test_order_leaves_no_trace():
    rng = np.random.default_rng(1)
    ids, values = np.array([f"s{at:03d}" for at in range(100)]), rng.integers(0, 7, 100) / 6
    found = strata(ids.tolist(), values).to_numpy()
    order = rng.permutation(100)
    assert (strata(ids[order].tolist(), values[order]).to_numpy() == found[order]).all()
    assert values[found == "low"].max() < values[found == "medium"].min()
    assert values[found == "medium"].max() < values[found == "high"].min()
    with pytest.raises(BadInput, match="one value"):
        strata(["a", "a"], [1.0, 2.0])
    with pytest.raises(BadInput, match="one value"):
        strata(["a"], [1.0, 2.0])
