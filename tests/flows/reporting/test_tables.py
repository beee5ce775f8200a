"""The report's tables, worked by hand."""

import numpy as np
import polars as pl
import pytest

from tracesift.flows.reporting.tables import (
    CANNOT_TELL,
    WORDS,
    class_rows,
    empty_reason,
    evaluation_summary,
    evidence,
    flag_rows,
    in_words,
    noise_reading,
    paired_differences,
    verdict,
)
from tracesift.scorers.dynamics.loss_change_concentration import loss_change_concentration
from tracesift.scorers.noise.label_noise_rate import label_noise_rate
from tracesift.scorers.unlearnable.residual_verdict import residual_verdict
from tracesift.selectors.flags.label_noise import judge_labels

FLAGS = pl.DataFrame(
    [
        ("m", "a", True, 0.9, 0.5, "r"), ("m", "b", False, 0.1, 0.5, ""), ("m", "c", None, None, None, "few"),
        ("m", "d", None, None, None, "few"), ("m", "e", None, None, None, "no margin"), ("u", "b", True, 3.0, 2.0, "s"),
        ("u", "c", False, 1.0, 2.5, ""),
    ],
    schema={"flag": pl.String, "sample_id": pl.String, "flagged": pl.Boolean, "score": pl.Float64, "threshold": pl.Float64, "reason": pl.String},
    orient="row",
)  # fmt: skip
SCORES = pl.DataFrame(
    {
        "sample_id": list("abcde"),
        "label": ["x", "x", "y", "y", "w"],
        "cartography_confidence": [0.2, 0.4, 1.0, None, 0.5],
    }
)


def test_flags_count_yes_no_and_cannot_tell_apart():
    first, second = flag_rows(FLAGS)
    assert (first["flag"], first["yes"], first["no"], first["unknown"]) == ("m", 1, 1, 3)
    assert first["reasons"] == [{"reason": "few", "count": 2}, {"reason": "no margin", "count": 1}]
    assert first["rule"] == "0.5"
    assert second["rule"] == "2 to 2.5, by sample or class"
    many = pl.concat(
        [
            FLAGS.filter(pl.col("sample_id") == "c").with_columns(reason=pl.lit("r" * (i + 1)))
            for i in range(9)
        ]
    )
    assert flag_rows(many.filter(pl.col("flagged").is_null()))[0]["other_reasons"] == 4


def test_classes():
    subsets = [{"counts": {"by_label": {"x": 2, "w": 1}}}]
    rows = {row["label"]: row for row in class_rows(["x", "y", "z"], SCORES, FLAGS, subsets)}
    assert list(rows) == ["x", "y", "z", "w"]  # the dataset's order; what it does not know comes last
    assert (rows["x"]["samples"], rows["x"]["flagged"], rows["x"]["unknown"], rows["x"]["share"]) == (
        2,
        2,
        0,
        1.0,
    )
    # c is cleared by one flag, of d no flag can tell
    assert (rows["y"]["samples"], rows["y"]["flagged"], rows["y"]["unknown"], rows["y"]["share"]) == (
        2,
        0,
        1,
        0.0,
    )
    assert (rows["z"]["samples"], rows["z"]["share"], rows["z"]["confidence"]) == (0, None, None)
    assert rows["x"]["confidence"] == pytest.approx(0.3)
    assert rows["y"]["confidence"] == 1.0
    assert rows["x"]["suggested"] is None
    assert [rows[name]["kept"] for name in "xyzw"] == [[2], [0], [0], [1]]


