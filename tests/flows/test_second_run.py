"""A second run over unchanged data judges nothing again, renders nothing again and writes nothing."""

import json
import re
from dataclasses import fields, replace

import polars as pl
import pytest
from PIL import Image

from tracesift.catalog.store import Catalog
from tracesift.flows import publish, score
from tracesift.flows.cli import run
from tracesift.flows.reporting.report import ReportData, page_digest

WORDS = ("curate", "good.csv", "--workspace", "w", "--epochs", "3", "--folds", "2", "--threads", "1")
OF_A_COMMAND = (".lock", ".holder.json")


def call(*words):
    assert run([*map(str, words)]) == 0


def written(folder):
    return {
        path: path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in OF_A_COMMAND
    }


def flagged():
    rows = Catalog("w").query("SELECT sample_id, label_noise FROM sample_flags ORDER BY sample_id")
    return dict(rows.iter_rows())


@pytest.fixture
def rendered(monkeypatch):
    """How often the page was rendered so far, as a list that grows."""
    times = []
    monkeypatch.setattr(
        publish, "render_report", lambda data: times.append(data) or f"<p>page {len(times)}</p>"
    )
    return times


def test_a_second_run_writes_no_file_and_asks_no_rule(place, monkeypatch, capsys):
    call(*WORDS)
    first, before = capsys.readouterr().out, written(place / "w")

    def asked(*_args, **_settings):
        raise AssertionError("this was done already")

    monkeypatch.setattr(score, "judge_labels", asked)
    monkeypatch.setattr(score, "unlearnable", asked)
    monkeypatch.setattr(publish, "render_report", asked)
    call(*WORDS)
    assert capsys.readouterr().out == first
    assert written(place / "w") == before


def test_what_could_not_be_scored_is_said_once(place, capsys):
    for _ in range(2):  # judged now or before
        call("score", "--workspace", "w")
        out, err = capsys.readouterr()
        assert (out + err).count("a window of 10 epochs") == 2  # at least 2, or 3, epochs
        assert "not scored: dual, dyn_unc (a window of" in err
        assert "left out" not in out + err


def test_scores_of_other_settings_are_said_to_stand_beside(place, capsys):
    call("score", "fkl", "--param", "k=1", "--workspace", "w")
    assert "settings: fkl.k=1; these scores stand beside the usual ones in the table scores" in (
        capsys.readouterr().out
    )
    call("score", "fkl", "--workspace", "w")
    assert "settings" not in capsys.readouterr().out


def test_the_first_repetition_writes_nothing_either(place, capsys):
    words = [*(word if word != "w" else "fresh" for word in WORDS), "--seeds", "2"]
    call(*words)
    before = written(place / "fresh")
    recorded = "SELECT run_id, (details->'arrays') IS NOT NULL AS arrays FROM runs ORDER BY seq"
    rows = Catalog("fresh").query(recorded)
    call(*words)
    assert written(place / "fresh") == before
    assert Catalog("fresh").query(recorded).equals(rows)
    assert rows["arrays"].any()
    members = sorted(Catalog("fresh").query("SELECT run_id FROM runs WHERE kind = 'trained'")["run_id"])
    combined = Catalog("fresh").query("SELECT run_id FROM runs WHERE kind = 'combined'").item()
    capsys.readouterr()
    call("why", "s001", "--workspace", "fresh")
    assert f"run {combined}: combined of runs {members[0]}, {members[1]}\n" in capsys.readouterr().out


def test_answers_are_counted_in_one_order_whether_judged_now_or_before(place, capsys):
    for _ in range(2):
        call("score", "--workspace", "w")
        told = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("flags: "))
        assert re.search(
            r"^flags: label_noise yes \d+, no \d+, cannot tell \d+; unlearnable not judged: ", told
        )
        for record in (place / "w" / "records").glob("flag-*.json"):
            record.unlink()


def test_flags_that_another_wrote_since_are_judged_again(place):
    before = flagged()
    answer = Catalog("w").query("SELECT dataset_id, run_id FROM flag_sets WHERE flag = 'label_noise'").row(0)
    turned = pl.DataFrame({"sample_id": list(before), "flagged": [True] * len(before)})
    Catalog("w").put_flags(answer[1], answer[0], "label_noise", turned)
    assert flagged() != before
    call("score", "--workspace", "w")
    assert flagged() == before


