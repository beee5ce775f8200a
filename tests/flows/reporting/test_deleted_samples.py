"""What somebody asked to be deleted is on no worklist, and the report shows nothing of it, before any purge."""

import json
import re
from pathlib import Path

import polars as pl

from tracesift.flows.cli import run


def test_what_is_to_be_deleted_is_not_shown_for_review(place, capsys):
    def shown():
        assert run(["review", "export", "--workspace", "w"]) == 0
        assert run(["report", "--workspace", "w", "--json"]) == 0
        capsys.readouterr()
        assert run(["report", "--workspace", "w", "--json"]) == 0
        listed = [row["sample_id"] for row in json.loads(capsys.readouterr().out)["worklist"]]
        assert pl.read_csv("w/review.csv")["sample_id"].to_list() == listed
        return listed, Path("w/report.html").read_text()

    before, page = shown()
    gone = before[0]
    (value,) = pl.read_csv("good.csv").filter(pl.col("id") == gone)["a"].cast(pl.String)
    assert value[:5] in page
    Path("gone.txt").write_text(gone)
    assert run(["forget", "gone.txt", "--workspace", "w", "--param", "near_duplicate=null"]) == 0
    after, page = shown()
    assert after == before[1:]
    assert value[:5] not in page
    assert f'"{gone}"' not in page  # as a point of the data map
    assert listed(page) == ["r1", "ids", "1", "0", "0", "0", "1", "forget-ready v2", "no"]
    assert run(["purge", "--all", "--workspace", "w"]) == 0
    page = Path("w/report.html").read_text()
    assert listed(page)[-1] == "yes"
    assert gone not in page
    assert run(["requests", "--unlink", "--workspace", "w"]) == 0
    assert run(["report", "--workspace", "w"]) == 0
    assert listed(Path("w/report.html").read_text())[-1] == "not known"  # a purge of all names no request


def listed(page):
    """The cells of the one deletion request in the report, but for when it was made."""
    (row,) = re.search(r'<section id="deletions">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)[1].split("</tr>")[
        :-1
    ]
    cells = [re.sub(r"<[^>]*>|\s+", " ", cell).split() for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
    return [" ".join(cell) for place, cell in enumerate(cells) if place != 2]