def test_the_share_flagged_of_a_class_counts_the_same_flags_above_and_below_its_line():
    ids = [f"s{i}" for i in range(10)]
    answers = {
        "label_noise": [None] * 6 + [False] * 4,
        "unlearnable": [True] * 4 + [False] * 6,
    }
    flags = pl.DataFrame(
        [(flag, one, said) for flag, of in answers.items() for one, said in zip(ids, of, strict=True)],
        schema={"flag": pl.String, "sample_id": pl.String, "flagged": pl.Boolean}, orient="row",
    )  # fmt: skip
    (row,) = class_rows(["x"], pl.DataFrame({"sample_id": ids, "label": ["x"] * 10}), flags, [])
    assert (row["flagged"], row["unknown"], row["share"]) == (
        4,
        0,
        0.4,
    )  # of 10, not of the 8 all flags decide


def test_most_often_suggested_is_counted_over_the_class_and_not_over_the_worklist():
    scores = pl.DataFrame({"sample_id": list("abcdefg"), "label": ["x"] * 6 + ["y"]})
    flags = pl.DataFrame(
        {
            "flag": ["m"] * 7, "sample_id": list("abcdefg"), "reason": [""] * 7,
            "flagged": [True, None, None, None, False, False, None],
            "suggestion": ["z", "z", "w", "w", "v", "v", "y"],  # e and f are cleared; y is the label itself
        }
    )  # fmt: skip
    twice = pl.concat([flags, flags.with_columns(flag=pl.lit("other"))])
    for given in (flags, twice):
        rows = {row["label"]: row["suggested"] for row in class_rows(["x", "y"], scores, given, [])}
        assert rows == {"x": ("z", 2), "y": None}, "of equals, what is suggested for a flagged sample"
    more = flags.with_columns(suggestion=pl.Series(["z", "w", "w", "w", "v", "v", "y"]))
    assert class_rows(["x"], scores, more, [])[0]["suggested"] == ("w", 3)


def test_reasons_that_differ_in_numbers_and_names_are_one_group():
    said = [
        "cannot tell: aum -1.2 and models prefer '8'",
        "cannot tell: aum 3e-05 and models prefer 'a b'",
        "no margin",
        None,
    ]
    undecided = pl.DataFrame(
        {
            "flag": ["m"] * 4,
            "sample_id": list("abcd"),
            "flagged": [None] * 4,
            "score": [0.0] * 4,
            "threshold": [None] * 4,
            "reason": said,
        },
        schema_overrides={"flagged": pl.Boolean, "threshold": pl.Float64},
    )
    (row,) = flag_rows(undecided, ["8", "a b"])
    assert row["reasons"] == [
        {"reason": "aum … and models prefer …", "count": 2}, {"reason": "no margin", "count": 1}, {"reason": "no reason given", "count": 1},
    ]  # fmt: skip
    (row,) = flag_rows(undecided.head(1), ["8", "a b"])
    assert row["reasons"] == [{"reason": "aum -1.2 and models prefer '8'", "count": 1}]


def test_a_number_that_is_only_bounded_is_a_number_too():
    said = [f"prefer 'x' to 'y', by {number} in probability" for number in ("0.5", "> 0.999")]
    two = FLAGS.filter(pl.col("reason") == "few").with_columns(reason=pl.Series(said))
    (row,) = flag_rows(two, ["y", "x"])
    assert row["reasons"] == [{"reason": "prefer … to …, by … in probability", "count": 2}]


def test_a_name_with_an_apostrophe_is_one_name():
    names = ["d", "d'or", "or", "say 'hi' to 'x"]
    said = [
        "prefer 'd'or' to 'd'",
        "prefer 'd' to 'd'or'",
        "prefer 'say 'hi' to 'x' to 'or'",
        "its 'aum' is low",
    ]
    four = pl.concat([FLAGS.filter(pl.col("reason") == "few")] * 2).with_columns(reason=pl.Series(said))
    (row,) = flag_rows(four, names)
    assert row["reasons"] == [
        {"reason": "prefer … to …", "count": 3},
        {"reason": "its 'aum' is low", "count": 1},
    ]


