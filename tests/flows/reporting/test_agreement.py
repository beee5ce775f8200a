"""Which detectors name the same samples, worked out by hand."""

import polars as pl
import pytest

from tracesift.flows.reporting.agreement import agreement

SCORES = pl.DataFrame(
    {
        "aum": [-3.0, -2.0, 5.0, 4.0, 3.0, None],  # low is suspicious: rows 0, 1
        "mean_loss": [9.0, 1.0, 8.0, 2.0, 0.5, 0.1],  # high is suspicious: rows 0, 2
        "loss_gmm": [0.1, 0.2, 0.9, 0.8, 0.7, float("nan")],  # rows 0, 1
    }
)
DIRECTIONS = {"aum": "clean", "mean_loss": "suspicious", "loss_gmm": "clean", "confident_learning": "clean"}


def test_worst_samples_in_common():
    found = agreement(SCORES, pl.Series([True, None, True, False, False, False]), DIRECTIONS)
    assert (found["asked"], found["all"]) == (2, 1)
    rows = {row["name"]: row for row in found["detectors"]}
    assert set(rows) == {"aum", "mean_loss", "loss_gmm"}  # a detector that was not scored is left out
    assert {name: row["flagged"] for name, row in rows.items()} == {
        "aum": 0.5,
        "mean_loss": 1.0,
        "loss_gmm": 0.5,
    }
    assert rows["aum"]["common"] == {"aum": 1.0, "mean_loss": 0.5, "loss_gmm": 1.0}


def test_a_twentieth_is_asked_for_where_nothing_is_flagged():
    scores = pl.DataFrame({"aum": [float(i) for i in range(60)], "mean_loss": [float(i) for i in range(60)]})
    found = agreement(scores, pl.Series([None] * 60, dtype=pl.Boolean), DIRECTIONS)
    assert (found["asked"], found["all"]) == (3, 0)  # opposite orders
    assert found["detectors"][0]["flagged"] is None


def test_a_missing_score_names_nobody():
    found = agreement(SCORES, pl.Series([True] * 6), DIRECTIONS)
    assert found["all"] == 5


@pytest.mark.parametrize("directions", [{}, {"aum": "clean"}])
def test_one_detector_agrees_with_nobody(directions):
    assert agreement(SCORES, pl.Series([True] * 6), directions) is None
