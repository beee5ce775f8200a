"""What a dataset's notes name is named no more once it was asked to be deleted, nor when its source is read again."""

from pathlib import Path

import polars as pl
import pytest

from tracesift.flows.cli import run
from tracesift.flows.work import existing


@pytest.fixture
def noted(tmp_path, monkeypatch):
    """A table with two equal rows of different labels, whose first is named in the notes."""
    monkeypatch.chdir(tmp_path)
    rows = [(f"person-{at:04}", at + 0.5, 0.25 - at, "ab"[at % 2]) for at in range(60)]
    rows[1] = ("person-0001", *rows[0][1:3], "b")
    pl.DataFrame(rows, schema=["id", "a", "b", "label"], orient="row").write_csv("table.csv")
    assert run(["ingest", "table.csv", "--val", "0", "--test", "0", "--workspace", "w"]) == 0
    (note,) = notes()
    assert "person-0000" in note
    assert run(["record", "--epochs", "2", "--folds", "0", "--model", "linear", "--workspace", "w"]) == 0
    assert run(["score", "mean_loss", "--workspace", "w"]) == 0
    Path("ids.txt").write_text("person-0000\n")
    asked = ["forget", "ids.txt", "--param", "near_duplicate=null", "--workspace", "w"]
    assert run(asked) == 0


def notes():
    return [note for note in existing(Path("w")).catalog.newest_dataset()["notes"] if "(first" in note]


def test_a_source_read_again_after_a_purge_names_nobody_who_was_purged(noted, capsys):
    assert run(["purge", "--all", "--workspace", "w"]) == 0
    with Path("table.csv").open("a") as more:
        more.write("person-9999,7.0,8.0,a\n")
    capsys.readouterr()
    assert run(["ingest", "table.csv", "--val", "0", "--test", "0", "--workspace", "w"]) == 0
    assert notes() == []
    assert "person-0000" not in capsys.readouterr().err


def test_the_page_names_nobody_who_is_to_be_deleted(noted):
    assert run(["report", "--workspace", "w"]) == 0
    page = Path("w/report.html").read_text()
    assert "person-0000" not in page
    assert "(first: a deleted sample" in page