@pytest.mark.parametrize(
    ("shown", "judged", "end"),
    [
        (
            None,
            {"set_apart": 85, "set_apart_flagged": 85},
            "; training sets 85 samples apart, which are flagged",
        ),
        (
            False,
            {"set_apart": 1, "set_apart_flagged": 1},
            "; training sets 1 sample apart, which are flagged",
        ),
        (
            None,
            {"set_apart": 85, "set_apart_flagged": 25},
            "; training sets 85 samples apart, of which 25 are flagged and a person looked at 60",
        ),
        (True, {"set_apart": 85, "set_apart_flagged": 85}, ""),
        (None, {"set_apart": 0, "set_apart_flagged": 0}, ""),
        (None, {}, ""),
    ],
)
def test_what_training_sets_apart_is_said_where_the_anchors_show_nothing(shown, judged, end):
    found = {"label_noise_rate": {"shown": shown, "reading": "6.4% differ"}, "label_noise": judged}
    assert noise_reading(found) == f"6.4% differ{end}"
    assert noise_reading({"label_noise": judged}) is None


def test_a_flag_that_is_silent_about_the_whole_set_does_not_make_every_class_unknown():
    silent = FLAGS.with_columns(flag=pl.lit("picture"), flagged=pl.lit(None, pl.Boolean))
    with_silent = pl.concat([FLAGS, silent])
    assert class_rows(["x", "y"], SCORES, with_silent, []) == class_rows(["x", "y"], SCORES, FLAGS, [])
    alone = class_rows(["x"], SCORES, silent, [])[0]
    assert (alone["unknown"], alone["share"]) == (2, None)
    cleared = pl.concat(
        [FLAGS.filter(pl.col("sample_id") == "b").with_columns(flagged=pl.lit(value=False)), silent]
    )
    assert empty_reason(cleared, 5).endswith("found none to suspect. picture cannot tell about any.")


def test_an_empty_worklist_says_which_kind_of_empty():
    assert "No flag was computed" in empty_reason(FLAGS.clear(), 5)
    assert empty_reason(FLAGS.filter(pl.col("flagged").is_null()), 5).startswith(
        "Cannot tell: none of the flags (m)"
    )
    nothing = empty_reason(
        FLAGS.with_columns(flagged=pl.when(pl.col("flagged").is_not_null()).then(pl.lit(value=False))), 5
    )
    assert nothing.startswith("Nothing was flagged: m, u looked at 5 training samples")
    assert "For 3 of them at least one flag cannot tell" in nothing


@pytest.mark.parametrize(
    ("word", "begins"), [("poisoned", "Yes: "), ("suspect", "Perhaps: "), ("clean", "No: ")]
)
def test_the_verdict_speaks_of_a_signal_not_of_an_attack(word, begins):
    found = verdict({"verdict": word, "reason": "because", "D": 4.9}, ["cat", "dog"])
    assert found["headline"].startswith(begins)
    assert "label-specific small signal" in found["headline"]
    assert found["explanation"].startswith("Because. ")
    assert found["evidence"]["single"] == [("D", 4.9)]


@pytest.mark.parametrize("found", [None, {"verdict": None, "reason": "too few"}, {"verdict": "maybe"}])
def test_any_other_verdict_is_cannot_tell(found):
    assert verdict(found, ["cat", "dog"])["headline"] == CANNOT_TELL


def test_classes_of_the_verdict_are_called_by_name():
    lines = {"mean": {"gap": 2.0, "strong_classes": [2, 0]}, "median": {"gap": 1.0, "strong_classes": []}}
    found = verdict({"verdict": "poisoned", "views": lines}, ["cat", "dog", "owl"])
    (table,) = found["evidence"]["tables"]
    assert table["columns"] == ["views", "gap", "strong_classes"]
    assert table["rows"] == [["mean", 2.0, ["owl", "cat"]], ["median", 1.0, []]]


