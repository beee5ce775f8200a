"""A class that loses all of its samples is said: which, of how many candidates, and what to do."""

import json
from pathlib import Path

import polars as pl
import pytest

from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.flows.selecting.emptied import emptied

LABELS = pl.Series("label", list("aaaaabbbccccddef"))


@pytest.mark.parametrize(
    ("kept", "selector", "params", "said"),
    [
        ("abcdef", "top_k", {}, None),
        (
            "aaabbcdff",
            "top_k",
            {},
            "no sample is kept of 1 of 6 classes, 'e' (1 candidate); --param per_class=true of select divides the "
            "budget among the classes",
        ),
        (
            "aaabbcdff",
            "top_k",
            {"per_class": True},
            "no sample is kept of 1 of 6 classes, 'e' (1 candidate); a larger --keep or another selector may keep some",
        ),
        (
            "aab",  # fewer than there are classes: dividing does not help either
            "uncertainty",
            {},
            "no sample is kept of 4 of 6 classes, 'c' (4 candidates), 'd' (2), 'e' (1) and 1 more (1); a larger "
            "--keep or another selector may keep some",
        ),
        (
            "aabbccdd",
            "infomax",
            {},
            "no sample is kept of 2 of 6 classes, 'e' (1 candidate) and 'f' (1); a larger --keep or another selector "
            "may keep some",
        ),
        (
            "aabbcddef",
            "semdedup",
            {},
            None,
        ),
        (
            "aabbcddf",
            "semdedup",
            {},
            "no sample is kept of 1 of 6 classes, 'e' (1 candidate); another selector may keep some",
        ),
    ],
)
def test_the_sentence(kept, selector, params, said):
    assert emptied(LABELS, pl.Series("label", list(kept)), selector, params) == said


@pytest.fixture
def one_sided(place):
    """A score of which the two highest unflagged samples are of one class, and the other class."""
    known = Catalog("w").query(
        "SELECT * FROM sample_scores JOIN (SELECT sample_id, label_noise, unlearnable FROM sample_flags) "
        "USING (sample_id) WHERE split = 'train' AND NOT coalesce(label_noise, false) "
        "AND NOT coalesce(unlearnable, false)"
    )
    for score in ("el2n", "aum", "mean_loss", "cartography_confidence", "cartography_variability"):
        top = known.sort(score, "sample_id", descending=[True, False])["label"]
        if top[0] == top[1]:
            return score, "y" if top[0] == "x" else "x", known
    raise AssertionError("no such score")


def test_select_says_it_and_its_answer_and_the_report_hold_it(one_sided, capsys):
    score, lost, known = one_sided
    words = [
        "select",
        "top_k",
        "--count",
        "2",
        "--param",
        f"score={score}",
        "--name",
        "two",
        "--workspace",
        "w",
    ]
    candidates = (known["label"] == lost).sum()
    sentence = (
        f"no sample is kept of 1 of 2 classes, '{lost}' ({candidates} candidates); --param per_class=true"
    )
    capsys.readouterr()
    assert run([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert answer["emptied"].startswith(sentence)
    assert f"two: {answer['emptied']}\n" in err
    assert not any("emptied" in control for control in answer["controls"])
    assert run(["report", "--json", "--workspace", "w"]) == 0
    made = {row["name"]: row for row in json.loads(capsys.readouterr().out)["subsets"]}
    assert made["two"]["told"] == answer["emptied"]
    assert made["two-random"]["told"] is None
    assert sentence.replace("'", "&#39;") in Path("w/report.html").read_text()
    assert run([*words, "--param", "per_class=true", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "emptied" not in json.loads(out)
    assert "no sample is kept" not in err


def test_what_lies_outside_is_no_candidate_and_a_corrected_label_counts(place, capsys):
    catalog = Catalog("w")
    rows = catalog.query("SELECT sample_id, label, dataset_id FROM samples WHERE split = 'train' ORDER BY 1")
    flags = rows.select(
        "sample_id", flagged=pl.col("label") == "y", reason=pl.lit("said"), confidence=pl.lit(0.99),
        suggestion=pl.lit("x"),
    )  # fmt: skip
    catalog.put_flags(catalog.newest_run()["run_id"], rows["dataset_id"][0], "label_noise", flags)
    relabel = ("--param", "mode=relabel", "--param", "certainty=nowhere", "--param", "max_drop=1")
    wanted = {
        "all-x": ["denoise", *relabel],  # every y becomes an x but for one, since no class is emptied
        "half": ["random", "--count", "3", "--from", "all-x"],  # the others are candidates of x
        "some": ["random", "--count", "3"],  # what is flagged is no candidate
        "x": ["random", "--count", "3", "--where", "label = 'x'"],
    }
    answers = {}
    for name, words in wanted.items():
        capsys.readouterr()
        assert run(["select", *words, "--name", name, "--json", "--workspace", "w"]) == 0
        answers[name] = json.loads(capsys.readouterr().out)
    assert [name for name in wanted if "emptied" in answers[name]] == ["half"]
    assert "'y' (1 candidate)" in answers["half"]["emptied"]
    assert run(["report", "--json", "--workspace", "w"]) == 0
    told = {row["name"]: row["told"] or "" for row in json.loads(capsys.readouterr().out)["subsets"]}
    assert [name for name in wanted if "no sample is kept" in told[name]] == ["half"]
    assert told["half"] == answers["half"]["emptied"]
