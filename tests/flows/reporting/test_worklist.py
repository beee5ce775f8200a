"""The ranked worklist, its CSV and the way back."""

import csv
import json

import polars as pl
import pytest
from PIL import Image
from polars.testing import assert_frame_equal

from tracesift.catalog.schema import BadInput
from tracesift.flows.reporting.worklist import (
    FLAGGED,
    REVIEW_COLUMNS,
    WORKLIST_SCHEMA,
    WORTH_A_LOOK,
    export_review,
    guard,
    import_review,
    unguard,
    worklist,
)


def flags(rows, name="mislabeled", **more):
    return pl.DataFrame(
        [{"flag": name, "sample_id": i, "flagged": f, "reason": r, **more.get(i, {})} for i, f, r in rows],
        schema_overrides={"flagged": pl.Boolean, "reason": pl.String},
        infer_schema_length=None,
    )


def scores(**columns):
    n = len(next(iter(columns.values())))
    return pl.DataFrame({"sample_id": [chr(97 + i) for i in range(n)], "label": ["0"] * n, **columns})


def test_worked_by_hand():
    # aum is clean: low is suspicious. Mid-rank percentiles of suspicion for a..e: aum 0.9 0.7 0.5 0.3 0.1;
    # loss is suspicious: 0.5 0.9 0.1 0.3 0.7. Means: a 0.7, b 0.8, c 0.3, d 0.3, e 0.4.
    listed = worklist(
        flags([("a", True, "ra"), ("b", True, "rb"), ("c", False, ""), ("d", True, "rd"), ("e", False, "")]),
        scores(
            aum=[-3.0, -2.0, -1.0, 0.0, 1.0], loss=[0.3, 0.5, 0.1, 0.2, 0.4], el2n=[9.0, 0.0, 0.0, 0.0, 0.0]
        ),
        directions={"aum": "clean", "loss": "suspicious", "el2n": "hard"},
    )
    assert listed["sample_id"].to_list() == ["b", "a", "d"]
    assert listed["confidence"].to_list() == pytest.approx([0.8, 0.7, 0.3])
    assert set(listed["confidence_from"]) == {"rank"}
    assert listed["rank"].to_list() == [1, 2, 3]
    assert dict(listed.schema) == WORKLIST_SCHEMA


def test_a_probability_outranks_an_order_and_the_flag_outranks_the_suggestion():
    given = flags(
        [("a", True, ""), ("b", True, ""), ("c", True, "")],
        a={"confidence": 0.6},
        b={"confidence": float("nan")},
    )
    suggested = pl.DataFrame({"sample_id": ["a", "b"], "suggestion": ["1", "0"], "confidence": [0.99, 0.7]})
    listed = worklist(given, scores(loss=[0.1, 0.2, 0.9]), suggested, directions={"loss": "suspicious"})
    assert listed.select("sample_id", "confidence_from", "suggestion").rows() == [
        ("b", "suggestion", None),  # the suggestion is the given label, so there is none
        ("a", "flag", "1"),
        ("c", "rank", None),
    ]
    assert listed["confidence"].to_list() == pytest.approx([0.7, 0.6, 5 / 6])


def test_row_order_does_not_matter_and_ties_break_by_id():
    given = flags([(i, True, f"r{i}") for i in "dcba"])
    expected = worklist(given, scores(loss=[1.0] * 4), directions={"loss": "suspicious"})
    assert expected["sample_id"].to_list() == ["a", "b", "c", "d"]
    shuffled = worklist(
        given.reverse(),
        scores(loss=[1.0] * 4).sample(4, shuffle=True, seed=1),
        directions={"loss": "suspicious"},
    )
    assert_frame_equal(shuffled, expected)


def test_equal_probabilities_are_ordered_by_suspicion():
    given = flags([(i, True, "") for i in "abc"], **{i: {"confidence": 1.0} for i in "abc"})
    listed = worklist(given, scores(loss=[0.2, 0.9, 0.5]), directions={"loss": "suspicious"})
    assert listed["sample_id"].to_list() == ["b", "c", "a"]


def test_cannot_tell_is_listed_only_where_something_speaks_against_it():
    given = flags(
        [
            ("a", None, "cannot tell: few samples"),
            ("b", None, "r"),
            ("c", True, "r"),
            ("d", None, "r"),
            ("e", False, ""),
        ]
    )
    suggested = pl.DataFrame({"sample_id": ["a", "d"], "suggestion": ["7", "0"]})
    listed = worklist(
        given,
        scores(loss=[0.1, 0.9, 0.2, 0.3, 0.0]),
        suggested,
        directions={"loss": "suspicious"},
        conflict_share=0.2,
    )
    assert listed.select("sample_id", "status").rows() == [
        ("c", FLAGGED),
        ("b", WORTH_A_LOOK),
        ("a", WORTH_A_LOOK),
    ]
    assert listed["reason"][1] == "cannot tell: r; among the 20 % most suspicious by loss"
    assert listed["reason"][2] == "cannot tell: few samples"
    none = worklist(given, scores(loss=[0.1, 0.9, 0.2, 0.3, 0.0]), suggested, max_conflicts=0)
    assert none["sample_id"].to_list() == ["c"]


