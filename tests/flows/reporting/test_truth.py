"""Detectors against known labels, worked by hand; and what is said of them where nothing is flagged."""

import polars as pl
import pytest

from tracesift.flows.commands.curate import print_summary
from tracesift.flows.reporting.truth import truth_of
from tracesift.pipelines.dataset import open_dataset

IDS = [f"s{row}" for row in range(8)]


@pytest.fixture(scope="module")
def dataset():
    """Six labels are known, of s0 to s5; those of s1, s3 and s5 are wrong."""
    truth = ["x", "y", "x", "y", "x", "y", None, None]
    frame = pl.DataFrame({"id": IDS, "value": [float(row) for row in range(8)], "label_true": truth})
    frame = frame.with_columns(label=pl.Series(["x"] * 7 + ["y"]))
    return open_dataset(frame, id="id", features=["value"], label="label", val=0, test=0)


def flags(*rows):
    schema = {
        "sample_id": pl.String,
        "flagged": pl.Boolean,
        "confidence": pl.Float64,
        "suspicion": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(flag=pl.lit("label_noise"))


def test_the_order_of_suspicion_by_hand(dataset):
    answers = flags(
        ("s0", None, None, 0.9), ("s1", None, 0.6, 0.5), ("s2", None, None, 0.1), ("s3", None, None, 0.8),
        ("s4", None, None, 0.7), ("s5", None, None, None), ("s6", None, None, 1.0), ("s7", None, None, 1.0),
    )  # fmt: skip
    scores = pl.DataFrame({"sample_id": IDS})
    found = truth_of(dataset, scores, answers)
    assert (found["known"], found["wrong"], found["precision"], found["recall"]) == (6, 3, None, 0.0)
    # s1 (0.6 + 0.5), s0, s3, s4, s2; s5 has no place, s6 and s7 no known label: wrong are the first and the third
    assert found["ranking"]["average_precision"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert found["ranking"]["chance"] == pytest.approx(2 / 5)
    assert truth_of(dataset, scores, answers.drop("suspicion"))["ranking"] is None
    assert truth_of(dataset, scores, answers.with_columns(suspicion=None))["ranking"] is None


@pytest.mark.parametrize(
    ("ranking", "end"),
    [
        (None, "its recall 0.000"),
        (
            {"average_precision": 0.7123, "chance": 0.5037},
            "its recall 0.000; in the order of suspicion its average precision is 0.712, where chance gives 0.504",
        ),
    ],
)
def test_the_summary_says_it(ranking, end, capsys):
    print_summary(
        {
            "worklist": [], "why_empty": "nothing", "noise": None, "flags": {}, "stability": None, "subsets": [], "evaluations": [],
            "truth": {"known": 2045, "wrong": 1030, "precision": None, "recall": 0.0, "ranking": ranking},
            "verdict": None, "report": "w/report.html",
        }
    )  # fmt: skip
    said = "1030 of 2045 known labels are wrong; the flag's precision is –, "
    assert f"\n{said}{end}\n" in capsys.readouterr().out