def test_every_key_that_a_curate_shows_has_words():
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 2
    probs = np.eye(2)[np.where(np.arange(240) < 12, 1 - labels, labels)] * 0.98 + 0.01
    frame = pl.DataFrame({"sample_id": [f"s{row:03d}" for row in range(240)], "label": labels.astype(str)})
    images = rng.integers(0, 256, (240, 16, 16, 1), dtype=np.uint8)
    spotted = images.copy()
    spotted[:, 2:5, 2:5] = 90
    spotted[:50:2, 3, 3] = 255
    found = [
        judge_labels(frame.with_columns(aum=rng.normal(size=240)))[1],
        label_noise_rate(probs, labels),
        loss_change_concentration(rng.random((3, 240))),
        verdict(residual_verdict(spotted, labels), ["a", "b"])["evidence"],
    ]
    *flat, of_views = found
    tables = [table for one in flat for table in evidence(one)["tables"]] + of_views["tables"]
    keys = [key for one in flat for key in one] + [key for key, _ in of_views["single"]]
    keys += [column for table in tables for column in table["columns"]]
    assert len(tables) == 3
    assert {key for key in keys if key not in WORDS} == {"classes", "samples"}
    rates = dict(evidence(found[1])["single"])
    assert list(rates)[:3] == ["reading", "rate", "at_least"]  # the catalog gives them by the alphabet
    assert evidence(dict(sorted(rates.items())))["single"] == list(rates.items())
    assert len(set(WORDS.values())) == len(WORDS)  # two keys never read alike
    assert in_words("smallest_class").startswith("needed")  # a threshold is no finding
    assert not any("_" in str(row[0]) for row in of_views["tables"][0]["rows"])


def test_evidence_separates_numbers_from_tables():
    found = evidence(
        {
            "D": 4.9,
            "views": {"mean": {"D": 1, "gap": 2}, "median": {"D": 3}},
            "rows": [{"k": 1}],
            "list": [1, 2],
            "none": {},
        }
    )
    assert found["single"] == [("D", 4.9), ("list", [1, 2]), ("none", {})]
    assert found["tables"][0] == {
        "name": "views",
        "columns": ["views", "gap", "D"],
        "rows": [["mean", 2, 1], ["median", None, 3]],
    }
    assert found["tables"][1]["rows"] == [[1]]


EVALUATIONS = pl.DataFrame(
    [
        ("p", None, 0, "acc", 0.80, 0.5, 100), ("p", None, 1, "acc", 0.90, 0.5, 100), ("p", None, 2, "acc", 0.70, 0.5, 100),
        ("p-random", "p", 0, "acc", 0.70, 0.5, 100), ("p-random", "p", 1, "acc", 0.95, 0.5, 100),
        ("full", None, 0, "acc", 0.99, 1.0, 200), ("p", None, 0, "loss", 7.0, 0.5, 100),
    ],
    schema=["subset", "control_of", "seed", "metric", "value", "share", "steps"], orient="row",
)  # fmt: skip


def test_summary_is_mean_and_sample_deviation_over_seeds():
    summary = evaluation_summary(EVALUATIONS, "acc")
    assert summary["subset"].to_list() == ["full", "p", "p-random"]
    assert summary["mean"].to_list() == pytest.approx([0.99, 0.80, 0.825])
    assert summary["std"].to_list()[1:] == pytest.approx([0.1, 0.1767767])
    assert summary["std"][0] is None  # one seed
    assert summary["seeds"].to_list() == [1, 3, 2]
    assert summary["steps"].to_list() == [200, 100, 100]


def test_differences_pair_seed_with_seed():
    (row,) = paired_differences(EVALUATIONS, "acc")
    assert (row["subset"], row["control"], row["pairs"], row["above"]) == ("p", "p-random", 2, 1)
    assert row["mean"] == pytest.approx((0.10 - 0.05) / 2)  # subset minus control; seed 2 has no partner
    assert row["std"] == pytest.approx(0.15 / 2**0.5)
    assert paired_differences(EVALUATIONS.filter(pl.col("subset") != "p-random"), "acc") == []