def test_several_flags_make_one_row():
    both = pl.concat(
        [
            flags([("a", True, "first"), ("b", None, "x")]),
            flags([("a", True, "second"), ("b", True, "yes")], name="outlier"),
        ]
    )
    listed = worklist(both, scores(loss=[1.0, 2.0]))
    assert listed.select("sample_id", "flag", "reason", "confidence").rows() == [
        ("a", "mislabeled, outlier", "first; second", None),
        ("b", "outlier", "yes", None),
    ]


def test_a_flag_about_something_else_says_nothing_about_the_label():
    about_label = flags(
        [("a", None, "r"), ("b", False, ""), ("c", True, "r")],
        a={"suggestion": "1"},
        b={"confidence": 0.02, "suggestion": "1"},
        c={"confidence": 0.9, "suggestion": "1"},
    )
    other = flags(
        [("a", None, "no picture"), ("b", True, "small signal"), ("c", None, "no picture")],
        name="unlearnable",
    )
    both = pl.concat([about_label, other], how="diagonal")
    listed = worklist(
        both, scores(loss=[0.1, 0.5, 0.9]), directions={"loss": "suspicious"}, conflict_share=0.0
    )
    assert listed.select("sample_id", "suggestion", "flag", "confidence_from", "reason").rows() == [
        ("c", "1", "mislabeled", "flag", "r"),
        ("b", None, "unlearnable", None, "small signal"),  # its label is fine: 0.02 is not what was flagged
        ("a", "1", "mislabeled", "rank", "cannot tell: r"),
    ]
    silent = pl.concat(
        [
            about_label.filter(pl.col("sample_id") != "b"),
            other.with_columns(flagged=pl.lit(None, pl.Boolean)),
        ],
        how="diagonal",
    )
    cleared = worklist(
        silent, scores(loss=[0.1, 0.9, 0.5]), directions={"loss": "suspicious"}, conflict_share=0.5
    )
    assert (
        "b" not in cleared["sample_id"].to_list()
    )  # nobody asked about its label, so nothing is contradicted


def test_what_carries_a_signal_is_ordered_by_how_far_it_lies_beyond_the_threshold():
    """Also where no flag brings anything: what detectors of wrong labels think most suspicious carries it the least."""
    found = flags(
        [("a", True, "r"), ("b", True, "r"), ("c", True, "r"), ("d", True, "r")], name="unlearnable"
    )
    found = found.with_columns(
        score=pl.Series([12.0, 30.0, 26.0, None]), threshold=pl.Series([11.0, 20.0, 13.0, None])
    )
    listed = worklist(found, scores(loss=[0.9, 0.5, 0.1, 0.2]), directions={"loss": "suspicious"})
    assert listed["sample_id"].to_list() == ["c", "b", "a", "d"]
    assert listed["confidence"].to_list() == [None] * 4
    two = scores(loss=[0.9, 0.5, 0.1, 0.2]).with_columns(label=pl.Series(["1", "0", "0", "1"]))
    assert worklist(found, two)["sample_id"].to_list() == ["a", "c", "b", "d"]  # labels take turns


def test_verified_samples_are_never_listed():
    given = flags([("a", True, ""), ("b", True, ""), ("c", None, "")])
    suggested = pl.DataFrame({"sample_id": ["a", "b", "c"], "suggestion": ["1", "1", "1"]})
    listed = worklist(given, scores(loss=[1.0, 1.0, 1.0]), suggested, verified={"a", "c"})
    assert listed["sample_id"].to_list() == ["b"]


def test_nothing_flagged_gives_an_empty_worklist_of_the_same_columns():
    for given in (flags([("a", False, "")]), flags([("a", False, "")]).clear()):
        listed = worklist(given, scores(loss=[1.0]), directions={"loss": "suspicious"})
        assert listed.height == 0
        assert dict(listed.schema) == WORKLIST_SCHEMA


def test_frames_that_do_not_belong_together_are_refused():
    with pytest.raises(BadInput, match="first 'z'"):
        worklist(flags([("z", True, "")]), scores(loss=[1.0]))
    with pytest.raises(BadInput, match="'a' more than once"):
        worklist(flags([("a", True, "")]), pl.concat([scores(loss=[1.0])] * 2))


# --- CSV ---------------------------------------------------------------------------------------------------

DANGEROUS = [
    "=1+1",
    "+1",
    "-1",
    "@x",
    "\tx",
    "'quoted",
    "''",
    "plain",
    "a,b",
    'say "hi"',
    "two\nlines",
    "|calc",
    "ü 日本",
]