def test_a_review_changes_the_flags_and_the_page(place, rendered):
    call("report", "--workspace", "w")
    labels = dict(
        Catalog("w").query("SELECT sample_id, label FROM samples WHERE split = 'train'").iter_rows()
    )
    unknown = next(name for name, answer in flagged().items() if name in labels and answer is not False)
    (place / "seen.csv").write_text(f"sample_id,verified_label\n{unknown},{labels[unknown]}\n")
    call("review", "import", "seen.csv", "--workspace", "w")
    times = len(rendered)
    call(*WORDS)
    assert len(rendered) == times + 1
    rows = Catalog("w").query(
        "SELECT flagged, reason FROM flags WHERE flag = 'label_noise' AND sample_id = ?", [unknown]
    )
    assert rows.rows() == [(False, "a person confirmed this label")]
    assert unknown not in rendered[-1].worklist["sample_id"].to_list()


def test_what_changes_the_page_renders_it_again(place, rendered):
    call("report", "--workspace", "w")
    call("report", "--workspace", "w")
    assert len(rendered) == 1  # the real page of the fixture was no longer that of this renderer's record
    call("report", "--no-content", "--workspace", "w")
    assert len(rendered) == 2
    call("report", "--workspace", "w")
    assert len(rendered) == 3
    call("select", "top_k", "--count", "5", "--param", "score=mean_loss", "--workspace", "w")
    call("report", "--workspace", "w")
    assert len(rendered) == 4
    (place / "w" / "report.html").write_text("<p>half a")
    call("report", "--workspace", "w")
    assert len(rendered) == 5
    assert (place / "w" / "report.html").read_text() == "<p>page 5</p>"
    (place / "w" / "report.html").unlink()
    call("report", "--workspace", "w")
    assert len(rendered) == 6


def test_each_part_of_the_data_counts_except_the_date(place, monkeypatch):
    kept = []
    monkeypatch.setattr(publish, "page_digest", lambda data: kept.append(data) or page_digest(data))
    call("report", "--workspace", "w")
    (data,) = kept
    usual = page_digest(data)
    assert page_digest(replace(data, created="another day")) == usual
    assert page_digest(replace(data, scores=data.scores.rechunk())) == usual
    others = {
        "title": "t", "tool_version": "0", "dataset": {**data.dataset, "name": "n"}, "runs": data.runs[:0],
        "worklist": data.worklist.head(0), "content": None, "scores": data.scores.reverse(),
        "flags": data.flags.with_columns(reason=pl.lit("r")), "diagnostics": {"d": {"at": 1.0}},
        "subsets": data.subsets[1:], "evaluations": pl.DataFrame({"value": [1.0]}), "scorers": data.scorers[1:],
        "truth": {"n_planted": 1}, "protection": {"known": 1}, "residuals": [{"label": "x"}],
        "partners": {"s000": [{"partner_id": "s001"}]}, "long_tail": {"share": 0.5},
        "harmed": {"items": [], "pairs": 1, "level": 2.0, "sure": None},
        "unlearning": [{"subset": "f"}], "worth_a_look": 12_345, "reviewed": {"known": 1},
        "flags_alone": data.flags.head(0), "deletions": [{"request_id": "r1"}], "deleted": ["s000"],
            "outdated": ["aum: they are of before"],
    }  # fmt: skip
    assert others.keys() | {"created"} == {field.name for field in fields(ReportData)}
    digests = [page_digest(replace(data, **{name: value})) for name, value in others.items()]
    assert len({usual, *digests}) == 1 + len(others)
    pictures = [Image.new("L", (2, 2), shade) for shade in (0, 0, 1)]
    same, again, other = (page_digest(replace(data, content={"s000": picture})) for picture in pictures)
    assert same == again != other
    assert re.fullmatch("[0-9a-f]{32}", json.loads(json.dumps(same)))


def test_a_flag_whose_scores_are_not_there_is_told_as_not_judged(place, capsys):
    for words in (
        ["ingest", "good.csv"],
        ["record", "--epochs", "2", "--folds", "0", "--threads", "1"],
        ["score", "forgetting_events"],
    ):
        call(*words, "--workspace", "fresh")
    told = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("flags: "))
    assert (
        "label_noise not judged: neither aum nor mean_loss is scored; run `tracesift score --workspace "
        in told
    )
    assert "cannot tell 4" not in told