def listed_of(ids, label="0", suggestion="1"):
    n = len(ids)
    return pl.DataFrame(
        {
            "rank": range(1, n + 1), "sample_id": ids, "label": [label] * n, "suggestion": [suggestion] * n,
            "confidence": [0.5] * n, "flag": ["mislabeled"] * n, "reason": ["=cmd()"] * n,
        }
    )  # fmt: skip


def fill(path, verified):
    """What a person does in a spreadsheet: write into the column for it."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    for row in rows[1:]:
        row[rows[0].index("verified_label")] = verified(row)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.mark.parametrize("value", DANGEROUS)
def test_guarding_is_exact_and_leaves_no_formula(value):
    assert unguard(guard(value)) == value
    assert not guard(value).startswith(("=", "+", "-", "@", "\t", "\r"))


def test_every_cell_is_guarded(tmp_path):
    path = export_review(
        listed_of(DANGEROUS, label="-1"), dict.fromkeys(DANGEROUS, "=HYPERLINK(1)"), tmp_path / "r.csv"
    )
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == REVIEW_COLUMNS
    assert len(rows) == 1 + len(DANGEROUS)
    assert not [cell for row in rows[1:] for cell in row if cell.startswith(("=", "+", "-", "@"))]
    assert {row[REVIEW_COLUMNS.index("verified_label")] for row in rows[1:]} == {""}


def test_ids_and_labels_come_back_as_they_were(tmp_path):
    path = export_review(listed_of(DANGEROUS, suggestion="-1"), None, tmp_path / "r.csv")
    fill(path, lambda row: row[4])  # accept the suggestion
    read = import_review(path, sample_ids=DANGEROUS, labels=["0", "-1"])
    assert read.rows() == [(i, "-1") for i in sorted(DANGEROUS)]


def test_rows_without_a_verified_label_are_left_out(tmp_path):
    path = export_review(listed_of(["a", "b"]), None, tmp_path / "r.csv")
    assert import_review(path, sample_ids=["a", "b"], labels=["0"]).schema == {
        "sample_id": pl.String,
        "verified_label": pl.String,
    }
    fill(path, lambda row: " 0 " if row[1] == "b" else "  ")
    assert import_review(path, sample_ids=["a", "b"], labels=["0"]).rows() == [("b", "0")]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_spreadsheet_may_change_the_separator(tmp_path, separator):
    path = tmp_path / "r.csv"
    path.write_text(
        separator.join(["sample_id", "verified_label"]) + "\n" + separator.join(["a", "1"]) + "\n"
    )
    assert import_review(path, sample_ids=["a"], labels=["1"]).rows() == [("a", "1")]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sample_id,verified_label\na,1\nz,1\n", r"line 3: no sample 'z'"),
        ("sample_id,content,verified_label\na,\"two\nlines\",1\nb,x,cst\n", r"line 4: 'cst' is not a label \(did you mean 'cat'\?\); use one of '1', 'cat'"),
        ("sample_id,verified_label\na,1\nb,1\na,cat\n", r"line 4: sample 'a' is 'cat' here and '1' in line 2"),
        ("id,label\na,1\n", r"line 1: column 'sample_id' is missing"),
        ("", r"r\.csv is empty; fill in the file of"),
    ],
)  # fmt: skip
def test_errors_name_the_line(tmp_path, body, message):
    path = tmp_path / "r.csv"
    path.write_text(body)
    with pytest.raises(BadInput, match=message):
        import_review(path, sample_ids=["a", "b"], labels=["1", "cat"])


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(BadInput, match="review export"):
        import_review(tmp_path / "none.csv", sample_ids=[], labels=[])
    path = tmp_path / "latin.csv"
    path.write_bytes(b"sample_id,verified_label\na,caf\xe9\n")
    with pytest.raises(BadInput, match="line 2: not UTF-8"):
        import_review(path, sample_ids=["a"], labels=["café"])


def test_content_is_what_a_person_can_look_at(tmp_path):
    content = {
        "a": "x" * 3000,
        "b": {"age": 3, "job": "é"},
        "c/../c": Image.new("L", (4, 4)),
        "d": tmp_path / "cat.png",
    }
    path = export_review(listed_of(list(content)), content, tmp_path / "sheet.csv")
    with path.open(newline="", encoding="utf-8-sig") as file:
        cells = {row["sample_id"]: row["content"] for row in csv.DictReader(file)}
    assert cells["a"] == "x" * 2000 + " […]"
    assert json.loads(cells["b"]) == content["b"]
    assert cells["c/../c"].startswith("sheet-images/00003-")
    with Image.open(tmp_path / cells["c/../c"]) as picture:
        assert picture.size == (4, 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sheet-images", "sheet.csv"]
    assert cells["d"] == str(tmp_path / "cat.png")
